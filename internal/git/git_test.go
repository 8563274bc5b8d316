package git_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/internal/git"
	"github.com/nullify005/manager-cluster-state/internal/gittest"
)

func remote(h *gittest.Host, privateKey string) git.Remote {
	return git.Remote{URL: h.URL(), Branch: "main", PrivateKey: privateKey, HostKeys: h.KnownHosts()}
}

// quietly fails a test whose error shows the key.
func quietly(t *testing.T, err error, privateKey string) {
	t.Helper()
	require.Error(t, err)
	for line := range strings.Lines(privateKey) {
		assert.NotContains(t, err.Error(), strings.TrimSpace(line))
	}
}

func TestFetch_ReadsTheNewestCommitWithTheDeployKey(t *testing.T) {
	host := gittest.Start(t)
	from := remote(host, host.DeployKey(t))
	host.Push(t, "main", map[string][]byte{"manifests/a/b.yaml": []byte("before"), "manifests/gone": []byte("x")})
	commit := host.Push(t, "main", map[string][]byte{
		"manifests/a/b.yaml": []byte("after"), "manifests/c.yaml": {}, "manifests/gone": nil, "other/d.yaml": {0, 255},
	})
	host.Push(t, "another", map[string][]byte{"manifests/a/b.yaml": []byte("of another branch")})

	head, err := git.Fetch(t.Context(), from)
	require.NoError(t, err)
	assert.Equal(t, "main@sha1:"+commit, head.Revision)
	files, err := head.Files("manifests")
	require.NoError(t, err)
	assert.Equal(t, map[string][]byte{"a/b.yaml": []byte("after"), "c.yaml": {}}, files)
	files, err = head.Files("other")
	require.NoError(t, err)
	assert.Equal(t, map[string][]byte{"d.yaml": {0, 255}}, files)
}

func TestFiles_OfAFolderThatIsNotThereAreNone(t *testing.T) {
	host := gittest.Start(t)
	host.Push(t, "main", map[string][]byte{"manifests/a": []byte("x")})
	head, err := git.Fetch(t.Context(), remote(host, host.DeployKey(t)))
	require.NoError(t, err)
	for _, folder := range []string{"nothing", "manifests/nothing", "manifests/a", "manifests/a/b"} {
		files, err := head.Files(folder)
		require.NoError(t, err, folder)
		assert.Empty(t, files, folder)
	}
}

func TestFiles_OfTheRootAreAll(t *testing.T) {
	host := gittest.Start(t)
	host.Push(t, "main", map[string][]byte{"a": []byte("x"), "b/c": []byte("y")})
	head, err := git.Fetch(t.Context(), remote(host, host.DeployKey(t)))
	require.NoError(t, err)
	files, err := head.Files(".")
	require.NoError(t, err)
	assert.Equal(t, map[string][]byte{"a": []byte("x"), "b/c": []byte("y")}, files)
}

func TestFetch_SaysThatAKeyIsNotLetIn(t *testing.T) {
	host := gittest.Start(t)
	host.Push(t, "main", map[string][]byte{"a": []byte("x")})
	stranger, _ := gittest.Key(t)
	_, err := git.Fetch(t.Context(), remote(host, stranger))
	require.ErrorIs(t, err, git.ErrNoAccess)
	quietly(t, err, stranger)

	// A deploy key of one repository, as the host says it, can't find another.
	elsewhere := remote(host, host.DeployKey(t))
	elsewhere.URL = strings.Replace(elsewhere.URL, "manager-cluster-state", "another", 1)
	_, err = git.Fetch(t.Context(), elsewhere)
	require.ErrorIs(t, err, git.ErrNoAccess)
}

func TestFetch_SaysThatThereIsNoSuchBranch(t *testing.T) {
	host := gittest.Start(t)
	from := remote(host, host.DeployKey(t))
	_, err := git.Fetch(t.Context(), from)
	require.ErrorIs(t, err, git.ErrNoBranch, "of an empty repository")
	host.Push(t, "main", map[string][]byte{"a": []byte("x")})
	from.Branch = "another"
	_, err = git.Fetch(t.Context(), from)
	require.ErrorIs(t, err, git.ErrNoBranch)
	require.ErrorContains(t, err, "another")
	require.NotErrorIs(t, err, git.ErrNoAccess)
}

