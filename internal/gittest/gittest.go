// Package gittest gives tests a Git host: the forge of a rehearsal, in the test's own process.
package gittest

import (
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gogithub "github.com/google/go-github/v74/github"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/nullify005/manager-cluster-state/rehearsal/forge"
)

const (
	owner = "nullify005"
	name  = "manager-cluster-state"
	token = "not-a-real-token"
)

// Host serves one repository over SSH.
type Host struct {
	*forge.Forge

	folder string
	tree   string
}

// Start serves an empty repository until the test ends.
func Start(t *testing.T) *Host {
	t.Helper()
	h := &Host{folder: t.TempDir(), tree: t.TempDir()}
	made, err := forge.New(t.Context(), forge.Options{
		Folder: h.folder, SSHAddress: "127.0.0.1:0", HTTPAddress: "127.0.0.1:0",
		Repositories: []string{owner + "/" + name}, GitHubToken: token,
	})
	require.NoError(t, err)
	h.Forge = made
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- made.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			require.NoError(t, err)
		case <-time.After(20 * time.Second):
			t.Error("the Git host did not stop")
		}
	})
	h.git(t, "init", "--quiet", "--initial-branch=main")
	return h
}

// URL is the repository's.
func (h *Host) URL() string { return "ssh://git@" + h.SSHAddress() + "/" + owner + "/" + name + ".git" }

// Key makes a key that nobody knows: its private half in PEM, its public one as an authorized key.
func Key(t *testing.T) (private, public string) {
	t.Helper()
	_, made, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	block, err := ssh.MarshalPrivateKey(made, "")
	require.NoError(t, err)
	signer, err := ssh.NewSignerFromKey(made)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(block)), string(ssh.MarshalAuthorizedKey(signer.PublicKey()))
}

// DeployKey makes a key and registers it, to read alone.
func (h *Host) DeployKey(t *testing.T) (private string) {
	t.Helper()
	private, public := Key(t)
	client, err := gogithub.NewClient(nil).WithAuthToken(token).WithEnterpriseURLs(h.Forge.URL(), h.Forge.URL())
	require.NoError(t, err)
	_, _, err = client.Repositories.CreateKey(t.Context(), owner, name,
		&gogithub.Key{Title: new("flux"), Key: new(public), ReadOnly: new(true)})
	require.NoError(t, err)
	return private
}

// UserEnv is the environment of a person who may push, for the git command. Tests that need ssh
// are skipped where there is none.
func (h *Host) UserEnv(t *testing.T) []string {
	t.Helper()
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("no ssh on this machine, which git runs: install it (Debian: openssh-client)")
	}
	private, public := Key(t)
	require.NoError(t, os.WriteFile(filepath.Join(h.folder, "authorized_keys"), []byte(public), 0o600))
	identity := filepath.Join(t.TempDir(), "identity")
	require.NoError(t, os.WriteFile(identity, []byte(private), 0o600))
	return []string{"GIT_SSH_COMMAND=ssh -F none -i '" + identity + "' -o IdentitiesOnly=yes -o IdentityAgent=none -o BatchMode=yes " +
		"-o StrictHostKeyChecking=yes -o UserKnownHostsFile='" + filepath.Join(h.folder, "known_hosts") + "' -o GlobalKnownHostsFile=" + os.DevNull}
}

// Push commits files to a branch, and nothing else that isn't there already; one without content
// is removed. It returns the commit.
func (h *Host) Push(t *testing.T, branch string, files map[string][]byte) string {
	t.Helper()
	for path, content := range files {
		file := filepath.Join(h.tree, filepath.FromSlash(path))
		if content == nil {
			require.NoError(t, os.Remove(file))
			continue
		}
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o750))
		require.NoError(t, os.WriteFile(file, content, 0o600))
	}
	h.git(t, "add", "--all")
	h.git(t, "commit", "--quiet", "--allow-empty", "--message", "a test")
	h.git(t, "push", "--quiet", filepath.Join(h.folder, "git", owner, name+".git"), "HEAD:refs/heads/"+branch)
	return h.git(t, "rev-parse", "HEAD")
}

func (h *Host) git(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = h.tree
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_SYSTEM="+os.DevNull,
		"GIT_AUTHOR_NAME=t", "GIT_AUTHOR_EMAIL=t@example.org", "GIT_COMMITTER_NAME=t", "GIT_COMMITTER_EMAIL=t@example.org")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	return strings.TrimSpace(string(out))
}
