// Package dockertest gives tests a Docker engine of their own, which leaves nothing behind. The one that runs on this
// machine is somebody's: its clusters, images and ports are none of a test's business.
package dockertest

import (
	"bytes"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Engine is a Docker engine that answers. Nobody else has it, nor its network: ports are free.
type Engine struct{ own *ownEngine }

// Run runs a test with an engine: once more, as a process with namespaces of its own and an engine in them. Where that
// can't be, it is skipped.
func Run(t *testing.T, test func(t *testing.T, engine *Engine)) {
	t.Helper()
	if strings.Contains(t.Name(), "/") {
		t.Fatal("a part of a test can't have an engine of its own: give it the whole test's")
	}
	if isInside() {
		test(t, startOwn(t))
		return
	}
	if reason := lacks(); reason != "" {
		t.Skip("it takes a Docker engine of its own, and none can be started: " + reason)
	}
	runInside(t)
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

// Import makes an image of a tar archive.
func (e *Engine) Import(t *testing.T, name string, archive []byte, changes ...string) {
	t.Helper()
	args := []string{"import"}
	for _, change := range changes {
		args = append(args, "--change", change)
	}
	e.docker(t, archive, append(args, "-", name)...)
}

// Pause stops the engine until the function that it returns is called.
func (e *Engine) Pause(t *testing.T) (resume func()) {
	t.Helper()
	e.own.stop(t)
	return func() { e.own.start(t) }
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
