package main

import (
	"crypto/ed25519"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	gliderssh "github.com/gliderlabs/ssh"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/nullify005/manager-cluster-state/hosts"
	"github.com/nullify005/manager-cluster-state/internal/gittest"
	"github.com/nullify005/manager-cluster-state/stack"
)

// piFile is a stack on two Pis, which are this machine at two ports.
const piFile = `config:
  manager-cluster-state:cluster:
    # Comments stay.
    kind: pi
    name: home
    k3s: v1.35.0+k3s1
    nodes:
      - {name: kiwipi, role: server, arch: arm64, memory: 1Gi, host: 127.0.0.1, user: pi, port: %d}
      - {name: orangepi, role: agent, arch: arm64, memory: 1Gi, host: localhost, user: pi, port: %d}
      - {name: peachpi, role: agent, arch: arm64, memory: 1Gi, host: peachpi.invalid, user: pi, offline: true}
  manager-cluster-state:domain: localtest.me
  manager-cluster-state:hvac:
    device: "127934703953"
    location: r3fup88
    mock: true
`

const ready = `ROOT=yes
CLOCK=%d
MACHINE=aarch64
KERNEL=6.12.34+rpt-rpi-v8
MEMORY_KIB=929792
DISK_KIB=25165824
BOOT_ID=11111111-2222-3333-4444-555555555555
CGROUP_MEMORY=yes
BOOT_FILE=
SYSTEMD=yes
FETCHER=curl
PORT_6443=no
K3S=v1.35.0+k3s1
BEGUN=yes
INSTALLATION=0123456789abcdef
END=yes
`

// sshHost answers every command with a text to whoever has the key.
type sshHost struct {
	port              int
	line, fingerprint string
}

func newSSHHost(t *testing.T, public, text string) *sshHost {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	require.NoError(t, err)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &gliderssh.Server{
		PublicKeyHandler: func(_ gliderssh.Context, key gliderssh.PublicKey) bool {
			return hosts.Line(key) == strings.TrimSpace(public)
		},
		Handler: func(session gliderssh.Session) {
			_, _ = io.Copy(io.Discard, session)
			_, _ = io.WriteString(session, text)
		},
		LocalPortForwardingCallback: func(gliderssh.Context, string, uint32) bool { return true },
		ChannelHandlers: map[string]gliderssh.ChannelHandler{
			"session": gliderssh.DefaultSessionHandler, "direct-tcpip": gliderssh.DirectTCPIPHandler,
		},
	}
	server.AddHostKey(signer)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	return &sshHost{
		port: listener.Addr().(*net.TCPAddr).Port, line: hosts.Line(signer.PublicKey()),
		fingerprint: hosts.Fingerprint(signer.PublicKey()),
	}
}

// piStack is a stack on two hosts that its key opens.
func piStack(t *testing.T) (s *stack.Stack, kiwipi, orangepi *sshHost) {
	t.Helper()
	s = tempStack(t)
	private, public := gittest.Key(t)
	kiwipi, orangepi = newSSHHost(t, public, fmt.Sprintf(ready, time.Now().Unix())), newSSHHost(t, public, fmt.Sprintf(ready, time.Now().Unix()))
	_, salt, found := strings.Cut(read(t, s.File()), "encryptionsalt")
	require.True(t, found)
	require.NoError(t, os.WriteFile(s.File(), fmt.Appendf(nil, piFile+"encryptionsalt%s", kiwipi.port, orangepi.port, salt), 0o600))
	require.NoError(t, s.Set(t.Context(), "secrets.sshKey", private, true))
	t.Setenv("SSH_AUTH_SOCK", "")
	t.Setenv("HOME", t.TempDir())
	return s, kiwipi, orangepi
}

