//go:build linux

package pitest_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/internal/k3stest"
	"github.com/nullify005/manager-cluster-state/internal/pitest"
	"github.com/nullify005/manager-cluster-state/rehearsal"
)

const (
	release = "v1.35.0+k3s1"
	newer   = "v1.35.1+k3s1"
	project = "../.."

	asked = 90 * time.Second
	often = 200 * time.Millisecond
)

// controlPlane is a real one, and the path of its kubeconfig.
func controlPlane(t *testing.T) string {
	t.Helper()
	plane, err := rehearsal.New(rehearsal.Options{
		Project: project, Stack: "development", Folder: filepath.Join(t.TempDir(), "cluster"),
		// No program runs here that would use them.
		Overrides: map[string]any{"secrets.deployKey": "", "secrets.notifications.slackWebhook": "", "secrets.sshKey": ""},
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		if _, err := plane.Down(context.Background()); err != nil && !errors.Is(err, rehearsal.ErrNothing) {
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

// houseWithCluster is three Pis with k3s's files on them, and a control plane for their server.
func houseWithCluster(t *testing.T) (house *pitest.House, server, orange, peach *pitest.Pi) {
	t.Helper()
	house = pitest.New(t, pitest.Options{RebootTakes: 500 * time.Millisecond, Kubectl: filepath.Join(project, ".tools", "bin", "kubectl")})
	house.Use(t, controlPlane(t))
	published := house.PublishK3s(t, release)
	pis := make([]*pitest.Pi, 3)
	for i, name := range []string{"kiwipi", "orangepi", "peachpi"} {
		pis[i] = house.Pi(t, name, pitest.PiOptions{})
		download(t, pis[i], published)
	}
	return house, pis[0], pis[1], pis[2]
}

func download(t *testing.T, pi *pitest.Pi, from pitest.Release) {
	t.Helper()
	pi.Must(t, `set -e
curl -fsS -o /usr/local/bin/k3s.next `+from.URL+`/k3s-arm64
curl -fsS -o /root/install.sh `+from.URL+`/install.sh
echo "`+from.Binary+`  /usr/local/bin/k3s.next" | sha256sum -c
echo "`+from.Script+`  /root/install.sh" | sha256sum -c
chmod 755 /usr/local/bin/k3s.next
mv /usr/local/bin/k3s.next /usr/local/bin/k3s`)
}

func install(t *testing.T, pi *pitest.Pi, role, config string) {
	t.Helper()
	pi.Must(t, "set -e; mkdir -p /etc/rancher/k3s; umask 077; cat >/etc/rancher/k3s/config.yaml <<'END'\n"+config+"\nEND\n"+
		"INSTALL_K3S_SKIP_DOWNLOAD=true INSTALL_K3S_EXEC="+role+" sh /root/install.sh")
}

func installAgent(t *testing.T, pi *pitest.Pi, token string) {
	t.Helper()
	install(t, pi, "agent", "server: https://kiwipi.lan:6443\ntoken: "+token+"\nnode-name: "+pi.Name+
		"\nnode-label: [size=small]\nkubelet-arg: [\"system-reserved=memory=400Mi\"]\nflannel-iface: eth0")
}

// nodes are those of the cluster with what is asked of each, one a line.
func nodes(t *testing.T, server *pitest.Pi, path string) string {
	t.Helper()
	return server.Must(t, "k3s kubectl get nodes -o jsonpath='{range .items[*]}{.metadata.name} "+path+"{\"\\n\"}{end}'")
}

const (
	readiness = `{.status.conditions[?(@.type=="Ready")].status}`
	version   = `{.status.nodeInfo.kubeletVersion}`
)

func eventually(t *testing.T, server *pitest.Pi, path, wanted string) {
	t.Helper()
	found := ""
	assert.Eventually(t, func() bool {
		found = nodes(t, server, path)
		return found == wanted
	}, asked, often)
	require.Equal(t, wanted, found)
}

func TestK3s_ThreePisAreACluster(t *testing.T) {
	house, server, orange, peach := houseWithCluster(t)
	install(t, server, "server", "node-taint: [node-role.kubernetes.io/control-plane=true:NoSchedule]\nwrite-kubeconfig-mode: \"0600\"")
	assert.Equal(t, "active\n", server.Must(t, "systemctl is-active k3s"))
	token := strings.TrimSpace(server.Must(t, "cat /var/lib/rancher/k3s/server/node-token"))
	assert.Regexp(t, `^K10[0-9a-f]{64}::server:[0-9a-f]{32}$`, token)
	assert.Equal(t, "600\n", server.Must(t, "stat -c %a /etc/rancher/k3s/k3s.yaml"))
	installAgent(t, orange, token)
	installAgent(t, peach, token)
	eventually(t, server, readiness+" "+version, "kiwipi True "+release+"\norangepi True "+release+"\npeachpi True "+release+"\n")
	assert.Equal(t, "kiwipi arm64 NoSchedule 931000Ki\norangepi arm64  521400Ki\npeachpi arm64  521400Ki\n",
		nodes(t, server, "{.status.nodeInfo.architecture} {.spec.taints[0].effect} {.status.allocatable.memory}"))
	assert.Equal(t, "kiwipi \norangepi small\npeachpi small\n", nodes(t, server, "{.metadata.labels.size}"))

	t.Run("a stopped agent is not ready, and is again", func(t *testing.T) {
		orange.Must(t, "systemctl stop k3s-agent")
		eventually(t, server, readiness, "kiwipi True\norangepi Unknown\npeachpi True\n")
		orange.Must(t, "systemctl start k3s-agent")
		eventually(t, server, readiness, "kiwipi True\norangepi True\npeachpi True\n")
	})
	t.Run("an agent whose cable is out is not ready, and is again", func(t *testing.T) {
		peach.Unplug()
		eventually(t, server, readiness, "kiwipi True\norangepi True\npeachpi Unknown\n")
		peach.Plug()
		eventually(t, server, readiness, "kiwipi True\norangepi True\npeachpi True\n")
	})
	t.Run("a reboot brings all back", func(t *testing.T) {
		for _, pi := range []*pitest.Pi{server, orange} {
			pi.Must(t, "reboot")
			pi.WaitUp(t, 2)
		}
		require.Eventually(t, func() bool {
			_, _, err := server.Run(t.Context(), "sudo -n k3s kubectl get nodes", "")
			return err == nil
		}, asked, often)
		eventually(t, server, readiness, "kiwipi True\norangepi True\npeachpi True\n")
	})
	t.Run("another release is another kubelet", func(t *testing.T) {
		download(t, orange, house.PublishK3s(t, newer))
		orange.Must(t, "systemctl restart k3s-agent")
		eventually(t, server, version, "kiwipi "+release+"\norangepi "+newer+"\npeachpi "+release+"\n")
	})
	t.Run("a node that is made anew is let in when its old one is gone", func(t *testing.T) {
		peach.Must(t, "k3s-agent-uninstall.sh; rm -rf /etc/rancher/node")
		download(t, peach, house.PublishK3s(t, release))
		installAgent(t, peach, token)
		require.Eventually(t, func() bool { return strings.Contains(peach.Journal("k3s-agent"), "Node password rejected") }, asked, often)
		server.Must(t, "k3s kubectl delete node peachpi")
		eventually(t, server, readiness, "kiwipi True\norangepi True\npeachpi True\n")
	})
	t.Run("uninstalling leaves what k3s leaves", func(t *testing.T) {
		for pi, script := range map[*pitest.Pi]string{server: "k3s-uninstall.sh", orange: "k3s-agent-uninstall.sh", peach: "k3s-agent-uninstall.sh"} {
			pi.Must(t, script+"; rm -rf /root/install.sh /root/.kube")
			assert.Equal(t, []string{"+/etc/rancher", "+/etc/rancher/node", "+/etc/rancher/node/password", "+/var/lib/rancher"}, pi.Left(t), pi.Name)
		}
	})
	t.Run("calls are recorded without the token", func(t *testing.T) {
		calls, err := k3stest.Calls(peach.Path("/var/log/k3s-standin.jsonl"))
		require.NoError(t, err)
		content, err := os.ReadFile(peach.Path("/var/log/k3s-standin.jsonl"))
		require.NoError(t, err)
		assert.NotContains(t, string(content), token)
		assert.Contains(t, calls, k3stest.Call{Settings: map[string][]string{
			"server": {"https://kiwipi.lan:6443"}, "token": {"(hidden)"}, "node-name": {"peachpi"},
			"node-label": {"size=small"}, "kubelet-arg": {"system-reserved=memory=400Mi"}, "flannel-iface": {"eth0"},
		}})
	})
}

func TestK3s_RefusesAnAgentOfAnotherCluster(t *testing.T) {
	house, server, orange, peach := houseWithCluster(t)
	install(t, server, "server", "")
	token := strings.TrimSpace(server.Must(t, "cat /var/lib/rancher/k3s/server/node-token"))
	installAgent(t, orange, token)
	installAgent(t, peach, token+"x")
	said := func(pi *pitest.Pi, text string) {
		t.Helper()
		require.Eventually(t, func() bool { return strings.Contains(pi.Journal("k3s-agent"), text) }, asked, often, text)
	}
	said(peach, "401 Unauthorized")
	eventually(t, server, readiness, "kiwipi True\norangepi True\n")

	// The same server anew is another cluster, without the nodes of before.
	server.Must(t, "k3s-uninstall.sh")
	download(t, server, house.PublishK3s(t, release))
	install(t, server, "server", "")
	assert.NotEqual(t, token, strings.TrimSpace(server.Must(t, "cat /var/lib/rancher/k3s/server/node-token")))
	orange.Must(t, "systemctl restart k3s-agent")
	said(orange, "token CA hash does not match the Cluster CA certificate hash")
	eventually(t, server, readiness, "kiwipi True\n")

	// Nor does it start with another token than its data are of.
	server.Must(t, "echo 'token: another' >/etc/rancher/k3s/config.yaml; ! systemctl restart k3s")
	assert.Contains(t, server.Journal("k3s"), "bootstrap data already found and encrypted with different token")
}

func TestK3s_KubectlIsOfTheServerAlone(t *testing.T) {
	house, server, orange, _ := houseWithCluster(t)
	install(t, server, "server", "")
	assert.Equal(t, "ok", server.Must(t, "kubectl get --raw /readyz"))
	_, said, err := orange.Run(t.Context(), "sudo -n k3s kubectl get nodes", "")
	require.Error(t, err)
	assert.Contains(t, said, "/etc/rancher/k3s/k3s.yaml")
	house.ControlPlane.Lose()
	_, _, err = server.Run(t.Context(), "sudo -n k3s kubectl get --raw /readyz", "")
	require.Error(t, err)
}
