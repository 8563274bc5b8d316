//go:build linux

// Package pitest has Raspberry Pis for tests, on one Linux machine: each a network namespace and
// an overlay of this machine's files, with a real sshd, sudo and shell, and stand-ins for what
// can't be had there: systemd, k3s and its install script. It needs root.
package pitest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/nullify005/manager-cluster-state/internal/dockertest/forward"
)

//go:embed files
var files embed.FS

// Release is that of the k3s that a house serves at first.
const Release = "v1.35.0+k3s1"

// prefix is what the names of everything begin with that a killed test leaves behind.
const prefix = "pit"

// House is a network with Pis on it, and what the internet is to them.
type House struct {
	t    *testing.T
	dir  string
	name string
	net  string // the first three numbers of its addresses

	// ControlPlane starts a control plane for a server whose disk has none yet, and returns the
	// path of its kubeconfig.
	ControlPlane func() (string, error)
	// RebootTakes is how long a Pi is away when it reboots.
	RebootTakes time.Duration

	signer  ssh.Signer
	private string

	mutex  sync.Mutex
	planes map[string]plane
	served map[string][]byte
	pis    int
}

type plane struct {
	API        string `json:"api"`
	Kubeconfig string `json:"kubeconfig"`
}

// Skip skips a test where Pis can't be made, and says what is missing.
func Skip(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("makes network namespaces; leave out -short")
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can make network namespaces and mounts; run the tests as root")
	}
	for _, program := range []string{"ip", "unshare", "nsenter", "sudo", "/usr/sbin/sshd", "pkill"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("there is no %s: make test-packages", program)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "ip", "netns", "add", prefix+"try").CombinedOutput(); err != nil {
		t.Skipf("no network namespace can be made here: %s", out)
	}
	run(t, "ip", "netns", "del", prefix+"try")
}

// New makes a house, which goes with the test.
func New(t *testing.T) *House {
	t.Helper()
	Skip(t)
	h := &House{t: t, dir: t.TempDir(), planes: map[string]plane{}, served: map[string][]byte{}, RebootTakes: time.Second}
	h.network()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	h.signer, err = ssh.NewSignerFromKey(private)
	require.NoError(t, err)
	block, err := ssh.MarshalPrivateKey(private, "")
	require.NoError(t, err)
	h.private = string(pem.EncodeToMemory(block))
	script, err := files.ReadFile("files/install.sh")
	require.NoError(t, err)
	h.served["install.sh"] = script
	h.Serve(Release)
	h.answer()
	return h
}

// network is a bridge in a namespace of its own, where no firewall of this machine has a say.
func (h *House) network() {
	for try := 0; ; try++ {
		var random [2]byte
		_, _ = rand.Read(random[:]) // never fails
		h.name = prefix + hex.EncodeToString(random[:])
		h.net = fmt.Sprintf("10.%d.%d", 64+int(random[0])%64, random[1])
		out, err := exec.CommandContext(h.t.Context(), "ip", "netns", "add", h.name).CombinedOutput()
		if err == nil {
			break
		}
		require.Less(h.t, try, 10, "%s", out)
	}
	h.t.Cleanup(func() { quiet("ip", "netns", "del", h.name) })
	run(h.t, "ip", "link", "add", h.name, "type", "veth", "peer", "name", "out", "netns", h.name)
	h.t.Cleanup(func() { quiet("ip", "link", "del", h.name) })
	run(h.t, "ip", "addr", "add", h.net+".1/24", "dev", h.name)
	run(h.t, "ip", "link", "set", h.name, "up")
	h.inside("ip", "link", "add", "lan", "type", "bridge")
	h.inside("ip", "link", "set", "lan", "up")
	h.inside("ip", "link", "set", "out", "master", "lan", "up")
}

func (h *House) inside(args ...string) {
	h.t.Helper()
	run(h.t, "ip", append([]string{"netns", "exec", h.name}, args...)...)
}

