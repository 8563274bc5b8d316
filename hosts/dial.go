package hosts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/nullify005/manager-cluster-state/config"
)

// errSlow is why an attempt to connect was given up.
var errSlow = errors.New("no answer in time")

// keyAlgorithms are those of host keys, the best first: a server that has several shows the first.
var keyAlgorithms = []string{
	ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
	ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
}

// ChangedKeyError says that a host has another key than the one that is kept for it.
type ChangedKeyError struct {
	// Kept and Found are SHA256 fingerprints.
	Kept, Found string
}

// Error has both fingerprints.
func (e *ChangedKeyError) Error() string {
	return fmt.Sprintf("its host key has changed: it is %s now, and %s is kept", e.Found, e.Kept)
}

// client is an open connection, and what it goes through.
type client struct {
	*ssh.Client

	close func()
}

// ready says what no host could be asked without: a key, or an agent that has some.
func (c *connection) ready(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	_, release, err := c.login(within)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return err
	default:
		release()
		return nil
	}
}

// login is how the user is let in: by the stack's key, else by those of the agent.
func (c *connection) login(ctx context.Context) (method ssh.AuthMethod, release func(), err error) {
	const path = "secrets.sshKey"
	set := c.set(path, "--secret") + " < FILE"
	if c.key != nil {
		signer, err := c.key()
		if err != nil { // its text is about a secret
			return nil, nil, fmt.Errorf("%s is no SSH private key in PEM, or it has a passphrase; "+
				"set one without: %s, or take it out and use an SSH agent", path, set)
		}
		return ssh.PublicKeys(signer), func() {}, nil
	}
	mend := "set a key: " + set + ", or start an agent and give it one: ssh-add FILE"
	if c.agent == "" {
		return nil, nil, fmt.Errorf("nothing opens the machines: %s is empty, and there is no SSH agent (SSH_AUTH_SOCK is not set); %s", path, mend)
	}
	dialer := net.Dialer{Timeout: c.timeout}
	conn, err := dialer.DialContext(ctx, "unix", c.agent)
	if err != nil {
		return nil, nil, fmt.Errorf("nothing opens the machines: %s is empty, and the SSH agent does not answer (SSH_AUTH_SOCK): %w; %s", path, err, mend)
	}
	stop := context.AfterFunc(ctx, func() { end(conn) })
	release = sync.OnceFunc(func() { stop(); end(conn) })
	keys := agent.NewClient(conn)
	if list, err := keys.List(); err != nil || len(list) == 0 {
		release()
		return nil, nil, fmt.Errorf("nothing opens the machines: %s is empty, and the SSH agent has no key, or is locked; %s", path, mend)
	}
	return ssh.PublicKeysCallback(keys.Signers), release, nil
}

// dial connects within the timeout, through the jump host if there is one. The error is a Problem,
// or the context's.
func (h *Host) dial(ctx context.Context) (*client, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, h.via.timeout, errSlow)
	defer cancel()
	verify, err := h.verifier()
	if err != nil {
		return nil, err
	}
	through, closeJump, err := h.through(ctx)
	if err != nil {
		return nil, err
	}
	c, err := h.connect(ctx, through, verify)
	if err != nil {
		closeJump()
		return nil, err
	}
	return &client{Client: c, close: sync.OnceFunc(func() { end(c); closeJump() })}, nil
}

// resolver finds names as Pulumi's plugins do, which will connect after us. On Linux those ask DNS alone: they are
// built without cgo.
func resolver() *net.Resolver { return &net.Resolver{PreferGo: runtime.GOOS == "linux"} }

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// through is how the host's address is dialled: from here, or from the jump host.
func (h *Host) through(ctx context.Context) (dial dialFunc, closeJump func(), err error) {
	direct := (&net.Dialer{Resolver: resolver()}).DialContext
	jump := h.jump()
	if jump == nil {
		return direct, func() {}, nil
	}
	verify, err := jump.verifier()
	if err != nil {
		return nil, nil, err
	}
	c, err := jump.connect(ctx, direct, verify)
	if err != nil {
		return nil, nil, err
	}
	return c.DialContext, func() { end(c) }, nil
}

