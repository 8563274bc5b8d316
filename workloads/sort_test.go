package workloads_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/workloads"
)

func node(name string, after ...string) workloads.Workload {
	return workloads.Workload{Name: name, After: after}
}

func TestSort_KeepsTheListedOrderButForWhatComesAfter(t *testing.T) {
	sorted, err := workloads.Sort([]workloads.Workload{node("a", "d"), node("b"), node("c", "a"), node("d", "b")})
	require.NoError(t, err)
	var names []string
	for _, workload := range sorted {
		names = append(names, workload.Name)
	}
	assert.Equal(t, []string{"b", "d", "a", "c"}, names)
}

func TestSort_NamesEveryUnknownAndDoubleName(t *testing.T) {
	_, err := workloads.Sort([]workloads.Workload{node("a", "x"), node("a"), node("b", "y")})
	require.ErrorContains(t, err, "two workloads are called a")
	require.ErrorContains(t, err, "workload a comes after x, which is not in the catalog")
	require.ErrorContains(t, err, "workload b comes after y, which is not in the catalog")
}

func TestSort_NamesTheWholeCircle(t *testing.T) {
	_, err := workloads.Sort([]workloads.Workload{node("lead", "a"), node("a", "b"), node("b", "c"), node("c", "a")})
	require.EqualError(t, err, "workloads come after each other in a circle: a after b after c after a")
	_, err = workloads.Sort([]workloads.Workload{node("a", "a")})
	assert.EqualError(t, err, "workloads come after each other in a circle: a after a")
}
