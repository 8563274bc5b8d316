package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// files are the generated ones, by the pins that they are made from.
func files(t *testing.T) map[string]map[string]string {
	t.Helper()
	t.Chdir(filepath.Join("..", ".."))
	flux, err := fluxPins()
	require.NoError(t, err)
	sealed, err := sealedSecretsPins()
	require.NoError(t, err)
	return map[string]map[string]string{
		"flux-system/crds.yaml": flux, "flux-system/install.yaml": flux, "sealed-secrets/crds.yaml": sealed,
	}
}

// A pin that was raised without make generate is noticed without the modules, too.
func TestGenerated_NamesTheVersionsThatArePinned(t *testing.T) {
	for name, pins := range files(t) {
		content, err := os.ReadFile(filepath.Join("manifests", name))
		require.NoError(t, err)
		assert.True(t, strings.HasPrefix(string(content), header(pins)),
			"%s is stale: run make generate; if Flux's pins were raised, raise fluxRelease too. It should begin with\n%s", name, header(pins))
		assert.Less(t, len(content), 1<<20, "%s is too big to read or to apply", name)
	}
}

func TestGenerated_IsWhatThePinnedModulesGive(t *testing.T) {
	want, out := files(t), t.TempDir()
	t.Setenv("GOPROXY", "off")
	err := generate(t.Context(), out)
	if errors.Is(err, errNotThere) {
		t.Skipf("a pinned module is not in the module cache; make generate downloads it: %v", err)
	}
	require.NoError(t, err)
	made := 0
	require.NoError(t, filepath.WalkDir(out, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		made++
		name, err := filepath.Rel(out, path)
		require.NoError(t, err)
		assert.Contains(t, want, name)
		fresh, err := os.ReadFile(path)
		require.NoError(t, err)
		committed, err := os.ReadFile(filepath.Join("manifests", name))
		require.NoError(t, err)
		// Not assert.Equal: a diff of six thousand lines helps nobody.
		if !bytes.Equal(fresh, committed) {
			t.Errorf("manifests/%s is stale: run make generate", name)
		}
		return nil
	}))
	assert.Len(t, want, made)
}

func TestControllers_AreTheOnesThatAreBuilt(t *testing.T) {
	pins := files(t)["flux-system/install.yaml"]
	content, err := os.ReadFile(filepath.Join("manifests", "flux-system", "install.yaml"))
	require.NoError(t, err)
	for _, name := range controllers() {
		version := pins["github.com/fluxcd/"+name]
		require.NotEmpty(t, version, name)
		assert.Contains(t, string(content), "image: ghcr.io/fluxcd/"+name+":"+version+"\n")
	}
}
