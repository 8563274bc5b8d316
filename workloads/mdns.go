package workloads

import (
	"fmt"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/config"
)

const mdnsName = "external-mdns"

// externalMDNS tells the house's network the names of every ingress. Multicast doesn't cross
// into a pod's network, so it uses the node's: the one pod here that the restricted standard
// would refuse, and the one namespace that lets it in. A NetworkPolicy does nothing to it.
func externalMDNS(_ *config.Config, images Images) (Workload, error) {
	image, err := images.reference("ghcr.io/logicfox/external-mdns")
	if err != nil {
		return Workload{}, fmt.Errorf("workload %s: %w", mdnsName, err)
	}
	mdns := app{
		name: mdnsName, namespace: mdnsNamespace, partOf: discovery, image: image, replicas: 1,
		user: nobody, memory: "32Mi", memoryLimit: "64Mi", talksToAPI: true,
		args: []string{"-source=ingress", "-source=service"},
	}
	home := namespace(mdnsNamespace, discovery)
	home.Labels[enforceLabel] = "privileged"
	home.Labels[warnLabel] = "restricted"
	deployment := mdns.deployment()
	deployment.Spec.Template.Spec.HostNetwork = true
	return Workload{
		Name: mdnsName, Namespace: mdnsNamespace,
		Objects: append([]client.Object{
			home,
			denyAll(mdnsNamespace, discovery),
			mdns.serviceAccount(),
			deployment,
		}, mdns.mayEverywhere(
			rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"services"}, Verbs: []string{"list", "watch"}},
			rbacv1.PolicyRule{APIGroups: []string{"networking.k8s.io"}, Resources: []string{"ingresses"}, Verbs: []string{"list", "watch"}},
		)...),
	}, nil
}
