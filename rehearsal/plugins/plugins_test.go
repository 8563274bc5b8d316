package plugins

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// bareMachine has no plugin on PATH and a home with nothing in it, which it returns.
func bareMachine(t *testing.T) (home string) {
	t.Helper()
	home = t.TempDir()
	t.Setenv("PULUMI_HOME", filepath.Join(home, ".pulumi"))
	for _, name := range []string{GitHub, Command} {
		if path, err := findOfficial(name, "v1.0.0"); path != "" || err != nil {
			t.Skipf("the official plugin is on PATH: %s %v", path, err)
		}
	}
	return home
}

func newTarget(t *testing.T) Target {
	t.Helper()
	return Target{Project: filepath.Join("..", ".."), Home: filepath.Join(t.TempDir(), "some home")}
}

// ensured is the path of a plugin that has been ensured.
func ensured(t *testing.T, target Target, name string) string {
	t.Helper()
	_, err := target.Ensure(t.Context(), name)
	require.NoError(t, err)
	found, err := filepath.Glob(filepath.Join(target.Home, "plugins", "resource-"+name+"-v*", "pulumi-resource-"+name))
	require.NoError(t, err)
	require.Len(t, found, 1)
	return found[0]
}

// install puts a file in the place of an official plugin.
func install(t *testing.T, home, name, version string) string {
	t.Helper()
	path := Path(filepath.Join(home, ".pulumi"), name, version)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, []byte("official"), 0o700))
	return path
}

func TestEnsure_LeavesTheStandInWhereThereIsNoOther(t *testing.T) {
	bareMachine(t)
	target := newTarget(t)
	for _, name := range []string{GitHub, Command} {
		path := ensured(t, target, name)
		info, err := os.Lstat(path)
		require.NoError(t, err)
		assert.True(t, info.Mode().IsRegular())
		assert.NotZero(t, info.Mode().Perm()&0o100, "it can be run")
		assert.Equal(t, path, ensured(t, target, name), "a second time")
	}
}

func TestEnsure_PrefersTheOfficialOneAndNeverOverwritesIt(t *testing.T) {
	home := bareMachine(t)
	target := newTarget(t)
	path := ensured(t, target, Command)
	official := install(t, home, Command, "v1.99.0")
	for range 2 {
		found, err := target.Ensure(t.Context(), Command)
		require.NoError(t, err)
		assert.Equal(t, official, found)
		leads, err := os.Readlink(path)
		require.NoError(t, err)
		assert.Equal(t, official, leads)
	}

	require.NoError(t, os.Rename(filepath.Dir(official), filepath.Join(home, "away")))
	ensured(t, target, Command)
	info, err := os.Lstat(path)
	require.NoError(t, err)
	assert.True(t, info.Mode().IsRegular(), "the stand-in again")
	content, err := os.ReadFile(filepath.Join(home, "away", filepath.Base(official)))
	require.NoError(t, err)
	assert.Equal(t, "official", string(content))
}

func TestEnsure_TakesNoOfficialOneOfTheWrongVersion(t *testing.T) {
	home := bareMachine(t)
	for _, version := range []string{"v5.26.0", "v6.1.0", "v7.0.0", "nonsense"} {
		install(t, home, GitHub, version)
	}
	path, err := findOfficial(GitHub, "v6.14.1")
	require.NoError(t, err)
	assert.Empty(t, path)

	install(t, home, GitHub, "v6.14.1")
	newest := install(t, home, GitHub, "v6.20.0")
	path, err = findOfficial(GitHub, "v6.14.1")
	require.NoError(t, err)
	assert.Equal(t, newest, path)
}

func TestBuild_SaysWhatTheCompilerSays(t *testing.T) {
	target := newTarget(t)
	err := Build(t.Context(), target.Project, nil, "./rehearsal/nothing", filepath.Join(target.Home, "nothing"))
	require.ErrorContains(t, err, "building ./rehearsal/nothing")
	require.ErrorContains(t, err, "not found")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = target.Ensure(ctx, Command)
	assert.ErrorIs(t, err, context.Canceled)
}

func TestSDKVersion_IsThatOfGoMod(t *testing.T) {
	for name, want := range map[string]string{GitHub: `^v6\.\d+\.\d+$`, Command: `^v1\.\d+\.\d+$`, "kubernetes": `^v4\.\d+\.\d+$`} {
		version, err := SDKVersion(filepath.Join("..", ".."), name)
		require.NoError(t, err)
		assert.Regexp(t, want, version)
	}
	_, err := SDKVersion(filepath.Join("..", ".."), "nothing")
	assert.ErrorContains(t, err, "go.mod does not require it")
}
