package cluster_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

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
		_, err := cluster.New(ctx, cfg, dir)
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

func laptop(k3s string) *config.Cluster {
	no := false
	return &config.Cluster{Kind: config.K3d, Name: "dev", K3s: k3s, Flannel: config.HostGateway, Nodes: []config.Node{
		{Name: "one", Role: config.Server, Workloads: &no}, {Name: "two", Role: config.Agent}, {Name: "three", Role: config.Agent},
	}}
}

func TestK3d_IsMadeFromAConfigFileOnStandardInput(t *testing.T) {
	recorder := &pulumitest.Recorder{}
	require.NoError(t, build(recorder, laptop("v1.35.0+k3s1"), ""))
	create := recorder.OfType("command:local:Command")["dev"]
	assert.Equal(t, "k3d cluster create --config -", create.Inputs["create"].StringValue())
	assert.Equal(t, "k3d cluster delete dev", create.Inputs["delete"].StringValue())
	assert.True(t, create.RPC.GetDeleteBeforeReplace(), "two clusters can't share ports 80 and 443")
	assert.Equal(t, create.Inputs["stdin"].StringValue(), create.Inputs["triggers"].ArrayValue()[0].StringValue())

	file, err := yaml.YAMLToJSON([]byte(create.Inputs["stdin"].StringValue()))
	require.NoError(t, err)
	assert.JSONEq(t, `{
		"apiVersion": "k3d.io/v1alpha5", "kind": "Simple", "metadata": {"name": "dev"},
		"servers": 1, "agents": 2, "image": "rancher/k3s:v1.35.0-k3s1",
		"ports": [{"port": "80:80", "nodeFilters": ["loadbalancer"]}, {"port": "443:443", "nodeFilters": ["loadbalancer"]}],
		"options": {
			"k3d": {"wait": true, "timeout": "5m0s"},
			"k3s": {"extraArgs": [{"arg": "--flannel-backend=host-gw", "nodeFilters": ["server:*"]}, {"arg": "--node-taint=node-role.kubernetes.io/control-plane=true:NoSchedule", "nodeFilters": ["server:0"]}]},
			"kubeconfig": {"updateDefaultKubeconfig": false, "switchCurrentContext": false}
		}
	}`, string(file))
}

func TestK3d_TheKubeconfigIsSecretAndNeverLogged(t *testing.T) {
	recorder := &pulumitest.Recorder{}
	require.NoError(t, build(recorder, laptop("v1.35.0+k3s1"), ""))
	get := recorder.OfType("command:local:Command")["dev-kubeconfig"]
	assert.Equal(t, "none", get.Inputs["logging"].StringValue())
	assert.False(t, get.Inputs["addPreviousOutputInEnv"].BoolValue())
	assert.ElementsMatch(t, []string{"stdout", "stderr"}, get.RPC.GetAdditionalSecretOutputs())
	assert.Contains(t, get.DependsOn(), "Command:dev")
	for _, r := range recorder.OfType("command:local:Command") {
		assert.Equal(t, "dev", r.Parent())
	}
}

func TestK3d_NeedsARelease(t *testing.T) {
	recorder := &pulumitest.Recorder{}
	require.ErrorContains(t, build(recorder, laptop(""), ""), "set cluster.name and cluster.k3s")
	assert.Empty(t, recorder.All())
}

func TestPi_SaysThatItCantBeMadeYet(t *testing.T) {
	recorder := &pulumitest.Recorder{}
	err := build(recorder, &config.Cluster{Kind: config.Pi, Name: "production"}, "")
	require.ErrorIs(t, err, cluster.ErrNotBuilt)
	require.ErrorContains(t, err, "make up STACK=")
	assert.Empty(t, recorder.All())
}
