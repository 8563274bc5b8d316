package rehearsal

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/rehearsal/plugins"
)

func TestParsePreview_KeepsWhatChanges(t *testing.T) {
	changes, err := parsePreview([]byte(`{"steps": [
		{"op": "same", "urn": "urn:pulumi:s::p::pulumi:pulumi:Stack::p-s"},
		{"op": "update", "urn": "urn:pulumi:s::p::x:y:Direct$kubernetes:apps/v1:Deployment::app/app",
		 "detailedDiff": {"spec.replicas": {"kind": "update"}, "metadata.labels": {"kind": "add"}}},
		{"op": "create", "urn": "urn:pulumi:s::p::kubernetes:core/v1:Namespace::n"}
	]}`))
	require.NoError(t, err)
	require.Len(t, changes, 2)
	assert.Equal(t, []string{"metadata.labels", "spec.replicas"}, changes[0].Paths)
	assert.Equal(t, "update kubernetes:apps/v1:Deployment app/app metadata.labels, spec.replicas", changes[0].String())
	assert.Equal(t, "create kubernetes:core/v1:Namespace n", changes[1].String())
}

func TestParseState_FindsWorkloadsAndWhatTheyRun(t *testing.T) {
	const component = "urn:pulumi:s::p::manager-cluster-state:delivery:Direct::app"
	state, err := parseState([]byte(`{"deployment": {"resources": [
		{"urn": "urn:stack", "type": "pulumi:pulumi:Stack", "outputs": {"urls": ["http://a.local", {"4dabf18193072939515e22adb298388d": "x"}]}},
		{"urn": "` + component + `", "type": "manager-cluster-state:delivery:Direct", "parent": "urn:stack"},
		{"urn": "ns", "type": "kubernetes:core/v1:Namespace", "id": "n", "parent": "` + component + `", "created": "2026-01-01T00:00:05Z"},
		{"urn": "crd", "type": "kubernetes:apiextensions.k8s.io/v1:CustomResourceDefinition", "id": "c", "parent": "` + component + `", "created": "2026-01-01T00:00:04Z"},
		{"urn": "d", "type": "kubernetes:apps/v1:Deployment", "id": "n/app", "parent": "` + component + `", "created": "2026-01-01T00:00:09Z"},
		{"urn": "old", "type": "kubernetes:apps/v1:Deployment", "id": "n/old", "parent": "` + component + `", "delete": true},
		{"urn": "other", "type": "kubernetes:apps/v1:Deployment", "id": "n/other", "parent": "urn:stack"}
	]}}`))
	require.NoError(t, err)
	assert.Equal(t, []string{"http://a.local"}, state.urls, "a secret is left out")
	assert.Equal(t, []workload{{
		name: "app", created: time.Date(2026, 1, 1, 0, 0, 4, 0, time.UTC),
		objects: []objectID{{"Deployment", "n", "app"}},
	}}, state.workloads)
}

func TestParseState_OfAnEmptyStackIsEmpty(t *testing.T) {
	state, err := parseState([]byte(`{"version": 3, "deployment": {"manifest": {}}}`))
	require.NoError(t, err)
	assert.Empty(t, state.workloads)
}

func TestParsePending_NamesTheObjectOfACreation(t *testing.T) {
	pending, err := parsePending([]byte(`{"checkpoint": {"latest": {"pending_operations": [{"type": "creating", "resource": {
		"type": "kubernetes:apps/v1:Deployment",
		"inputs": {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "namespace": "n"}}}}]}}}`))
	require.NoError(t, err)
	require.Len(t, pending, 1)
	assert.Equal(t, "creating", pending[0].kind)
	assert.Equal(t, "n", pending[0].object.GetNamespace())
	assert.Equal(t, "a", pending[0].object.GetName())

	pending, err = parsePending([]byte(`{"checkpoint": {"latest": {}}}`))
	require.NoError(t, err)
	assert.Empty(t, pending)
}

