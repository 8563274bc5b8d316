//go:build linux

package pitest_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/internal/pitest"
	"github.com/nullify005/manager-cluster-state/rehearsal"
)

func TestPi_IsAMachineOfItsOwn(t *testing.T) {
	house := pitest.New(t)
	one, two := house.Pi("kiwipi", pitest.Options{}), house.Pi("orangepi", pitest.Options{Flags: true})
	assert.Equal(t, "0\naarch64\nkiwipi\n", one.Run("id -u; uname -m; hostname"))
	assert.Contains(t, one.Run("cat /proc/swaps"), "/var/swap")
	assert.NotEqual(t, one.HostKey(), two.HostKey())
	assert.Empty(t, one.Left())

	one.Run("echo changed >/etc/motd; mkdir -p /var/lib/new; touch /var/lib/new/file")
	assert.Equal(t, []string{"/etc/motd", "/var/lib/new", "/var/lib/new/file"}, one.Left())
	assert.Empty(t, two.Left(), "the other one is untouched")
	assert.Equal(t, "yes\n", one.Run("wget -q -O /tmp/got "+house.URL()+"/install.sh || curl -fsSo /tmp/got "+house.URL()+"/install.sh; test -s /tmp/got && echo yes"))
}

func TestPi_RebootsIntoWhatItsBootFileSays(t *testing.T) {
	house := pitest.New(t)
	pi := house.Pi("kiwipi", pitest.Options{})
	before := pi.Run("cat /proc/sys/kernel/random/boot_id")
	assert.NotContains(t, pi.Run("cat /proc/cmdline"), "cgroup_enable")
	pi.Run("sed -i 's/$/ cgroup_enable=memory/' /boot/firmware/cmdline.txt; systemctl reboot")
	require.Eventually(t, func() bool { return pi.Boots() == 2 }, 20*time.Second, 50*time.Millisecond, "%s", pi.Console())
	pi.Off()
	pi.On()
	assert.NotEqual(t, before, pi.Run("cat /proc/sys/kernel/random/boot_id"))
	assert.Contains(t, pi.Run("cat /proc/cmdline"), "cgroup_enable=memory")
	assert.Equal(t, 3, pi.Boots())
}

func TestPi_RunsTheUnitsThatAreEnabled(t *testing.T) {
	house := pitest.New(t)
	pi := house.Pi("kiwipi", pitest.Options{})
	pi.Run(`printf '[Service]\nExecStart=/usr/bin/sleep \\\n  1000\n' >/etc/systemd/system/nap.service; systemctl enable --now nap`)
	assert.Equal(t, "/usr/bin/sleep 1000\n", pi.Run("ps -o args= -C sleep"))
	pi.Off()
	pi.On()
	assert.Equal(t, "/usr/bin/sleep 1000\n", pi.Run("ps -o args= -C sleep"))
	pi.Run("systemctl disable --now nap; rm /etc/systemd/system/nap.service; systemctl is-active nap && exit 1; exit 0")
	assert.Empty(t, pi.Left())
}

// controlPlanes starts control planes with no nodes, which go with the test.
func controlPlanes(t *testing.T) func() (string, error) {
	t.Helper()
	project, err := filepath.Abs("../..")
	require.NoError(t, err)
	tools := filepath.Join(project, ".tools", "bin")
	t.Setenv("PATH", tools+string(os.PathListSeparator)+os.Getenv("PATH"))
	return func() (string, error) {
		r, err := rehearsal.New(rehearsal.Options{
			Project: project, Stack: "development", Folder: filepath.Join(t.TempDir(), "cluster"),
			Overrides: map[string]any{"cluster.nodes": []any{}, "cluster.k3s": ""},
		})
		if err != nil {
			return "", err
		}
		t.Cleanup(func() { _, _ = r.Down(context.Background()) })
		return r.Kubeconfig(), r.StartCluster(t.Context())
	}
}

func TestK3s_ThreePisAreAClusterOfARealControlPlane(t *testing.T) {
	house := pitest.New(t)
	house.ControlPlane = controlPlanes(t)
	server, agent := house.Pi("kiwipi", pitest.Options{Flags: true}), house.Pi("orangepi", pitest.Options{Flags: true})
	install := func(pi *pitest.Pi, role, config string) {
		pi.Run("mkdir -p /etc/rancher/k3s && cat >/etc/rancher/k3s/config.yaml <<'END'\n" + config + "\nEND\n" +
			"curl -fsSo /usr/local/bin/k3s " + house.URL() + "/k3s-arm64 && chmod 755 /usr/local/bin/k3s\n" +
			"curl -fsS " + house.URL() + "/install.sh | INSTALL_K3S_SKIP_DOWNLOAD=true INSTALL_K3S_EXEC=" + role + " sh -s >&2")
	}
	install(server, "server", "node-name: kiwipi\nnode-taint: ['node-role.kubernetes.io/control-plane=true:NoSchedule']")
	nodes := func() string {
		return server.Run("HOME=/tmp k3s kubectl get nodes --no-headers -o custom-columns='N:.metadata.name,R:.status.conditions[?(@.type==\"Ready\")].status,V:.status.nodeInfo.kubeletVersion' 2>/dev/null || :")
	}
	require.Eventually(t, func() bool { return strings.Contains(nodes(), "kiwipi") }, time.Minute, 200*time.Millisecond, "%s", server.Log("k3s"))

	install(agent, "agent", "node-name: orangepi\nserver: https://"+server.Address+":6443\ntoken: wrong")
	require.Eventually(t, func() bool { return strings.Contains(agent.Log("k3s-agent"), "token") }, 20*time.Second, 100*time.Millisecond)
	assert.NotContains(t, nodes(), "orangepi", "with the wrong token nobody is let in")
	token := strings.TrimSpace(server.Run("cat /var/lib/rancher/k3s/server/node-token"))
	agent.Run("sed -i 's/wrong/" + token + "/' /etc/rancher/k3s/config.yaml; systemctl restart k3s-agent")
	require.Eventually(t, func() bool { return strings.Contains(nodes(), "orangepi") }, 20*time.Second, 200*time.Millisecond, "%s", agent.Log("k3s-agent"))
	require.Eventually(t, func() bool {
		return strings.Count(nodes(), "True   ") == 2 && strings.Count(nodes(), pitest.Release) == 2
	}, 20*time.Second, 200*time.Millisecond, "%s", nodes())

	agent.Run("/usr/local/bin/k3s-agent-uninstall.sh")
	server.Run("/usr/local/bin/k3s-uninstall.sh")
	// As the real script does, the stand-in leaves the folders above its own.
	assert.Equal(t, []string{"/etc/rancher", "/var/lib/rancher"}, agent.Left())
	assert.Equal(t, []string{"/etc/rancher", "/var/lib/rancher"}, server.Left())
}