// answer serves the files of a k3s release, and control planes, to the Pis.
func (h *House) answer() {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{file}", func(w http.ResponseWriter, r *http.Request) {
		h.mutex.Lock()
		content, known := h.served[r.PathValue("file")]
		h.mutex.Unlock()
		if !known {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	})
	mux.HandleFunc("POST /control-plane", func(w http.ResponseWriter, r *http.Request) {
		found, err := h.planeOf(h.t.Context(), r.URL.Query().Get("datastore")) //nolint:contextcheck // it is forwarded to for as long as the test runs
		if err != nil {
			h.t.Logf("no control plane: %v", err)
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_ = json.NewEncoder(w).Encode(found)
	})
	var listen net.ListenConfig
	listener, err := listen.Listen(h.t.Context(), "tcp", h.net+".1:80")
	require.NoError(h.t, err)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	h.t.Cleanup(func() { _ = server.Close() })
}

// planeOf is the control plane of a datastore: another one for each that is new.
func (h *House) planeOf(ctx context.Context, datastore string) (plane, error) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if found, known := h.planes[datastore]; known {
		return found, nil
	}
	if h.ControlPlane == nil {
		return plane{}, errors.New("the test has no control plane")
	}
	path, err := h.ControlPlane()
	if err != nil {
		return plane{}, err
	}
	config, err := clientcmd.LoadFromFile(path)
	if err != nil {
		return plane{}, err
	}
	if err := clientcmdapi.FlattenConfig(config); err != nil {
		return plane{}, err
	}
	current := config.Contexts[config.CurrentContext]
	cluster, user := config.Clusters[current.Cluster], config.AuthInfos[current.AuthInfo]
	to := strings.TrimPrefix(cluster.Server, "https://")
	api, err := forward.Listen(ctx, h.net+".1:0", func() string { return to })
	if err != nil {
		return plane{}, err
	}
	// Its certificate is for this machine; k3s's own kubeconfig is for the node that it lies on.
	cluster.Server, cluster.TLSServerName = "https://127.0.0.1:6443", "localhost"
	const name = "default" // what k3s calls everything
	after := clientcmdapi.NewConfig()
	after.Clusters[name], after.AuthInfos[name] = cluster, user
	after.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	after.CurrentContext = name
	content, err := clientcmd.Write(*after)
	if err != nil {
		return plane{}, err
	}
	h.planes[datastore] = plane{API: api.String(), Kubeconfig: string(content)}
	return h.planes[datastore], nil
}

// URL is where the files of a k3s release are: k3s-arm64 and install.sh.
func (h *House) URL() string { return "http://" + h.net + ".1" }

// Serve has k3s-arm64 be of that release from now on.
func (h *House) Serve(release string) {
	h.t.Helper()
	content, err := os.ReadFile(h.build(release))
	require.NoError(h.t, err)
	h.mutex.Lock()
	defer h.mutex.Unlock()
	h.served["k3s-arm64"] = content
}

// ServeBytes has a file be something else, and returns what puts it back.
func (h *House) ServeBytes(file string, content []byte) (restore func()) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	before := h.served[file]
	h.served[file] = content
	return func() {
		h.mutex.Lock()
		defer h.mutex.Unlock()
		h.served[file] = before
	}
}

// Sum is the SHA-256, in hex, of a file that is served.
func (h *House) Sum(file string) string {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	sum := sha256.Sum256(h.served[file])
	return hex.EncodeToString(sum[:])
}

// Files writes what is served into a folder, as for a house with a slow line.
func (h *House) Files(dir string) {
	h.t.Helper()
	h.mutex.Lock()
	defer h.mutex.Unlock()
	for name, content := range h.served {
		require.NoError(h.t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
}

// build builds the stand-in of a release, static: a Pi of the tests has its own root.
func (h *House) build(release string) string {
	h.t.Helper()
	path := filepath.Join(h.dir, "standin-"+release)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	cmd := exec.CommandContext(h.t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w -X main.release="+release, "-o", path,
		"github.com/nullify005/manager-cluster-state/internal/pitest/standin")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	require.NoError(h.t, err, "%s", out)
	return path
}

// PrivateKey is the SSH key that every Pi lets in, PEM.
func (h *House) PrivateKey() string { return h.private }

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	require.NoError(t, err, "%s %s: %s", name, strings.Join(args, " "), out)
}

// quiet is for clearing up: what is gone already is gone.
func quiet(name string, args ...string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_ = exec.CommandContext(ctx, name, args...).Run()
}
