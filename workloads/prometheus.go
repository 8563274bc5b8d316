package workloads

import (
	"fmt"

	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/config"
)

const (
	prometheusName = "prometheus"
	prometheusPort = 9090
	nobody         = 65534 // user and group of the images that run as it
)

// prometheus scrapes and keeps what the dashboards show.
func prometheus(cfg *config.Config, images Images) (Workload, error) {
	fail := func(err error) (Workload, error) {
		return Workload{}, fmt.Errorf("workload %s: %w", prometheusName, err)
	}
	image, err := images.reference("docker.io/prom/prometheus")
	if err != nil {
		return fail(err)
	}
	scrapeConfig, err := folder("prometheus")
	if err != nil {
		return fail(err)
	}
	server := app{
		name: prometheusName, namespace: metricsNamespace, partOf: observability, image: image, replicas: 1,
		user: nobody, memory: "128Mi", memoryLimit: "256Mi", port: prometheusPort, health: "/-/healthy", ready: "/-/ready", talksToAPI: true,
		args: []string{
			"--config.file=/etc/prometheus/prometheus.yml",
			// What is kept goes with the pod, so a change of its config is no reason for another.
			"--config.auto-reload",
			"--storage.tsdb.path=/prometheus",
			// By size alone, blocks would grow to a month, and go whole.
			"--storage.tsdb.max-block-duration=1d",
			"--storage.tsdb.wal-segment-size=10MB",
			// A query that wants more memory than there is fails; by default Prometheus does.
			"--query.max-concurrency=4",
			"--query.max-samples=2000000",
			"--query.timeout=1m",
		},
	}
	settings := live(server.configMap(prometheusName, scrapeConfig))
	devices, err := server.devices(cfg)
	if err != nil {
		return fail(err)
	}
	server.mounts = []mount{
		configMount("/etc/prometheus", configFiles{settings, ""}, configFiles{devices, "devices"}),
		scratch("data", "/prometheus", "4Gi"),
	}
	host := prometheusName + "." + cfg.Domain
	in := []networkingv1.NetworkPolicyIngressRule{
		from(tcp(prometheusPort), traefik(), peer(grafanaNamespace, map[string]string{nameLabel: grafanaName})),
	}
	objects := []client.Object{
		namespace(metricsNamespace, observability),
		denyAll(metricsNamespace, observability),
		server.allow(in, scrapes()),
		server.serviceAccount(),
		settings,
		devices,
		server.deployment(),
		server.service(httpPort(prometheusPort)),
		server.ingress(host),
	}
	return Workload{
		Name: prometheusName, Namespace: metricsNamespace, After: []string{snmpName},
		Objects: append(objects, server.discovers()...), URLs: []string{"http://" + host},
	}, nil
}
