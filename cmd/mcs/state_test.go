package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRestoreState_PutsBackWhatAFullDiskHasCutOff(t *testing.T) {
	s := tempStack(t)
	assert.Contains(t, succeeds(t, s, "restore-state"), "the state of stack production is whole, with 0 resources: nothing to restore")

	state, err := s.State(t.Context())
	require.NoError(t, err)
	whole := read(t, state.File())
	require.NoError(t, os.RemoveAll(state.File()+".bak"))
	require.NoError(t, os.Truncate(state.File(), 40))
	_, err = on(t, s, "y\n", "restore-state")
	require.ErrorContains(t, err, "there is no whole copy of the state")
	require.ErrorContains(t, err, "docs/clusters.md")

	require.NoError(t, os.WriteFile(state.File()+".bak", []byte(whole), 0o600))
	out := succeeds(t, s, "restore-state", "--dry-run")
	assert.Contains(t, out, "the state is cut off: "+state.File())
	assert.Contains(t, out, "with 0 resources: "+state.File()+".bak")
	assert.Contains(t, out, "would put it back")
	_, err = on(t, s, "n\n", "restore-state")
	require.ErrorIs(t, err, errDeclined)
	assert.Len(t, read(t, state.File()), 40, "neither changes anything")

	lock := filepath.Join(state.Backend, ".pulumi", "locks", "organization", "manager-cluster-state", "production", "x.json")
	require.NoError(t, os.MkdirAll(filepath.Dir(lock), 0o700))
	require.NoError(t, os.WriteFile(lock, []byte("{}"), 0o600))
	_, err = on(t, s, "y\n", "restore-state")
	require.ErrorContains(t, err, "the stack is locked")
	require.ErrorContains(t, err, "pulumi cancel -s production")
	require.NoError(t, os.Remove(lock))

	out, err = on(t, s, "y\n", "restore-state")
	require.NoError(t, err)
	assert.Contains(t, out, "what was cut off is in "+state.File()+".broken")
	assert.Equal(t, whole, read(t, state.File()))
	assert.Len(t, read(t, state.File()+".broken"), 40)
}

func TestRestoreState_OfAStackThatIsNotThere(t *testing.T) {
	s := tempStack(t)
	s.Name = "lab"
	_, err := on(t, s, "", "restore-state")
	require.ErrorContains(t, err, "make one with: pulumi stack init lab")
}
