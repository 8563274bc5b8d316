// Package workloads turns configuration into Kubernetes objects. Its functions are pure:
// no engine, no cluster, no files but the embedded ones. One file per workload; Catalog is
// the one list of them.
package workloads

import (
	"errors"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/config"
)

// Workload is one node of the graph: a named set of objects that becomes ready as a whole.
type Workload struct {
	// Name is unique in the catalog: a DNS label.
	Name string
	// Namespace is where its pods run.
	Namespace string
	// After names the workloads that must be ready before this one starts.
	After []string
	// Objects are complete: each has its apiVersion, kind, name and, where it has one,
	// namespace set.
	Objects []client.Object
	// URLs are where a person reaches it, if anywhere: http://service-intesis-v1.local.
	URLs []string
}

// builder makes one workload from configuration.
type builder func(cfg *config.Config, images Images) (Workload, error)

// Catalog lists every workload of a stack, each after the ones it comes After. Its error
// lists every problem.
func Catalog(cfg *config.Config, images Images) ([]Workload, error) {
	builders := []builder{fluxSystem, sealedSecrets, serviceIntesis, exporterWeather, chatHVAC}
	catalog := make([]Workload, 0, len(builders))
	var problems []error
	for _, build := range builders {
		workload, err := build(cfg, images)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		rollOnChange(&workload)
		catalog = append(catalog, workload)
	}
	problems = append(problems, check(catalog)...)
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return Sort(catalog)
}

// check finds what would only fail in a cluster: objects that are not complete, or that
// two workloads have.
func check(catalog []Workload) []error {
	var problems []error
	owners := map[string]string{}
	for _, workload := range catalog {
		for _, object := range workload.Objects {
			kind := object.GetObjectKind().GroupVersionKind()
			if kind.Kind == "" || kind.Version == "" || object.GetName() == "" {
				problems = append(problems, fmt.Errorf("workload %s: an object lacks its apiVersion, kind or name: %s %q",
					workload.Name, kind, object.GetName()))
				continue
			}
			id := fmt.Sprintf("%s %s/%s", kind.GroupKind(), object.GetNamespace(), object.GetName())
			if owner, taken := owners[id]; taken {
				problems = append(problems, fmt.Errorf("workload %s: %s is an object of %s already", workload.Name, id, owner))
			}
			owners[id] = workload.Name
		}
	}
	return problems
}
