package fluxtest

import (
	"net/http/cgi" //nolint:gosec // G504 is of Go 1.6
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Repository is a Git repository with one branch, main, served over HTTP by Git's own server.
type Repository struct {
	// URL is its address.
	URL string

	tree string
}

// NewRepository serves a new repository until the test ends.
func NewRepository(t *testing.T) *Repository {
	t.Helper()
	host := t.TempDir()
	r := &Repository{tree: t.TempDir()}
	where := filepath.Join(host, "repository.git")
	r.git(t, "init", "--quiet", "--bare", "--initial-branch=main", where)
	r.git(t, "init", "--quiet", "--initial-branch=main")
	r.git(t, "remote", "add", "origin", where)
	server := httptest.NewServer(&cgi.Handler{
		Path: filepath.Join(r.git(t, "--exec-path"), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + host, "GIT_HTTP_EXPORT_ALL=1"},
	})
	t.Cleanup(server.Close)
	r.URL = server.URL + "/repository.git"
	return r
}

// Push commits a file and pushes it. It returns the commit.
func (r *Repository) Push(t *testing.T, path, content string) string {
	t.Helper()
	file := filepath.Join(r.tree, path)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	r.git(t, "add", ".")
	r.git(t, "commit", "--quiet", "--message", path)
	r.git(t, "push", "--quiet", "origin", "main")
	return r.git(t, "rev-parse", "HEAD")
}

func (r *Repository) git(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = r.tree
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_SYSTEM="+os.DevNull,
		"GIT_AUTHOR_NAME=t", "GIT_AUTHOR_EMAIL=t@example.org", "GIT_COMMITTER_NAME=t", "GIT_COMMITTER_EMAIL=t@example.org")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}
