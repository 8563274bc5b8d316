package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// rendersTwo is a project of two stacks.
func rendersTwo(t *testing.T) (folder string) {
	t.Helper()
	folder = project(t)
	put := func(path, content string) {
		path = filepath.Join(folder, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o750))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	}
	const images = "manifests/images/kustomization.yaml"
	put("Pulumi.yaml", "name: manager-cluster-state\nruntime: go\n")
	put(images, read(t, filepath.Join("..", "..", images)))
	put("Pulumi.one.yaml", stackFile)
	put("Pulumi.two.yaml", stackFile)
	return folder
}

func TestRender_WritesEveryStackOnce(t *testing.T) {
	folder := rendersTwo(t)
	out, err := execute(t, "render", "--project", folder)
	require.NoError(t, err)
	for _, stack := range []string{"one", "two"} {
		assert.Contains(t, out, "wrote manifests/"+stack+"/grafana/deployment-grafana.yaml\n")
		assert.FileExists(t, filepath.Join(folder, "manifests", stack, "grafana", "kustomization.yaml"))
	}
	out, err = execute(t, "render", "--project", folder)
	require.NoError(t, err)
	assert.Empty(t, out, "the same again changes nothing")
}

func TestRender_OfAProjectWhosePathHasWildcards(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "code [home]*")
	require.NoError(t, os.Rename(rendersTwo(t), folder))
	out, err := execute(t, "render", "--project", folder)
	require.NoError(t, err)
	assert.Contains(t, out, "wrote manifests/one/")
	assert.Contains(t, out, "wrote manifests/two/")
}

func TestRender_OfOneStackLeavesTheOthersAlone(t *testing.T) {
	folder := rendersTwo(t)
	_, err := execute(t, "render", "--project", folder, "--stack", "two")
	require.NoError(t, err)
	assert.DirExists(t, filepath.Join(folder, "manifests", "two"))
	assert.NoDirExists(t, filepath.Join(folder, "manifests", "one"))
	_, err = execute(t, "render", "--project", folder, "--stack", "nothing")
	require.ErrorContains(t, err, "Pulumi.nothing.yaml")
}

func TestRender_OutsideOfTheProjectSaysWhereToRun(t *testing.T) {
	_, err := execute(t, "render", "--project", t.TempDir())
	require.ErrorContains(t, err, "--project")
}

func TestRenderCheck_ListsWhatIsStaleAndChangesNothing(t *testing.T) {
	folder := rendersTwo(t)
	out, err := execute(t, "render", "--check", "--project", folder)
	require.ErrorIs(t, err, errStale)
	require.ErrorContains(t, err, "make render")
	assert.Contains(t, out, "manifests/one/grafana/ is missing\n")
	assert.NoDirExists(t, filepath.Join(folder, "manifests", "one"))

	_, err = execute(t, "render", "--project", folder)
	require.NoError(t, err)
	out, err = execute(t, "render", "--check", "--project", folder)
	require.NoError(t, err)
	assert.Empty(t, out)

	stale := filepath.Join(folder, "manifests", "one", "grafana", "service-grafana.yaml")
	useless := filepath.Join(folder, "manifests", "two", "gone", "service-gone.yaml")
	sealed := filepath.Join(folder, "manifests", "two", "chat-hvac", "sealedsecret-other.yaml")
	require.NoError(t, os.MkdirAll(filepath.Dir(useless), 0o750))
	longAgo := time.Now().Add(-time.Hour).Truncate(time.Second)
	for _, path := range []string{stale, useless, sealed} {
		require.NoError(t, os.WriteFile(path, []byte("apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\n"), 0o600))
		require.NoError(t, os.Chtimes(path, longAgo, longAgo))
	}
	out, err = execute(t, "render", "--check", "--project", folder)
	require.ErrorIs(t, err, errStale)
	assert.Equal(t, "manifests/one/grafana/service-grafana.yaml is stale\nmanifests/two/gone/service-gone.yaml is of no use any more\n", out)
	for _, path := range []string{stale, useless, sealed} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		assert.Equal(t, longAgo, info.ModTime(), path)
	}

	out, err = execute(t, "render", "--project", folder)
	require.NoError(t, err)
	assert.Equal(t, "wrote manifests/one/grafana/service-grafana.yaml\nremoved manifests/two/gone/service-gone.yaml\n", out)
	assert.FileExists(t, sealed, "mcs seal removes those")
}
