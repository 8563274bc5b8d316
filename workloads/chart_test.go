package workloads_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// withHelm is development's configuration, with what a chart needs.
func withHelm(t *testing.T) *config.Config {
	t.Helper()
	cfg := stacks(t)["development"]
	cfg.Flux.Helm = true
	return cfg
}

// podinfo has a value at every level.
func podinfo() workloads.Chart {
	return workloads.Chart{
		Name: "podinfo", Namespace: "podinfo-v1", After: []string{"service-intesis"},
		Repository: "https://charts.example.net", ChartName: "podinfo", Version: "6.11.x",
		ValuesFile: "ui: {message: of the file, color: of the file}\nlist: [1, 2]\nserial: 9007199254740993\n",
		Values:     map[string]any{"ui": map[string]any{"message": "of the map"}, "list": []int{3}, "redis": nil},
		SecretValues: map[string]any{
			"token": "canary-of-a-test",
		},
		URLs: []string{"http://podinfo.local"},
	}
}

func chartObjects(t *testing.T, chart workloads.Chart) []workloads.Workload {
	t.Helper()
	workload, err := chart.Workload(withHelm(t))
	require.NoError(t, err)
	return []workloads.Workload{workload}
}

func TestChart_IsWhatTheGoldenFilesShow(t *testing.T) {
	fromRegistry := podinfo()
	fromRegistry.Repository, fromRegistry.Version = "oci://registry.example.net/charts", "6.11.0"
	for name, chart := range map[string]workloads.Chart{"https": podinfo(), "oci": fromRegistry} {
		t.Run(name, func(t *testing.T) {
			var got bytes.Buffer
			for _, object := range chartObjects(t, chart)[0].Objects {
				content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
				require.NoError(t, err)
				delete(content, "status")
				document, err := yaml.Marshal(content)
				require.NoError(t, err)
				fmt.Fprintf(&got, "---\n%s", document)
			}
			path := filepath.Join("testdata", "charts", name+".yaml")
			if *update {
				require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
				require.NoError(t, os.WriteFile(path, got.Bytes(), 0o600))
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err, "run make golden")
			assert.Equal(t, string(want), got.String(), "run make golden, and look at git diff")
		})
	}
}

func TestChart_IsDeliveredByPulumiAfterFluxAndWhatItNames(t *testing.T) {
	made := chartObjects(t, podinfo())[0]
	assert.True(t, made.Direct)
	assert.Equal(t, []string{"flux-system", "service-intesis"}, made.After)
	assert.Equal(t, []string{"http://podinfo.local"}, made.URLs)
	release := of[*helmv2.HelmRelease]([]workloads.Workload{made})[0]
	assert.Empty(t, release.Spec.DependsOn, "the order is Pulumi's to keep")
}

// values reads what a chart is given.
func values(t *testing.T, chart workloads.Chart) (shown, secret map[string]any) {
	t.Helper()
	made := chartObjects(t, chart)
	require.NoError(t, yaml.Unmarshal([]byte(of[*corev1.ConfigMap](made)[0].Data["values.yaml"]), &shown))
	for _, object := range of[*corev1.Secret](made) {
		require.NoError(t, yaml.Unmarshal(object.Data["values.yaml"], &secret))
	}
	return shown, secret
}

func TestChart_ValuesOfTheMapApplyAboveTheFilesAndSecretOnesAboveBoth(t *testing.T) {
	shown, secret := values(t, podinfo())
	assert.Equal(t, map[string]any{"message": "of the map", "color": "of the file"}, shown["ui"])
	assert.Equal(t, []any{3.0}, shown["list"], "a list is replaced as a whole, as Helm does")
	assert.Contains(t, shown, "redis")
	assert.Nil(t, shown["redis"], "null takes away the chart's own value")
	assert.Equal(t, map[string]any{"token": "canary-of-a-test"}, secret)

	made := chartObjects(t, podinfo())
	assert.Contains(t, of[*corev1.ConfigMap](made)[0].Data["values.yaml"], "serial: 9007199254740993", "every digit")
	release := of[*helmv2.HelmRelease](made)[0]
	assert.Equal(t, []helmv2.ValuesReference{
		{Kind: "ConfigMap", Name: "podinfo-values"}, {Kind: "Secret", Name: "podinfo-values"},
	}, release.Spec.ValuesFrom, "the last one wins")
	assert.Empty(t, release.Spec.Chart.Spec.ValuesFiles, "the chart's own values would not apply")
}

