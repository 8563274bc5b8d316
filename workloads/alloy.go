package workloads

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/config"
)

const (
	alloyName = "alloy"
	alloyPort = 12345
	alloyUser = 473 // of Alloy's image
)

// alloy scrapes what Prometheus would, and ships it and the pods' logs away.
func alloy(cfg *config.Config, images Images) (Workload, error) {
	fail := func(err error) (Workload, error) { return Workload{}, fmt.Errorf("workload %s: %w", alloyName, err) }
	image, err := images.reference("docker.io/grafana/alloy")
	if err != nil {
		return fail(err)
	}
	pipeline, err := folder(alloyName)
	if err != nil {
		return fail(err)
	}
	agent := app{
		name: alloyName, namespace: shippingNamespace, partOf: observability, image: image, replicas: 1,
		user: alloyUser, memory: "128Mi", memoryLimit: "256Mi", talksToAPI: true,
		// Its /-/healthy fails with any one component, such as an endpoint that is away: no
		// reason to start all of it again.
		port: alloyPort, health: "/-/ready",
		args: []string{
			"run", "/etc/alloy/config.alloy", "--storage.path=/var/lib/alloy/data",
			fmt.Sprintf("--server.http.listen-addr=0.0.0.0:%d", alloyPort), "--disable-reporting",
		},
		env: []corev1.EnvVar{
			{Name: "CLUSTER", Value: cfg.Cluster.Name},
			{Name: "METRICS_URL", Value: cfg.Cloud.Metrics.URL},
			{Name: "METRICS_USERNAME", Value: string(cfg.Cloud.Metrics.Username)},
			{Name: "LOGS_URL", Value: cfg.Cloud.Logs.URL},
			{Name: "LOGS_USERNAME", Value: string(cfg.Cloud.Logs.Username)},
		},
	}
	settings := agent.configMap(alloyName, pipeline)
	devices, err := agent.devices(cfg)
	if err != nil {
		return fail(err)
	}
	agent.mounts = []mount{
		secretFiles(alloyName, "/etc/alloy-secrets"),
		configMount("/etc/alloy", configFiles{settings, ""}, configFiles{devices, "devices"}),
		scratch("data", "/var/lib/alloy/data", "1Gi"),
		scratch("tmp", "/tmp", "64Mi"),
	}
	objects := []client.Object{
		namespace(shippingNamespace, observability),
		denyAll(shippingNamespace, observability),
		agent.allow(nil, append(scrapes(), to(tcp(pushPorts(cfg.Cloud)...)))),
		agent.serviceAccount(),
		settings,
		devices,
		agent.secretFile(alloyName, "token", cfg.Secrets.Cloud.Token),
		agent.deployment(),
	}
	logs := rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods", "pods/log"}, Verbs: []string{"get"}}
	return Workload{
		Name: alloyName, Namespace: shippingNamespace, After: []string{snmpName},
		Objects: append(objects, agent.discovers(logs)...),
	}, nil
}

// pushPorts are the ports of the endpoints; where those are, only a name server knows.
func pushPorts(endpoints config.CloudEndpoints) []int32 {
	var ports []int32
	for _, endpoint := range []config.Endpoint{endpoints.Metrics, endpoints.Logs} {
		ports = append(ports, endpoint.Port())
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}
