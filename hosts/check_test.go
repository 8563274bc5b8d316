package hosts

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/nullify005/manager-cluster-state/config"
)

func TestCheck_ReadyMachinesTellWhatTheyAre(t *testing.T) {
	who := newUser(t)
	commands := make(chan string, 2)
	first := serve(t, who, func(command, stdin string, out, _ io.Writer) int {
		commands <- command
		assert.Equal(t, checkScript, stdin, "what is done is on no command line")
		io.WriteString(out, aPi("K3S=v1.35.0+k3s1", "INSTALLATION=0123456789abcdef", "PORT_6443=yes", "DISK_KIB=1048576"))
		return 0
	})
	second := serve(t, who, says(aPi()))
	cfg := stackOf(who, first.node("kiwipi"), second.node("orangepi"))
	cfg.Cluster.Nodes[0].Role = config.Server
	facts, err := check(t.Context(), cfg)
	require.NoError(t, err)
	assert.Equal(t, asRoot, <-commands)
	require.Len(t, facts, 2)
	kiwi := facts["kiwipi"]
	assert.Equal(t, "0123456789abcdef", kiwi.Installation)
	assert.Equal(t, "v1.35.0+k3s1", kiwi.K3s)
	assert.Equal(t, bootBefore, kiwi.BootID)
	assert.Equal(t, "6.12.34+rpt-rpi-v8", kiwi.Kernel)
	assert.Equal(t, int64(908<<20), kiwi.Memory)
	assert.Empty(t, facts["orangepi"].Installation)
	assert.Empty(t, facts["orangepi"].K3s)
}

func TestCheck_AsksOnlyMachinesOfKindPiThatAreNotOffline(t *testing.T) {
	who := newUser(t)
	off := nodeAt("orangepi", 1, "")
	off.Offline = true
	facts, err := check(t.Context(), stackOf(who, off))
	require.NoError(t, err)
	assert.Empty(t, facts)

	cfg := stackOf(who, nodeAt("orangepi", 1, ""))
	cfg.Cluster.Kind = config.Existing // a rehearsal keeps the nodes
	facts, err = check(t.Context(), cfg)
	require.NoError(t, err)
	assert.Empty(t, facts)
}

func TestCheck_TellsEveryProblemOfEveryHostAtOnce(t *testing.T) {
	who := newUser(t)
	poor := serve(t, who, says(aPi("MACHINE=armv7l", "MEMORY_KIB=440320", "DISK_KIB=102400", "CLOCK=86400", "BOOT_FILE=", "SYSTEMD=no",
		"FETCHER=", "PORT_6443=yes")))
	locked := serve(t, who, func(command, _ string, out, errs io.Writer) int {
		if command == asRoot {
			io.WriteString(errs, "sudo: a password is required\n")
			return 1
		}
		io.WriteString(out, aPi("ROOT=no", "BOOT_FILE=", "DISK_KIB=102400"))
		return 0
	})
	closed := listen(t)
	gone := closed.Addr().(*net.TCPAddr).Port
	closed.Close()
	cfg := stackOf(who, poor.node("kiwipi"), locked.node("orangepi"), nodeAt("peachpi", gone, locked.line()), nodeAt("plumpi", gone, ""))
	cfg.Cluster.Nodes[0].Role = config.Server

	facts, err := check(t.Context(), cfg)
	require.Error(t, err)
	var problems Problems
	require.ErrorAs(t, err, &problems)
	assert.Len(t, problems, 12)
	assert.Len(t, facts, 2, "what the others said")
	assert.Len(t, strings.Split(err.Error(), "\n"), 13, "a line each")
	for _, line := range []string{
		"the machines of the cluster have 12 problems:",
		"kiwipi (127.0.0.1): its kernel is for armv7l",
		"kiwipi (127.0.0.1): it has no systemd",
		"kiwipi (127.0.0.1): its clock says 1970-01-02T00:00:00Z",
		"kiwipi (127.0.0.1): it has 430Mi of memory, which is too little for the 1Gi of the stack file; look at its memory, or set " +
			"cluster.nodes[0].memory to what it has: pulumi config set --path 'cluster.nodes[0].memory' 430Mi --stack me/manager-cluster-state/production",
		"kiwipi (127.0.0.1): it has 100Mi free at /, and k3s needs 2048Mi; make room there",
		"kiwipi (127.0.0.1): its kernel counts no memory (cgroups)",
		"kiwipi (127.0.0.1): it has neither curl nor wget",
		"kiwipi (127.0.0.1): something that this program has not installed listens on port 6443",
		"orangepi (127.0.0.1): sudo wants a password of user pi; run there: echo 'pi ALL=(ALL) NOPASSWD: ALL' | sudo tee /etc/sudoers.d/010_pi-nopasswd",
		"orangepi (127.0.0.1): it has 100Mi free at /",
		fmt.Sprintf("peachpi (127.0.0.1): nothing listens at its port %d; turn its SSH server on", gone),
		"plumpi (127.0.0.1): its host key is not known, so it could be anybody; read and keep it with: make trust STACK=production",
	} {
		assert.Contains(t, err.Error(), line)
	}
}