// connect is one hop.
func (h *Host) connect(ctx context.Context, dial dialFunc, verify *verifier) (*ssh.Client, error) {
	login, release, err := h.via.login(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	conn, err := dial(ctx, "tcp", h.endpoint())
	if err != nil {
		return nil, h.unreached(ctx, err)
	}
	c, err := handshake(ctx, conn, h.endpoint(), &ssh.ClientConfig{
		User: h.User, Auth: []ssh.AuthMethod{login},
		HostKeyCallback: verify.check, HostKeyAlgorithms: verify.algorithms,
	})
	if err != nil {
		return nil, h.refused(ctx, err)
	}
	return c, nil
}

// handshake is bounded by the context: not every connection knows deadlines.
func handshake(ctx context.Context, conn net.Conn, endpoint string, settings *ssh.ClientConfig) (*ssh.Client, error) {
	stop := context.AfterFunc(ctx, func() { end(conn) })
	c, channels, requests, err := ssh.NewClientConn(conn, endpoint, settings)
	switch {
	case err != nil:
		stop()
		end(conn)
		return nil, err
	case !stop():
		end(c)
		return nil, context.Cause(ctx)
	default:
		return ssh.NewClient(c, channels, requests), nil
	}
}

// end closes a connection, which may have ended by itself.
func end(conn io.Closer) { _ = conn.Close() }

// verifier holds a host to a key.
type verifier struct {
	check      ssh.HostKeyCallback
	algorithms []string
}

// verifier holds the host to the key that is kept for it: without one it could be anybody.
func (h *Host) verifier() (*verifier, error) {
	if h.HostKey == "" {
		return nil, h.problemf("read and keep it with: "+h.via.make("trust"), "its host key is not known, so it could be anybody")
	}
	kept, err := h.keptKey()
	if err != nil {
		return nil, h.problemf("take it off the stack file, and run: "+h.via.make("trust"), "%s.hostKey is no key of the form ssh-ed25519 AAAA…", h.Path)
	}
	return &verifier{
		check: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			if key.Type() == kept.Type() && string(key.Marshal()) == string(kept.Marshal()) {
				return nil
			}
			return &ChangedKeyError{Kept: Fingerprint(kept), Found: Fingerprint(key)}
		},
		// A server that has the kind that is kept shows that one; another shows what it has.
		algorithms: preferring(kept.Type()),
	}, nil
}

func (h *Host) keptKey() (ssh.PublicKey, error) {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(h.HostKey)) //nolint:dogsled // a host key has nothing else
	return key, err
}

func preferring(kind string) []string {
	first := func(algorithm string) bool {
		return algorithm == kind || kind == ssh.KeyAlgoRSA && strings.HasPrefix(algorithm, "rsa-sha2-")
	}
	ordered := slices.Clone(keyAlgorithms)
	slices.SortStableFunc(ordered, func(a, b string) int {
		switch {
		case first(a) == first(b):
			return 0
		case first(a):
			return -1
		default:
			return 1
		}
	})
	return ordered
}

// Fingerprint is a key as ssh-keygen -l shows it.
func Fingerprint(key ssh.PublicKey) string {
	return ssh.FingerprintSHA256(key) + " (" + key.Type() + ")"
}

// slow says that it was the timeout that ended an attempt, and not somebody's wish.
func slow(ctx context.Context) bool { return errors.Is(context.Cause(ctx), errSlow) }

func (h *Host) cancelled(ctx context.Context) error {
	return fmt.Errorf("connecting to %s: %w", h, context.Cause(ctx))
}

func (h *Host) isItOn() string {
	mend := "is it on, and on this network? ping " + h.Address
	if h.Node.Role == config.Agent {
		mend += "; an agent that is off or lost is left alone with: " + h.via.set(h.Path+".offline", "true")
	}
	return mend
}

