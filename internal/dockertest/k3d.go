package dockertest

import (
	"archive/tar"
	"bytes"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/nullify005/manager-cluster-state/internal/dockertest/forward"
)

// K3d is what the real k3d needs to make clusters here: its images, of stand-ins, and a control
// plane that the stand-ins of k3s pass on to.
type K3d struct {
	mutex      sync.Mutex
	kubeconfig []byte
	address    string
}

// The images of k3d's own of the version that tools/k3d pins.
const (
	imageProxy = "ghcr.io/k3d-io/k3d-proxy:5.8.3"
	imageTools = "ghcr.io/k3d-io/k3d-tools:5.8.3"
)

// ForK3d gives the engine the images that a k3d cluster of the release takes, and puts the k3d at
// that path on the PATH of what the test starts. The node images have busybox, Debian's.
func (e *Engine) ForK3d(t *testing.T, k3d string, releases ...string) *K3d {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("a node image needs a static busybox: `sudo apt-get install busybox-static`")
	}
	if k3d, err = filepath.Abs(k3d); err != nil || !exists(k3d) {
		t.Skip("there is no k3d: `go run ./tools/build k3d`")
	}
	bin := t.TempDir()
	require.NoError(t, os.Symlink(k3d, filepath.Join(bin, "k3d")))
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	// What k3d does to a node by scripts takes more than busybox.
	for _, fix := range []string{"K3D_FIX_DNS", "K3D_FIX_MOUNTS", "K3D_FIX_CGROUPV2"} {
		t.Setenv(fix, "0")
	}

	k := &K3d{}
	standin, err := os.ReadFile(build(t))
	require.NoError(t, err)
	applets := node(t, busybox)
	e.Import(t, imageProxy, archive(t, applets, map[string][]byte{"bin/k3d-proxy": standin}, "etc/confd"), `ENTRYPOINT ["/bin/k3d-proxy"]`)
	e.Import(t, imageTools, archive(t, applets, map[string][]byte{"bin/k3d-tools": standin}), `ENTRYPOINT ["/bin/k3d-tools"]`)
	nodeImage := archive(t, applets, map[string][]byte{
		"bin/k3s": standin,
		"var/lib/rancher/k3s/server/manifests/coredns.yaml": []byte(coreDNS),
	}, "output", "root", "run", "var/log")
	changes := append(k.listen(t),
		`ENTRYPOINT ["/bin/k3s"]`, `CMD ["agent"]`, "ENV PATH=/bin:/bin/aux",
		"VOLUME /var/lib/kubelet", "VOLUME /var/lib/rancher/k3s", "VOLUME /var/lib/cni", "VOLUME /var/log")
	for _, release := range releases {
		e.Import(t, "rancher/k3s:"+strings.ReplaceAll(release, "+", "-"), nodeImage, changes...)
	}
	return k
}

// coreDNS is the part of k3s's manifest that k3d rewrites.
const coreDNS = `apiVersion: v1
kind: ConfigMap
metadata: {name: coredns, namespace: kube-system}
data: {NodeHosts: ""}
`

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// build builds the stand-in, to run in a container that has no libraries.
func build(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "standin")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path,
		"github.com/nullify005/manager-cluster-state/internal/dockertest/standin")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return path
}

// node is a file system with a shell and what it is used with.
func node(t *testing.T, busybox string) []byte {
	t.Helper()
	program, err := os.ReadFile(busybox)
	require.NoError(t, err)
	applets, err := exec.CommandContext(t.Context(), busybox, "--list").Output()
	require.NoError(t, err)
	var content bytes.Buffer
	writer := tar.NewWriter(&content)
	for _, folder := range []string{"bin", "etc", "proc", "sys", "dev"} {
		require.NoError(t, writer.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: folder, Mode: 0o755}))
	}
	require.NoError(t, writer.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "tmp", Mode: 0o1777}))
	put(t, writer, "bin/busybox", program)
	for applet := range strings.FieldsSeq(string(applets)) {
		if applet != "busybox" {
			require.NoError(t, writer.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + applet, Linkname: "busybox"}))
		}
	}
	require.NoError(t, writer.Flush())
	return content.Bytes()
}

// archive adds files and empty folders to a file system.
func archive(t *testing.T, base []byte, files map[string][]byte, folders ...string) []byte {
	t.Helper()
	content := bytes.NewBuffer(bytes.Clone(base))
	writer := tar.NewWriter(content)
	for _, folder := range folders {
		require.NoError(t, writer.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: folder, Mode: 0o755}))
	}
	for name, file := range files {
		put(t, writer, name, file)
	}
	require.NoError(t, writer.Close())
	return content.Bytes()
}

func put(t *testing.T, writer *tar.Writer, name string, content []byte) {
	t.Helper()
	require.NoError(t, writer.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: int64(len(content))}))
	_, err := writer.Write(content)
	require.NoError(t, err)
}

// listen opens the ports of this machine that the stand-ins of k3s use, and says which they are
// as changes to an image.
func (k *K3d) listen(t *testing.T) []string {
	t.Helper()
	api, err := forward.Listen(t.Context(), ":0", func() string {
		k.mutex.Lock()
		defer k.mutex.Unlock()
		return k.address
	})
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		k.mutex.Lock()
		defer k.mutex.Unlock()
		_, _ = w.Write(k.kubeconfig)
	}))
	var listen net.ListenConfig
	require.NoError(t, server.Listener.Close())
	server.Listener, err = listen.Listen(t.Context(), "tcp", ":0")
	require.NoError(t, err)
	server.Start()
	t.Cleanup(server.Close)
	return []string{"ENV STANDIN_API_PORT=" + portOf(t, api), "ENV STANDIN_KUBECONFIG_PORT=" + portOf(t, server.Listener.Addr())}
}

func portOf(t *testing.T, address net.Addr) string {
	t.Helper()
	_, port, err := net.SplitHostPort(address.String())
	require.NoError(t, err)
	return port
}

// Use makes the control plane of a kubeconfig the one that servers pass on to from now on.
func (k *K3d) Use(t *testing.T, path string) {
	t.Helper()
	before, err := clientcmd.LoadFromFile(path)
	require.NoError(t, err)
	require.NoError(t, clientcmdapi.FlattenConfig(before))
	context := before.Contexts[before.CurrentContext]
	cluster, user := before.Clusters[context.Cluster], before.AuthInfos[context.AuthInfo]
	address := strings.TrimPrefix(cluster.Server, "https://")
	// Its certificate is for the host that it runs on; k3d gives the cluster another address.
	cluster.TLSServerName = "localhost"
	const name = "default" // what k3s calls everything
	after := clientcmdapi.NewConfig()
	after.Clusters[name], after.AuthInfos[name] = cluster, user
	after.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	after.CurrentContext = name
	content, err := clientcmd.Write(*after)
	require.NoError(t, err)
	k.mutex.Lock()
	defer k.mutex.Unlock()
	k.kubeconfig, k.address = content, address
}
