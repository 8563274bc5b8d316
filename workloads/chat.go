package workloads

import (
	"fmt"

	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/nullify005/manager-cluster-state/config"
)

// chatConfig is the file that chat-hvac reads.
type chatConfig struct {
	AppToken string `json:"appToken"`
	BotToken string `json:"botToken"`
	Channel  string `json:"channel"`
	Intesis  string `json:"intesis"`
	Device   string `json:"device"`
}

// chatHVAC is the Slack bot that reads and sets the air-conditioning through
// service-intesis. With no tokens it has no replica: there is no mock of Slack.
func chatHVAC(cfg *config.Config, images Images) (Workload, error) {
	image, err := images.reference("ghcr.io/nullify005/chat-hvac")
	if err != nil {
		return Workload{}, fmt.Errorf("workload chat-hvac: %w", err)
	}
	bot := app{
		name: "chat-hvac", namespace: chatNamespace, image: image, memory: "32Mi",
		command: []string{"/chat-hvac", "--adapter", "slack"},
		args:    []string{"watch", "--config", "/.secrets/config.yaml"},
		port:    8080, health: "/health", secret: "chat-hvac",
	}
	if cfg.Secrets.Slack.Given() {
		bot.replicas = 1
	}
	content, err := yaml.Marshal(chatConfig{
		AppToken: cfg.Secrets.Slack.AppToken, BotToken: cfg.Secrets.Slack.BotToken,
		Channel: cfg.HVAC.SlackChannel, Intesis: intesisURL(), Device: string(cfg.HVAC.Device),
	})
	if err != nil {
		return Workload{}, fmt.Errorf("workload chat-hvac: writing its config: %w", err)
	}
	return Workload{
		Name: bot.name, Namespace: chatNamespace, After: []string{"service-intesis"},
		Objects: []client.Object{
			namespace(chatNamespace, hvac),
			denyAll(chatNamespace, hvac),
			bot.allow(nil, []networkingv1.NetworkPolicyEgressRule{
				dns(), to(tcp(443), internet()),
				to(tcp(intesisPort), peer(intesisNamespace, map[string]string{nameLabel: "service-intesis"})),
			}),
			bot.serviceAccount(),
			bot.secretFile(bot.secret, "config.yaml", string(content)),
			bot.deployment(),
		},
	}, nil
}
