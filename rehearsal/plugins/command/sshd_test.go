package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	gossh "golang.org/x/crypto/ssh"
)

// sshd is OpenSSH's server, which this user may log in to. It accepts the variable A alone.
func sshd(t *testing.T) (connection resource.PropertyMap) {
	t.Helper()
	program, err := exec.LookPath("sshd")
	if err != nil {
		program = "/usr/sbin/sshd"
	}
	if _, err := os.Stat(program); err != nil {
		t.Skip("there is no sshd here: apt-get install openssh-server")
	}
	who, err := user.Current()
	require.NoError(t, err)
	if who.Uid == "0" {
		require.NoError(t, os.MkdirAll("/run/sshd", 0o755)) // sshd wants it of root
	}
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	free, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := free.Addr().(*net.TCPAddr).Port
	require.NoError(t, free.Close())
	hostKey, hostText := newKey(t)
	userKey, userText := newKey(t)
	config := file("config", fmt.Sprintf("ListenAddress 127.0.0.1:%d\nHostKey %q\nAuthorizedKeysFile %q\nStrictModes no\nUsePAM no\n"+
		"PasswordAuthentication no\nPermitRootLogin prohibit-password\nPidFile none\nAcceptEnv A\nSubsystem sftp internal-sftp\n",
		port, file("host", hostText), file("authorized", string(gossh.MarshalAuthorizedKey(userKey.PublicKey())))))
	var said bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, "-D", "-e", "-f", config)
	cmd.Stderr = &said
	require.NoError(t, cmd.Start())
	gone := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(gone)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-gone
	})
	require.Eventually(t, func() bool {
		reached, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = reached.Close()
		}
		select {
		case <-gone:
			return true
		default:
			return err == nil
		}
	}, 20*time.Second, 10*time.Millisecond)
	select {
	case <-gone:
		require.Fail(t, "sshd has ended", said.String())
	default:
	}
	return properties(map[string]any{
		"host": "127.0.0.1", "port": port, "user": who.Username, "privateKey": userText,
		"hostKey": strings.TrimSpace(string(gossh.MarshalAuthorizedKey(hostKey.PublicKey()))), "dialErrorLimit": 0,
	})
}

func TestOpenSSH_RunsCopiesAndAcceptsTheVariablesThatItMay(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		connection := resource.NewProperty(sshd(t))
		inputs := func(values map[string]any) resource.PropertyMap {
			return with(resource.PropertyMap{"connection": connection}, properties(values))
		}
		thing := p.mustCreate(remoteCommandTok, inputs(map[string]any{
			"create": `sh -s -- apply`, "stdin": "echo \"$1 $A\"\n" + strings.Repeat("# long\n", 2000), "environment": map[string]any{"A": "b"},
		}))
		assert.Equal(t, "apply b", said(thing.state, stdoutKey))

		updated := p.mustUpdate(thing, inputs(map[string]any{"create": `echo "<$PULUMI_COMMAND_STDOUT>"`}))
		assert.Equal(t, "<>", said(updated.state, stdoutKey), "the server takes it not, and that is no failure")
		assert.Contains(t, p.Said.String(), "Unable to set 'PULUMI_COMMAND_STDOUT'")
		_, err := p.create(remoteCommandTok, inputs(map[string]any{"create": "true", "environment": map[string]any{"OTHER": "b"}}))
		require.ErrorContains(t, err, `could not set environment variable "OTHER"`)

		_, err = p.create(remoteCommandTok, inputs(map[string]any{"create": "kill -9 $$"}))
		require.ErrorContains(t, err, "signal KILL")

		file := filepath.Join(t.TempDir(), "some folder", "file")
		p.mustCreate(copyToRemoteTok, inputs(map[string]any{"source": textAsset(t, "hello"), "remotePath": file}))
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.Equal(t, "hello", string(content))
	})
}
