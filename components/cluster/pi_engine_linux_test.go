package cluster

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pulumi/pulumi-command/sdk/go/command/local"
	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/rehearsal/plugins"
)

// house are Pis with real SSH servers, and a stack that has them, with the real engine.
type house struct {
	t        *testing.T
	folder   string
	nodes    string
	key      string
	machines map[string]*machine
	sshd     map[string]int
	hosts    []config.Node
	web      *mirror
	cluster  *config.Cluster
	install  map[string]string

	mu       sync.Mutex
	rebooted []string
	failure  error
	offline  map[string]bool
}

const sshd = `set -e
mkdir -p run/sshd standin
cd standin
cat >sshd_config <<'END'
%s
END
cat >key <<'END'
%sEND
echo '%s' >authorized_keys
chmod 600 key
exec /usr/sbin/sshd -D -f /standin/sshd_config
`

func pemOf(t *testing.T, key ed25519.PrivateKey) string {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(key, "")
	require.NoError(t, err)
	return string(pem.EncodeToMemory(block))
}

func newKey(t *testing.T) (public, private string) {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	line, err := ssh.NewPublicKey(pub)
	require.NoError(t, err)
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(line))), pemOf(t, priv)
}

func needed(t *testing.T, path, mend string) string {
	t.Helper()
	found, err := exec.LookPath(path)
	if err != nil {
		t.Skipf("there is no %s: %s", path, mend)
	}
	absolute, err := filepath.Abs(found)
	require.NoError(t, err)
	return absolute
}

func newHouse(t *testing.T, names ...string) *house {
	t.Helper()
	needed(t, "/usr/sbin/sshd", "install openssh-server")
	needed(t, "/usr/bin/sudo", "install sudo")
	needed(t, "../../.tools/bin/pulumi", "make tools")
	public, private := newKey(t)
	h := &house{t: t, folder: t.TempDir(), nodes: t.TempDir(), key: private, machines: map[string]*machine{}, sshd: map[string]int{}, web: newMirror(t), install: map[string]string{}, offline: map[string]bool{}}
	for i, name := range names {
		m := newMachineOf(t, "1g", h.nodes)
		h.machines[name] = m
		hostPublic, hostPrivate := newKey(t)
		address := fmt.Sprintf("127.1.%d.%d", os.Getpid()%250+1, i+1)
		const port = 2022
		conf := fmt.Sprintf("Port %d\nListenAddress %s\nHostKey /standin/key\nAuthorizedKeysFile /standin/authorized_keys\n"+
			"StrictModes no\nPermitRootLogin prohibit-password\nUsePAM no\nPidFile none\nSubsystem sftp internal-sftp", port, address)
		m.must(t, "cp /standin/kubeconfig /dev/null 2>/dev/null; cat >/standin/kubeconfig <<'END'\n"+aKubeconfig+"END\n")
		cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "nsenter", "--target", m.pid, "--mount", "chroot", m.dir+"/root", "sh", "-s") // ended below
		cmd.Stdin = strings.NewReader(fmt.Sprintf(sshd, conf, hostPrivate, public))
		var said bytes.Buffer
		cmd.Stderr = &said
		require.NoError(t, cmd.Start())
		h.sshd[name] = cmd.Process.Pid
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // it was killed
		})
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", net.JoinHostPort(address, strconv.Itoa(port)))
			if assert.NoError(c, err, said.String()) {
				_ = connection.Close()
			}
		}, 20*time.Second, 50*time.Millisecond)
		role := config.Agent
		if i == 0 {
			role = config.Server
		}
		h.hosts = append(h.hosts, config.Node{
			Name: name, Role: role, Arch: "arm64", Memory: "1Gi", Reserved: "512Mi", Host: address, User: "root", Port: port, HostKey: hostPublic,
		})
		h.install[name] = name + "-1"
	}
	h.cluster = &config.Cluster{
		Kind: config.Pi, Name: "home", K3s: "v1.35.0+k3s1", Flannel: config.HostGateway, Nodes: h.hosts,
		SSH:     config.SSH{Timeout: config.Duration{Duration: 5 * time.Second}},
		Install: config.Install{From: h.web.URL},
	}
	h.release("v1.35.0+k3s1")
	h.prepareEngine()
	return h
}

const aKubeconfig = `apiVersion: v1
kind: Config
current-context: default
contexts: [{name: default, context: {cluster: default, user: default}}]
clusters: [{name: default, cluster: {server: "https://127.0.0.1:6443"}}]
users: [{name: default, user: {token: canary-admin}}]
`