func TestCheck_WhatIsEnough(t *testing.T) {
	who := newUser(t)
	for name, lines := range map[string][]string{
		"four fifths of the memory":           {"MEMORY_KIB=838861"},
		"an upgrade needs less room":          {"K3S=v1.35.0+k3s1", "DISK_KIB=524288"},
		"a k3s that doesn't say which":        {"K3S=unknown", "DISK_KIB=524288"},
		"cgroups, and no boot file":           {"CGROUP_MEMORY=yes", "BOOT_FILE="},
		"somebody's 6443 on an agent":         {"PORT_6443=yes"},
		"wget":                                {"FETCHER=wget"},
		"arm64, as other systems call it":     {"MACHINE=arm64"},
		"a clock that is nearly a minute off": {fmt.Sprintf("CLOCK=%d", time.Now().Add(-50*time.Second).Unix())},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := check(t.Context(), stackOf(who, serve(t, who, says(aPi(lines...))).node("orangepi")))
			require.NoError(t, err)
		})
	}
	t.Run("no curl, and files of this machine", func(t *testing.T) {
		cfg := stackOf(who, serve(t, who, says(aPi("FETCHER="))).node("orangepi"))
		cfg.Cluster.Install.From = "downloads/k3s"
		_, err := check(t.Context(), cfg)
		require.NoError(t, err)
	})
	t.Run("memory that the pods are promised", func(t *testing.T) {
		node := serve(t, who, says(aPi())).node("orangepi")
		node.Reserved = "64Mi" // 908Mi are more than four fifths, and less than 960Mi
		_, err := check(t.Context(), stackOf(who, node))
		require.ErrorContains(t, err, "it has 908Mi of memory")
	})
	t.Run("an installation that broke off", func(t *testing.T) {
		node := serve(t, who, says(aPi("K3S=v1.35.0+k3s1", "PORT_6443=yes", "BEGUN=yes"))).node("kiwipi")
		node.Role = config.Server
		_, err := check(t.Context(), stackOf(who, node))
		require.NoError(t, err)
	})
	t.Run("something else where ours was begun", func(t *testing.T) {
		node := serve(t, who, says(aPi("PORT_6443=yes", "BEGUN=yes"))).node("kiwipi")
		node.Role = config.Server
		_, err := check(t.Context(), stackOf(who, node))
		require.ErrorContains(t, err, "listens on port 6443")
	})
	t.Run("a foreign k3s on the server", func(t *testing.T) {
		node := serve(t, who, says(aPi("K3S=v1.30.0+k3s1", "PORT_6443=yes"))).node("kiwipi")
		node.Role = config.Server
		_, err := check(t.Context(), stackOf(who, node))
		require.ErrorContains(t, err, "k3s-uninstall.sh")
	})
}

