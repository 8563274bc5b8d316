package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestManifestsDiff_ComparesTheWorkTreeWithTheBase(t *testing.T) {
	folder := rendersTwo(t)
	_, err := execute(t, "render", "--project", folder)
	require.NoError(t, err)
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch=main"},
		{"add", "--all"},
		{"-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", "a test"},
	} {
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Dir = folder
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
	}
	out, err := execute(t, "manifests-diff", "--project", folder, "--base", "main")
	require.NoError(t, err)
	assert.Contains(t, out, "the same as at `main`")

	stack := filepath.Join(folder, "Pulumi.two.yaml")
	changed := strings.Replace(read(t, stack), `device: "127934703953"`, `device: "111111111111"`, 1)
	require.NoError(t, os.WriteFile(stack, []byte(changed), 0o600))
	out, err = execute(t, "manifests-diff", "--project", folder, "--base", "main")
	require.NoError(t, err)
	assert.Contains(t, out, "| two | service-intesis | 1 changed |")
	assert.NotContains(t, out, "| one |")

	_, err = execute(t, "manifests-diff", "--project", folder, "--base", "main", "--max", "100")
	require.ErrorContains(t, err, "not enough")
}

func TestManifestsDiff_OutsideOfTheProjectSaysWhereToRun(t *testing.T) {
	_, err := execute(t, "manifests-diff", "--project", t.TempDir())
	require.ErrorContains(t, err, "--project")
}
