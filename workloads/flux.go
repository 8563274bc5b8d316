package workloads

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/manifests"
)

const fluxNamespace = "flux-system"

// fluxSystem is Flux as its own project installs it, with the resources and arguments that
// the stack's profile gives its controllers.
func fluxSystem(cfg *config.Config, _ Images) (Workload, error) {
	objects, err := decode(manifests.FluxCRDs, manifests.FluxInstall)
	if err != nil {
		return Workload{}, fmt.Errorf("workload flux-system: reading manifests/flux-system: %w", err)
	}
	for _, object := range objects {
		switch o := object.(type) {
		case *corev1.Namespace:
			enforceRestricted(o.Labels)
			if release := o.Labels[versionLabel]; cfg.Flux.Version != "" && cfg.Flux.Version != release {
				return Workload{}, fmt.Errorf("flux.version is %s: manifests/flux-system is %s; set it to that, "+
					"or raise tools/flux/go.mod and run make generate", cfg.Flux.Version, release)
			}
		case *appsv1.Deployment:
			if cfg.Flux.Profile == config.LowMemory {
				lowMemory(o)
			}
		}
	}
	return Workload{Name: "flux-system", Namespace: fluxNamespace, Objects: objects}, nil
}

// lowMemory fits a controller to a Pi: half of the stock request, so that all six take less
// than a third of one agent; an eighth of the stock limit; and one object at a time, because
// what a controller holds grows with what it works on at once. The stock manifests tie
// GOMEMLIMIT to the limit, so the heap is collected harder before the kernel would kill the
// pod.
func lowMemory(deployment *appsv1.Deployment) {
	const request, limit = "32Mi", "128Mi"
	container := &deployment.Spec.Template.Spec.Containers[0]
	container.Args = append(container.Args, "--concurrent=1")
	container.Resources.Requests[corev1.ResourceMemory] = resource.MustParse(request)
	container.Resources.Limits[corev1.ResourceMemory] = resource.MustParse(limit)
}

// decode reads YAML documents, strictly, into the Go type of their kind. Definitions of
// custom resources stay as they are: nothing here patches one, and their Go type would write
// fields that the file doesn't have.
func decode(files ...[]byte) ([]client.Object, error) {
	var objects []client.Object
	for _, file := range files {
		documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(file)))
		for {
			document, err := documents.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("reading YAML documents: %w", err)
			}
			object, err := decodeOne(document)
			if err != nil {
				return nil, err
			}
			objects = append(objects, object)
		}
	}
	return objects, nil
}

func decodeOne(document []byte) (client.Object, error) {
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(document, &u.Object); err != nil {
		return nil, fmt.Errorf("decoding an object: %w", err)
	}
	var typed client.Object
	switch kind := u.GetKind(); kind {
	case "Namespace":
		typed = &corev1.Namespace{}
	case "Service":
		typed = &corev1.Service{}
	case "ServiceAccount":
		typed = &corev1.ServiceAccount{}
	case "ResourceQuota":
		typed = &corev1.ResourceQuota{}
	case "Deployment":
		typed = &appsv1.Deployment{}
	case "NetworkPolicy":
		typed = &networkingv1.NetworkPolicy{}
	case "ClusterRole":
		typed = &rbacv1.ClusterRole{}
	case "ClusterRoleBinding":
		typed = &rbacv1.ClusterRoleBinding{}
	case "CustomResourceDefinition":
		return u, nil
	default:
		return nil, fmt.Errorf("object %s has kind %s, which nothing here knows", u.GetName(), kind)
	}
	if err := yaml.UnmarshalStrict(document, typed); err != nil {
		return nil, fmt.Errorf("decoding %s %s: %w", u.GetKind(), u.GetName(), err)
	}
	return typed, nil
}