func TestCheck_TakesNothingThatIsNotTheAnswer(t *testing.T) {
	who := newUser(t)
	for name, c := range map[string]struct{ said, message string }{
		"a greeting":       {"Welcome to kiwipi!\n" + aPi(), `line "Welcome to kiwipi!"; see what its shell prints`},
		"an unknown name":  {"HELLO=yes\n" + aPi(), `line "HELLO=yes"`},
		"twice":            {"ROOT=yes\n" + aPi(), `line "ROOT=yes"`},
		"more":             {aPi() + "ROOT=yes\n", "line"},
		"cut off":          {strings.TrimSuffix(aPi(), "END=yes\n"), "it ends without END"},
		"nothing":          {"", "it ends without"},
		"no number":        {aPi("MEMORY_KIB=lots"), `MEMORY_KIB is "lots"`},
		"below zero":       {aPi("DISK_KIB=-1"), `DISK_KIB is "-1"`},
		"past all numbers": {aPi("DISK_KIB=99999999999999999"), "DISK_KIB is"},
		"no token":         {aPi("INSTALLATION=$(reboot)"), `INSTALLATION is "$(reboot)"`},
		"no boot id":       {aPi("BOOT_ID="), `BOOT_ID is ""`},
		"neither":          {aPi("ROOT=perhaps"), `ROOT is "perhaps"`},
		"escapes":          {"\x1b[2J" + aPi(), `\x1b[2JROOT=yes`},
		"a flood":          {strings.Repeat("x", 1<<20), "xxxx…"},
	} {
		t.Run(name, func(t *testing.T) {
			facts, err := check(t.Context(), stackOf(who, serve(t, who, says(c.said)).node("orangepi")))
			require.ErrorContains(t, err, "orangepi (127.0.0.1): its answer is not understood: ")
			require.ErrorContains(t, err, c.message)
			assert.Less(t, len(err.Error()), 1000)
			assert.Empty(t, facts)
		})
	}
}

func TestCheck_SudoThatRefuses(t *testing.T) {
	who := newUser(t)
	for message, c := range map[string]struct {
		status int
		errs   string
	}{
		"it has no sudo; install it": {127, "sh: sudo: not found"},
		`sudo lets user pi run nothing: exit status 1, "pi is not in the sudoers file."`: {1, "pi is not in the sudoers file."},
	} {
		node := serve(t, who, func(command, _ string, out, errs io.Writer) int {
			if command == asRoot {
				io.WriteString(errs, c.errs)
				return c.status
			}
			io.WriteString(out, aPi("ROOT=no", "BOOT_FILE="))
			return 0
		}).node("orangepi")
		_, err := check(t.Context(), stackOf(who, node))
		require.ErrorContains(t, err, "1 problem:")
		require.ErrorContains(t, err, message)
	}
	node := serve(t, who, func(_, _ string, _, errs io.Writer) int {
		io.WriteString(errs, "This account is currently not available.")
		return 1
	}).node("orangepi")
	_, err := check(t.Context(), stackOf(who, node))
	require.ErrorContains(t, err, `it runs no script: exit status 1, "This account is currently not available."`)
}

func TestCheck_AServerThatIsSilentInTheHandshakeEndsByTheTimeout(t *testing.T) {
	who := newUser(t)
	silent := listen(t) // the kernel takes the connection, and nobody reads
	_, err := check(t.Context(), stackOf(who, nodeAt("orangepi", silent.Addr().(*net.TCPAddr).Port, Line(newHostKey(t).PublicKey()))),
		withTimeout(50*time.Millisecond))
	require.ErrorContains(t, err, "takes connections, but its SSH server does not answer within 50ms")
}

func TestCheck_AServerThatHangsUp(t *testing.T) {
	who := newUser(t)
	listener := listen(t)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	_, err := check(t.Context(), stackOf(who, nodeAt("orangepi", listener.Addr().(*net.TCPAddr).Port, Line(newHostKey(t).PublicKey()))))
	require.ErrorContains(t, err, "it hangs up during the handshake; look at what it says")
}

func TestCheck_ANameThatNobodyKnows(t *testing.T) {
	who := newUser(t)
	node := nodeAt("orangepi", 22, Line(newHostKey(t).PublicKey()))
	node.Host = "orangepi.invalid"
	_, err := check(t.Context(), stackOf(who, node))
	require.ErrorContains(t, err, "orangepi (orangepi.invalid): its name is not found from here")
	require.ErrorContains(t, err, "cluster.nodes[0].host")

	node.Host = "nobody.local"
	_, err = check(t.Context(), stackOf(who, node))
	require.ErrorContains(t, err, "nobody.local")
	require.ErrorContains(t, err, "write its address at cluster.nodes[0].host")
}

