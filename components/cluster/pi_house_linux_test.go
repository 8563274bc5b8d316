package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pulumi/pulumi-command/sdk/go/command/local"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/components/cluster"
	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/internal/enginetest"
	"github.com/nullify005/manager-cluster-state/internal/pitest"
	"github.com/nullify005/manager-cluster-state/rehearsal"
	"github.com/nullify005/manager-cluster-state/rehearsal/plugins"
)

// home is a house of three Pis, and a stack that has them.
type home struct {
	*enginetest.Engine
	*pitest.House

	pis     map[string]*pitest.Pi
	cfg     *config.Config
	install map[string]string

	mu       sync.Mutex
	rebooted []string
	// stays is why no machine comes back from a reboot.
	stays error
}

// controlPlane is a real one, and the path of its kubeconfig.
func controlPlane(t *testing.T) string {
	t.Helper()
	plane, err := rehearsal.New(rehearsal.Options{
		Project: "../..", Stack: "development", Folder: filepath.Join(t.TempDir(), "cluster"),
		// No program runs here that would use them.
		Overrides: map[string]any{"secrets.deployKey": "", "secrets.notifications.slackWebhook": "", "secrets.sshKey": ""},
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		if _, err := plane.Down(context.WithoutCancel(t.Context())); err != nil && !errors.Is(err, rehearsal.ErrNothing) {
			t.Error(err)
		}
	})
	err = plane.StartCluster(t.Context())
	if missing := (*rehearsal.MissingToolsError)(nil); errors.As(err, &missing) {
		t.Skip(missing)
	}
	require.NoError(t, err)
	return plane.Kubeconfig()
}

func newHome(t *testing.T) *home {
	t.Helper()
	kubectl, err := filepath.Abs("../../.tools/bin/kubectl")
	require.NoError(t, err)
	h := &home{
		House: pitest.New(t, pitest.Options{RebootTakes: 300 * time.Millisecond, Kubectl: kubectl}),
		pis:   map[string]*pitest.Pi{}, install: map[string]string{}, cfg: &config.Config{},
	}
	h.Use(t, controlPlane(t))
	h.cfg.Secrets.SSHKey = h.Key
	h.cfg.Cluster = config.Cluster{
		Kind: config.Pi, Name: "home", Flannel: config.HostGateway,
		SSH: config.SSH{Timeout: config.Duration{Duration: 2 * time.Second}, RebootTimeout: config.Duration{Duration: time.Minute}},
	}
	for name, options := range map[string]pitest.PiOptions{"kiwipi": {}, "orangepi": {OldBoot: true}, "peachpi": {Swap: "zram"}} {
		h.pis[name] = h.Pi(t, name, options)
		h.install[name] = name + "-1"
	}
	no := false
	for i, name := range []string{"kiwipi", "orangepi", "peachpi"} {
		pi := h.pis[name]
		node := config.Node{
			Name: name, Role: config.Agent, Arch: "arm64", Memory: "1Gi", Reserved: "512Mi",
			Host: pi.Address, Port: 22, User: pi.User, HostKey: pi.HostKey(),
		}
		if i == 0 {
			node.Role, node.Workloads = config.Server, &no
		}
		h.cfg.Cluster.Nodes = append(h.cfg.Cluster.Nodes, node)
	}
	h.release(t, "v1.35.0+k3s1")
	h.Engine = enginetest.New(t, "../..", h.program, plugins.Command)
	return h
}

func (h *home) release(t *testing.T, release string) {
	t.Helper()
	published := h.PublishK3s(t, release)
	h.cfg.Cluster.K3s = release
	h.cfg.Cluster.Install = config.Install{From: published.URL, Binary: published.Binary, Script: published.Script}
}

func (h *home) program(ctx *pulumi.Context) error {
	pi, err := cluster.NewPi(ctx, "home", &cluster.PiArgs{
		Cluster: &h.cfg.Cluster, SSHKey: h.cfg.Secrets.SSHKey, ProjectDir: h.Folder, Installations: h.install, Reboot: h.reboot,
	})
	if err != nil {
		return err
	}
	// What lives in the cluster: its deletion would fail, were it ever tried.
	_, err = local.NewCommand(ctx, "object", &local.CommandArgs{
		Create: pulumi.String("true"), Delete: pulumi.String("false"), Triggers: pulumi.Array{pulumi.String(pi.Identity)},
	}, pulumi.DependsOn(pi.Joined), pulumi.DeletedWith(pi.DeletedWith))
	if err != nil {
		return err
	}
	ctx.Export("kubeconfig", pi.Kubeconfig)
	return nil
}