// release has the mirror serve another one.
func (h *house) release(release string) {
	old := regexp.MustCompile(`v1\.[0-9]+\.0\+k3s1`)
	h.web.files["/k3s-arm64"] = old.ReplaceAll(h.web.files["/k3s-arm64"], []byte(release))
	h.cluster.K3s = release
	h.cluster.Install.Binary, h.cluster.Install.Script = sumOf(h.web.files["/k3s-arm64"]), sumOf(h.web.files["/install.sh"])
}

func (h *house) prepareEngine() {
	h.t.Helper()
	project, err := filepath.Abs("../..")
	require.NoError(h.t, err)
	_, err = plugins.Target{Project: project, Home: filepath.Join(h.folder, "home")}.Ensure(h.t.Context(), plugins.Command)
	require.NoError(h.t, err)
	require.NoError(h.t, os.MkdirAll(filepath.Join(h.folder, "state"), 0o700))
	require.NoError(h.t, os.WriteFile(filepath.Join(h.folder, "Pulumi.yaml"), []byte("name: manager-cluster-state\nruntime: go\n"), 0o600))
	h.must("stack", "init", "test")
}

func (h *house) program(ctx *pulumi.Context) error {
	nodes := slices.Clone(h.cluster.Nodes)
	for i := range nodes {
		nodes[i].Offline = h.offline[nodes[i].Name]
	}
	described := *h.cluster
	described.Nodes = nodes
	pi, err := NewPi(ctx, "home", &PiArgs{
		Cluster: &described, SSHKey: h.key, ProjectDir: h.folder, Installations: h.install, Reboot: h.reboot,
	})
	if err != nil {
		return err
	}
	// What lives in the cluster: its deletion would fail, were it ever tried.
	_, err = local.NewCommand(ctx, "object", &local.CommandArgs{
		Create: pulumi.String("true"), Delete: pulumi.String("false"), Triggers: pulumi.Array{pi.Identity},
	}, pulumi.DependsOn(pi.Joined), pulumi.DeletedWith(pi.DeletedWith))
	if err != nil {
		return err
	}
	ctx.Export("kubeconfig", pi.Kubeconfig)
	return nil
}

// reboot boots a machine whose kernel lacks a flag.
func (h *house) reboot(ctx context.Context, node config.Node, _ string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failure != nil {
		return h.failure
	}
	said, _, err := h.machines[node.Name].run(ctx, "grep -q cpuset /proc/cmdline || { cat /boot/firmware/cmdline.txt >/standin/proc-cmdline; echo booted; }")
	if said != "" {
		h.rebooted = append(h.rebooted, node.Name)
	}
	return err
}

// runtime has the engine run the program in this process.
type runtime struct {
	pulumirpc.UnimplementedLanguageRuntimeServer

	program pulumi.RunFunc
}

func (*runtime) GetPluginInfo(context.Context, *emptypb.Empty) (*pulumirpc.PluginInfo, error) {
	return &pulumirpc.PluginInfo{Version: "1.0.0"}, nil
}

func (*runtime) GetRequiredPlugins(context.Context, *pulumirpc.GetRequiredPluginsRequest) (*pulumirpc.GetRequiredPluginsResponse, error) {
	return &pulumirpc.GetRequiredPluginsResponse{}, nil
}

func (r *runtime) Run(ctx context.Context, request *pulumirpc.RunRequest) (*pulumirpc.RunResponse, error) {
	inside, err := pulumi.NewContext(ctx, pulumi.RunInfo{
		EngineAddr: request.GetArgs()[0], MonitorAddr: request.GetMonitorAddress(), Project: request.GetProject(), Stack: request.GetStack(),
		Parallel: request.GetParallel(), DryRun: request.GetDryRun(), Organization: request.GetOrganization(),
		Config: request.GetConfig(), ConfigSecretKeys: request.GetConfigSecretKeys(),
	})
	if err != nil {
		return nil, err
	}
	defer func() { _ = inside.Close() }()
	if err := pulumi.RunWithContext(inside, r.program); err != nil {
		return &pulumirpc.RunResponse{Error: err.Error()}, nil
	}
	return &pulumirpc.RunResponse{}, nil
}

