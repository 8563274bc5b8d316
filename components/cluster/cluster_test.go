package cluster_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/components"
	"github.com/nullify005/manager-cluster-state/components/cluster"
	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/internal/pulumitest"
)

const kubeconfig = `apiVersion: v1
kind: Config
current-context: home
contexts: [{name: home, context: {cluster: home, user: admin}}]
clusters: [{name: home, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: admin, user: {token: canary}}]
`

func build(recorder *pulumitest.Recorder, cfg *config.Cluster, dir string) error {
	return recorder.Run(func(ctx *pulumi.Context) error {
		_, err := cluster.New(ctx, &config.Config{Cluster: *cfg}, dir)
		return err
	}, false)
}

func write(t *testing.T, content string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kubeconfig"), []byte(content), 0o600))
	return dir
}

func TestExisting_TheKubeconfigIsASecretOfTheProvider(t *testing.T) {
	dir := write(t, kubeconfig)
	recorder := &pulumitest.Recorder{}
	cfg := &config.Cluster{Kind: config.Existing, Name: "home", Kubeconfig: "kubeconfig", Context: "home"}
	require.NoError(t, build(recorder, cfg, dir))

	provider := recorder.OfType("pulumi:providers:kubernetes")["home"]
	assert.Equal(t, "home", provider.Parent())
	require.True(t, provider.Inputs["kubeconfig"].IsSecret())
	assert.Equal(t, kubeconfig, provider.Inputs["kubeconfig"].SecretValue().Element.StringValue())
	for name, want := range map[resource.PropertyKey]any{
		"clusterIdentifier": "home", "context": "home", "enableConfigMapMutable": true, "enableServerSideApply": true,
	} {
		assert.Equal(t, want, provider.Inputs[name].V, name)
	}
	for name, value := range recorder.OfType(components.TokenClusterExisting)["home"].Inputs {
		assert.NotContains(t, value.String(), "canary", name)
	}
}

func TestExisting_AnErrorNamesTheMendAndNoCredential(t *testing.T) {
	for name, test := range map[string]struct {
		content string
		cfg     config.Cluster
		want    string
	}{
		"no such file": {kubeconfig, config.Cluster{Kubeconfig: "elsewhere"}, "pulumi config set --path cluster.kubeconfig"},
		"no such context": {
			kubeconfig,
			config.Cluster{Kubeconfig: "kubeconfig", Context: "work"},
			`cluster.context is "work": not in kubeconfig`,
		},
		"not a kubeconfig": {"token: [canary", config.Cluster{Kubeconfig: "kubeconfig"}, "not a kubeconfig"},
	} {
		t.Run(name, func(t *testing.T) {
			test.cfg.Kind, test.cfg.Name = config.Existing, "home"
			recorder := &pulumitest.Recorder{}
			err := build(recorder, &test.cfg, write(t, test.content))
			require.ErrorContains(t, err, test.want)
			assert.NotContains(t, err.Error(), "canary")
			assert.Empty(t, recorder.All())
		})
	}
}
