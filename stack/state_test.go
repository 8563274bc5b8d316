package stack_test

import (
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/stack"
)

func TestState_ThatIsCutOffIsPutBack(t *testing.T) {
	s := newStack(t)
	state, err := s.State(t.Context())
	require.NoError(t, err)
	whole, err := os.ReadFile(state.File())
	require.NoError(t, err, "it is where Pulumi has it")
	require.NoError(t, state.Keep())
	require.NoError(t, state.Keep())
	copies, err := filepath.Glob(filepath.Join(state.Backend, ".pulumi", "backups", "manager-cluster-state", "production", "*"))
	require.NoError(t, err)
	require.Len(t, copies, 1, "the newest alone")

	require.NoError(t, os.Truncate(state.File(), int64(len(whole)/2)))
	_, err = state.Resources()
	require.ErrorIs(t, err, stack.ErrCutOff)
	export := func() (string, error) {
		cmd := exec.CommandContext(t.Context(), s.Pulumi, "stack", "export", "--stack", s.Name, "--cwd", s.Project)
		cmd.Env = s.Env
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	said, err := export()
	require.Error(t, err)
	require.Contains(t, said, "unexpected end of JSON input", "what the README has of it")

	// Newer copies are of no use: one of what is cut off, as Pulumi makes it, and an empty one.
	require.NoError(t, os.WriteFile(state.File()+".bak", whole[:len(whole)/2], 0o600))
	later := filepath.Join(filepath.Dir(copies[0]), "production.9.json")
	require.NoError(t, os.WriteFile(later, nil, 0o600))
	for _, file := range []string{state.File() + ".bak", later} {
		require.NoError(t, os.Chtimes(file, time.Time{}, time.Now().Add(time.Hour)))
	}
	newest, err := state.Newest()
	require.NoError(t, err)
	assert.Equal(t, copies[0], newest.File)
	require.NoError(t, state.Restore(newest))
	count, err := state.Resources()
	require.NoError(t, err)
	assert.Zero(t, count, "it is a stack of nothing")
	said, err = export()
	require.NoError(t, err, said)
	broken, err := os.ReadFile(state.File() + ".broken")
	require.NoError(t, err)
	assert.Equal(t, whole[:len(whole)/2], broken)
}

func TestState_CountsWhatItHas(t *testing.T) {
	state := stack.State{Backend: t.TempDir(), Project: "p", Stack: "s"}
	_, err := state.Resources()
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NotErrorIs(t, err, stack.ErrCutOff)
	_, err = state.Newest()
	require.ErrorIs(t, err, stack.ErrNoCopy)

	require.NoError(t, os.MkdirAll(filepath.Dir(state.File()), 0o700))
	for content, want := range map[string]int{
		`{"version":3,"checkpoint":{"stack":"s"}}`:                             0,
		`{"version":3,"checkpoint":{"latest":{"resources":[{"urn":"x"},{}]}}}`: 2,
		`{"version":3}`: -1,
		`{"version":3,"checkpoint":{"latest":{"resources":[{"urn":"x"}`: -1,
		``: -1,
	} {
		require.NoError(t, os.WriteFile(state.File(), []byte(content), 0o600))
		count, err := state.Resources()
		if want < 0 {
			require.ErrorIs(t, err, stack.ErrCutOff, content)
			continue
		}
		require.NoError(t, err, content)
		assert.Equal(t, want, count, content)
	}
}

func TestState_IsFoundWhereThePathLooksLikeAPattern(t *testing.T) {
	state := stack.State{Backend: filepath.Join(t.TempDir(), "a [pattern]"), Project: "p", Stack: "s"}
	locks, err := state.Locks()
	require.NoError(t, err)
	require.Empty(t, locks)

	lock := filepath.Join(state.Backend, ".pulumi", "locks", "organization", "p", "s", "1.json")
	require.NoError(t, os.MkdirAll(filepath.Dir(lock), 0o700))
	require.NoError(t, os.WriteFile(lock, nil, 0o600))
	locks, err = state.Locks()
	require.NoError(t, err)
	assert.Equal(t, []string{lock}, locks)

	require.NoError(t, os.MkdirAll(filepath.Dir(state.File()), 0o700))
	require.NoError(t, os.WriteFile(state.File(), []byte(`{"version":3,"checkpoint":{"stack":"s"}}`), 0o600))
	require.NoError(t, state.Keep())
	first, err := state.Newest()
	require.NoError(t, err)
	require.NoError(t, state.Keep())
	assert.NoFileExists(t, first.File, "the newest alone")
}

func TestBackendFolder_IsWherePulumiHasIt(t *testing.T) {
	t.Setenv("HOME", "/nowhere")
	somebody, err := user.Current()
	require.NoError(t, err)
	for from, want := range map[string]string{
		"file://~":                      somebody.HomeDir,
		"file://~/states?metadata=skip": somebody.HomeDir + "/states",
		"file:///var/a%20state":         "/var/a state",
		"file://./here":                 "/project/here",
	} {
		folder, err := stack.BackendFolder(from, "/project")
		require.NoError(t, err, from)
		assert.Equal(t, want, folder, from)
	}
	_, err = stack.BackendFolder("https://api.pulumi.com", "/project")
	require.ErrorContains(t, err, "the backend is https://api.pulumi.com: only the state of a file backend")
}