func TestCheck_AHostKeyThatChangedShowsBothFingerprints(t *testing.T) {
	who := newUser(t)
	s := serve(t, who, says(aPi()))
	for _, kept := range []ssh.Signer{newHostKey(t), newECDSAKey(t)} {
		_, err := check(t.Context(), stackOf(who, nodeAt("orangepi", s.port(), Line(kept.PublicKey()))))
		var changed *ChangedKeyError
		require.ErrorAs(t, err, &changed)
		assert.Equal(t, Fingerprint(kept.PublicKey()), changed.Kept)
		assert.Equal(t, Fingerprint(s.key.PublicKey()), changed.Found)
		require.ErrorContains(t, err, changed.Kept)
		require.ErrorContains(t, err, changed.Found)
		require.ErrorContains(t, err, "new SD card")
		require.ErrorContains(t, err, "somebody stands in between")
		require.ErrorContains(t, err, "make trust STACK=production REPLACE=127.0.0.1")
	}
}

func TestCheck_AServerWithSeveralKeysShowsTheOneThatIsKept(t *testing.T) {
	who := newUser(t)
	other := newECDSAKey(t)
	s := serve(t, who, says(aPi()), other)
	for _, kept := range []ssh.Signer{s.key, other} {
		_, err := check(t.Context(), stackOf(who, nodeAt("orangepi", s.port(), Line(kept.PublicKey()))))
		require.NoError(t, err)
	}
}

func TestCheck_AUserWhoIsNotLetInIsToldWhichKeyToAdd(t *testing.T) {
	who, stranger := newUser(t), newUser(t)
	_, err := check(t.Context(), stackOf(stranger, serve(t, who, says(aPi())).node("orangepi")))
	require.ErrorContains(t, err, "user pi is not let in with secrets.sshKey")
	require.ErrorContains(t, err, Line(stranger.public), "the public half, to be added there")
}

// startAgent serves an agent with the keys.
func startAgent(t *testing.T, keys ...any) {
	t.Helper()
	ring := agent.NewKeyring()
	for _, key := range keys {
		require.NoError(t, ring.Add(agent.AddedKey{PrivateKey: key}))
	}
	folder, err := os.MkdirTemp("", "agent") //nolint:usetesting // t.TempDir is too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(folder) })
	socket := filepath.Join(folder, "s")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				agent.ServeAgent(ring, conn)
				conn.Close()
			}()
		}
	}()
	t.Setenv("SSH_AUTH_SOCK", socket)
}

func TestCheck_WithoutAKeyTheAgentOpens(t *testing.T) {
	_, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	signer, err := ssh.NewSignerFromKey(private)
	require.NoError(t, err)
	who := &sshUser{public: signer.PublicKey()}
	s := serve(t, who, says(aPi()))
	startAgent(t, private)
	_, err = check(t.Context(), stackOf(who, s.node("orangepi")))
	require.NoError(t, err)

	t.Run("not with another's key", func(t *testing.T) {
		_, other, err := ed25519.GenerateKey(nil)
		require.NoError(t, err)
		startAgent(t, other)
		_, err = check(t.Context(), stackOf(who, s.node("orangepi")))
		require.ErrorContains(t, err, "not let in with any key of the SSH agent; ssh-copy-id -p ")
	})
}

func TestCheck_WithNeitherKeyNorAgentSaysBothMendsOnce(t *testing.T) {
	s := serve(t, newUser(t), says(aPi()))
	cfg := stackOf(&sshUser{}, s.node("orangepi"), s.node("peachpi"))
	for name, arrange := range map[string]func(t *testing.T){
		"there is no SSH agent":         func(t *testing.T) { t.Setenv("SSH_AUTH_SOCK", "") },
		"the SSH agent does not answer": func(t *testing.T) { t.Setenv("SSH_AUTH_SOCK", filepath.Join(t.TempDir(), "gone")) },
		"the SSH agent has no key":      func(t *testing.T) { startAgent(t) },
	} {
		t.Run(name, func(t *testing.T) {
			arrange(t)
			_, err := check(t.Context(), cfg)
			require.ErrorContains(t, err, name)
			assert.Equal(t, 1, strings.Count(err.Error(), "secrets.sshKey is empty"))
			require.ErrorContains(t, err, "pulumi config set --path secrets.sshKey --secret")
			require.ErrorContains(t, err, "ssh-add")
			assert.Zero(t, s.count.Load(), "nobody was asked")
		})
	}
}

func TestCheck_AKeyWithAPassphraseIsRefusedWithoutBeingShown(t *testing.T) {
	_, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	block, err := ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte("passphrase"))
	require.NoError(t, err)
	for _, key := range []string{"canary", "-----BEGIN OPENSSH PRIVATE KEY-----\ncanary\n", string(block.Bytes)} {
		_, err = check(t.Context(), stackOf(&sshUser{private: key}, nodeAt("orangepi", 1, "")))
		require.ErrorContains(t, err, "secrets.sshKey is no SSH private key in PEM, or it has a passphrase")
		assert.NotContains(t, err.Error(), "canary")
	}
}

