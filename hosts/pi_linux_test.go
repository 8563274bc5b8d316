package hosts_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/hosts"
	"github.com/nullify005/manager-cluster-state/internal/pitest"
)

// roomy is a Pi whose card has room for k3s.
var roomy = pitest.PiOptions{Disk: 4096}

// houseOf is the stack of these Pis, servers first.
func houseOf(house *pitest.House, pis ...*pitest.Pi) *config.Config {
	cfg := &config.Config{}
	cfg.Cluster.Kind = config.Pi
	cfg.Cluster.SSH.Timeout = config.Duration{Duration: 20 * time.Second}
	cfg.Secrets.SSHKey = house.Key
	for i, pi := range pis {
		node := config.Node{
			Name: pi.Name, Role: config.Agent, Arch: "arm64", CPU: "4", Memory: "1Gi", Reserved: "448Mi",
			Host: pi.Address, Port: 22, User: pi.User, HostKey: pi.HostKey(),
		}
		if i == 0 {
			node.Role = config.Server
		}
		cfg.Cluster.Nodes = append(cfg.Cluster.Nodes, node)
	}
	return cfg
}

func check(t *testing.T, cfg *config.Config) (hosts.Facts, error) {
	t.Helper()
	facts, err := hosts.Check(t.Context(), cfg, time.Now, hosts.Quick, hosts.ForStack("production"))
	noKey(t, cfg, err)
	return facts, err
}

// noKey looks for any line of the stack's key in an error.
func noKey(t *testing.T, cfg *config.Config, err error) {
	t.Helper()
	for line := range strings.Lines(cfg.Secrets.SSHKey) {
		if err != nil {
			assert.NotContains(t, err.Error(), strings.TrimSpace(line))
		}
	}
}

func TestPis_AreReadyOrTellAllThatIsWrongAtOnce(t *testing.T) {
	house := pitest.New(t, pitest.Options{})
	kiwipi, orangepi, peachpi := house.Pi(t, "kiwipi", roomy), house.Pi(t, "orangepi", roomy), house.Pi(t, "peachpi", roomy)
	cfg := houseOf(house, kiwipi, orangepi, peachpi)
	facts, err := check(t, cfg)
	require.NoError(t, err)
	assert.Len(t, facts, 3)
	assert.Equal(t, int64(931000<<10), facts["orangepi"].Memory)
	assert.Equal(t, strings.TrimSpace(orangepi.Must(t, "cat /proc/sys/kernel/random/boot_id")), facts["orangepi"].BootID)
	assert.Empty(t, facts["kiwipi"].Installation)
	assert.Empty(t, facts["kiwipi"].K3s)
	for _, pi := range []*pitest.Pi{kiwipi, orangepi, peachpi} {
		assert.Empty(t, pi.Left(t), "nothing was changed")
	}

	kiwipi.Must(t, `mkdir -p /etc/rancher/k3s
echo 0123456789abcdef >/etc/rancher/k3s/manager-cluster-state
chmod 600 /etc/rancher/k3s/manager-cluster-state
printf '#!/bin/sh\necho "k3s version v1.35.0+k3s1 (0123abcd)"\necho "go version go1.26"\n' >/usr/local/bin/k3s
chmod +x /usr/local/bin/k3s`)
	facts, err = check(t, cfg)
	require.NoError(t, err)
	assert.Equal(t, "0123456789abcdef", facts["kiwipi"].Installation)
	assert.Equal(t, "v1.35.0+k3s1", facts["kiwipi"].K3s)

	kiwipi.FillDisk(t, 300<<20)
	kiwipi.Must(t, `printf '#!/bin/sh\n[ "$2" = +%%s ] && echo 86400 || exec /usr/bin/date "$@"\n' >/usr/local/bin/date
chmod +x /usr/local/bin/date
rm -f /boot/firmware/cmdline.txt /boot/cmdline.txt`)
	orangepi.Must(t, "sed -i 's/NOPASSWD: *//' /etc/sudoers")
	peachpi.Unplug()
	facts, err = check(t, cfg)
	require.Error(t, err)
	assert.Len(t, facts, 2)
	for _, message := range []string{
		"the machines of the cluster have 5 problems:",
		"kiwipi (" + kiwipi.Address + "): its clock says 1970-01-02T00:00:00Z",
		"kiwipi (" + kiwipi.Address + "): it has ", "Mi free at /, and k3s needs 512Mi",
		"kiwipi (" + kiwipi.Address + "): its kernel counts no memory",
		"orangepi (" + orangepi.Address + "): sudo wants a password of user pi",
		"peachpi (" + peachpi.Address + "): it ", "; is it on, and on this network?",
		"pulumi config set --path 'cluster.nodes[2].offline' true --stack production",
	} {
		assert.Contains(t, err.Error(), message)
	}

	peachpi.Plug()
	cfg.Cluster.Nodes[0].Offline, cfg.Cluster.Nodes[1].Offline = true, true
	_, err = check(t, cfg)
	require.NoError(t, err)
}

