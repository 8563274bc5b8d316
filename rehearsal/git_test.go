package rehearsal

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	gogit "github.com/go-git/go-git/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/rehearsal/forge"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// hosted is a rehearsal with a Git host in the test's own process, and nothing to deliver but a list of images.
type hosted struct {
	*Rehearsal

	cfg *config.Config
}

func newHosted(t *testing.T, repositories ...string) *hosted {
	t.Helper()
	project := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(project, "Pulumi.yaml"), []byte("name: p\n"), 0o600))
	r, err := New(Options{
		Project: project, Stack: "dev", Folder: filepath.Join(project, "rehearsal"),
		Catalog: func(*config.Config, workloads.Images) ([]workloads.Workload, error) { return nil, nil },
	})
	require.NoError(t, err)
	require.NoError(t, r.folder.create())
	record, err := r.newForgeRecord(t.Context())
	require.NoError(t, err)
	host, err := forge.New(t.Context(), forge.Options{
		Folder: r.folder.forge(), SSHAddress: record.SSH, HTTPAddress: record.HTTP, Repositories: repositories, GitHubToken: record.Token,
	})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- host.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-ended:
			require.NoError(t, err)
		case <-time.After(20 * time.Second):
			t.Error("the Git host did not stop")
		}
	})
	record.KnownHosts = host.KnownHosts()
	require.NoError(t, r.writeForge(record))
	h := &hosted{Rehearsal: r, cfg: &config.Config{
		Git: config.Git{URL: record.gitURL(repositories[0]), Branch: "main"}, Images: "images.yaml",
	}}
	h.images(t, "v1")
	return h
}

// images has the project's list name another tag, and gives the list.
func (h *hosted) images(t *testing.T, tag string) (list string) {
	t.Helper()
	list = "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nimages: [{name: a/b, newTag: " + tag + "}]\n"
	require.NoError(t, os.WriteFile(filepath.Join(h.root, "images.yaml"), []byte(list), 0o600))
	return list
}

// refuses has the Git host take no push, or take them again.
func (h *hosted) refuses(t *testing.T, repository string, refuse bool) {
	t.Helper()
	hook := h.folder.join("forge", "git", repository+".git", "hooks", "pre-receive")
	if !refuse {
		require.NoError(t, os.Remove(hook))
		return
	}
	require.NoError(t, os.WriteFile(hook, []byte("#!/bin/sh\nexit 1\n"), 0o700))
}

// inGit is a file as a new clone has it.
func (h *hosted) inGit(t *testing.T, name string) string {
	t.Helper()
	require.NoError(t, os.RemoveAll(h.Checkout()))
	require.NoError(t, h.ensureCheckout(t.Context(), h.cfg))
	content, err := os.ReadFile(filepath.Join(h.Checkout(), name))
	require.NoError(t, err)
	return string(content)
}

func TestPush_ThatFailedIsDoneByTheNextRun(t *testing.T) {
	h := newHosted(t, "o/r")
	for _, tag := range []string{"v1", "v2"} { // the first makes the branch
		list := h.images(t, tag)
		h.refuses(t, "o/r", true)
		require.ErrorContains(t, h.pushRendered(t.Context(), h.cfg), "pushing the rendered manifests", tag)
		h.refuses(t, "o/r", false)
		require.NoError(t, h.pushRendered(t.Context(), h.cfg), tag)
		assert.Equal(t, list, h.inGit(t, "images.yaml"))
	}

	// What somebody has pushed since is left as it is.
	require.NoError(t, h.change(t, "images.yaml", "theirs"))
	require.NoError(t, h.pushRendered(t.Context(), h.cfg))
	assert.Equal(t, "theirs", h.inGit(t, "images.yaml"))
}

// change is a push of somebody's.
func (h *hosted) change(t *testing.T, name, content string) error {
	t.Helper()
	clone, err := h.openWorkTree(t.Context(), h.cfg)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(h.WorkTree(), name), []byte(content), 0o600))
	pushed, err := h.push(t.Context(), clone, h.cfg, "a change")
	assert.True(t, pushed)
	return err
}

// A run may be killed at any point; what it has made until then is no clone.
func TestClones_ThatAreHalfMadeAreMadeAnew(t *testing.T) {
	h := newHosted(t, "o/r")
	_, err := gogit.PlainInit(h.WorkTree(), false) // and no remote yet
	require.NoError(t, err)
	half := h.folder.join("tmp", "checkout")
	require.NoError(t, os.MkdirAll(filepath.Join(half, ".git"), 0o700))
	require.NoError(t, h.pushRendered(t.Context(), h.cfg))

	clone, err := gogit.PlainOpen(h.Checkout())
	require.NoError(t, err)
	settings, err := clone.Config()
	require.NoError(t, err)
	assert.Equal(t, h.sshCommand(), settings.Raw.Section("core").Option("sshCommand"))
	assert.NoDirExists(t, half)

	// Interrupted, it leaves nothing where people look for a clone.
	require.NoError(t, os.RemoveAll(h.Checkout()))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, h.ensureCheckout(ctx, h.cfg))
	assert.NoDirExists(t, h.Checkout())
}

// The stack file may name another repository while the rehearsal is up.
func TestPush_GoesToTheRepositoryOfTheStackFile(t *testing.T) {
	h := newHosted(t, "o/first", "o/renamed")
	record, err := h.forge()
	require.NoError(t, err)
	require.NoError(t, h.pushRendered(t.Context(), h.cfg))
	for _, tag := range []string{"v2", "v3"} { // there, and back, where Git has the list of before
		list := h.images(t, tag)
		for _, repository := range []string{"o/renamed", "o/first"} {
			h.cfg.Git.URL = record.gitURL(repository)
			require.NoError(t, h.pushRendered(t.Context(), h.cfg))
			assert.Equal(t, list, h.inGit(t, "images.yaml"), repository)
		}
	}
}

func TestForge_IsStartedAgainForAnotherRepository(t *testing.T) {
	r := newRehearsal(t)
	project := t.TempDir()
	file := filepath.Join(project, "Pulumi.development.yaml")
	content, err := os.ReadFile(filepath.Join("testdata", "k3d", "Pulumi.k3d.yaml")) // which names no repository
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, content, 0o600))
	r.root = project // and the forge is built where it was
	t.Cleanup(func() { require.NoError(t, r.stopAll(context.WithoutCancel(t.Context()))) })
	running := func() Process {
		t.Helper()
		require.NoError(t, r.ensureForge(t.Context()))
		all, err := r.Running(t.Context())
		require.NoError(t, err)
		require.Len(t, all, 1)
		return all[0]
	}
	first := running()
	assert.Equal(t, first, running(), "it is left alone")

	content = append(content, "\n  "+r.project+":git: {url: \"ssh://git@github.com/o/renamed.git\"}\n"...)
	require.NoError(t, os.WriteFile(file, content, 0o600))
	again := running()
	assert.NotEqual(t, first.PID, again.PID)
	assert.Contains(t, again.Command, "--repository o/renamed")
	assert.Equal(t, again, running())
}
