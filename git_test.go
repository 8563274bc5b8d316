package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/internal/pulumitest"
	"github.com/nullify005/manager-cluster-state/rehearsal/forge"
	"github.com/nullify005/manager-cluster-state/render"
	"github.com/nullify005/manager-cluster-state/workloads"
)

const (
	repository  = "nullify005/manager-cluster-state"
	githubToken = "canary-github"
)

// origin is a Git host with an empty repository, and the GitHub that goes with it.
type origin struct {
	*forge.Forge

	bare string
}

// newOrigin lets a deploy key in, as GitHub does once it is registered.
func newOrigin(t *testing.T, authorizedKey string) *origin {
	t.Helper()
	folder := t.TempDir()
	f, err := forge.New(t.Context(), forge.Options{
		Folder: folder, SSHAddress: "127.0.0.1:0", HTTPAddress: "127.0.0.1:0",
		Repositories: []string{repository}, GitHubToken: githubToken,
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	o := &origin{Forge: f, bare: filepath.Join(folder, "git", filepath.FromSlash(repository)+".git")}
	o.register(t, authorizedKey)
	return o
}

func (o *origin) register(t *testing.T, authorizedKey string) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"title": "flux", "key": strings.TrimSpace(authorizedKey), "read_only": true})
	require.NoError(t, err)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, o.URL()+"/repos/"+repository+"/keys", bytes.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+githubToken)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusCreated, response.StatusCode)
}

// push commits files below a stack's folder, and the list of images as it is here. It returns
// the revision as Flux writes it.
func (o *origin) push(t *testing.T, stack string, files render.Files) string {
	t.Helper()
	tree := t.TempDir()
	_, err := render.Write(filepath.Join(tree, render.Folder(stack)), files, nil)
	require.NoError(t, err)
	require.NoError(t, os.CopyFS(filepath.Join(tree, "manifests", "images"), os.DirFS(filepath.Join("manifests", "images"))))
	git := func(args ...string) string {
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Dir = tree
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_SYSTEM="+os.DevNull,
			"GIT_AUTHOR_NAME=t", "GIT_AUTHOR_EMAIL=t@example.org", "GIT_COMMITTER_NAME=t", "GIT_COMMITTER_EMAIL=t@example.org")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "git %v: %s", args, out)
		return strings.TrimSpace(string(out))
	}
	git("init", "--quiet", "--initial-branch=main")
	git("add", "--all")
	git("commit", "--quiet", "--message", "What the stack runs")
	git("push", "--quiet", o.bare, "main")
	return "main@sha1:" + git("rev-parse", "HEAD")
}

// files are what make seal render writes.
func (s *testStack) files(t *testing.T) render.Files {
	t.Helper()
	cfg, images, catalog := s.catalog(t)
	sealed, err := render.Seal(catalog, cfg.Sealing.Keys, nil)
	require.NoError(t, err)
	files, err := render.Render(&render.Args{Catalog: catalog, Images: images, ImagesFile: cfg.Images, Sealed: sealed})
	require.NoError(t, err)
	return files
}

// push has the stack's own files in its branch; Flux pulls them when it is asked to, no sooner.
func (s *testStack) push(t *testing.T) render.Files {
	t.Helper()
	files := s.files(t)
	s.api.Pulled, s.api.OnRequest = "main@sha1:0000000000000000000000000000000000000000", s.origin.push(t, s.Stack, files)
	return files
}

// catalog is what the program makes of the stack.
func (s *testStack) catalog(t *testing.T) (*config.Config, workloads.Images, []workloads.Workload) {
	t.Helper()
	cfg, err := config.Load(pulumitest.Project, s.Config, s.ConfigSecretKeys, time.Now())
	require.NoError(t, err)
	images, err := workloads.LoadImages(cfg.Images)
	require.NoError(t, err)
	catalog, err := workloads.Catalog(cfg, images)
	require.NoError(t, err)
	return cfg, images, catalog
}