func TestFetch_RefusesAHostKeyThatIsNotPinned(t *testing.T) {
	host, impostor := gittest.Start(t), gittest.Start(t)
	host.Push(t, "main", map[string][]byte{"a": []byte("x")})
	key := host.DeployKey(t)
	// The impostor's key, at the host's address.
	_, theirs, _ := strings.Cut(impostor.KnownHosts(), " ")
	address, _, _ := strings.Cut(host.KnownHosts(), " ")
	for name, pinned := range map[string]string{
		"another key": address + " " + theirs, "another host": impostor.KnownHosts(), "none": "",
	} {
		from := remote(host, key)
		from.HostKeys = pinned
		_, err := git.Fetch(t.Context(), from)
		require.ErrorContains(t, err, "shows a host key that is not pinned", name)
		require.NotErrorIs(t, err, git.ErrNoAccess, name)
		require.NotErrorIs(t, err, git.ErrNoBranch, name)
		quietly(t, err, key)
	}
}

func TestFetch_OfAHostThatIsDownFailsQuickly(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	down := listener.Addr().String()
	require.NoError(t, listener.Close())
	private, _ := gittest.Key(t)
	began := time.Now()
	_, err = git.Fetch(t.Context(), git.Remote{URL: "ssh://git@" + down + "/a/b.git", Branch: "main", PrivateKey: private})
	require.ErrorContains(t, err, down)
	require.NotErrorIs(t, err, git.ErrNoAccess)
	assert.Less(t, time.Since(began), 10*time.Second)
}

func TestFetch_OfAHostThatIsSilentEndsWithTheContext(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	private, _ := gittest.Key(t)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err = git.Fetch(ctx, git.Remote{URL: "ssh://git@" + listener.Addr().String() + "/a/b.git", Branch: "main", PrivateKey: private})
	require.Error(t, err)
	require.NotErrorIs(t, err, git.ErrNoAccess)
	assert.Less(t, time.Since(began), 10*time.Second)
}

func TestFetch_SaysNothingOfAKeyThatIsNone(t *testing.T) {
	_, err := git.Fetch(t.Context(), git.Remote{URL: "ssh://git@127.0.0.1:1/a/b.git", Branch: "main", PrivateKey: "canary"})
	require.ErrorContains(t, err, "reading the deploy key")
	assert.NotContains(t, err.Error(), "canary")
}

func TestFetchAsUser_ReadsWithThePersonsOwnKey(t *testing.T) {
	host := gittest.Start(t)
	env := host.UserEnv(t)
	commit := host.Push(t, "main", map[string][]byte{"manifests/a": []byte("x")})
	head, err := git.FetchAsUser(t.Context(), remote(host, ""), env...)
	require.NoError(t, err)
	assert.Equal(t, "main@sha1:"+commit, head.Revision)
	files, err := head.Files("manifests")
	require.NoError(t, err)
	assert.Equal(t, map[string][]byte{"a": []byte("x")}, files)

	missing := remote(host, "")
	missing.Branch = "another"
	_, err = git.FetchAsUser(t.Context(), missing, env...)
	require.ErrorIs(t, err, git.ErrNoBranch)
}

func TestFetchAsUser_PinsTheHostKeysWhereThePersonSaysNothingElse(t *testing.T) {
	host := gittest.Start(t)
	host.UserEnv(t) // skips where there is no ssh
	host.Push(t, "main", map[string][]byte{"a": []byte("x")})
	t.Setenv("SSH_AUTH_SOCK", "")
	from := remote(host, "")
	_, err := git.FetchAsUser(t.Context(), from)
	require.ErrorContains(t, err, "Permission denied", "the host is known, and the person isn't")
	from.HostKeys = ""
	_, err = git.FetchAsUser(t.Context(), from)
	require.ErrorContains(t, err, "Host key verification failed")
}
