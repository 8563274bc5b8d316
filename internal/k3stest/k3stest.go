// Package k3stest gives tests the stand-in of k3s, and the control plane that it passes on to.
package k3stest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Build builds the stand-in as that release of k3s, as "v1.35.0+k3s1", without any libraries, and
// returns its path. It is gone when the test is.
func Build(t *testing.T, release string) string {
	t.Helper()
	return Compile(t, "github.com/nullify005/manager-cluster-state/internal/k3stest/k3s", "-X main.release="+release)
}

// Compile builds a program of this module that runs where there are no libraries.
func Compile(t *testing.T, path, flags string) string {
	t.Helper()
	built := filepath.Join(t.TempDir(), filepath.Base(path))
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w "+flags, "-o", built, path)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return built
}

// ControlPlane passes connections on to a real API server: of a Unix socket, which reaches into any
// network namespace, or of a port.
type ControlPlane struct {
	// Address is what a stand-in's upstream file says.
	Address string

	mutex       sync.Mutex
	kubeconfig  []byte
	server      string
	connections map[net.Conn]bool
}

// Serve listens at unix:/path or host:port until the test ends. There is no API server behind it
// until Use names one.
func Serve(t *testing.T, address string) *ControlPlane {
	t.Helper()
	network, at := "tcp", address
	if path, isPath := strings.CutPrefix(address, "unix:"); isPath {
		network, at = "unix", path
	}
	var config net.ListenConfig
	listener, err := config.Listen(context.Background(), network, at)
	require.NoError(t, err)
	c := &ControlPlane{Address: address, connections: map[net.Conn]bool{}}
	if network == "tcp" {
		c.Address = listener.Addr().String()
	}
	t.Cleanup(func() {
		_ = listener.Close()
		c.drop()
	})
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go c.pass(connection)
		}
	}()
	return c
}

// Use makes the API server of a kubeconfig the one that is behind the address from now on. What is
// connected to the one before is cut off.
func (c *ControlPlane) Use(t *testing.T, kubeconfig string) {
	t.Helper()
	loaded, err := clientcmd.LoadFromFile(kubeconfig)
	require.NoError(t, err)
	require.NoError(t, clientcmdapi.FlattenConfig(loaded))
	content, err := clientcmd.Write(*loaded)
	require.NoError(t, err)
	current := loaded.Contexts[loaded.CurrentContext]
	require.NotNil(t, current, "the kubeconfig %s has no context", kubeconfig)
	server, err := url.Parse(loaded.Clusters[current.Cluster].Server)
	require.NoError(t, err)
	c.mutex.Lock()
	c.kubeconfig, c.server = content, server.Host
	c.mutex.Unlock()
	c.drop()
}

// Lose has no API server behind the address, until the next Use.
func (c *ControlPlane) Lose() {
	c.mutex.Lock()
	c.server = ""
	c.mutex.Unlock()
	c.drop()
}

// WriteUpstream writes the file that a stand-in looks for at /etc/k3s-standin/upstream.json. The
// address is empty for the control plane's own; kubectl is the path of the real one, there.
func (c *ControlPlane) WriteUpstream(t *testing.T, path, address, kubectl string) {
	t.Helper()
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if address == "" {
		address = c.Address
	}
	content, err := json.Marshal(map[string]any{"address": address, "kubeconfig": c.kubeconfig, "kubectl": kubectl})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, content, 0o600))
}

func (c *ControlPlane) pass(connection net.Conn) {
	defer connection.Close()
	c.mutex.Lock()
	server := c.server
	c.mutex.Unlock()
	if server == "" {
		return
	}
	to, err := new(net.Dialer).DialContext(context.Background(), "tcp", server)
	if err != nil {
		return
	}
	defer to.Close()
	c.mutex.Lock()
	c.connections[connection] = true
	c.mutex.Unlock()
	defer func() {
		c.mutex.Lock()
		delete(c.connections, connection)
		c.mutex.Unlock()
	}()
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{to, connection}, {connection, to}} {
		go func() {
			_, _ = io.Copy(way[0], way[1])
			done <- struct{}{}
		}()
	}
	<-done
}

func (c *ControlPlane) drop() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for connection := range c.connections {
		_ = connection.Close()
	}
}

// Call is a line of the log that a stand-in keeps: a call, or the settings that came of it.
type Call struct {
	Args     []string            `json:"args"`
	Env      []string            `json:"env"`
	Settings map[string][]string `json:"settings"`
}

// Calls reads a stand-in's log.
func Calls(path string) ([]Call, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the stand-in's log: %w", err)
	}
	var calls []Call
	for line := range strings.Lines(string(content)) {
		var call Call
		if err := json.Unmarshal([]byte(line), &call); err != nil {
			return nil, fmt.Errorf("reading the stand-in's log: %w", err)
		}
		calls = append(calls, call)
	}
	return calls, nil
}
