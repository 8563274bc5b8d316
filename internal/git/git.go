// Package git reads one branch of a repository over SSH, into memory.
package git

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	gogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/transport"
	gitssh "github.com/go-git/go-git/v5/plumbing/transport/ssh"
	"github.com/go-git/go-git/v5/storage/memory"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// ErrNoAccess says that the host answered, and did not let the key in.
var ErrNoAccess = errors.New("the Git host doesn't accept the deploy key")

// ErrNoBranch says that the repository has no such branch.
var ErrNoBranch = errors.New("no such branch")

// Remote is a branch of a repository.
type Remote struct {
	// URL is of the form ssh://user@host/owner/repository.git.
	URL string
	// Branch is its name, without refs/heads.
	Branch string
	// PrivateKey logs in: OpenSSH PEM, without a passphrase.
	PrivateKey string
	// HostKeys are the lines of known_hosts that the host must have one of.
	HostKeys string
}

// Head is the newest commit of a branch.
type Head struct {
	// Revision is written as Flux writes it: main@sha1:….
	Revision string

	tree *object.Tree
}

const (
	fetchBound = 30 * time.Second
	tries      = 3
)

// Fetch reads the newest commit of the branch, with the remote's own key.
func Fetch(ctx context.Context, remote Remote) (*Head, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchBound)
	defer cancel()
	auth, err := remote.auth()
	if err != nil {
		return nil, err
	}
	repository, err := clone(ctx, &gogit.CloneOptions{
		URL: remote.URL, Auth: auth, ReferenceName: plumbing.NewBranchReferenceName(remote.Branch),
		SingleBranch: true, Depth: 1, Tags: gogit.NoTags, NoCheckout: true,
	})
	switch {
	case err == nil:
		return headOf(repository, remote.Branch)
	case errors.Is(err, transport.ErrAuthorizationFailed), errors.Is(err, transport.ErrAuthenticationRequired),
		errors.Is(err, transport.ErrRepositoryNotFound), strings.Contains(err.Error(), "unable to authenticate"):
		return nil, fmt.Errorf("%w: %w", ErrNoAccess, err)
	case errors.As(err, new(gogit.NoMatchingRefSpecError)), errors.Is(err, plumbing.ErrReferenceNotFound), errors.Is(err, transport.ErrEmptyRemoteRepository):
		return nil, fmt.Errorf("%w: %s has no %s", ErrNoBranch, remote.URL, remote.Branch)
	default:
		return nil, fmt.Errorf("reading branch %s of %s: %w", remote.Branch, remote.URL, err)
	}
}

// clone ends with the context. The library does not, while a host that was reached says nothing:
// it is then left to itself, in a program that ends soon.
func clone(ctx context.Context, options *gogit.CloneOptions) (*gogit.Repository, error) {
	type result struct {
		repository *gogit.Repository
		err        error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		// A host that ends the session at once takes the library by surprise: it closes what is
		// closed already, and takes that for a failure.
		for range tries {
			r.repository, r.err = gogit.CloneContext(ctx, memory.NewStorage(), nil, options)
			if r.err == nil || r.err.Error() != "closing input: EOF" {
				break
			}
		}
		done <- r
	}()
	select {
	case r := <-done:
		return r.repository, r.err
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for an answer: %w", ctx.Err())
	}
}

