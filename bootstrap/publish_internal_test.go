package bootstrap

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/stack"
)

const gitURL = "ssh://git@git.example.net/OWNER/REPOSITORY.git"

// clone is a project in a clone, whose remote is a folder that Git takes for the URL.
type clone struct {
	*Bootstrap

	said   *bytes.Buffer
	bare   string
	asked  []string
	answer bool
}

func newClone(t *testing.T) *clone {
	t.Helper()
	for name, value := range map[string]string{
		"GIT_AUTHOR_NAME": "somebody", "GIT_AUTHOR_EMAIL": "somebody@localhost",
		"GIT_COMMITTER_NAME": "somebody", "GIT_COMMITTER_EMAIL": "somebody@localhost",
		"GIT_CONFIG_GLOBAL": os.DevNull, "GIT_CONFIG_SYSTEM": os.DevNull,
	} {
		t.Setenv(name, value)
	}
	c := &clone{said: &bytes.Buffer{}, bare: filepath.Join(t.TempDir(), "bare"), answer: true}
	c.Bootstrap = &Bootstrap{
		Stack: &stack.Stack{Project: filepath.Join(t.TempDir(), "a clone"), Name: "home"}, Out: c.said,
		cfg: &config.Config{Images: "manifests/images/kustomization.yaml", Git: config.Git{URL: gitURL, Branch: "main"}},
	}
	c.Ask = func(_ context.Context, question string) bool {
		c.asked = append(c.asked, question)
		return c.answer
	}
	for _, name := range []string{"Pulumi.home.yaml", "manifests/home/app/deployment.yaml", "manifests/images/kustomization.yaml", "main.go"} {
		c.write(t, name, "one\n")
	}
	c.git(t, "init", "--quiet", "--initial-branch=main")
	c.git(t, "init", "--quiet", "--bare", c.bare)
	c.git(t, "config", "url."+c.bare+".insteadOf", gitURL)
	c.git(t, "remote", "add", "elsewhere", "https://git.example.net/OTHER/REPOSITORY.git")
	c.git(t, "remote", "add", "flux", gitURL)
	c.git(t, "add", "--all")
	c.git(t, "commit", "--quiet", "--message", "one")
	c.git(t, "push", "--quiet", "flux", "main")
	return c
}

func (c *clone) write(t *testing.T, name, content string) {
	t.Helper()
	path := filepath.Join(c.Stack.Project, filepath.FromSlash(name))
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
}

func (c *clone) git(t *testing.T, args ...string) string {
	t.Helper()
	require.NoError(t, os.MkdirAll(c.Stack.Project, 0o755))
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = c.Stack.Project
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	return string(out)
}

// pushed are the files of the newest commit that the remote has.
func (c *clone) pushed(t *testing.T) []string {
	t.Helper()
	return strings.Fields(c.git(t, "--git-dir", c.bare, "log", "-1", "--name-only", "--format=", "main"))
}

func TestPublish_PushesWhatIsOursAndNothingElse(t *testing.T) {
	c := newClone(t)
	require.NoError(t, c.publish(t.Context()))
	assert.Contains(t, c.said.String(), "has it all")
	assert.Empty(t, c.asked)

	c.write(t, "Pulumi.home.yaml", "two\n")
	c.write(t, "manifests/home/app/sealedsecret-app.yaml", "two\n")
	c.write(t, "main.go", "two\n")
	c.write(t, "notes.txt", "two\n")
	c.git(t, "add", "main.go")
	require.NoError(t, c.publish(t.Context()))
	assert.Equal(t, []string{"Commit and push these?"}, c.asked)
	assert.Contains(t, c.said.String(), " M Pulumi.home.yaml")
	assert.Contains(t, c.said.String(), "?? manifests/home/app/sealedsecret-app.yaml")
	assert.NotContains(t, c.said.String(), "notes.txt")
	assert.Equal(t, []string{"Pulumi.home.yaml", "manifests/home/app/sealedsecret-app.yaml"}, c.pushed(t))
	assert.Equal(t, "M  main.go\n?? notes.txt\n", c.git(t, "status", "--porcelain"))
}