func TestCheck_ThroughAJumpHost(t *testing.T) {
	who := newUser(t)
	jump := serve(t, who, says(""))
	jump.passes.Store(true)
	target := serve(t, who, says(aPi()))
	cfg := stackOf(who, target.node("orangepi"), target.node("peachpi"))
	cfg.Cluster.SSH.Jump = config.Jump{Host: "127.0.0.1", Port: jump.port(), User: "me", HostKey: jump.line()}
	facts, err := check(t.Context(), cfg)
	require.NoError(t, err)
	assert.Len(t, facts, 2)
	assert.Equal(t, int32(3), jump.count.Load(), "nobody was reached past it")

	t.Run("a machine that it does not reach", func(t *testing.T) {
		gone := listen(t)
		port := gone.Addr().(*net.TCPAddr).Port
		gone.Close()
		cfg.Cluster.Nodes[1].Port = port
		_, err := check(t.Context(), cfg)
		require.ErrorContains(t, err, "1 problem:")
		require.ErrorContains(t, err, fmt.Sprintf("peachpi (127.0.0.1): the jump host (127.0.0.1) does not reach it at 127.0.0.1:%d", port))
		cfg.Cluster.Nodes[1].Port = target.port()
	})
	t.Run("that lets nobody through", func(t *testing.T) {
		closed := serve(t, who, says(""))
		cfg.Cluster.SSH.Jump.Port, cfg.Cluster.SSH.Jump.HostKey = closed.port(), closed.line()
		_, err := check(t.Context(), cfg)
		require.ErrorContains(t, err, "the jump host (127.0.0.1): it lets nobody through")
		require.ErrorContains(t, err, "AllowTcpForwarding")
	})
	t.Run("with another key is one problem, and no machine is asked", func(t *testing.T) {
		before := target.count.Load()
		cfg.Cluster.SSH.Jump.Port, cfg.Cluster.SSH.Jump.HostKey = jump.port(), target.line()
		_, err := check(t.Context(), cfg)
		require.ErrorContains(t, err, "1 problem:")
		require.ErrorContains(t, err, "the jump host (127.0.0.1): its host key has changed")
		assert.Equal(t, before, target.count.Load())
	})
	t.Run("without a key", func(t *testing.T) {
		cfg.Cluster.SSH.Jump.HostKey = ""
		_, err := check(t.Context(), cfg)
		require.ErrorContains(t, err, "the jump host (127.0.0.1): its host key is not known")
	})
}

func TestCheck_AConnectionThatBreaksOffInTheMiddle(t *testing.T) {
	who := newUser(t)
	s := serve(t, who, func(_, _ string, out, _ io.Writer) int {
		io.WriteString(out, "ROOT=yes\n")
		return -1
	})
	_, err := check(t.Context(), stackOf(who, s.node("orangepi")))
	require.ErrorContains(t, err, "the connection broke off in the middle of a command")
	require.ErrorContains(t, err, "run again")
}

// frozen passes on what comes until it is frozen; then nothing, and nobody hears of it.
func frozen(t *testing.T, target int, freeze <-chan struct{}) (port int) {
	t.Helper()
	listener := listen(t)
	pass := func(to, from net.Conn) {
		buffer := make([]byte, 4096)
		for {
			n, err := from.Read(buffer)
			if err != nil {
				to.Close()
				return
			}
			select {
			case <-freeze:
			default:
				to.Write(buffer[:n])
			}
		}
	}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", target))
			if err != nil {
				return
			}
			t.Cleanup(func() { client.Close(); server.Close() })
			go pass(client, server)
			go pass(server, client)
		}
	}()
	return listener.Addr().(*net.TCPAddr).Port
}

func TestCheck_AMachineThatDiesInTheMiddleIsNoticed(t *testing.T) {
	who := newUser(t)
	freeze, over := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(over) })
	s := serve(t, who, func(_, _ string, _, _ io.Writer) int {
		close(freeze)
		<-over
		return 0
	})
	_, err := check(t.Context(), stackOf(who, nodeAt("orangepi", frozen(t, s.port(), freeze), s.line())),
		func(c *connection) { c.keepAlive = 50 * time.Millisecond })
	require.ErrorContains(t, err, "it went away in the middle of a command: no sign of life for 150ms")
}