// pulumi runs a command of it, and returns all that it said.
func (h *house) pulumi(args ...string) (string, error) {
	h.t.Helper()
	gone := make(chan bool)
	defer close(gone)
	if args[0] == "up" || args[0] == "preview" {
		server, err := rpcutil.ServeWithOptions(rpcutil.ServeOptions{Cancel: gone, Init: func(server *grpc.Server) error {
			pulumirpc.RegisterLanguageRuntimeServer(server, &runtime{program: h.program})
			return nil
		}})
		require.NoError(h.t, err)
		args = append(args, fmt.Sprintf("--client=127.0.0.1:%d", server.Port), "--exec-kind=auto.inline")
	}
	ctx, cancel := context.WithTimeout(h.t.Context(), 5*time.Minute)
	defer cancel()
	tool, err := filepath.Abs("../../.tools/bin/pulumi")
	require.NoError(h.t, err)
	cmd := exec.CommandContext(ctx, tool, append(args, "--non-interactive", "--color=never")...)
	cmd.Dir = h.folder
	cmd.Env = append(os.Environ(), "PULUMI_HOME="+filepath.Join(h.folder, "home"), "PULUMI_BACKEND_URL=file://"+filepath.Join(h.folder, "state"),
		"PULUMI_CONFIG_PASSPHRASE=canary-passphrase", "PULUMI_SKIP_UPDATE_CHECK=true", "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION=true",
		"SSH_AUTH_SOCK=", "PULUMI_DEBUG_COMMANDS=true", "PULUMI_STACK=test")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (h *house) must(args ...string) string {
	h.t.Helper()
	out, err := h.pulumi(args...)
	require.NoError(h.t, err, out)
	return out
}

func (h *house) up() string { return h.must("up", "--yes", "--skip-preview", "--suppress-progress") }

// plan is what a preview would do: the name of each step's resource, by operation.
func (h *house) plan() map[string][]string {
	h.t.Helper()
	var preview struct {
		Steps []struct {
			Op  string `json:"op"`
			URN string `json:"urn"`
		} `json:"steps"`
	}
	out := h.must("preview", "--json")
	_, object, _ := strings.Cut(out, "{")
	require.NoError(h.t, json.Unmarshal([]byte("{"+object), &preview), out)
	plan := map[string][]string{}
	for _, step := range preview.Steps {
		if step.Op != "same" {
			plan[step.Op] = append(plan[step.Op], step.URN[strings.LastIndex(step.URN, "::")+2:])
		}
	}
	for _, names := range plan {
		slices.Sort(names)
	}
	return plan
}

func (h *house) node(name string) string {
	content, err := os.ReadFile(filepath.Join(h.nodes, name))
	if errors.Is(err, os.ErrNotExist) {
		return ""
	}
	require.NoError(h.t, err)
	return strings.TrimSpace(string(content))
}

func (h *house) logs() map[string]string {
	logs := map[string]string{}
	for name, m := range h.machines {
		logs[name] = m.log(h.t)
	}
	return logs
}

func (h *house) all() map[string]string {
	files := map[string]string{}
	for name, m := range h.machines {
		files[name] = m.files(h.t)
	}
	return files
}

// TestPi_WithTheEngine is a cluster's life: the engine, its SSH client and the SSH servers are real,
// k3s and systemctl stand-ins, and so is the command plugin where the official one is not installed.
func TestPi_WithTheEngine(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes minutes; run without -short")
	}
	h := newHouse(t, "kiwipi", "orangepi", "peachpi")
	before := h.all()
	three := h.cluster.Nodes
	step := func(name string, do func(t *testing.T)) {
		if !t.Failed() {
			t.Run(name, func(t *testing.T) {
				h.t = t
				do(t)
			})
		}
	}
	fails := func(t *testing.T, what ...string) {
		t.Helper()
		out, err := h.pulumi("up", "--yes", "--skip-preview", "--suppress-progress")
		require.Error(t, err)
		for _, text := range what {
			assert.Contains(t, out, text)
		}
	}
	step("a preview asks no machine", func(t *testing.T) {
		assert.Len(t, h.plan()["create"], 15)
		assert.Equal(t, before, h.all())
	})
	step("a reboot that fails ends before k3s, and the next run goes on", func(t *testing.T) {
		h.failure = errors.New("it did not come back")
		fails(t, "rebooting kiwipi: it did not come back")
		assert.Empty(t, h.node("kiwipi"))
		h.failure = nil
	})
	step("up", func(t *testing.T) {
		out := h.up()
		assert.NotContains(t, out, "canary-join-token")
		assert.NotContains(t, out, "canary-admin")
		assert.ElementsMatch(t, []string{"kiwipi", "orangepi", "peachpi"}, h.rebooted)
		assert.Equal(t, "v1.35.0+k3s1|True||||", h.node("kiwipi"))
		assert.Equal(t, "v1.35.0+k3s1|True||orangepi-1||", h.node("orangepi"))
		assert.Equal(t, "v1.35.0+k3s1|True||peachpi-1||", h.node("peachpi"))
		assert.Contains(t, h.must("stack", "output", "kubeconfig", "--show-secrets"), "https://"+three[0].Host+":6443")
		state := h.must("stack", "export")
		for _, secret := range []string{"canary-join-token", "canary-admin", "OPENSSH PRIVATE KEY"} {
			assert.NotContains(t, state, secret)
		}
	})
	step("nothing changes", func(t *testing.T) {
		h.logs()
		assert.Empty(t, h.plan())
		h.up()
		for name, log := range h.logs() {
			assert.Empty(t, log, name)
		}
		assert.Len(t, h.rebooted, 3)
	})
	step("an upgrade is the server's, then one agent's after the other", func(t *testing.T) {
		h.release("v1.36.0+k3s1")
		plan := h.plan()
		assert.Equal(t, map[string][]string{"update": {
			"home", "home-kiwipi-k3s", "home-kiwipi-kubeconfig", "home-orangepi-drain", "home-orangepi-k3s", "home-orangepi-member",
			"home-peachpi-drain", "home-peachpi-k3s", "home-peachpi-member",
		}}, plan)
		h.up()
		log := h.logs()["kiwipi"]
		order := []string{"install.sh server", "systemctl restart k3s\n", "cordon orangepi", "drain orangepi", "uncordon orangepi", "cordon peachpi", "drain peachpi", "uncordon peachpi"}
		at := -1
		for _, what := range order {
			next := strings.Index(log[at+1:], what)
			require.GreaterOrEqual(t, next, 0, "%s comes in turn in\n%s", what, log)
			at += 1 + next
		}
		assert.Equal(t, "v1.36.0+k3s1|True||orangepi-1||", h.node("orangepi"))
		assert.Equal(t, "v1.36.0+k3s1|True||peachpi-1||", h.node("peachpi"))
	})
	step("a file that is not what it should be stops the first machine", func(t *testing.T) {
		h.release("v1.37.0+k3s1")
		h.web.spoil = func() bool { return true }
		fails(t, "kiwipi: k3s-arm64 from "+h.web.URL+"/k3s-arm64 has the wrong checksum, and nothing was changed")
		assert.Equal(t, "v1.36.0+k3s1|True||||", h.node("kiwipi"))
	})
	step("running again goes on, until a connection drops in the middle", func(t *testing.T) {
		drops, goOn := make(chan struct{}), make(chan struct{})
		asked := 0
		h.web.spoil = func() bool { // the server's, then orangepi's
			if asked++; asked == 2 {
				close(drops)
				<-goOn
			}
			return false
		}
		go func() {
			<-drops
			h.drop("orangepi")
		}()
		fails(t, "home-orangepi-k3s")
		assert.Equal(t, "v1.37.0+k3s1|True||||", h.node("kiwipi"))
		assert.Equal(t, "v1.36.0+k3s1|True|true|orangepi-1|true|", h.node("orangepi"))
		assert.Equal(t, "v1.36.0+k3s1|True||peachpi-1||", h.node("peachpi"), "the chain stops")
		close(goOn)
	})
	step("running again goes on, until an agent does not start", func(t *testing.T) {
		h.machines["peachpi"].must(t, ": >/standin/broken")
		fails(t, "peachpi: k3s-agent did not start")
		assert.Equal(t, "v1.37.0+k3s1|True||orangepi-1||", h.node("orangepi"))
		assert.Equal(t, "v1.36.0+k3s1|True|true|peachpi-1|true|", h.node("peachpi"))
		h.machines["peachpi"].must(t, "rm /standin/broken")
	})
	step("running again goes on, unless it can't be reached", func(t *testing.T) {
		h.cluster.Nodes = slices.Clone(three)
		h.cluster.Nodes[2].Port = 1
		fails(t, "home-peachpi-", "connection refused")
		assert.Equal(t, "v1.36.0+k3s1|True|true|peachpi-1|true|", h.node("peachpi"))
		h.cluster.Nodes = three
	})
	step("running again ends it", func(t *testing.T) {
		h.up()
		assert.Equal(t, "v1.37.0+k3s1|True||peachpi-1||", h.node("peachpi"))
		assert.Empty(t, h.plan())
	})
	step("an agent is taken away", func(t *testing.T) {
		h.logs()
		h.cluster.Nodes = []config.Node{three[0], three[2]}
		h.up()
		assert.Empty(t, h.node("orangepi"))
		assert.Contains(t, h.logs()["kiwipi"], "kubectl drain orangepi")
		assert.Equal(t, before["orangepi"], h.machines["orangepi"].files(t))
	})
	step("an agent is added", func(t *testing.T) {
		h.cluster.Nodes = three
		h.install["orangepi"] = "orangepi-2"
		h.up()
		assert.Equal(t, "v1.37.0+k3s1|True||orangepi-2||", h.node("orangepi"))
	})
	step("an agent that was flashed leaves, and joins again", func(t *testing.T) {
		h.logs()
		h.flash(t, "peachpi")
		h.install["peachpi"] = "peachpi-2"
		h.up()
		assert.Contains(t, h.logs()["kiwipi"], "kubectl delete node peachpi")
		assert.Equal(t, "v1.37.0+k3s1|True||peachpi-2||", h.node("peachpi"))
		assert.Empty(t, h.plan())
	})
	step("an agent that is off is left alone, and forgotten when it is off the list", func(t *testing.T) {
		h.offline["peachpi"] = true
		h.release("v1.38.0+k3s1")
		h.logs()
		h.up()
		assert.Empty(t, h.logs()["peachpi"])
		assert.Equal(t, "v1.37.0+k3s1|True||peachpi-2||", h.node("peachpi"))
		assert.Equal(t, "v1.38.0+k3s1|True||orangepi-2||", h.node("orangepi"))
		h.cluster.Nodes = three[:2]
		h.up()
		assert.Empty(t, h.logs()["peachpi"])
		assert.Empty(t, h.node("peachpi"))
		h.offline["peachpi"] = false
		h.cluster.Nodes = three
		h.flash(t, "peachpi")
		h.install["peachpi"] = "peachpi-3"
		h.up()
	})
	step("a server that was flashed is a new cluster, and the agents join it", func(t *testing.T) {
		h.flash(t, "kiwipi")
		for name := range h.machines {
			require.NoError(t, os.RemoveAll(filepath.Join(h.nodes, name)))
		}
		h.install["kiwipi"] = "kiwipi-2"
		h.up()
		assert.Equal(t, "v1.38.0+k3s1|True||orangepi-2||", h.node("orangepi"))
		assert.Equal(t, "v1.38.0+k3s1|True||peachpi-3||", h.node("peachpi"))
		assert.Empty(t, h.plan())
	})
	step("destroy leaves nothing", func(t *testing.T) {
		h.logs()
		h.must("destroy", "--yes", "--skip-preview", "--suppress-progress")
		assert.NotContains(t, h.logs()["kiwipi"], "kubectl drain", "the cluster goes with its nodes")
		after := h.all()
		for _, name := range slices.Sorted(maps.Keys(before)) {
			assert.Equal(t, before[name], after[name], name)
		}
	})
}

// drop ends the SSH connections of a machine, and not what they have started.
func (h *house) drop(name string) {
	pid := h.sshd[name]
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	assert.NoError(h.t, err) //nolint:testifylint // it is no test's own goroutine
	for child := range strings.FieldsSeq(string(children)) {
		session, err := strconv.Atoi(child)
		assert.NoError(h.t, err)
		assert.NoError(h.t, syscall.Kill(session, syscall.SIGKILL))
	}
}

// flash is a new SD card.
func (h *house) flash(t *testing.T, name string) {
	t.Helper()
	h.machines[name].must(t, `rm -rf /etc/rancher /etc/systemd/system/k3s* /usr/local/bin/* /var/lib/rancher /var/lib/manager-cluster-state /etc/systemd/journald.conf.d /standin/active/* /standin/iptables
touch /standin/enabled/dphys-swapfile
printf 'console=tty1 root=/dev/mmcblk0p2 rootwait \n' >/boot/firmware/cmdline.txt
cat /boot/firmware/cmdline.txt >/standin/proc-cmdline`)
}