func TestPis_AreReachedThroughAJumpHost(t *testing.T) {
	house := pitest.New(t, pitest.Options{})
	jump, orangepi := house.Pi(t, "jump", roomy), house.Pi(t, "orangepi", roomy)
	cfg := houseOf(house, orangepi)
	cfg.Cluster.SSH.Jump = config.Jump{Host: jump.Address, Port: 22, User: jump.User, HostKey: jump.HostKey()}
	_, err := check(t, cfg)
	require.NoError(t, err)
	assert.Contains(t, orangepi.Journal("ssh"), "Accepted publickey for pi from "+jump.Address)

	jump.Reflash(t)
	_, err = check(t, cfg)
	require.ErrorContains(t, err, "1 problem:")
	require.ErrorContains(t, err, "the jump host ("+jump.Address+"): its host key has changed")
}

func TestPis_ANewCardIsAChangedHostKeyUntilItIsTrusted(t *testing.T) {
	house := pitest.New(t, pitest.Options{})
	pi := house.Pi(t, "orangepi", roomy)
	t.Setenv("HOME", t.TempDir()) // no known_hosts of ours; and Go's cache, which the Pi was built with, is below it
	cfg := houseOf(house, pi)
	pi.Reflash(t)
	_, err := check(t, cfg)
	var changed *hosts.ChangedKeyError
	require.ErrorAs(t, err, &changed)
	require.ErrorContains(t, err, "make trust STACK=production REPLACE="+pi.Address)

	shown := hosts.Trust(t.Context(), hosts.All(cfg))
	require.NoError(t, shown[0].Err)
	assert.Equal(t, changed.Found, shown[0].Fingerprint)
	assert.Equal(t, changed.Kept, shown[0].Kept)
	assert.Equal(t, pi.HostKey(), shown[0].Line)
	cfg.Cluster.Nodes[0].HostKey = shown[0].Line
	_, err = check(t, cfg)
	require.NoError(t, err)
}

func TestPis_AreRebootedOnceHoweverOftenThatIsAsked(t *testing.T) {
	house := pitest.New(t, pitest.Options{})
	house.RebootTakes(4 * time.Second)
	pi := house.Pi(t, "orangepi", roomy)
	cfg := houseOf(house, pi)
	cfg.Cluster.SSH.Timeout = config.Duration{Duration: 5 * time.Second}
	before, err := check(t, cfg)
	require.NoError(t, err)
	host, err := hosts.Named(cfg, "orangepi", hosts.Quick)
	require.NoError(t, err)
	var lines []string
	reboot := func(timeout time.Duration) error {
		err := hosts.Reboot(t.Context(), host, before["orangepi"].BootID, timeout, func(line string) { lines = append(lines, line) })
		noKey(t, cfg, err)
		return err
	}

	err = reboot(2 * time.Second)
	require.ErrorContains(t, err, "it did not come back from its reboot within 2s")
	require.ErrorContains(t, err, "run again: that is safe")
	require.NoError(t, reboot(time.Minute), "it comes back, however long that takes")
	assert.Equal(t, 2, pi.Boots())
	assert.Contains(t, strings.Join(lines, "\n"), "orangepi reboots")
	assert.Contains(t, strings.Join(lines, "\n"), "orangepi: waiting for its reboot")

	lines = nil
	require.NoError(t, reboot(time.Minute))
	assert.Empty(t, lines)
	assert.Equal(t, 2, pi.Boots())
	after, err := check(t, cfg)
	require.NoError(t, err)
	assert.NotEqual(t, before["orangepi"].BootID, after["orangepi"].BootID)
}

func TestPis_OneThatGoesAwayInTheMiddleOfACommandIsNoticed(t *testing.T) {
	house := pitest.New(t, pitest.Options{})
	pi := house.Pi(t, "orangepi", roomy)
	pi.Must(t, `printf '#!/bin/sh\nip link set eth0 down\nexec sleep 600\n' >/usr/local/bin/df; chmod +x /usr/local/bin/df`)
	_, err := check(t, houseOf(house, pi))
	require.ErrorContains(t, err, "it went away in the middle of a command")
}