func TestCheck_ACommandThatNeverEndsIsGivenUp(t *testing.T) {
	who := newUser(t)
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	s := serve(t, who, func(_, _ string, _, _ io.Writer) int {
		<-over
		return 0
	})
	_, err := check(t.Context(), stackOf(who, s.node("orangepi")), func(c *connection) { c.answer = 500 * time.Millisecond })
	require.ErrorContains(t, err, "it lets us in, but has not answered within 500ms")
}

func TestCheck_CtrlCEndsItWhereverItIs(t *testing.T) {
	who := newUser(t)
	for name, arrange := range map[string]func(t *testing.T, reached func()) config.Node{
		"in the handshake": func(t *testing.T, reached func()) config.Node {
			silent := listen(t)
			go func() {
				if conn, err := silent.Accept(); err == nil {
					t.Cleanup(func() { conn.Close() })
					reached()
				}
			}()
			return nodeAt("orangepi", silent.Addr().(*net.TCPAddr).Port, Line(newHostKey(t).PublicKey()))
		},
		"in a command": func(t *testing.T, reached func()) config.Node {
			over := make(chan struct{})
			t.Cleanup(func() { close(over) })
			return serve(t, who, func(_, _ string, _, _ io.Writer) int {
				reached()
				<-over
				return 0
			}).node("orangepi")
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			_, err := check(ctx, stackOf(who, arrange(t, cancel)))
			require.ErrorIs(t, err, context.Canceled)
			assert.NotContains(t, err.Error(), "problem", "it is nobody's fault")
		})
	}
}

func TestHost_PrintsNoKey(t *testing.T) {
	who := newUser(t)
	body := strings.Split(who.private, "\n")[2]
	cfg := stackOf(who, nodeAt("orangepi", 22, ""))
	cfg.Cluster.SSH.Jump.Host = "jump.lan"
	for _, h := range append(All(cfg), Jump(cfg)) {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			for _, value := range []any{h, *h, []*Host{h}, h.via, *h.via, Shown{Host: h}} {
				text := fmt.Sprintf(verb, value)
				assert.NotContains(t, text, "PRIVATE KEY")
				assert.NotContains(t, text, body)
			}
		}
	}
}

// The script as a machine's own shell runs it: all of its answer is understood.
func TestCheckScript_RunsInAnyShell(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("asks what only Linux has: run the tests in a container or a virtual machine of it")
	}
	for _, shell := range []string{"sh", "dash", "bash", "busybox"} {
		t.Run(shell, func(t *testing.T) {
			if _, err := exec.LookPath(shell); err != nil {
				t.Skip("needs " + shell + ": apt install " + shell)
			}
			args := []string{"-s"}
			if shell == "busybox" {
				args = []string{"sh", "-s"}
			}
			cmd := exec.CommandContext(t.Context(), shell, args...)
			var stderr bytes.Buffer
			cmd.Stdin, cmd.Stderr = strings.NewReader(checkScript), &stderr
			out, err := cmd.Output()
			require.NoError(t, err)
			assert.Empty(t, stderr.String())
			fact, err := parse(string(out))
			require.NoError(t, err, string(out))
			assert.Equal(t, os.Getuid() == 0, fact.root)
			assert.Positive(t, fact.Memory)
			assert.Positive(t, fact.DiskFree)
			assert.WithinDuration(t, time.Now(), fact.clock, time.Minute)
			assert.False(t, fact.apiPortTaken && fact.BootID == "")
		})
	}
}

func TestCheckScript_SeesWhoListens(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("asks what only Linux has: run the tests in a container or a virtual machine of it")
	}
	listener := listen(t)
	port := listener.Addr().(*net.TCPAddr).Port
	script := strings.ReplaceAll(checkScript, "192B", fmt.Sprintf("%04X", port))
	ask := func() bool {
		cmd := exec.CommandContext(t.Context(), "sh", "-s")
		cmd.Stdin = strings.NewReader(script)
		out, err := cmd.Output()
		require.NoError(t, err)
		fact, err := parse(string(out))
		require.NoError(t, err)
		return fact.apiPortTaken
	}
	assert.True(t, ask())
	listener.Close()
	assert.False(t, ask())
}
