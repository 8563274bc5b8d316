package rehearsal_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/nullify005/manager-cluster-state/rehearsal"
)

// assertPivot ships metrics and logs away, and takes them back, on a running cluster: each time
// the engine makes the new side before it takes the old one away, so both have to fit.
func (s *stage) assertPivot(t *testing.T) {
	const shipping = "ship-metrics-v1"
	keeping := []string{"service-metrics-v1", "render-metrics-v1", "grafana-dashboards-v1"}
	s.Set("cloud.metrics.url", "https://prometheus.example.net/api/prom/push")
	s.Set("cloud.metrics.username", "1")
	s.Set("cloud.logs.url", "https://logs.example.net/loki/api/v1/push")
	s.Set("cloud.logs.username", "2")

	s.Set("observability", "cloud")
	require.NoError(t, s.Up(t.Context(), rehearsal.UpOptions{}))
	s.assertReady(t)
	there := s.namespaces(t)
	assert.Contains(t, there, shipping)
	for _, name := range keeping {
		assert.NotContains(t, there, name)
	}

	// While there is room: every controller of Flux with the arguments of the stack's profile.
	s.turnHelm(t, true, 6)
	s.turnHelm(t, false, 5)

	s.Set("observability", "local")
	require.NoError(t, s.Up(t.Context(), rehearsal.UpOptions{}))
	s.assertReady(t)
	there = s.namespaces(t)
	assert.NotContains(t, there, shipping)
	assert.Subset(t, there, keeping)
}

// turnHelm turns the one feature of Flux that production does without on or off.
func (s *stage) turnHelm(t *testing.T, on bool, controllers int) {
	t.Helper()
	s.Set("flux.helm", on)
	require.NoError(t, s.Up(t.Context(), rehearsal.UpOptions{}))
	s.assertReady(t)
	report, err := s.Status(t.Context())
	require.NoError(t, err)
	healthy := 0
	for _, controller := range report.Controllers {
		if controller.Name != "sealed-secrets-controller" && controller.Healthy {
			healthy++
		}
	}
	assert.Equal(t, controllers, healthy, "%+v", report.Controllers)
}

func (s *stage) namespaces(t *testing.T) []string {
	t.Helper()
	c, err := s.Client()
	require.NoError(t, err)
	var list corev1.NamespaceList
	require.NoError(t, c.List(t.Context(), &list))
	var names []string
	for _, namespace := range list.Items {
		names = append(names, namespace.Name)
	}
	return names
}
