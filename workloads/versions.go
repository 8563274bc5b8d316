package workloads

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Versions names what a stack runs, for its outputs: the reference of each listed image that a
// workload uses, by the image's name, and Flux's release as flux.
func Versions(catalog []Workload, images Images) map[string]string {
	names := make(map[string]string, len(images))
	for name, reference := range images {
		names[reference] = name
	}
	versions := map[string]string{}
	for _, workload := range catalog {
		for _, object := range workload.Objects {
			if namespace, ok := object.(*corev1.Namespace); ok && namespace.Name == fluxNamespace {
				versions["flux"] = namespace.Labels[versionLabel]
			}
			template := podTemplate(object)
			if template == nil {
				continue
			}
			for _, container := range slices.Concat(template.Spec.InitContainers, template.Spec.Containers) {
				if name, listed := names[container.Image]; listed {
					versions[name] = container.Image
				}
			}
		}
	}
	return versions
}
