package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestKeptProgram_ChangesOneDefaultAndRefusesWhatItDoesNotKnow(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "go", "pulumi-language-go", "main.go")
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	const line = `flag.StringVar(&buildTarget, "buildTarget", "", "Path")`
	require.NoError(t, os.WriteFile(path, []byte("package main\n"+line+"\n"), 0o600))
	require.NoError(t, keptProgram(folder, "v3.60.0"))
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Contains(t, string(content), `"buildTarget", keptProgram(), "Path")`)
	assert.Contains(t, string(content), "func keptProgram() string {")
	require.ErrorContains(t, keptProgram(folder, "v3.61.0"), "v3.61.0 does not have")
}

func TestInputs_AreStaleWhenThePatchOfThatToolChanges(t *testing.T) {
	dir := t.TempDir()
	digest := func(source string) string {
		b := &build{tool: tool{patch: keptProgram, patchSource: []byte(source)}, dir: dir}
		inputs, err := b.inputs()
		require.NoError(t, err)
		return inputs
	}
	first := digest("a")
	assert.Equal(t, first, digest("a"))
	assert.NotEqual(t, digest("a"), digest("b"))
}
