package workloads

import (
	"embed"
	"fmt"
	"io/fs"
	"path"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/nullify005/manager-cluster-state/config"
)

// files holds what the base services read, each in its own format, so that its own tools can
// judge it.
//
//go:embed files
var files embed.FS

// observers and scraper are where local and cloud part: what runs, and who scrapes. Either side
// has namespaces of its own, so that turning the pivot on a running cluster takes nothing away
// from the side that it turns to.
func observers(cfg *config.Config) []builder {
	if cfg.Observability == config.Cloud {
		return []builder{alloy}
	}
	return []builder{prometheus, grafana}
}

// scraper is whose pods scrape metrics.
func scraper(cfg *config.Config) networkingv1.NetworkPolicyPeer {
	if cfg.Observability == config.Cloud {
		return peer(shippingNamespace, map[string]string{nameLabel: alloyName})
	}
	return peer(metricsNamespace, map[string]string{nameLabel: prometheusName})
}

// kubelet lets a scraper ask each node for the metrics of its containers. A node is no pod,
// so no label selects it.
func kubelet() networkingv1.NetworkPolicyEgressRule { return to(tcp(10250)) }

// scrapes is everything that a scraper asks: the annotated pods of this catalog, the SNMP
// exporter, the kubelets and the API server.
func scrapes() []networkingv1.NetworkPolicyEgressRule {
	return []networkingv1.NetworkPolicyEgressRule{
		dns(), apiServer(), kubelet(),
		to(tcp(intesisPort), peer(intesisNamespace, map[string]string{nameLabel: "service-intesis"})),
		to(tcp(weatherPort), peer(weatherNamespace, map[string]string{nameLabel: "exporter-weather"})),
		to(tcp(snmpPort), peer(snmpNamespace, map[string]string{nameLabel: snmpName})),
		to(tcp(fluxMetricsPort), peer(fluxNamespace, nil)),
	}
}

// discovers is what a scraper may read to find its targets, and to ask the kubelets.
func (a app) discovers(more ...rbacv1.PolicyRule) []client.Object {
	read := []string{"list", "watch"}
	return a.mayEverywhere(append([]rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"nodes", "pods", "services"}, Verbs: read},
		{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: read},
		{APIGroups: []string{""}, Resources: []string{"nodes/metrics"}, Verbs: []string{"get"}},
	}, more...)...)
}

// targetGroup is an entry of a file that Prometheus and Alloy discover targets from.
type targetGroup struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// devices is the ConfigMap of the SNMP devices, one target each. Its reader watches the file, so
// that a new device costs nobody their history.
func (a app) devices(cfg *config.Config) (*corev1.ConfigMap, error) {
	groups := make([]targetGroup, len(cfg.SNMP.Devices))
	for i, device := range cfg.SNMP.Devices {
		groups[i] = targetGroup{
			Targets: []string{device.Address},
			Labels:  map[string]string{"device": device.Name, "module": device.Module},
		}
	}
	content, err := yaml.Marshal(groups)
	if err != nil {
		return nil, fmt.Errorf("writing the SNMP devices: %w", err)
	}
	return live(a.configMap(a.name+"-devices", map[string]string{"devices.yml": string(content)})), nil
}

func live(configMap *corev1.ConfigMap) *corev1.ConfigMap {
	configMap.Annotations = map[string]string{readLive: "true"}
	return configMap
}

// folder reads the embedded files of one folder below files, by their names.
func folder(name string) (map[string]string, error) {
	entries, err := fs.ReadDir(files, path.Join("files", name))
	if err != nil {
		return nil, fmt.Errorf("reading the folder %s: %w", name, err)
	}
	contents := map[string]string{}
	for _, entry := range entries {
		if entry.IsDir() {
			continue
		}
		content, err := fs.ReadFile(files, path.Join("files", name, entry.Name()))
		if err != nil {
			return nil, fmt.Errorf("reading %s of %s: %w", entry.Name(), name, err)
		}
		contents[entry.Name()] = string(content)
	}
	return contents, nil
}