func TestChart_WithoutSecretValuesHasNoSecret(t *testing.T) {
	chart := podinfo()
	chart.SecretValues = nil
	made := chartObjects(t, chart)
	assert.Empty(t, of[*corev1.Secret](made))
	assert.Len(t, of[*helmv2.HelmRelease](made)[0].Spec.ValuesFrom, 1)
}

func TestChart_WhatItReadsIsWatched(t *testing.T) {
	for _, object := range chartObjects(t, podinfo())[0].Objects {
		_, isConfigMap := object.(*corev1.ConfigMap)
		_, isSecret := object.(*corev1.Secret)
		watched := object.GetLabels()["reconcile.fluxcd.io/watch"] == "Enabled"
		assert.Equal(t, isConfigMap || isSecret, watched, object.GetObjectKind())
	}
}

func TestChart_EveryChangeOfAValueIsRequestedOfItsRelease(t *testing.T) {
	requested := func(change func(*workloads.Chart)) string {
		chart := podinfo()
		change(&chart)
		return of[*helmv2.HelmRelease](chartObjects(t, chart))[0].Annotations["reconcile.fluxcd.io/requestedAt"]
	}
	seen := map[string]bool{
		requested(func(*workloads.Chart) {}):                      true,
		requested(func(c *workloads.Chart) { c.ValuesFile = "" }): true,
		requested(func(c *workloads.Chart) { c.Values = nil }):    true,
		requested(func(c *workloads.Chart) {
			c.SecretValues = map[string]any{"token": "another"}
		}): true,
		requested(func(c *workloads.Chart) { c.SecretValues = nil }): true,
	}
	assert.Len(t, seen, 5)
	assert.Contains(t, seen, requested(func(c *workloads.Chart) { c.Version = "7.0.0" }), "that is a new generation by itself")
}

func TestChart_NoSecretIsInAnyObjectButItsSecret(t *testing.T) {
	for _, object := range chartObjects(t, podinfo())[0].Objects {
		content, err := yaml.Marshal(object)
		require.NoError(t, err)
		if _, isSecret := object.(*corev1.Secret); !isSecret {
			assert.NotContains(t, string(content), "canary", object.GetName())
		}
	}
}

func TestChart_RetriesUntilItWorks(t *testing.T) {
	chart := podinfo()
	chart.RetryInterval = 7 * time.Second
	spec := of[*helmv2.HelmRelease](chartObjects(t, chart))[0].Spec
	for _, retry := range []helmv2.Retry{spec.Install.GetRetry(false), spec.Upgrade.GetRetry(false)} {
		require.NotNil(t, retry, "not the policy RetryOnFailure")
		assert.Equal(t, 7*time.Second, retry.GetRetryInterval())
	}
	failed := &helmv2.HelmRelease{Status: helmv2.HelmReleaseStatus{InstallFailures: 99, UpgradeFailures: 99}}
	assert.False(t, spec.Install.GetRemediation().RetriesExhausted(failed))
	assert.False(t, spec.Upgrade.GetRemediation().RetriesExhausted(failed))
	assert.Less(t, spec.Timeout.Duration, withHelm(t).ReadyTimeout.Duration, "an update gives up before Helm has said why")
}