// FetchAsUser reads the newest commit of the branch as the git command does, with whatever key
// or agent the user's own pushes go by; env is added to its environment.
func FetchAsUser(ctx context.Context, remote Remote, env ...string) (*Head, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchBound)
	defer cancel()
	folder, err := os.MkdirTemp("", "mcs-branch-")
	if err != nil {
		return nil, fmt.Errorf("making a folder to read %s into: %w", remote.URL, err)
	}
	defer os.RemoveAll(folder)
	hosts := filepath.Join(folder, "known_hosts")
	if err := os.WriteFile(hosts, []byte(remote.HostKeys), 0o600); err != nil {
		return nil, fmt.Errorf("pinning the host keys of %s: %w", remote.URL, err)
	}
	bare := filepath.Join(folder, "repository")
	cmd := exec.CommandContext(ctx, "git", "clone", "--quiet", "--bare", "--depth", "1", "--branch", remote.Branch, "--", remote.URL, bare)
	cmd.Env = append(append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "LC_ALL=C"), env...)
	cmd.WaitDelay = time.Second // for an ssh that outlives the git that started it
	if !slices.ContainsFunc(cmd.Env, func(variable string) bool { return strings.HasPrefix(variable, "GIT_SSH_COMMAND=") }) {
		cmd.Env = append(cmd.Env, "GIT_SSH_COMMAND=ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile='"+hosts+"'")
	}
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil && strings.Contains(string(out), "Remote branch "+remote.Branch+" not found"):
		return nil, fmt.Errorf("%w: %s has no %s", ErrNoBranch, remote.URL, remote.Branch)
	case err != nil:
		return nil, fmt.Errorf("reading branch %s of %s with git: %w: %s", remote.Branch, remote.URL, err, strings.TrimSpace(string(out)))
	}
	repository, err := clone(ctx, &gogit.CloneOptions{URL: bare, NoCheckout: true})
	if err != nil {
		return nil, fmt.Errorf("opening what git read from %s: %w", remote.URL, err)
	}
	return headOf(repository, remote.Branch)
}

func (r Remote) auth() (*gitssh.PublicKeys, error) {
	signer, err := ssh.ParsePrivateKey([]byte(r.PrivateKey))
	if err != nil {
		return nil, errors.New("reading the deploy key: it is no SSH private key without a passphrase")
	}
	user := "git"
	if endpoint, err := transport.NewEndpoint(r.URL); err == nil && endpoint.User != "" {
		user = endpoint.User
	}
	check, err := r.hostKeys()
	if err != nil {
		return nil, err
	}
	return &gitssh.PublicKeys{
		User: user, Signer: signer,
		HostKeyCallbackHelper: gitssh.HostKeyCallbackHelper{HostKeyCallback: check},
	}, nil
}

// hostKeys reads the pinned keys; the library takes them from a file alone.
func (r Remote) hostKeys() (ssh.HostKeyCallback, error) {
	fail := func(err error) (ssh.HostKeyCallback, error) {
		return nil, fmt.Errorf("pinning the host keys of %s: %w", r.URL, err)
	}
	folder, err := os.MkdirTemp("", "mcs-known-hosts-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(folder)
	file := filepath.Join(folder, "known_hosts")
	if err := os.WriteFile(file, []byte(r.HostKeys), 0o600); err != nil {
		return fail(err)
	}
	pinned, err := knownhosts.New(file)
	if err != nil {
		return fail(err)
	}
	return func(host string, address net.Addr, key ssh.PublicKey) error {
		if err := pinned(host, address, key); err != nil {
			return fmt.Errorf("%s shows a host key that is not pinned: %w", host, err)
		}
		return nil
	}, nil
}

func headOf(repository *gogit.Repository, branch string) (*Head, error) {
	reference, err := repository.Reference(plumbing.NewBranchReferenceName(branch), true)
	if err != nil {
		return nil, fmt.Errorf("finding branch %s: %w", branch, err)
	}
	commit, err := repository.CommitObject(reference.Hash())
	if err != nil {
		return nil, fmt.Errorf("reading the newest commit of %s: %w", branch, err)
	}
	tree, err := commit.Tree()
	if err != nil {
		return nil, fmt.Errorf("reading the files of %s: %w", branch, err)
	}
	return &Head{Revision: branch + "@sha1:" + reference.Hash().String(), tree: tree}, nil
}

// Files are the contents of the files below a folder, by their paths relative to it.
func (h *Head) Files(folder string) (map[string][]byte, error) {
	files := map[string][]byte{}
	below, err := h.tree, error(nil)
	if folder = path.Clean(folder); folder != "." {
		below, err = h.tree.Tree(folder)
	}
	if errors.Is(err, object.ErrDirectoryNotFound) {
		return files, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s of %s: %w", folder, h.Revision, err)
	}
	err = below.Files().ForEach(func(file *object.File) error {
		content, err := file.Contents()
		files[file.Name] = []byte(content)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading %s of %s: %w", folder, h.Revision, err)
	}
	return files, nil
}
