package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestGenerated_IsWhatThePinnedModulesGive(t *testing.T) {
	t.Chdir(filepath.Join("..", ".."))
	out := t.TempDir()
	require.NoError(t, generate(out))
	files := 0
	require.NoError(t, filepath.WalkDir(out, func(path string, entry fs.DirEntry, err error) error {
		require.NoError(t, err)
		if entry.IsDir() {
			return nil
		}
		files++
		want, err := os.ReadFile(path)
		require.NoError(t, err)
		committed := filepath.Join("manifests", strings.TrimPrefix(path, out))
		got, err := os.ReadFile(committed)
		require.NoError(t, err)
		if !bytes.Equal(want, got) {
			t.Errorf("%s is stale: run make generate", committed)
		}
		return nil
	}))
	assert.Equal(t, 3, files)
}

func TestControllers_AreTheOnesThatAreBuilt(t *testing.T) {
	t.Chdir(filepath.Join("..", ".."))
	pins, err := pinned("flux")
	require.NoError(t, err)
	content, err := os.ReadFile(filepath.Join("manifests", "flux-system", "install.yaml"))
	require.NoError(t, err)
	for _, name := range controllers() {
		version := pins["github.com/fluxcd/"+name]
		require.NotEmpty(t, version, name)
		assert.Contains(t, string(content), "image: ghcr.io/fluxcd/"+name+":"+version+"\n")
	}
}
