package delivery

import (
	"fmt"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/nullify005/manager-cluster-state/internal/objects"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// phaseCount is the number of phases that phaseOf knows.
const phaseCount = 6

// phaseOf puts an object after whatever its kind builds on.
func phaseOf(kind string) int {
	switch kind {
	case "Namespace":
		return 0
	case "CustomResourceDefinition":
		return 1
	case "ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding":
		return 2
	case "ConfigMap", "Secret", "NetworkPolicy", "ResourceQuota", "LimitRange", "PriorityClass":
		return 3
	case "HelmRelease", "Kustomization":
		// After its source and what it reads; so it is gone before those on destroy, the chart's
		// own hooks run.
		return phaseCount - 1
	default:
		return phaseCount - 2
	}
}

// inPhases sorts a workload's objects into the phases that have any, each in the
// catalog's order.
func inPhases(workload workloads.Workload) ([][]*unstructured.Unstructured, error) {
	all := make([][]*unstructured.Unstructured, phaseCount)
	for _, o := range workload.Objects {
		u, err := objects.Unstructured(o)
		if err != nil {
			return nil, fmt.Errorf("workload %s: %w", workload.Name, err)
		}
		phase := phaseOf(u.GetKind())
		all[phase] = append(all[phase], u)
	}
	var phases [][]*unstructured.Unstructured
	for _, phase := range all {
		if len(phase) > 0 {
			phases = append(phases, phase)
		}
	}
	return phases, nil
}

// inputs are an object's fields as Pulumi inputs; a Secret's data are secret.
func inputs(u *unstructured.Unstructured) (pulumi.Map, error) {
	props := make(pulumi.Map, len(u.Object))
	for key, value := range u.Object {
		input, err := toInput(value)
		if err != nil {
			return nil, fmt.Errorf("%s %s, field %s: %w", u.GetKind(), u.GetName(), key, err)
		}
		if u.GetKind() == "Secret" && key == "data" {
			input = pulumi.ToSecret(input)
		}
		props[key] = input
	}
	return props, nil
}

func toInput(value any) (pulumi.Input, error) {
	switch v := value.(type) {
	case map[string]any:
		m := make(pulumi.Map, len(v))
		for key, item := range v {
			input, err := toInput(item)
			if err != nil {
				return nil, err
			}
			m[key] = input
		}
		return m, nil
	case []any:
		list := make(pulumi.Array, len(v))
		for i, item := range v {
			input, err := toInput(item)
			if err != nil {
				return nil, err
			}
			list[i] = input
		}
		return list, nil
	case string:
		return pulumi.String(v), nil
	case bool:
		return pulumi.Bool(v), nil
	case int64:
		return pulumi.Float64(v), nil
	case float64:
		return pulumi.Float64(v), nil
	default:
		return nil, fmt.Errorf("a value of type %T has no place in a Kubernetes object", value)
	}
}
