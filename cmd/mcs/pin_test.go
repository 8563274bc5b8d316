package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/stack"
)

// stackOfPis is one whose machines get k3s.
func stackOfPis(t *testing.T) *stack.Stack {
	t.Helper()
	s := tempStack(t)
	content := strings.Replace(read(t, s.File()), "    kind: existing\n    name: home\n    kubeconfig: kubeconfig.yaml\n", `    kind: pi
    name: home
    k3s: v1.35.0+k3s1
    nodes:
      - {name: one, role: server, arch: arm64, memory: 1Gi, reserved: 448Mi, host: one.lan, user: pi}
`, 1)
	require.NoError(t, os.WriteFile(s.File(), []byte(content), 0o600))
	return s
}

// k3sReleases serves what differs between releases, and is called with its flags.
func k3sReleases(t *testing.T) []string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /releases/{release}/sha256sum-arm64.txt", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s  k3s-arm64\n", sumOf("k3s "+r.PathValue("release")))
	})
	mux.HandleFunc("GET /releases/{release}/k3s-arm64", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "k3s "+r.PathValue("release"))
	})
	mux.HandleFunc("GET /source/{release}/install.sh", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "script "+r.PathValue("release"))
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return []string{"--releases-url", server.URL + "/releases", "--source-url", server.URL + "/source"}
}

func sumOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func TestPin_WritesWhatAReleaseIs(t *testing.T) {
	s := stackOfPis(t)
	server := k3sReleases(t)
	before := read(t, s.File())
	assert.Contains(t, succeeds(t, s, append([]string{"pin", "--dry-run"}, server...)...), "would write that into "+s.File())
	assert.Equal(t, before, read(t, s.File()))

	out := succeeds(t, s, append([]string{"pin"}, server...)...)
	assert.Contains(t, out, "k3s v1.35.0+k3s1, from its release at GitHub:")
	install := loaded(t, s).Cluster.Install
	assert.Equal(t, sumOf("k3s v1.35.0+k3s1"), install.Binary)
	assert.Equal(t, sumOf("script v1.35.0+k3s1"), install.Script)
	assert.Empty(t, install.From)
	assert.Contains(t, read(t, s.File()), "# Comments stay.")

	succeeds(t, s, append([]string{"pin", "--k3s", "v1.35.1+k3s1"}, server...)...)
	cluster := loaded(t, s).Cluster
	assert.Equal(t, "v1.35.1+k3s1", cluster.K3s)
	assert.Equal(t, sumOf("k3s v1.35.1+k3s1"), cluster.Install.Binary)
	assert.Equal(t, sumOf("script v1.35.1+k3s1"), cluster.Install.Script)

	before = read(t, s.File())
	_, err := on(t, s, "", append([]string{"pin", "--k3s", "1.35.1"}, server...)...)
	require.ErrorContains(t, err, "no k3s release is called 1.35.1: one is of the form v1.35.1+k3s1")
	assert.Equal(t, before, read(t, s.File()))
}

func TestPin_DownloadsOnceForEveryMachine(t *testing.T) {
	s := stackOfPis(t)
	server := k3sReleases(t)
	folder := filepath.Join(s.Project, "downloads", "k3s files")
	succeeds(t, s, append([]string{"pin", "--download", folder}, server...)...)
	assert.Equal(t, "k3s v1.35.0+k3s1", read(t, filepath.Join(folder, "k3s-arm64")))
	assert.Equal(t, "script v1.35.0+k3s1", read(t, filepath.Join(folder, "install.sh")))
	assert.Equal(t, "downloads/k3s files", loaded(t, s).Cluster.Install.From, "relative to the project, for another clone")

	before := read(t, s.File())
	assert.Contains(t, succeeds(t, s, "pin"), "from "+folder, "and asks nobody else")
	assert.Equal(t, before, read(t, s.File()))
	_, err := on(t, s, "", append([]string{"pin", "--k3s", "v1.35.1+k3s1"}, server...)...)
	require.ErrorContains(t, err, "which has the files of v1.35.0+k3s1: fetch those of v1.35.1+k3s1 with --download")
	assert.Equal(t, before, read(t, s.File()))

	succeeds(t, s, append([]string{"pin", "--k3s", "v1.35.1+k3s1", "--download", folder}, server...)...)
	assert.Equal(t, "k3s v1.35.1+k3s1", read(t, filepath.Join(folder, "k3s-arm64")))
	assert.Equal(t, sumOf("k3s v1.35.1+k3s1"), loaded(t, s).Cluster.Install.Binary)

	elsewhere := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(elsewhere, "k3s-arm64"), []byte("mine"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(elsewhere, "install.sh"), []byte("mine"), 0o600))
	succeeds(t, s, "pin", "--from", elsewhere)
	assert.Equal(t, elsewhere, loaded(t, s).Cluster.Install.From)
	assert.Equal(t, sumOf("mine"), loaded(t, s).Cluster.Install.Binary)
}

func TestPin_OfAStackThatInstallsNothingSaysSo(t *testing.T) {
	s := tempStack(t)
	_, err := on(t, s, "", "pin")
	require.ErrorContains(t, err, "stack production has nothing to pin: its cluster is of kind existing")
}
