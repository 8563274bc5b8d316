package rehearsal

import (
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
	if path, err := officialPlugin(githubPlugin, "v6.0.0"); path != "" || err != nil {
		t.Skipf("the official plugin is on PATH: %s %v", path, err)
	}
	return home
}

func newRehearsal(t *testing.T) *Rehearsal {
	t.Helper()
	r, err := New(Options{Project: "..", Stack: "development", Folder: filepath.Join(t.TempDir(), "r")})
	require.NoError(t, err)
	require.NoError(t, r.folder.create())
	return r
}

func installedGitHubPlugin(t *testing.T, r *Rehearsal) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(r.folder.pulumiHome(), "plugins", "resource-github-v6.*", pluginFile(githubPlugin)))
	require.NoError(t, err)
	require.Len(t, found, 1)
	return found[0]
}

// install puts a file in the place of an official plugin.
func install(t *testing.T, home, version string) string {
	t.Helper()
	path := filepath.Join(home, ".pulumi", "plugins", "resource-github-"+version, pluginFile(githubPlugin))
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, []byte("official"), 0o700))
	return path
}

func TestGitHubPlugin_IsTheStandInWhereThereIsNoOther(t *testing.T) {
	bareMachine(t)
	r := newRehearsal(t)
	require.NoError(t, r.ensureGitHubPlugin(t.Context()))
	path := installedGitHubPlugin(t, r)
	info, err := os.Lstat(path)
	require.NoError(t, err)
	assert.True(t, info.Mode().IsRegular())
	assert.NotZero(t, info.Mode().Perm()&0o100, "it can be run")
	require.NoError(t, r.ensureGitHubPlugin(t.Context()), "a second time")
}

func TestGitHubPlugin_TheOfficialOneIsPreferredAndNeverOverwritten(t *testing.T) {
	home := bareMachine(t)
	r := newRehearsal(t)
	require.NoError(t, r.ensureGitHubPlugin(t.Context()))
	official := install(t, home, "v6.99.0")
	require.NoError(t, r.ensureGitHubPlugin(t.Context()))
	path := installedGitHubPlugin(t, r)
	target, err := os.Readlink(path)
	require.NoError(t, err)
	assert.Equal(t, official, target)

	require.NoError(t, os.Rename(filepath.Dir(official), filepath.Join(home, "away")))
	require.NoError(t, r.ensureGitHubPlugin(t.Context()))
	info, err := os.Lstat(path)
	require.NoError(t, err)
	assert.True(t, info.Mode().IsRegular(), "the stand-in again")
	content, err := os.ReadFile(filepath.Join(home, "away", pluginFile(githubPlugin)))
	require.NoError(t, err)
	assert.Equal(t, "official", string(content))
}

func TestGitHubPlugin_AnOfficialOneOfTheWrongVersionIsNone(t *testing.T) {
	home := bareMachine(t)
	for _, version := range []string{"v5.26.0", "v6.1.0", "v7.0.0", "nonsense"} {
		install(t, home, version)
	}
	path, err := officialPlugin(githubPlugin, "v6.14.1")
	require.NoError(t, err)
	assert.Empty(t, path)

	install(t, home, "v6.14.1")
	newest := install(t, home, "v6.20.0")
	path, err = officialPlugin(githubPlugin, "v6.14.1")
	require.NoError(t, err)
	assert.Equal(t, newest, path)
}

func TestBuild_SaysWhatTheCompilerSays(t *testing.T) {
	r := newRehearsal(t)
	err := r.build(t.Context(), "./rehearsal/nothing", filepath.Join(t.TempDir(), "nothing"))
	require.ErrorContains(t, err, "building ./rehearsal/nothing")
	assert.ErrorContains(t, err, "not found")
}

func TestSDKVersion_IsThatOfGoMod(t *testing.T) {
	r := newRehearsal(t)
	version, err := r.sdkVersion("github.com/pulumi/pulumi-github/sdk/v6")
	require.NoError(t, err)
	assert.Regexp(t, `^v6\.\d+\.\d+$`, version)
	_, err = r.sdkVersion("github.com/nobody/nothing")
	assert.ErrorContains(t, err, "go.mod does not require it")
}
