//go:build linux

package pitest

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/nullify005/manager-cluster-state/internal/k3stest"
)

// Options are of a house.
type Options struct {
	// RebootTakes is how long a Pi that reboots answers nothing; a second unless it is set.
	RebootTakes time.Duration
	// Kubectl is the path of the real one, for k3s kubectl; none unless it is set.
	Kubectl string
}

// House is a network with Pis.
type House struct {
	// Key is the private key in PEM that every Pi lets in.
	Key string
	// URL is where the house's internet is: the files that Publish names.
	URL string
	// ControlPlane is what is behind every k3s server of the house.
	ControlPlane *k3stest.ControlPlane

	options  Options
	folder   string
	program  string
	subnet   string // the first three numbers of its addresses
	link     string
	bridge   *exec.Cmd
	internet *internet

	mutex       sync.Mutex
	pis         []*Pi
	rebootTakes time.Duration
}

const prefix = "pitest-"

// Skip skips a test on a machine that can have no Pis.
func Skip(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("makes Pis of namespaces; leave out -short")
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can make namespaces and mounts; run the tests as root: sudo -E env PATH=\"$PATH\" go test …")
	}
	for program, mend := range map[string]string{
		"/usr/sbin/sshd": "openssh-server", "/usr/lib/openssh/sftp-server": "openssh-sftp-server",
		"sudo": "sudo", "ip": "iproute2", "curl": "curl", "nsenter": "util-linux",
	} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("there is no %s on this machine: apt-get install %s", program, mend)
		}
	}
}

// New makes a house, which goes with the test. A machine that can have none skips the test.
func New(t *testing.T, options Options) *House {
	t.Helper()
	Skip(t)
	removeLeftovers()
	h := &House{options: options, rebootTakes: options.RebootTakes}
	if h.rebootTakes == 0 {
		h.rebootTakes = time.Second
	}
	id := strconv.Itoa(os.Getpid()) + "-" + random(3)
	h.folder = filepath.Join(os.TempDir(), prefix+id)
	require.NoError(t, os.Mkdir(h.folder, 0o755))
	t.Cleanup(func() { _ = os.RemoveAll(h.folder) })
	require.NoError(t, os.Chmod(h.folder, 0o755)) //nolint:gosec // users of the Pis look into it
	h.program = k3stest.Compile(t, "github.com/nullify005/manager-cluster-state/internal/pitest/pi", "")
	h.makeKey(t)
	require.NoError(t, os.Mkdir(filepath.Join(h.folder, "upstream"), 0o755))
	h.ControlPlane = k3stest.Serve(t, "unix:"+filepath.Join(h.folder, "upstream", "api.sock"))
	h.makeNetwork(t)
	h.startInternet(t)
	return h
}

// Use makes the API server of a kubeconfig the one behind every k3s server of the house.
func (h *House) Use(t *testing.T, kubeconfig string) {
	t.Helper()
	h.ControlPlane.Use(t, kubeconfig)
	kubectl := ""
	if h.options.Kubectl != "" {
		kubectl = kubectlPath
	}
	h.ControlPlane.WriteUpstream(t, filepath.Join(h.folder, "upstream", "upstream.json"), "unix:"+upstreamFolder+"/api.sock", kubectl)
}

// RebootTakes is how long a Pi that reboots from now on answers nothing.
func (h *House) RebootTakes(duration time.Duration) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	h.rebootTakes = duration
}

// removeLeftovers removes the folders of processes that were killed; all else has gone with them.
func removeLeftovers() {
	folders, _ := fs.Glob(os.DirFS(os.TempDir()), prefix+"*-*")
	for _, folder := range folders {
		text, _, _ := strings.Cut(strings.TrimPrefix(folder, prefix), "-")
		pid, err := strconv.Atoi(text)
		if err == nil && syscall.Kill(pid, 0) == syscall.ESRCH {
			_ = os.RemoveAll(filepath.Join(os.TempDir(), folder))
		}
	}
}

func random(bytes int) string {
	text := make([]byte, bytes)
	_, _ = rand.Read(text) // it never fails
	return hex.EncodeToString(text)
}

func (h *House) makeKey(t *testing.T) {
	t.Helper()
	private, _ := newKey(t)
	h.Key = private
}

// newKey is a private key in PEM, and its public half as an authorized key.
func newKey(t *testing.T) (private, public string) {
	t.Helper()
	_, made, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	block, err := ssh.MarshalPrivateKey(made, "")
	require.NoError(t, err)
	signer, err := ssh.NewSignerFromKey(made)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(block)), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
}

// makeNetwork makes a bridge in a namespace of its own, where no firewall of this machine's
// reaches, and a link to it.
func (h *House) makeNetwork(t *testing.T) {
	t.Helper()
	h.bridge = exec.Command(h.program, "switch") //nolint:noctx // until its input ends
	h.bridge.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	h.bridge.Stderr = os.Stderr
	held, err := h.bridge.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, h.bridge.Start())
	t.Cleanup(func() {
		_ = held.Close()
		_ = h.bridge.Wait()
	})
	h.link = "pitest" + random(3)
	inside := h.link + "p"
	run(t, "ip", "link", "add", h.link, "type", "veth", "peer", "name", inside, "netns", strconv.Itoa(h.bridge.Process.Pid))
	// The namespace goes, and the link with it, some time after its last process.
	t.Cleanup(func() { _ = exec.Command("ip", "link", "delete", h.link).Run() }) //nolint:noctx // it ends by itself
	h.inside(t, "ip", "link", "add", "bridge", "type", "bridge")
	for _, name := range []string{"lo", "bridge", inside} {
		h.inside(t, "ip", "link", "set", name, "up")
	}
	h.inside(t, "ip", "link", "set", inside, "master", "bridge")
	h.subnet = freeSubnet(t)
	run(t, "ip", "address", "add", h.subnet+".1/24", "dev", h.link)
	run(t, "ip", "link", "set", h.link, "up")
}

// freeSubnet is one that this machine has no address in.
func freeSubnet(t *testing.T) string {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for range 1000 {
		subnet := fmt.Sprintf("10.%d.%d", 130+mathrand.IntN(100), mathrand.IntN(256))
		taken := false
		for _, address := range addresses {
			if network, is := address.(*net.IPNet); is && network.Contains(net.ParseIP(subnet+".1")) {
				taken = true
			}
			taken = taken || strings.HasPrefix(address.String(), subnet+".")
		}
		if !taken {
			return subnet
		}
	}
	t.Fatal("there is no subnet of 10.0.0.0/8 that is free")
	return ""
}

// inside runs a program in the namespace of the bridge.
func (h *House) inside(t *testing.T, args ...string) {
	t.Helper()
	run(t, "nsenter", append([]string{"--target", strconv.Itoa(h.bridge.Process.Pid), "--net"}, args...)...)
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput() //nolint:noctx // it ends by itself
	require.NoError(t, err, "%s %s: %s", name, strings.Join(args, " "), out)
}

// writeHosts has every Pi know every other by name.
func (h *House) writeHosts(t *testing.T) {
	t.Helper()
	var text strings.Builder
	text.WriteString("127.0.0.1 localhost\n" + h.subnet + ".1 " + internetHost + "\n")
	for _, pi := range h.pis {
		fmt.Fprintf(&text, "%s %s %s\n", pi.Address, pi.Host, pi.Name)
	}
	// In place: it is mounted.
	require.NoError(t, os.WriteFile(filepath.Join(h.folder, "hosts"), []byte(text.String()), 0o644)) //nolint:gosec // everybody on the Pis reads it
}