func (h *home) reboot(ctx context.Context, node config.Node, bootID string) error {
	pi := h.pis[node.Name]
	if h.stays != nil {
		return h.stays
	}
	if pi.BootID() != bootID {
		return nil
	}
	h.mu.Lock()
	h.rebooted = append(h.rebooted, node.Name)
	h.mu.Unlock()
	if _, said, err := pi.Run(ctx, "sudo -n systemctl reboot", ""); err != nil && said != "" {
		return fmt.Errorf("%w: %s", err, said) // else it ended with the connection
	}
	within, cancel := context.WithTimeout(ctx, h.cfg.Cluster.SSH.RebootTimeout.Duration)
	defer cancel()
	for within.Err() == nil {
		if id, _, err := pi.Run(within, "cat /proc/sys/kernel/random/boot_id", ""); err == nil && strings.TrimSpace(id) != bootID {
			return nil
		}
	}
	return within.Err()
}

// nodes are those of the cluster: release, readiness, cordon, installation and our own cordon.
func (h *home) nodes(t *testing.T) string {
	t.Helper()
	return h.pis["kiwipi"].Must(t, "KUBECACHEDIR=/run/test k3s kubectl get nodes -o jsonpath='{range .items[*]}{.metadata.name} {.status.nodeInfo.kubeletVersion} "+
		`{.status.conditions[?(@.type=="Ready")].status} {.spec.unschedulable}/{.metadata.annotations.manager-cluster-state/installation}/`+
		`{.metadata.annotations.manager-cluster-state/cordoned} {.spec.taints[?(@.key=="node-role.kubernetes.io/control-plane")].key} {.status.allocatable.memory}{"\n"}{end}'`)
}

func joined(release string, installations ...string) string {
	lines := []string{"kiwipi " + release + " True // node-role.kubernetes.io/control-plane 512Mi\n"}
	for _, installation := range installations {
		name, _, _ := strings.Cut(installation, "-")
		lines = append(lines, name+" "+release+" True /"+installation+"/  512Mi\n")
	}
	return strings.Join(lines, "")
}