// unreached says why nothing listens to us there.
func (h *Host) unreached(ctx context.Context, err error) error {
	var lookup *net.DNSError
	var denied *ssh.OpenChannelError
	var network net.Error
	switch {
	case ctx.Err() != nil && !slow(ctx):
		return h.cancelled(ctx)
	case errors.As(err, &lookup) && ctx.Err() == nil && strings.HasSuffix(lookup.Name, ".local"):
		return h.problemf("write its address at "+h.Path+".host, or a name that your router's DNS knows",
			"its name is not found from here: %s; a name of mDNS is not known to Pulumi's plugins on Linux", lookup.Err)
	case errors.As(err, &lookup) && ctx.Err() == nil:
		return h.problemf("look at "+h.Path+".host, or write its address there", "its name is not found from here: %s", lookup.Err)
	case ctx.Err() != nil, errors.As(err, &network) && network.Timeout():
		return h.problemf(h.isItOn(), "it does not answer within %s", h.via.timeout)
	case errors.As(err, &denied) && denied.Reason == ssh.Prohibited:
		return h.via.jump.problemf("allow it there: AllowTcpForwarding yes in /etc/ssh/sshd_config", "it lets nobody through to %s", h.endpoint())
	case errors.As(err, &denied):
		return h.problemf(h.isItOn(), "%s does not reach it at %s: %s", h.via.jump, h.endpoint(), quote(denied.Message))
	case errors.Is(err, syscall.ECONNREFUSED):
		return h.problemf("turn its SSH server on (sudo raspi-config nonint do_ssh 0), or look at "+h.Path+".port", "nothing listens at its port %d", h.Port)
	default:
		return h.problemf(h.isItOn(), "it is not reached: %v", err)
	}
}

// refused says why the handshake failed.
func (h *Host) refused(ctx context.Context, err error) error {
	const look = "look at what it says: sudo journalctl -u ssh"
	var changed *ChangedKeyError
	switch {
	case ctx.Err() != nil && !slow(ctx):
		return h.cancelled(ctx)
	case errors.As(err, &changed):
		problem := h.problemf(
			"look on the machine itself: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub; if it has the new one: "+h.via.make("trust")+" REPLACE="+h.Address,
			"%v: it has a new SD card or a new system, or somebody stands in between", changed)
		problem.cause = changed
		return problem
	case ctx.Err() != nil:
		return h.problemf("look at it: sudo systemctl status ssh", "its port %d takes connections, but its SSH server does not answer within %s", h.Port, h.via.timeout)
	case strings.Contains(err.Error(), "unable to authenticate"), strings.Contains(err.Error(), "oo many authentication failures"):
		return h.notLetIn()
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return h.problemf(look, "it hangs up during the handshake")
	default:
		return h.problemf(look, "the handshake fails: %s", quote(err.Error()))
	}
}

// notLetIn: the public half is no secret, and is what the user must add there.
func (h *Host) notLetIn() Problem {
	if h.via.key == nil {
		return h.problemf(fmt.Sprintf("ssh-copy-id -p %d %s@%s; an agent with many keys may be cut short: then set secrets.sshKey", h.Port, h.User, h.Address),
			"user %s is not let in with any key of the SSH agent", h.User)
	}
	public := "the public half of secrets.sshKey"
	if signer, err := h.via.key(); err == nil {
		public = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	}
	return h.problemf("add this line to ~/.ssh/authorized_keys there: "+public, "user %s is not let in with secrets.sshKey", h.User)
}

// problemOf is what an error says of the host.
func (h *Host) problemOf(err error) Problem {
	if problem, is := errors.AsType[Problem](err); is {
		return problem
	}
	return h.problemf("", "%v", err)
}

// keptAlive closes the connection when the peer gives no sign of life, and says so.
func (c *client) keptAlive(ctx context.Context, every time.Duration) error {
	const unanswered = 3
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		replied := make(chan error, 1)
		go func() {
			_, _, err := c.SendRequest("keepalive@openssh.com", true, nil)
			replied <- err
		}()
		select {
		case <-ctx.Done():
			return nil
		case err := <-replied:
			if err != nil { // the connection is over, and who waits for the command hears of it
				return nil
			}
		case <-time.After(unanswered * every):
			c.close()
			return fmt.Errorf("no sign of life for %s", unanswered*every)
		}
	}
}
