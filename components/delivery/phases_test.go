package delivery_test

import (
	"testing"
	"time"

	"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/components/delivery"
	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/internal/pulumitest"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// On destroy the order is reversed: Helm uninstalls before the values, the source and the
// namespace go.
func TestDirect_AReleaseWaitsForItsSourceAndThatForWhatTheReleaseReads(t *testing.T) {
	cfg := &config.Config{ReadyTimeout: config.Duration{Duration: time.Minute}, Flux: config.Flux{Helm: true}}
	chart := workloads.Chart{
		Name: "chart", Namespace: "chart-v1", Repository: "https://charts.example.net", ChartName: "chart", Version: "1.0.0",
		SecretValues: map[string]any{"password": "canary"},
	}
	workload, err := chart.Workload(cfg)
	require.NoError(t, err)
	recorder := &pulumitest.Recorder{}
	// A preview: an update asks Flux how the release does.
	require.NoError(t, recorder.Run(func(ctx *pulumi.Context) error {
		provider, err := kubernetes.NewProvider(ctx, "cluster", &kubernetes.ProviderArgs{})
		if err != nil {
			return err
		}
		return delivery.Deliver(ctx, &delivery.Args{
			Catalog: []workloads.Workload{small("flux-system"), workload}, Provider: provider,
			Kubeconfig: pulumi.String("").ToStringOutput(), ReadyTimeout: time.Minute,
		})
	}, true))

	one := func(token, name string) []string {
		t.Helper()
		require.Contains(t, recorder.OfType(token), name)
		return recorder.OfType(token)[name].DependsOn()
	}
	assert.Contains(t, one("kubernetes:core/v1:Namespace", "chart/chart-v1"), "Deployment:flux-system/app")
	assert.Equal(t, []string{"Namespace:chart/chart-v1"}, one("kubernetes:core/v1:ConfigMap", "chart/chart-values"))
	assert.Equal(t, []string{"Namespace:chart/chart-v1"}, one("kubernetes:core/v1:Secret", "chart/chart-values"))
	assert.ElementsMatch(t, []string{"ConfigMap:chart/chart-values", "Secret:chart/chart-values"},
		one("kubernetes:source.toolkit.fluxcd.io/v1:HelmRepository", "chart/chart"))
	assert.Equal(t, []string{"HelmRepository:chart/chart"}, one("kubernetes:helm.toolkit.fluxcd.io/v2:HelmRelease", "chart/chart"))
}