// No command is run for it: there is no pulumi here. The file has no secret in the clear, and each opens
// with the passphrase.
func TestSetPlaceholders_EncryptsEachWithoutACommandLine(t *testing.T) {
	project := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(project, "Pulumi.yaml"), []byte("name: p\n"), 0o600))
	r, err := New(Options{Project: project, Stack: "dev", Folder: filepath.Join(project, "rehearsal")})
	require.NoError(t, err)
	require.NoError(t, r.folder.create())
	require.NoError(t, os.MkdirAll(r.folder.forge(), 0o700))
	require.NoError(t, os.WriteFile(r.folder.config(r.stack), nil, 0o600))
	record := noForge()
	record.Token = "canary-token"
	require.NoError(t, r.writeForge(record))

	require.NoError(t, r.engine.setPlaceholders(t.Context()))
	data, err := os.ReadFile(r.folder.config(r.stack))
	require.NoError(t, err)
	for _, secret := range []string{"canary-token", "PRIVATE KEY", "rehearsal-placeholder"} {
		assert.NotContains(t, string(data), secret)
	}
	file, err := parseStackFile(r.project, data)
	require.NoError(t, err)
	into, err := newEncrypter(t.Context(), file, r.folder.passphrase())
	require.NoError(t, err)
	for path, want := range placeholders(record) {
		plain, err := into.crypter.DecryptValue(t.Context(), child(file.get(path), "secure").Value)
		require.NoError(t, err, path)
		assert.Equal(t, want, plain, path)
	}
	pair := file.get(sealingKeys).Content[0]
	private, err := into.crypter.DecryptValue(t.Context(), child(child(pair, "privateKey"), "secure").Value)
	require.NoError(t, err)
	assert.Contains(t, private, "RSA PRIVATE KEY")
}

func TestPrepare_LinksThePluginsOfARaisedSDK(t *testing.T) {
	project := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(project, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(project, name), []byte(text), 0o700))
	}
	write("Pulumi.yaml", "name: manager-cluster-state\n")
	stackFile, err := os.ReadFile(filepath.Join("..", "workloads", "testdata", "Pulumi.development.yaml"))
	require.NoError(t, err)
	write("Pulumi.dev.yaml", string(stackFile))
	write(filepath.Join("tools", kubernetesPlugin), "")
	// The official plugins: nothing is built.
	write(filepath.Join("bin", "pulumi-resource-github"), "")
	t.Setenv("PATH", filepath.Join(project, "bin"))
	r, err := New(Options{Project: project, Stack: "dev", Folder: filepath.Join(project, "rehearsal"), Tools: filepath.Join(project, "tools")})
	require.NoError(t, err)
	require.NoError(t, r.folder.create())
	for _, minor := range []string{"1", "2"} {
		write("go.mod", "require github.com/pulumi/pulumi-kubernetes/sdk/v4 v4."+minor+".0\n"+
			"require github.com/pulumi/pulumi-github/sdk/v6 v6."+minor+".0\n")
		require.ErrorContains(t, r.engine.prepareStack(t.Context()), "making the stack", "there is no pulumi")
		assert.FileExists(t, plugins.Path(r.folder.pulumiHome(), "kubernetes", "v4."+minor+".0"))
		assert.FileExists(t, plugins.Path(r.folder.pulumiHome(), "github", "v6."+minor+".0"))
	}
}

// Whoever ends an engine lets pulumi save its state before anything that it talks to is ended.
func TestEngine_EndsPulumiBeforeItsProgramAndPlugins(t *testing.T) {
	processes := []Process{
		{Command: "/r/tmp/programs/main"},
		{Command: "/r/plugins/pulumi-resource-kubernetes"},
		{Command: "/r/bin/pulumi-language-go"},
		{Command: "/r/bin/pulumi up"},
	}
	slices.SortStableFunc(processes, pulumiFirst)
	require.Equal(t, "pulumi", processes[0].Name())
	assert.Equal(t, "main", processes[1].Name())
}

// Where the folder of the logs is a file, Pulumi makes none: rehearsals rely on it, and the bench turns it back.
func TestEngine_KeepsPulumisOwnLogOnlyWhenAskedTo(t *testing.T) {
	e := &engine{rehearsal: &Rehearsal{folder: folder(t.TempDir())}}
	logs := filepath.Join(e.rehearsal.folder.pulumiHome(), "logs")
	require.NoError(t, os.MkdirAll(filepath.Join(logs, "of an older rehearsal"), 0o700))
	require.NoError(t, e.keepLog(false))
	assert.FileExists(t, logs)
	require.NoError(t, e.keepLog(true))
	assert.NoFileExists(t, logs)
}
