package workloads

import (
	"fmt"

	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/config"
)

const weatherPort = 2112

// exporterWeather exports the observations of the Bureau of Meteorology as metrics.
func exporterWeather(cfg *config.Config, images Images) (Workload, error) {
	image, err := images.reference("ghcr.io/nullify005/exporter-weather")
	if err != nil {
		return Workload{}, fmt.Errorf("workload exporter-weather: %w", err)
	}
	exporter := app{
		name: "exporter-weather", namespace: weatherNamespace, image: image, replicas: 1, memory: "32Mi",
		command: []string{"/exporter-weather"},
		args: []string{
			"watch", cfg.HVAC.Location, "--interval", cfg.HVAC.WeatherInterval.String(), "--listen", fmt.Sprintf(":%d", weatherPort),
		},
		port: weatherPort, health: "/health", metrics: "/metrics",
	}
	return Workload{
		Name: exporter.name, Namespace: weatherNamespace,
		Objects: []client.Object{
			namespace(weatherNamespace, hvac),
			denyAll(weatherNamespace, hvac),
			exporter.allow(
				[]networkingv1.NetworkPolicyIngressRule{from(tcp(weatherPort), scraper(cfg))},
				[]networkingv1.NetworkPolicyEgressRule{dns(), to(tcp(80, 443), internet())},
			),
			exporter.serviceAccount(),
			exporter.deployment(),
		},
	}, nil
}
