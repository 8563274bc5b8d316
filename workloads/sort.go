package workloads

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Sort orders workloads so that each stands behind the ones it comes After, and otherwise
// as they are listed. A name twice, an unknown name and a cycle are errors.
func Sort(catalog []Workload) ([]Workload, error) {
	byName := make(map[string]Workload, len(catalog))
	var problems []error
	for _, workload := range catalog {
		if _, taken := byName[workload.Name]; taken {
			problems = append(problems, fmt.Errorf("two workloads are called %s", workload.Name))
		}
		byName[workload.Name] = workload
	}
	for _, workload := range catalog {
		for _, name := range workload.After {
			if _, known := byName[name]; !known {
				problems = append(problems, fmt.Errorf("workload %s comes after %s, which is not in the catalog", workload.Name, name))
			}
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	s := sorter{byName: byName, done: make(map[string]bool, len(catalog))}
	for _, workload := range catalog {
		if err := s.visit(workload.Name); err != nil {
			return nil, err
		}
	}
	return s.sorted, nil
}

type sorter struct {
	byName map[string]Workload
	done   map[string]bool
	path   []string
	sorted []Workload
}

func (s *sorter) visit(name string) error {
	if s.done[name] {
		return nil
	}
	if start := slices.Index(s.path, name); start >= 0 {
		return fmt.Errorf("workloads come after each other in a circle: %s", strings.Join(append(s.path[start:], name), " after "))
	}
	s.path = append(s.path, name)
	for _, before := range s.byName[name].After {
		if err := s.visit(before); err != nil {
			return err
		}
	}
	s.path = s.path[:len(s.path)-1]
	s.done[name] = true
	s.sorted = append(s.sorted, s.byName[name])
	return nil
}
