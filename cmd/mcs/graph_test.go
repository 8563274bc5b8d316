package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestGraph_OfEverythingIsTheREADMEs(t *testing.T) {
	project := filepath.Join("..", "..")
	picture, err := execute(t, "graph", "--project", project)
	require.NoError(t, err)
	assert.Contains(t, read(t, filepath.Join(project, "README.md")), "```mermaid\n"+picture+"```\n", "run make generate")
}

func TestGraph_OfAStackIsItsOwn(t *testing.T) {
	project := t.TempDir()
	for name, from := range map[string]string{
		"Pulumi.yaml": projectFolder, "manifests/images/kustomization.yaml": projectFolder,
		"Pulumi.production.yaml": filepath.Join(projectFolder, "workloads", "testdata"), // without what an owner has set
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(project, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(project, name), []byte(read(t, filepath.Join(from, name))), 0o600))
	}
	picture, err := execute(t, "graph", "--project", project, "--stack", "production")
	require.NoError(t, err)
	assert.Contains(t, picture, "cluster: pi\"")
	assert.NotContains(t, picture, "alloy")
	_, err = execute(t, "graph", "--project", project, "--stack", "nothing")
	require.ErrorContains(t, err, "Pulumi.nothing.yaml")
	_, err = execute(t, "graph", "--project", t.TempDir())
	require.ErrorContains(t, err, "--project")
}