func TestPublish_ANoSaysTheCommandsAndChangesNothing(t *testing.T) {
	c := newClone(t)
	c.answer = false
	c.write(t, "Pulumi.home.yaml", "two\n")
	err := c.publish(t.Context())
	require.ErrorIs(t, err, ErrStopped)
	require.ErrorContains(t, err, "git add Pulumi.home.yaml manifests/home manifests/images/kustomization.yaml")
	require.ErrorContains(t, err, "git push flux HEAD:refs/heads/main")
	assert.Equal(t, " M Pulumi.home.yaml\n", c.git(t, "status", "--porcelain"))

	c.DryRun = true
	require.NoError(t, c.publish(t.Context()))
	assert.Len(t, c.asked, 1, "a dry run doesn't ask")
	assert.Contains(t, c.said.String(), "would ask whether to commit and push these")
	assert.Len(t, c.pushed(t), 4)
}

func TestPublish_ACommitThatWasNotPushedIs(t *testing.T) {
	c := newClone(t)
	c.write(t, "main.go", "two\n")
	c.git(t, "commit", "--quiet", "--all", "--message", "A change of somebody's")
	require.NoError(t, c.publish(t.Context()))
	assert.Contains(t, c.said.String(), "A change of somebody's", "it is shown, since it goes along")
	assert.Equal(t, []string{"main.go"}, c.pushed(t))

	require.NoError(t, os.RemoveAll(c.bare))
	c.git(t, "init", "--quiet", "--bare", c.bare)
	require.NoError(t, c.publish(t.Context()), "to a repository without a branch")
	assert.Equal(t, []string{"main.go"}, c.pushed(t))
}

func TestPublish_WhatFluxCommittedIsPulledFirst(t *testing.T) {
	c := newClone(t)
	c.write(t, "manifests/images/kustomization.yaml", "fluxbot's\n")
	c.git(t, "commit", "--quiet", "--all", "--message", "images")
	c.git(t, "push", "--quiet", "flux", "main")
	c.git(t, "reset", "--quiet", "--hard", "HEAD~1")
	c.git(t, "reflog", "expire", "--expire=now", "--all")
	c.git(t, "update-ref", "-d", "refs/remotes/flux/main")
	c.git(t, "gc", "--quiet", "--prune=now")
	c.write(t, "Pulumi.home.yaml", "two\n")
	require.ErrorContains(t, c.publish(t.Context()), "run git pull --rebase flux main")
	assert.Empty(t, c.asked)
}

func TestPublish_TheWrongBranchOrRemoteIsTold(t *testing.T) {
	c := newClone(t)
	c.git(t, "switch", "--quiet", "--create", "mine")
	require.ErrorContains(t, c.publish(t.Context()), "branch mine is checked out, and Flux pulls main: run git switch main, or set git.branch")
	c.git(t, "switch", "--quiet", "main")
	c.git(t, "remote", "remove", "flux")
	require.ErrorContains(t, c.publish(t.Context()), "no remote of this clone is "+gitURL)
	require.NoError(t, os.RemoveAll(filepath.Join(c.Stack.Project, ".git")))
	require.ErrorContains(t, c.publish(t.Context()), "not a git repository")
}

func TestPublish_ARefusedPushSaysWhy(t *testing.T) {
	c := newClone(t)
	hook := filepath.Join(c.bare, "hooks", "pre-receive")
	require.NoError(t, os.WriteFile(hook, []byte("#!/bin/sh\necho 'the branch is protected' >&2\nexit 1\n"), 0o700))
	c.write(t, "Pulumi.home.yaml", "two\n")
	require.ErrorContains(t, c.publish(t.Context()), "the branch is protected")

	require.NoError(t, os.Remove(hook))
	require.NoError(t, c.publish(t.Context()), "it goes on from there")
	assert.Equal(t, []string{"Pulumi.home.yaml"}, c.pushed(t))
}

func TestIsSame_KnowsEveryFormOfAURL(t *testing.T) {
	cfg := config.Git{URL: gitURL}
	for url, want := range map[string]bool{
		gitURL: true,
		"git@git.example.net:OWNER/REPOSITORY.git":       true,
		"https://git.example.net/OWNER/REPOSITORY":       true,
		"https://other.example.net/OWNER/REPOSITORY.git": false,
		"https://git.example.net/OTHER/REPOSITORY.git":   false,
		"/srv/git/OWNER/REPOSITORY.git":                  false,
	} {
		assert.Equal(t, want, isSame(url, cfg), url)
	}
}