// TestPi_InAHouse is a cluster's life with the real engine, SSH, sudo and Kubernetes; k3s, its kubelets
// and systemd are stand-ins, and so is the command plugin where the official one is not installed.
func TestPi_InAHouse(t *testing.T) {
	h, house := newHome(t), t
	three := h.cfg.Cluster.Nodes
	step := func(name string, do func(t *testing.T)) {
		if !t.Failed() {
			t.Run(name, do)
		}
	}
	step("a preview asks no machine", func(t *testing.T) {
		assert.Len(t, h.Plan(t)["create"], 15)
		for name, pi := range h.pis {
			assert.Empty(t, pi.Left(t), name)
		}
	})
	step("a reboot that fails ends before k3s, and the next run goes on", func(t *testing.T) {
		h.stays = errors.New("it did not come back")
		// They reboot at once; the program ends with the first that fails.
		assert.Regexp(t, "rebooting (kiwipi|orangepi|peachpi): it did not come back", h.Fails(t))
		assert.Empty(t, h.pis["kiwipi"].Must(t, "ls /usr/local/bin/k3s 2>/dev/null || :"))
		h.stays = nil
	})
	step("up", func(t *testing.T) {
		out := h.Up(t)
		assert.ElementsMatch(t, []string{"kiwipi", "orangepi", "peachpi"}, h.rebooted)
		assert.Equal(t, joined("v1.35.0+k3s1", "orangepi-1", "peachpi-1"), h.nodes(t))
		token := strings.TrimSpace(h.pis["kiwipi"].Must(t, "cat /var/lib/rancher/k3s/server/node-token"))
		state := h.Must(t, "stack", "export")
		for _, secret := range []string{token, "OPENSSH PRIVATE KEY", "client-key-data"} {
			assert.NotContains(t, out, secret)
			assert.NotContains(t, state, secret)
		}
		assert.Contains(t, h.Must(t, "stack", "output", "kubeconfig", "--show-secrets"), "https://"+three[0].Host+":6443")
		for name, pi := range h.pis {
			assert.Equal(t, "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n", pi.Must(t, "head -n 1 /proc/swaps"), name)
			assert.Equal(t, "1\n", pi.Must(t, "wc -l </proc/swaps"), name)
			assert.Equal(t, h.install[name]+"\n", pi.Must(t, "cat /etc/rancher/k3s/manager-cluster-state"))
		}
	})
	step("nothing changes", func(t *testing.T) {
		boots := h.pis["orangepi"].Boots()
		assert.Empty(t, h.Plan(t))
		h.Up(t)
		assert.Equal(t, boots, h.pis["orangepi"].Boots())
	})
	step("a file that is not what it should be stops the first machine", func(t *testing.T) {
		h.release(t, "v1.35.1+k3s1")
		h.Publish("v1.35.1+k3s1/k3s-arm64", []byte("spoiled"))
		assert.Contains(t, h.Fails(t), "kiwipi: k3s-arm64 from "+h.cfg.Cluster.Install.From+"/k3s-arm64 has the wrong checksum, and nothing was changed")
		assert.Equal(t, joined("v1.35.0+k3s1", "orangepi-1", "peachpi-1"), h.nodes(t))
		h.release(t, "v1.35.1+k3s1")
	})
	step("a full disk stops an upgrade at that machine", func(t *testing.T) {
		h.pis["orangepi"].FillDisk(t, 100<<20)
		assert.Contains(t, h.Fails(t), "orangepi: only 100 MB are free at /usr/local/bin")
		assert.Contains(t, h.nodes(t), "kiwipi v1.35.1+k3s1 True")
		assert.Contains(t, h.nodes(t), "peachpi v1.35.0+k3s1 True /peachpi-1/")
		h.pis["orangepi"].EmptyDisk(t)
	})
	step("running again goes on, until a connection drops in the middle, and again from there", func(t *testing.T) {
		dropped := h.pis["orangepi"].DropAfter(t, "/var/lib/manager-cluster-state/restart")
		h.Fails(t)
		<-dropped
		h.Up(t)
		assert.Equal(t, joined("v1.35.1+k3s1", "orangepi-1", "peachpi-1"), h.nodes(t))
		assert.Empty(t, h.Plan(t))
	})
	step("an agent that can't be reached stops the chain", func(t *testing.T) {
		h.release(t, "v1.35.2+k3s1")
		h.pis["peachpi"].Unplug()
		assert.Contains(t, h.Fails(t), "home-peachpi-")
		assert.Contains(t, h.nodes(t), "orangepi v1.35.2+k3s1 True /orangepi-1/")
		h.pis["peachpi"].Plug()
		h.Up(t)
		assert.Equal(t, joined("v1.35.2+k3s1", "orangepi-1", "peachpi-1"), h.nodes(t))
	})
	step("an agent is taken away, and added", func(t *testing.T) {
		h.cfg.Cluster.Nodes = []config.Node{three[0], three[2]}
		h.Up(t)
		assert.Equal(t, joined("v1.35.2+k3s1", "peachpi-1"), h.nodes(t))
		assert.Empty(t, h.pis["orangepi"].Left(t))
		h.cfg.Cluster.Nodes, h.install["orangepi"] = three, "orangepi-2"
		h.Up(t)
		assert.Equal(t, joined("v1.35.2+k3s1", "orangepi-2", "peachpi-1"), h.nodes(t))
	})
	step("an agent that was flashed leaves, and joins again", func(t *testing.T) {
		h.flash(t, "peachpi")
		h.RebootTakes(10 * time.Second)
		h.Up(t)
		h.RebootTakes(300 * time.Millisecond)
		assert.Equal(t, joined("v1.35.2+k3s1", "orangepi-2", "peachpi-2"), h.nodes(t))
	})
	step("an agent that is off is left alone, and forgotten when it is off the list", func(t *testing.T) {
		h.cfg.Cluster.Nodes = slices.Clone(h.cfg.Cluster.Nodes)
		h.cfg.Cluster.Nodes[2].Offline = true
		h.pis["peachpi"].Off(t)
		h.Up(t)
		h.cfg.Cluster.Nodes = h.cfg.Cluster.Nodes[:2]
		h.Up(t)
		assert.Equal(t, joined("v1.35.2+k3s1", "orangepi-2"), h.nodes(t))
		h.cfg.Cluster.Nodes = slices.Concat(h.cfg.Cluster.Nodes, three[2:])
		h.flash(t, "peachpi")
		h.Up(t)
		assert.Equal(t, joined("v1.35.2+k3s1", "orangepi-2", "peachpi-2"), h.nodes(t))
	})
	step("a server that was flashed is a new cluster, and the agents join it", func(t *testing.T) {
		h.flash(t, "kiwipi")
		h.Use(t, controlPlane(house)) // it is needed until the end
		h.Up(t)
		assert.Equal(t, joined("v1.35.2+k3s1", "orangepi-2", "peachpi-2"), h.nodes(t))
		assert.Empty(t, h.Plan(t))
	})
	step("destroy leaves nothing", func(t *testing.T) {
		h.Must(t, "destroy", "--yes", "--skip-preview", "--suppress-progress")
		for name, pi := range h.pis {
			assert.Empty(t, pi.Left(t), name)
		}
	})
}

// flash is a new SD card in a Pi, which has another host key.
func (h *home) flash(t *testing.T, name string) {
	t.Helper()
	pi := h.pis[name]
	pi.Reflash(t)
	pi.WaitUp(t, 1)
	h.cfg.Cluster.Nodes = slices.Clone(h.cfg.Cluster.Nodes)
	for i := range h.cfg.Cluster.Nodes {
		if h.cfg.Cluster.Nodes[i].Name == name {
			h.cfg.Cluster.Nodes[i].HostKey = pi.HostKey()
		}
	}
	h.install[name] = name + "-2"
}
