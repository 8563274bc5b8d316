package workloads

import (
	"cmp"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/nullify005/manager-cluster-state/config"
)

const (
	snmpName = "snmp-exporter"
	snmpPort = 9116
	// snmpAuth is the name that a scrape asks with.
	snmpAuth = "home"
)

// snmpAuths is the part of the exporter's config that holds credentials.
type snmpAuths struct {
	Auths map[string]snmpCommunity `json:"auths"`
}

type snmpCommunity struct {
	Community string `json:"community"`
	Version   int    `json:"version"`
}

// snmpExporter asks the devices of the house over SNMP, when it is scraped.
func snmpExporter(cfg *config.Config, images Images) (Workload, error) {
	fail := func(err error) (Workload, error) { return Workload{}, fmt.Errorf("workload %s: %w", snmpName, err) }
	image, err := images.reference("docker.io/prom/snmp-exporter")
	if err != nil {
		return fail(err)
	}
	modules, err := folder(snmpName)
	if err != nil {
		return fail(err)
	}
	community := cmp.Or(cfg.Secrets.SNMP.Community, "public")
	auths, err := yaml.Marshal(snmpAuths{map[string]snmpCommunity{snmpAuth: {Community: community, Version: 2}}})
	if err != nil {
		return fail(fmt.Errorf("writing its credentials: %w", err))
	}
	exporter := app{
		name: snmpName, namespace: snmpNamespace, partOf: observability, image: image, replicas: 1,
		memory: "32Mi", memoryLimit: "64Mi", port: snmpPort, health: "/-/healthy", secret: snmpName,
		args: []string{"--config.file=/etc/snmp_exporter/snmp.yml", "--config.file=/.secrets/auth.yml"},
		env:  []corev1.EnvVar{heapWithin("64Mi")},
	}
	settings := exporter.configMap(snmpName, modules)
	exporter.mounts = []mount{configMount("/etc/snmp_exporter", configFiles{settings, ""})}
	out := []networkingv1.NetworkPolicyEgressRule{}
	for _, device := range cfg.SNMP.Devices {
		udp := networkingv1.NetworkPolicyPort{Protocol: ptr.To(corev1.ProtocolUDP), Port: new(intstr.FromInt32(161))}
		out = append(out, to([]networkingv1.NetworkPolicyPort{udp}, only(device.Address)))
	}
	return Workload{
		Name: snmpName, Namespace: snmpNamespace,
		Objects: []client.Object{
			namespace(snmpNamespace, observability),
			denyAll(snmpNamespace, observability),
			exporter.allow([]networkingv1.NetworkPolicyIngressRule{from(tcp(snmpPort), scraper(cfg))}, out),
			exporter.serviceAccount(),
			settings,
			exporter.secretFile(exporter.secret, "auth.yml", string(auths)),
			exporter.deployment(),
			exporter.service(httpPort(snmpPort)),
		},
	}, nil
}
