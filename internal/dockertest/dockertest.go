// Package dockertest gives tests a Docker engine: the one that answers on this machine, or else
// one of the test's own, which leaves nothing behind.
package dockertest

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Engine is a Docker engine that answers.
type Engine struct {
	// Own says that nobody else has this engine, nor this network: ports are free.
	Own bool

	own *ownEngine
}

// Run runs a test with an engine. Where none answers, the test runs once more, as a process with
// namespaces of its own and an engine in them; where that can't be, it is skipped.
func Run(t *testing.T, test func(t *testing.T, engine *Engine)) {
	t.Helper()
	if strings.Contains(t.Name(), "/") {
		t.Fatal("a part of a test can't have an engine of its own: give it the whole test's")
	}
	if isInside() {
		test(t, startOwn(t))
		return
	}
	if answers(t.Context()) {
		test(t, &Engine{})
		return
	}
	if reason := lacks(); reason != "" {
		t.Skip("no Docker engine answers, and none can be started: " + reason)
	}
	runInside(t)
}

func answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return exec.CommandContext(ctx, "docker", "version", "--format", "{{.Server.Version}}").Run() == nil
}

// Docker runs a docker command and returns what it prints.
func (e *Engine) Docker(t *testing.T, args ...string) string {
	t.Helper()
	return e.docker(t, nil, args...)
}

func (e *Engine) docker(t *testing.T, input []byte, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "docker", args...)
	var complaint bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(input), &complaint
	out, err := cmd.Output()
	require.NoError(t, err, "docker %s: %s", strings.Join(args, " "), complaint.String())
	return strings.TrimSpace(string(out))
}

// Everything lists the containers, networks and volumes that there are.
func (e *Engine) Everything(t *testing.T) []string {
	t.Helper()
	var all []string
	for kind, args := range map[string][]string{
		"container": {"ps", "--all", "--format", "{{.Names}}"},
		"network":   {"network", "ls", "--format", "{{.Name}}"},
		"volume":    {"volume", "ls", "--format", "{{.Name}}"},
	} {
		for name := range strings.FieldsSeq(e.Docker(t, args...)) {
			all = append(all, kind+" "+name)
		}
	}
	return all
}

// Import makes an image of a tar archive. In the end the name is what it was before.
func (e *Engine) Import(t *testing.T, name string, archive []byte, changes ...string) {
	t.Helper()
	before, _ := exec.CommandContext(t.Context(), "docker", "image", "inspect", "--format", "{{.Id}}", name).Output()
	args := []string{"import"}
	for _, change := range changes {
		args = append(args, "--change", change)
	}
	id := e.docker(t, archive, append(args, "-", name)...)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = exec.CommandContext(ctx, "docker", "image", "rm", "--force", id).Run()
		if was := strings.TrimSpace(string(before)); was != "" {
			_ = exec.CommandContext(ctx, "docker", "tag", was, name).Run()
		}
	})
}

// Pause stops the engine until the function that it returns is called; one that isn't the test's
// own is only made to look so.
func (e *Engine) Pause(t *testing.T) (resume func()) {
	t.Helper()
	if e.Own {
		e.own.stop(t)
		return func() { e.own.start(t) }
	}
	before, was := os.LookupEnv("DOCKER_HOST")
	t.Setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
	return func() {
		if was {
			t.Setenv("DOCKER_HOST", before)
		} else {
			require.NoError(t, os.Unsetenv("DOCKER_HOST"))
		}
	}
}

// Get asks for a page, and returns what it says.
func Get(t *testing.T, url string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode)
	return strings.TrimSpace(string(content))
}
