package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/config"
)

func TestReadStackFile_GivesLoadWhatItNeeds(t *testing.T) {
	t.Parallel()
	for _, f := range fixtures(t, "valid") {
		values, secretKeys, err := config.ReadStackFile(project, f.data)
		require.NoError(t, err, f.name)
		for _, options := range [][]config.Option{nil, {config.SkipSecrets()}} {
			cfg, err := config.Load(project, values, secretKeys, testNow(), options...)
			require.NoError(t, err, "%s: no rule judges what is encrypted", f.name)
			require.Equal(t, strings.Contains(string(f.data), "xapp-"), cfg.Secrets.Slack.Given(), f.name)
		}
	}
}

func TestReadStackFile_TellsWhatIsInTheClearBesideWhatIsNot(t *testing.T) {
	t.Parallel()
	const file = `config:
  cluster: {kind: existing, name: home, kubeconfig: kubeconfig.yaml}
  domain: local
  hvac: {device: 1, location: r3fup8, mock: true}
  secrets:
    intesis:
      username: canary
      password: {secure: v1:abc}
`
	values, secretKeys, err := config.ReadStackFile(project, []byte(file))
	require.NoError(t, err)
	require.Equal(t, []string{project + ":secrets"}, secretKeys)
	_, err = config.Load(project, values, secretKeys, testNow())
	require.EqualError(t, err, "the stack's configuration has 1 problem:\n"+
		"  secrets.intesis.username is a secret value: it is stored in the clear; "+
		"run: pulumi config set --secret --path secrets.intesis.username")
}

func TestReadStackFile_LeavesWhateverTypeIsEncryptedAtItsDefault(t *testing.T) {
	t.Parallel()
	const file = `config:
  cluster:
    kind: k3d
    name: development
    k3s: {secure: v1:abc}
    nodes:
      - {name: server, role: server, cpu: {secure: v1:abc}, workloads: {secure: v1:abc}}
      - secure: v1:abc
  domain: local
  hvac: {device: {secure: v1:abc}, location: r3fup8, mock: {secure: v1:abc}, interval: {secure: v1:abc}}
  images: {secure: v1:abc}
  readyTimeout: {secure: v1:abc}
  secrets: {secure: v1:abc}
`
	values, secretKeys, err := config.ReadStackFile(project, []byte(file))
	require.NoError(t, err)
	cfg, err := config.Load(project, values, secretKeys, testNow())
	require.NoError(t, err)
	require.True(t, cfg.Cluster.Nodes[0].RunsWorkloads())
	require.Equal(t, "4Gi", cfg.Cluster.Nodes[1].Memory)
	require.Equal(t, config.Text(config.Encrypted), cfg.HVAC.Device)
	require.Equal(t, "2m", cfg.HVAC.Interval.String())
	require.Equal(t, "10m", cfg.ReadyTimeout.String())
	require.Equal(t, config.Encrypted, cfg.Images)
}

func TestReadStackFile_KnowsEveryFormOfAKey(t *testing.T) {
	t.Parallel()
	const file = `encryptionsalt: v1:abc
config:
  domain: local
  manager-cluster-state:config:images: kustomization.yaml
  kubernetes:context: {1: 2024-01-02}
  pulumi:tags: [1.5, null, true, {secure: [1]}]
`
	values, secretKeys, err := config.ReadStackFile(project, []byte(file))
	require.NoError(t, err)
	require.Empty(t, secretKeys)
	require.Equal(t, map[string]string{
		project + ":domain":  "local",
		project + ":images":  "kustomization.yaml",
		"kubernetes:context": `{"1":"2024-01-02 00:00:00 +0000 UTC"}`,
		"pulumi:tags":        `[1.5,null,true,{"secure":[1]}]`,
	}, values)
}

func TestReadStackFile_IsEmptyWithoutConfig(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"", "config:\n", "config: {}\n", "encryptionsalt: v1:abc\n"} {
		values, secretKeys, err := config.ReadStackFile(project, []byte(file))
		require.NoError(t, err)
		require.NotNil(t, values)
		require.Empty(t, values)
		require.Empty(t, secretKeys)
	}
}

func TestReadStackFile_RefusesWhatIsNoStackFileWithoutShowingIt(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{
		"canary":                    "reading a stack file: it is no object with the key config",
		"config: canary":            "reading a stack file: config is no object of keys and values",
		"config: {a: [canary}":      "reading a stack file: yaml: did not find expected ',' or ']'",
		"config: {a: !!int canary}": "reading a stack file: yaml: cannot decode !!str",
		"config: {a:b:c: canary}":   `reading a stack file: the key "a:b:c" is not of the form namespace:key`,
		"config: {manager-cluster-state:a: canary, a: canary}": "reading a stack file: config has the key manager-cluster-state:a twice",
		"config: {a: .inf}": "reading a stack file: the key manager-cluster-state:a holds a number that JSON has no form for",
	} {
		_, _, err := config.ReadStackFile(project, []byte(file))
		require.ErrorIs(t, err, config.ErrStackFile)
		require.EqualError(t, err, want)
	}
}

// The wants of files that can't be read stand beside them: not all of them could hold a comment.
func TestReadStackFile_RefusesEveryUnreadableFile(t *testing.T) {
	wanted := filepath.Join("testdata", "unreadable", "wants.txt")
	var got strings.Builder
	for _, f := range fixtures(t, "unreadable") {
		values, secretKeys, err := config.ReadStackFile(project, f.data)
		require.ErrorIs(t, err, config.ErrStackFile, f.name)
		require.Nil(t, values)
		require.Nil(t, secretKeys)
		require.NotContains(t, strings.ToLower(err.Error()), canary, f.name)
		got.WriteString(f.name + " | " + err.Error() + "\n")
	}
	if *update {
		require.NoError(t, os.WriteFile(wanted, []byte(got.String()), 0o600))
		return
	}
	want, err := os.ReadFile(wanted)
	require.NoError(t, err)
	require.Equal(t, string(want), got.String())
}
