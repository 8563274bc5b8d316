package hosts

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// errScanned ends a handshake that was begun for the host's key alone.
var errScanned = errors.New("the key has been read")

// Scan reads the key that a host shows, ed25519 if it has that, else ecdsa or rsa. Nothing says
// that it is the host's: a person compares the fingerprint.
func Scan(ctx context.Context, host *Host) (key ssh.PublicKey, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, host.via.timeout, errSlow)
	defer cancel()
	through, closeJump, err := host.through(ctx)
	if err != nil {
		return nil, err
	}
	defer closeJump()
	conn, err := through(ctx, "tcp", host.endpoint())
	if err != nil {
		return nil, host.unreached(ctx, err)
	}
	algorithms := keyAlgorithms
	if verify, err := host.verifier(); err == nil {
		algorithms = verify.algorithms // of the kind that is kept, to be held against it
	}
	shown := make(chan ssh.PublicKey, 1)
	_, err = handshake(ctx, conn, host.endpoint(), &ssh.ClientConfig{
		User: host.User, HostKeyAlgorithms: algorithms,
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			shown <- key
			return errScanned
		},
	})
	select {
	case key := <-shown:
		return key, nil
	default:
		return nil, host.refused(ctx, err)
	}
}

// Line is a key as the stack file keeps it: its type and itself.
func Line(key ssh.PublicKey) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) }

// Known is what ~/.ssh/known_hosts says of a key.
type Known string

// What known_hosts may say.
const (
	// KnownSame: ssh knows the host by this key.
	KnownSame Known = "same"
	// KnownOther: ssh knows another key of that kind for it.
	KnownOther Known = "other"
	// KnownNot: ssh knows no key of that kind for it.
	KnownNot Known = "not known"
)

// Shown is the key that a host shows now, beside what is known of it.
type Shown struct {
	// Host is asked.
	Host *Host
	// Line is the key as the stack file keeps it, Fingerprint as a person compares it.
	Line, Fingerprint string
	// Kept is the fingerprint of the key in the stack file, empty if there is none.
	Kept string
	// Known is what ~/.ssh/known_hosts says.
	Known Known
	// Err is why there is no key.
	Err error
}

// IsKept says that the stack file has that very key.
func (s *Shown) IsKept() bool { return s.Kept != "" && s.Kept == s.Fingerprint }

// Trust reads the keys of hosts side by side, for somebody to decide on. It keeps none: the caller
// writes them into the stack file.
func Trust(ctx context.Context, list []*Host) []Shown {
	shown := make([]Shown, len(list))
	var all sync.WaitGroup
	for i, h := range list {
		all.Go(func() { shown[i] = h.show(ctx) })
	}
	all.Wait()
	return shown
}

func (h *Host) show(ctx context.Context) Shown {
	shown := Shown{Host: h}
	if kept, err := h.keptKey(); err == nil {
		shown.Kept = Fingerprint(kept)
	}
	key, err := Scan(ctx, h)
	if err == nil {
		shown.Line, shown.Fingerprint = Line(key), Fingerprint(key)
		shown.Known, err = h.known(key)
	}
	shown.Err = err
	return shown
}

// known asks ~/.ssh/known_hosts. One that can't be read is told, lest it had another key.
func (h *Host) known(key ssh.PublicKey) (Known, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return KnownNot, nil //nolint:nilerr // nobody's known hosts know nobody
	}
	file := filepath.Join(home, ".ssh", "known_hosts")
	check, err := knownhosts.New(file)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return KnownNot, nil
	case err != nil:
		return "", fmt.Errorf("reading %s: %w", file, err)
	}
	err = check(h.endpoint(), &net.TCPAddr{IP: net.IPv4zero}, key)
	var other *knownhosts.KeyError
	switch {
	case err == nil:
		return KnownSame, nil
	case errors.As(err, &other):
		for _, want := range other.Want {
			if want.Key.Type() == key.Type() {
				return KnownOther, nil
			}
		}
		return KnownNot, nil
	default: // it is revoked
		return KnownOther, nil
	}
}
