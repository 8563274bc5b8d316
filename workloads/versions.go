package workloads

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
)

// Versions names what a stack runs, for its outputs: each listed image's reference by the
// image's name, and Flux's release as flux.
func Versions(catalog []Workload, images Images) map[string]string {
	versions := map[string]string{}
	maps.Copy(versions, images)
	for _, workload := range catalog {
		for _, object := range workload.Objects {
			if namespace, ok := object.(*corev1.Namespace); ok && namespace.Name == fluxNamespace {
				versions["flux"] = namespace.Labels[versionLabel]
			}
		}
	}
	return versions
}
