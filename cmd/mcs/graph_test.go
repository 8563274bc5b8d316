package main

import (
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
	project := filepath.Join("..", "..")
	picture, err := execute(t, "graph", "--project", project, "--stack", "production")
	require.NoError(t, err)
	assert.Contains(t, picture, "cluster: pi\"")
	assert.NotContains(t, picture, "alloy")
	_, err = execute(t, "graph", "--project", project, "--stack", "nothing")
	require.ErrorContains(t, err, "Pulumi.nothing.yaml")
	_, err = execute(t, "graph", "--project", t.TempDir())
	require.ErrorContains(t, err, "--project")
}