func TestHostsTrust_KeepsWhatAPersonHasLookedAt(t *testing.T) {
	s, kiwipi, orangepi := piStack(t)
	knownHosts := filepath.Join(os.Getenv("HOME"), ".ssh", "known_hosts")
	require.NoError(t, os.Mkdir(filepath.Dir(knownHosts), 0o700))
	require.NoError(t, os.WriteFile(knownHosts, fmt.Appendf(nil, "[127.0.0.1]:%d %s\n", kiwipi.port, kiwipi.line), 0o600))
	before := read(t, s.File())
	out := succeeds(t, s, "hosts", "trust", "--dry-run")
	assert.Contains(t, out, "kiwipi (127.0.0.1): "+kiwipi.fingerprint+", as known_hosts has it\n")
	assert.Contains(t, out, "orangepi (localhost): "+orangepi.fingerprint+", not in known_hosts\n")
	assert.Contains(t, out, "peachpi is offline, so its key is not read\n")
	assert.Contains(t, out, "would keep these 2 host keys in "+s.File())
	assert.Equal(t, before, read(t, s.File()))

	out, err := on(t, s, "n\n", "hosts", "trust")
	require.ErrorIs(t, err, errDeclined)
	assert.Contains(t, out, "Keep these 2 host keys in "+s.File()+"? [y/N]")
	assert.Equal(t, before, read(t, s.File()))

	out, err = on(t, s, "y\n", "hosts", "trust")
	require.NoError(t, err)
	assert.Contains(t, out, "next: commit "+s.File())
	nodes := loaded(t, s).Cluster.Nodes
	assert.Equal(t, kiwipi.line, nodes[0].HostKey)
	assert.Equal(t, orangepi.line, nodes[1].HostKey)
	assert.Empty(t, nodes[2].HostKey)
	after := read(t, s.File())
	assert.Contains(t, after, "# Comments stay.")

	out = succeeds(t, s, "hosts", "trust")
	assert.Contains(t, out, "kiwipi (127.0.0.1): "+kiwipi.fingerprint+" is kept already\n")
	assert.NotContains(t, out, "?")
	assert.Equal(t, after, read(t, s.File()))

	out = succeeds(t, s, "hosts", "check")
	assert.Regexp(t, `kiwipi +127.0.0.1 +server +aarch64 +908Mi +24576Mi +6.12.34\+rpt-rpi-v8 +v1.35.0\+k3s1 +0123456789abcdef`, out)
	assert.Regexp(t, `peachpi +peachpi.invalid +agent +offline`, out)
	assert.Contains(t, out, "the machines of stack production are ready")
	assert.Equal(t, after, read(t, s.File()))
}

func TestHostsTrust_AKeyThatDiffersIsReplacedOnlyWhenItsHostIsNamed(t *testing.T) {
	s, kiwipi, orangepi := piStack(t)
	require.NoError(t, s.Set(t.Context(), "cluster.nodes[1].hostKey", kiwipi.line, false))
	out, err := on(t, s, "", "hosts", "trust", "--yes")
	require.ErrorIs(t, err, errUntrusted)
	assert.Contains(t, out, "orangepi (localhost): it shows "+orangepi.fingerprint+", and "+kiwipi.fingerprint+" is kept")
	assert.Contains(t, out, "--replace localhost")
	nodes := loaded(t, s).Cluster.Nodes
	assert.Equal(t, kiwipi.line, nodes[0].HostKey, "the others are kept")
	assert.Equal(t, kiwipi.line, nodes[1].HostKey, "and what was there stays")

	_, err = on(t, s, "", "hosts", "check")
	require.ErrorContains(t, err, "REPLACE=localhost")

	_, err = on(t, s, "", "hosts", "trust", "--yes", "--replace", "orangepi.lan")
	require.ErrorContains(t, err, "--replace orangepi.lan names no machine")
	out = succeeds(t, s, "hosts", "trust", "--yes", "--replace", "localhost")
	assert.Contains(t, out, orangepi.fingerprint+", instead of "+kiwipi.fingerprint)
	assert.Equal(t, orangepi.line, loaded(t, s).Cluster.Nodes[1].HostKey)
}