func TestChart_ItsSourceIsOfItsRepositorysKind(t *testing.T) {
	chart := podinfo()
	made := chartObjects(t, chart)
	repository, release := of[*sourcev1.HelmRepository](made)[0], of[*helmv2.HelmRelease](made)[0]
	assert.Equal(t, chart.Repository, repository.Spec.URL)
	assert.Equal(t, repository.Name, release.Spec.Chart.Spec.SourceRef.Name)
	assert.Equal(t, "6.11.x", release.Spec.Chart.Spec.Version)
	assert.Nil(t, release.Spec.ChartRef)

	chart.Repository = "oci://localhost:5000/charts/"
	chart.Insecure = true
	for version, want := range map[string]sourcev1.OCIRepositoryRef{
		"6.11.x":        {SemVer: "6.11.x"},
		">=6.0.0":       {SemVer: ">=6.0.0"},
		"6.11.0":        {Tag: "6.11.0"},
		"v6.11.0-rc.1":  {Tag: "v6.11.0-rc.1"},
		"6.11.0+build5": {Tag: "6.11.0_build5"},
	} {
		chart.Version = version
		made = chartObjects(t, chart)
		registry, release := of[*sourcev1.OCIRepository](made)[0], of[*helmv2.HelmRelease](made)[0]
		assert.Equal(t, "oci://localhost:5000/charts/podinfo", registry.Spec.URL)
		assert.True(t, registry.Spec.Insecure)
		assert.Equal(t, want, *registry.Spec.Reference)
		assert.Equal(t, registry.Name, release.Spec.ChartRef.Name)
		assert.Nil(t, release.Spec.Chart)
	}
}

func TestChart_NamesEveryProblemAtOnce(t *testing.T) {
	cfg := withHelm(t)
	cfg.Flux.Helm = false
	_, err := workloads.Chart{
		Name: "Pod_info", Repository: "ftp://charts.example.net", ValuesFile: "a: 1\na: 2\n", Timeout: -time.Second,
	}.Workload(cfg)
	for _, want := range []string{
		"workload Pod_info: flux.helm is false: workload Pod_info is a chart; run: pulumi config set --path flux.helm true",
		`its Name "Pod_info" is no DNS label`, `its Namespace "" is no DNS label`,
		"it has no ChartName", "it has no Version", "none may be negative",
		`its Repository "ftp://charts.example.net" is no URL of a chart repository`,
		"reading its ValuesFile", `key "a" already set`,
	} {
		require.ErrorContains(t, err, want)
	}
}

func TestChart_ComesWithTLSUnlessItIsOnThisMachine(t *testing.T) {
	for repository, want := range map[string]string{
		"http://127.0.0.1:8080":       "",
		"http://[::1]:8080":           "",
		"http://localhost:8080":       "",
		"http://charts.example.net":   "is not on this machine",
		"http://192.168.1.10":         "is not on this machine",
		"oci://registry.example.net":  "",
		"https://charts.example.net/": "",
		"https://":                    "is no URL",
		"charts.example.net":          "is no URL",
	} {
		chart := podinfo()
		chart.Repository = repository
		_, err := chart.Workload(withHelm(t))
		if want == "" {
			require.NoError(t, err, repository)
			continue
		}
		require.ErrorContains(t, err, want, repository)
	}
	for repository, want := range map[string]string{
		"oci://registry.example.net/charts": "is not on this machine", "http://127.0.0.1": "Insecure is for oci:// repositories",
	} {
		chart := podinfo()
		chart.Repository, chart.Insecure = repository, true
		_, err := chart.Workload(withHelm(t))
		require.ErrorContains(t, err, want)
	}
}

func TestChart_LeavesItsMapsAsTheyWere(t *testing.T) {
	chart := podinfo()
	before := maps.Clone(chart.Values)
	first := chartObjects(t, chart)
	assert.Equal(t, before, chart.Values)
	assert.Equal(t, first, chartObjects(t, chart), "the same each time")
}

func TestChart_AReleasesNameIsNoLongerThanHelmTakes(t *testing.T) {
	chart := podinfo()
	chart.Name = strings.Repeat("a", 54)
	_, err := chart.Workload(withHelm(t))
	require.ErrorContains(t, err, "its Name has 54 characters: a release's has 53 at most")
}
