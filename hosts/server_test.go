package hosts

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/nullify005/manager-cluster-state/config"
)

// server is an SSH server in the test's process, for what a real one can't be made to do.
type server struct {
	*net.TCPListener

	key      ssh.Signer
	settings *ssh.ServerConfig
	// command answers one, and returns its exit status; below 0 the connection is dropped instead.
	command func(command, stdin string, out, errs io.Writer) int
	// passes says whether connections may go through.
	passes atomic.Bool

	connections sync.Map
	count       atomic.Int32
}

// sshUser is a key pair that all servers here let in.
type sshUser struct {
	private string
	public  ssh.PublicKey
}

func newUser(t *testing.T) *sshUser {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	block, err := ssh.MarshalPrivateKey(key, "")
	require.NoError(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	require.NoError(t, err)
	return &sshUser{private: string(pem.EncodeToMemory(block)), public: signer.PublicKey()}
}

func newHostKey(t *testing.T) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	require.NoError(t, err)
	return signer
}

func newECDSAKey(t *testing.T) ssh.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	require.NoError(t, err)
	return signer
}

func listen(t *testing.T) *net.TCPListener {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	return listener.(*net.TCPListener)
}

// serve starts one that lets the user in, and may have more host keys.
func serve(t *testing.T, who *sshUser, command func(command, stdin string, out, errs io.Writer) int, more ...ssh.Signer) *server {
	t.Helper()
	s := &server{TCPListener: listen(t), key: newHostKey(t), command: command}
	s.settings = &ssh.ServerConfig{
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if string(key.Marshal()) != string(who.public.Marshal()) {
				return nil, errors.New("unknown key")
			}
			return &ssh.Permissions{}, nil
		},
	}
	for _, key := range append(more, s.key) {
		s.settings.AddHostKey(key)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := s.Accept()
			if err != nil {
				return
			}
			s.count.Add(1)
			s.connections.Store(conn, true)
			all.Go(func() { s.one(conn) })
		}
	})
	t.Cleanup(func() {
		s.Close()
		s.drop()
		all.Wait()
	})
	return s
}

// drop ends every connection, without a word.
func (s *server) drop() {
	s.connections.Range(func(conn, _ any) bool {
		conn.(net.Conn).Close()
		return true
	})
}

func (s *server) one(conn net.Conn) {
	defer conn.Close()
	c, channels, requests, err := ssh.NewServerConn(conn, s.settings)
	if err != nil {
		return
	}
	defer c.Close()
	go ssh.DiscardRequests(requests)
	for channel := range channels {
		switch {
		case channel.ChannelType() == "session":
			go s.session(channel, conn)
		case channel.ChannelType() == "direct-tcpip" && s.passes.Load():
			go forward(channel)
		default:
			channel.Reject(ssh.Prohibited, "no")
		}
	}
}

func (s *server) session(offered ssh.NewChannel, conn net.Conn) {
	channel, requests, err := offered.Accept()
	if err != nil {
		return
	}
	defer channel.Close()
	for request := range requests {
		if request.Type != "exec" {
			request.Reply(false, nil)
			continue
		}
		var payload struct{ Command string }
		ssh.Unmarshal(request.Payload, &payload)
		request.Reply(true, nil)
		stdin, _ := io.ReadAll(channel)
		status := s.command(payload.Command, string(stdin), channel, channel.Stderr())
		if status < 0 {
			conn.Close()
			return
		}
		channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(status)}))
		return
	}
}

func forward(offered ssh.NewChannel) {
	var target struct {
		Host   string
		Port   uint32
		Origin string
		From   uint32
	}
	ssh.Unmarshal(offered.ExtraData(), &target)
	conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", net.JoinHostPort(target.Host, strconv.FormatUint(uint64(target.Port), 10)))
	if err != nil {
		offered.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	defer conn.Close()
	channel, requests, err := offered.Accept()
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	go func() { io.Copy(channel, conn); channel.Close() }()
	io.Copy(conn, channel)
}

func (s *server) port() int { return s.Addr().(*net.TCPAddr).Port }

func (s *server) line() string { return Line(s.key.PublicKey()) }

// node is the server as the stack file has it.
func (s *server) node(name string) config.Node { return nodeAt(name, s.port(), s.line()) }

func nodeAt(name string, port int, key string) config.Node {
	return config.Node{
		Name: name, Role: config.Agent, Arch: "arm64", CPU: "4", Memory: "1Gi", Reserved: "448Mi",
		Host: "127.0.0.1", Port: port, User: "pi", HostKey: key,
	}
}

// stackOf is one of kind pi that the user is let into.
func stackOf(who *sshUser, nodes ...config.Node) *config.Config {
	cfg := &config.Config{}
	cfg.Cluster.Kind = config.Pi
	cfg.Cluster.SSH.Timeout = config.Duration{Duration: 20 * time.Second}
	cfg.Cluster.SSH.Jump.Port = 22
	cfg.Cluster.Nodes = nodes
	cfg.Secrets.SSHKey = who.private
	return cfg
}

// withTimeout bounds attempts to connect: for those that are to end by it.
func withTimeout(timeout time.Duration) Option { return func(c *connection) { c.timeout = timeout } }

// quick looks often.
func quick(c *connection) {
	c.pause, c.report, c.keepAlive = 5*time.Millisecond, time.Millisecond, time.Second
}

const (
	bootBefore = "11111111-2222-3333-4444-555555555555"
	bootAfter  = "66666666-7777-8888-9999-aaaaaaaaaaaa"
)

// aPi answers as a Pi 3 does that is as it should be, but for the lines that are given.
func aPi(but ...string) string {
	lines := []string{
		"ROOT=yes", fmt.Sprintf("CLOCK=%d", time.Now().Unix()), "MACHINE=aarch64", "KERNEL=6.12.34+rpt-rpi-v8",
		"MEMORY_KIB=929792", "DISK_KIB=25165824", "BOOT_ID=" + bootBefore, "CGROUP_MEMORY=no",
		"BOOT_FILE=/boot/firmware/cmdline.txt", "SYSTEMD=yes", "FETCHER=curl", "PORT_6443=no", "K3S=", "BEGUN=no", "INSTALLATION=", "END=yes",
	}
	for i, line := range lines {
		name, _, _ := strings.Cut(line, "=")
		for _, other := range but {
			if strings.HasPrefix(other, name+"=") {
				lines[i] = other
			}
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

// says answers every command with the same.
func says(text string) func(command, stdin string, out, errs io.Writer) int {
	return func(_, _ string, out, _ io.Writer) int {
		io.WriteString(out, text)
		return 0
	}
}

// check asks the hosts of a stack, and looks for its key in the error.
func check(ctx context.Context, cfg *config.Config, options ...Option) (Facts, error) {
	facts, err := Check(ctx, cfg, time.Now, append([]Option{ForStack("me/manager-cluster-state/production")}, options...)...)
	for line := range strings.Lines(cfg.Secrets.SSHKey) {
		if err != nil && strings.Contains(err.Error(), strings.TrimSpace(line)) {
			panic("a line of the key is in: " + err.Error())
		}
	}
	return facts, err
}
