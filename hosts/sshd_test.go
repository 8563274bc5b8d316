package hosts

import (
	"bytes"
	"crypto/ed25519"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/nullify005/manager-cluster-state/config"
)

// sshd is the real one, of this machine and its user, with a sudo that runs a script.
type sshd struct {
	port int
	line string
	user string
}

// startSSHD takes the script of its sudo, and more settings.
func startSSHD(t *testing.T, who *sshUser, sudo string, settings ...string) *sshd {
	t.Helper()
	program := "/usr/sbin/sshd"
	if _, err := os.Stat(program); err != nil {
		t.Skip("needs sshd: apt install openssh-server")
	}
	me, err := user.Current()
	require.NoError(t, err)
	if me.Uid == "0" {
		require.NoError(t, os.MkdirAll("/run/sshd", 0o755))
	}
	folder := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(folder, name)
		require.NoError(t, os.WriteFile(path, []byte(content), mode))
		return path
	}
	_, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	block, err := ssh.MarshalPrivateKey(key, "")
	require.NoError(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(filepath.Join(folder, "bin"), 0o755))
	write("bin/sudo", sudo, 0o755)
	listener := listen(t)
	port := listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	lines := append([]string{
		fmt.Sprintf("ListenAddress 127.0.0.1:%d", port), "HostKey " + write("key", string(pem.EncodeToMemory(block)), 0o600),
		"AuthorizedKeysFile " + write("authorized_keys", string(ssh.MarshalAuthorizedKey(who.public)), 0o600),
		"StrictModes no", "UsePAM no", "PidFile none", "PermitRootLogin yes",
		"SetEnv PATH=" + filepath.Join(folder, "bin") + ":/usr/sbin:/usr/bin:/sbin:/bin",
	}, settings...)
	var said bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, "-D", "-e", "-f", write("sshd_config", strings.Join(lines, "\n")+"\n", 0o600))
	cmd.Stderr = &said
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	require.Eventually(t, func() bool {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			conn.Close()
		}
		return err == nil
	}, 20*time.Second, 20*time.Millisecond)
	return &sshd{port: port, line: Line(signer.PublicKey()), user: me.Username}
}

func (s *sshd) node() config.Node {
	node := nodeAt("kiwipi", s.port, s.line)
	node.User = s.user
	return node
}

// asItIs runs what it is told, without being root; and this machine says that it is a Pi.
const asItIs = `#!/bin/sh
[ "$1" = -n ] && shift
"$@" | sed -e 's/^MACHINE=.*/MACHINE=aarch64/' -e 's/^MEMORY_KIB=.*/MEMORY_KIB=929792/' -e 's/^DISK_KIB=.*/DISK_KIB=9929792/' \
  -e 's/^SYSTEMD=.*/SYSTEMD=yes/' -e 's/^FETCHER=.*/FETCHER=curl/' -e 's/^CGROUP_MEMORY=.*/CGROUP_MEMORY=yes/' -e 's/^PORT_6443=.*/PORT_6443=no/'
`

func TestRealSSHD_IsAskedDirectlyAndThroughAJumpHost(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the script asks Linux")
	}
	who := newUser(t)
	target, jump := startSSHD(t, who, asItIs), startSSHD(t, who, asItIs)
	cfg := stackOf(who, target.node())
	facts, err := check(t.Context(), cfg)
	require.NoError(t, err)
	assert.Regexp(t, bootIDPattern, facts["kiwipi"].BootID)

	cfg.Cluster.SSH.Jump = config.Jump{Host: "127.0.0.1", Port: jump.port, User: jump.user, HostKey: jump.line}
	_, err = check(t.Context(), cfg)
	require.NoError(t, err)

	closed := startSSHD(t, who, asItIs, "AllowTcpForwarding no")
	cfg.Cluster.SSH.Jump.Port, cfg.Cluster.SSH.Jump.HostKey = closed.port, closed.line
	_, err = check(t.Context(), cfg)
	require.ErrorContains(t, err, "the jump host (127.0.0.1): it lets nobody through")
}

func TestRealSSHD_SaysWhyItDoesNotLetUsIn(t *testing.T) {
	who, stranger := newUser(t), newUser(t)
	s := startSSHD(t, who, "#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n")
	_, err := check(t.Context(), stackOf(stranger, s.node()))
	require.ErrorContains(t, err, "is not let in with secrets.sshKey")

	_, err = check(t.Context(), stackOf(who, s.node()))
	require.ErrorContains(t, err, "sudo wants a password of user "+s.user)

	node := s.node()
	node.HostKey = Line(newHostKey(t).PublicKey())
	_, err = check(t.Context(), stackOf(who, node))
	var changed *ChangedKeyError
	require.ErrorAs(t, err, &changed)

	// An agent with more keys than sshd hears out.
	keys := make([]any, 8)
	for i := range keys {
		_, keys[i], err = ed25519.GenerateKey(nil)
		require.NoError(t, err)
	}
	startAgent(t, keys...)
	_, err = check(t.Context(), stackOf(&sshUser{}, s.node()))
	require.ErrorContains(t, err, "not let in with any key of the SSH agent")

	shown := Trust(t.Context(), All(stackOf(&sshUser{}, s.node())))
	require.NoError(t, shown[0].Err)
	assert.Equal(t, s.line, shown[0].Line)
}
