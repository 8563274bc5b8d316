package rehearsal

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/rehearsal/plugins"
)

func newRehearsal(t *testing.T) *Rehearsal {
	t.Helper()
	r, err := New(Options{Project: "..", Stack: "development", Folder: filepath.Join(t.TempDir(), "r")})
	require.NoError(t, err)
	require.NoError(t, r.folder.create())
	return r
}

func TestPlugins_LieInTheRehearsalsOwnHome(t *testing.T) {
	t.Setenv("PULUMI_HOME", t.TempDir())
	r := newRehearsal(t)
	require.NoError(t, r.ensurePlugin(t.Context(), plugins.GitHub))
	found, err := filepath.Glob(filepath.Join(r.folder.pulumiHome(), "plugins", "resource-github-v*", "pulumi-resource-github"))
	require.NoError(t, err)
	assert.Len(t, found, 1)
	require.ErrorContains(t, r.ensurePlugin(t.Context(), "nothing"), "go.mod does not require it")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, r.ensurePlugin(ctx, plugins.GitHub), ErrInterrupted)
	assert.ErrorIs(t, r.build(ctx, "./cmd/forge", filepath.Join(t.TempDir(), "forge")), ErrInterrupted)
}
