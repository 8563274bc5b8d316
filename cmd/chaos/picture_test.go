package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNameObjects_ForgetsWhatIsDrawnByLot(t *testing.T) {
	assert.Equal(t, []string{
		"deployments.apps a/web-vwxyz", "namespaces a", "pods a/web-0", "pods a/web-6d4cf56db6-?????",
	}, nameObjects([]string{
		"pods a/web-6d4cf56db6-bx2zp 1", "pods a/web-0 2", "namespaces a 3", "deployments.apps a/web-vwxyz 4",
	}), "only a pod's last part is, and a Deployment may be called anything")
}

func TestReadState_NamesResourcesAndWhatIsPending(t *testing.T) {
	resources, pending, err := readState([]byte(`{"checkpoint": {"latest": {
		"resources": [
			{"urn": "urn:pulumi:dev::p::kubernetes:core/v1:Namespace::b"},
			{"urn": "urn:pulumi:dev::p::kubernetes:core/v1:Namespace::a"},
			{"urn": "urn:pulumi:dev::p::kubernetes:core/v1:Namespace::a", "delete": true}],
		"pending_operations": [{"type": "creating", "resource": {"urn": "urn:pulumi:dev::p::kubernetes:core/v1:Secret::s"}}]}}}`))
	require.NoError(t, err)
	assert.Equal(t, []string{
		"kubernetes:core/v1:Namespace::a", "kubernetes:core/v1:Namespace::a (to be deleted)", "kubernetes:core/v1:Namespace::b",
	}, resources)
	assert.Equal(t, []string{"creating kubernetes:core/v1:Secret::s"}, pending)
	_, _, err = readState([]byte(`{"checkpoint`))
	require.Error(t, err)
}

func TestReadCheckpoint_FindsTheOneOfTheStack(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "a [pattern]")
	stacks := filepath.Join(folder, "state", ".pulumi", "stacks", "p")
	require.NoError(t, os.MkdirAll(stacks, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(stacks, "s.json"), []byte("{}"), 0o600))
	found, err := readCheckpoint(folder, "s")
	require.NoError(t, err)
	assert.Equal(t, "{}", string(found))
	_, err = readCheckpoint(folder, "t")
	require.ErrorContains(t, err, "there are 0 files of stack t")
}

func TestDifferences_EachIsNamedByThePropertyThatItBreaks(t *testing.T) {
	want := &picture{objects: []string{"a", "b"}, resources: []string{"r"}, keys: []string{"k"}, commits: []string{"c"}}
	same := *want
	assert.Empty(t, same.differences(want))
	got := &picture{objects: []string{"a", "orphan"}, resources: []string{"r", "r"}, keys: []string{"k", "k"}}
	assert.Equal(t, []string{
		"no orphan: the cluster has also orphan",
		"complete: the cluster lacks b",
		"no duplicate: the state has also r",
		"no duplicate: GitHub has also k",
		"complete: Git lacks c",
	}, got.differences(want))
}

func TestPicture_OneToWhichAnythingIsEqualIsRefused(t *testing.T) {
	full := picture{objects: []string{"a"}, resources: []string{"r"}, keys: []string{"k"}, commits: []string{"c"}}
	require.NoError(t, full.complete("production"))
	require.NoError(t, (&picture{objects: full.objects, resources: full.resources}).complete("development"), "nothing of it is pulled")
	for missing, without := range map[string]func(*picture){
		"nothing in the cluster": func(p *picture) { p.objects = nil },
		"nothing in the state":   func(p *picture) { p.resources = nil },
		"nothing in GitHub":      func(p *picture) { p.keys = nil },
		"nothing in Git":         func(p *picture) { p.commits = nil },
		"has left creating s":    func(p *picture) { p.pending = []string{"creating s"} },
	} {
		lacking := full
		without(&lacking)
		require.ErrorContains(t, lacking.complete("production"), missing)
	}
}

func TestReadCommits_OfEveryRepository(t *testing.T) {
	folder := t.TempDir()
	none, err := readCommits(filepath.Join(folder, "missing"))
	require.NoError(t, err)
	assert.Empty(t, none)

	git := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "git", append([]string{"-c", "user.name=a", "-c", "user.email=a@localhost"}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
	}
	git("init", "--quiet", "--bare", filepath.Join(folder, "owner", "empty.git"))
	work, bare := t.TempDir(), filepath.Join(folder, "owner", "full.git")
	git("init", "--quiet", work)
	git("-C", work, "commit", "--quiet", "--allow-empty", "--message", "one")
	git("-C", work, "commit", "--quiet", "--allow-empty", "--message", "two")
	git("clone", "--quiet", "--bare", work, bare)
	messages, err := readCommits(folder)
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{"one", "two"}, messages)
}
