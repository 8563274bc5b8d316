package main

import (
	"encoding/json"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/nullify005/manager-cluster-state/internal/objects"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// step is what one call of kubectl can apply: workloads that come after nothing but those of the steps before.
type step struct {
	// objects are in an order in which they can be applied: namespaces, then definitions of kinds, then the rest.
	objects []*unstructured.Unstructured
	// definitions must be served before an object of theirs is applied.
	definitions []*unstructured.Unstructured
	// before are the Deployments that a later step comes after, and others those that nothing does.
	before, others []*unstructured.Unstructured
}

// inSteps puts a catalog into as few steps as its order allows.
func inSteps(catalog []workloads.Workload) ([]step, error) {
	level, needed := map[string]int{}, map[string]bool{}
	deepest := 0
	for _, workload := range catalog {
		for _, name := range workload.After {
			before, known := level[name]
			if !known {
				return nil, fmt.Errorf("workload %s comes after %s, which is not before it", workload.Name, name)
			}
			level[workload.Name] = max(level[workload.Name], before+1)
			needed[name] = true
		}
		level[workload.Name] = max(level[workload.Name], 0)
		deepest = max(deepest, level[workload.Name])
	}
	steps := make([]step, deepest+1)
	for _, workload := range catalog {
		if err := steps[level[workload.Name]].add(workload, needed[workload.Name]); err != nil {
			return nil, err
		}
	}
	for i := range steps {
		slices.SortStableFunc(steps[i].objects, func(a, b *unstructured.Unstructured) int { return rank(a) - rank(b) })
	}
	return steps, nil
}

func (s *step) add(workload workloads.Workload, needed bool) error {
	for _, object := range workload.Objects {
		u, err := objects.Unstructured(object)
		if err != nil {
			return fmt.Errorf("workload %s: %w", workload.Name, err)
		}
		s.objects = append(s.objects, u)
		switch {
		case u.GetKind() == "CustomResourceDefinition":
			s.definitions = append(s.definitions, u)
		case u.GetKind() == "Deployment" && needed:
			s.before = append(s.before, u)
		case u.GetKind() == "Deployment":
			s.others = append(s.others, u)
		}
	}
	return nil
}

func rank(u *unstructured.Unstructured) int {
	switch u.GetKind() {
	case "Namespace":
		return 0
	case "CustomResourceDefinition":
		return 1
	default:
		return 2
	}
}

// list is a file for kubectl.
func list(items []*unstructured.Unstructured) ([]byte, error) {
	content := make([]map[string]any, len(items))
	for i, item := range items {
		content[i] = item.Object
	}
	data, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": content})
	if err != nil {
		return nil, fmt.Errorf("writing objects for kubectl: %w", err)
	}
	return data, nil
}