func TestHostsTrust_AKeyThatKnownHostsContradictsIsNotKeptByAYesAlone(t *testing.T) {
	s, kiwipi, orangepi := piStack(t)
	knownHosts := filepath.Join(os.Getenv("HOME"), ".ssh", "known_hosts")
	require.NoError(t, os.Mkdir(filepath.Dir(knownHosts), 0o700))
	require.NoError(t, os.WriteFile(knownHosts, fmt.Appendf(nil, "[localhost]:%d %s\n", orangepi.port, kiwipi.line), 0o600))
	out, err := on(t, s, "", "hosts", "trust", "--yes")
	require.ErrorIs(t, err, errUntrusted)
	assert.Contains(t, out, "known_hosts has another key for it")
	assert.Empty(t, loaded(t, s).Cluster.Nodes[1].HostKey)
	succeeds(t, s, "hosts", "trust", "--yes", "--replace", "orangepi")
	assert.Equal(t, orangepi.line, loaded(t, s).Cluster.Nodes[1].HostKey)
}

func TestHostsTrust_TheJumpHostComesFirst(t *testing.T) {
	s, kiwipi, orangepi := piStack(t)
	public, err := ssh.ParsePrivateKey([]byte(loaded(t, s).Secrets.SSHKey))
	require.NoError(t, err)
	jump := newSSHHost(t, hosts.Line(public.PublicKey()), "")
	for key, value := range map[string]string{"host": "127.0.0.1", "user": "me", "port": strconv.Itoa(jump.port)} {
		require.NoError(t, s.Set(t.Context(), "cluster.ssh.jump."+key, value, false))
	}
	out := succeeds(t, s, "hosts", "trust", "--dry-run")
	assert.Contains(t, out, "the jump host (127.0.0.1): "+jump.fingerprint)
	assert.Contains(t, out, kiwipi.fingerprint)
	out, err = on(t, s, "n\n", "hosts", "trust")
	require.ErrorIs(t, err, errDeclined)
	assert.NotContains(t, out, kiwipi.fingerprint)
	_, err = on(t, s, "y\nn\n", "hosts", "trust")
	require.ErrorIs(t, err, errJumpAlone)
	cluster := loaded(t, s).Cluster
	assert.Equal(t, jump.line, cluster.SSH.Jump.HostKey)
	assert.Empty(t, cluster.Nodes[1].HostKey)
	succeeds(t, s, "hosts", "trust", "--yes")
	cluster = loaded(t, s).Cluster
	assert.Equal(t, orangepi.line, cluster.Nodes[1].HostKey)
	succeeds(t, s, "hosts", "check")
}

func TestHosts_TellWhatIsWrongAndGoOnWithTheOthers(t *testing.T) {
	s, kiwipi, _ := piStack(t)
	require.NoError(t, s.Set(t.Context(), "cluster.nodes[1].host", "orangepi.invalid", false))
	out, err := on(t, s, "", "hosts", "trust", "--yes")
	require.ErrorIs(t, err, errUntrusted)
	assert.Contains(t, out, "orangepi (orangepi.invalid): its name is not found from here")
	assert.Equal(t, kiwipi.line, loaded(t, s).Cluster.Nodes[0].HostKey)

	out, err = on(t, s, "", "hosts", "check")
	require.ErrorContains(t, err, "make trust STACK=production")
	assert.Regexp(t, `kiwipi .* 0123456789abcdef`, out)
	assert.Regexp(t, `orangepi +orangepi.invalid +agent +no answer`, out)
}

func TestHosts_AreThoseOfKindPiAlone(t *testing.T) {
	s := tempStack(t)
	for _, command := range []string{"trust", "check"} {
		_, err := on(t, s, "", "hosts", command)
		require.ErrorContains(t, err, "stack production has no machines of its own: its cluster is of kind existing")
	}
}

func TestHosts_HelpHasExamples(t *testing.T) {
	for _, command := range []string{"trust", "check"} {
		out, err := execute(t, "hosts", command, "--help")
		require.NoError(t, err)
		assert.Contains(t, out, "Examples:")
	}
}
