package hosts

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/nullify005/manager-cluster-state/config"
)

// home is one with these lines of known_hosts.
func home(t *testing.T, lines ...string) {
	t.Helper()
	folder := t.TempDir()
	t.Setenv("HOME", folder)
	require.NoError(t, os.Mkdir(filepath.Join(folder, ".ssh"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(folder, ".ssh", "known_hosts"), []byte(strings.Join(lines, "\n")+"\n"), 0o600))
}

func TestTrust_ReadsTheBestKeyWithoutLoggingIn(t *testing.T) {
	home(t)
	who := newUser(t)
	s := serve(t, who, says(""), newECDSAKey(t))
	stranger := stackOf(&sshUser{}, nodeAt("orangepi", s.port(), ""))
	shown := Trust(t.Context(), All(stranger))
	require.Len(t, shown, 1)
	require.NoError(t, shown[0].Err)
	assert.Equal(t, s.line(), shown[0].Line)
	assert.Equal(t, ssh.FingerprintSHA256(s.key.PublicKey())+" (ssh-ed25519)", shown[0].Fingerprint)
	assert.Equal(t, KnownNot, shown[0].Known)
	assert.False(t, shown[0].IsKept())

	_, err := check(t.Context(), stackOf(who, nodeAt("orangepi", s.port(), shown[0].Line)))
	require.ErrorContains(t, err, "its answer is not understood", "and it is let in with that")
}

func TestTrust_HoldsTheKeyAgainstTheOneThatIsKept(t *testing.T) {
	home(t)
	elliptic := newECDSAKey(t)
	s := serve(t, newUser(t), says(""), elliptic)
	other := newHostKey(t)
	shown := Trust(t.Context(), All(stackOf(&sshUser{},
		s.node("kiwipi"), nodeAt("orangepi", s.port(), Line(elliptic.PublicKey())), nodeAt("peachpi", s.port(), Line(other.PublicKey())))))
	assert.True(t, shown[0].IsKept())
	assert.True(t, shown[1].IsKept(), "it is asked for the kind that is kept")
	assert.False(t, shown[2].IsKept())
	assert.Equal(t, Fingerprint(other.PublicKey()), shown[2].Kept)
	assert.Equal(t, s.line(), shown[2].Line)
}

func TestTrust_AsksKnownHosts(t *testing.T) {
	s := serve(t, newUser(t), says(""))
	address := fmt.Sprintf("[127.0.0.1]:%d", s.port())
	other, elliptic := newHostKey(t).PublicKey(), newECDSAKey(t).PublicKey()
	for name, c := range map[string]struct {
		line string
		want Known
	}{
		"the same":         {address + " " + s.line(), KnownSame},
		"the same, hashed": {knownhosts.HashHostname(address) + " " + s.line(), KnownSame},
		"another":          {address + " " + Line(other), KnownOther},
		"another kind":     {address + " " + Line(elliptic), KnownNot},
		"of port 22":       {"127.0.0.1 " + s.line(), KnownNot},
		"revoked":          {"@revoked * " + s.line(), KnownOther},
		"another machine":  {"kiwipi.lan " + s.line(), KnownNot},
		"nobody":           {"", KnownNot},
	} {
		t.Run(name, func(t *testing.T) {
			home(t, c.line)
			shown := Trust(t.Context(), All(stackOf(&sshUser{}, nodeAt("orangepi", s.port(), ""))))
			require.NoError(t, shown[0].Err)
			assert.Equal(t, c.want, shown[0].Known)
		})
	}
	t.Run("that is broken", func(t *testing.T) {
		home(t, "127.0.0.1 ssh-ed25519 nonsense")
		shown := Trust(t.Context(), All(stackOf(&sshUser{}, nodeAt("orangepi", s.port(), ""))))
		require.ErrorContains(t, shown[0].Err, "known_hosts")
	})
	t.Run("without a home", func(t *testing.T) {
		t.Setenv("HOME", "")
		shown := Trust(t.Context(), All(stackOf(&sshUser{}, nodeAt("orangepi", s.port(), ""))))
		require.NoError(t, shown[0].Err)
	})
}

func TestTrust_GoesThroughTheJumpHost(t *testing.T) {
	home(t)
	who := newUser(t)
	jump, target := serve(t, who, says("")), serve(t, newUser(t), says(""))
	jump.passes.Store(true)
	cfg := stackOf(who, nodeAt("orangepi", target.port(), ""))
	cfg.Cluster.SSH.Jump = config.Jump{Host: "127.0.0.1", Port: jump.port(), User: "me"}
	shown := Trust(t.Context(), append(All(cfg), Jump(cfg)))
	require.ErrorContains(t, shown[0].Err, "the jump host (127.0.0.1): its host key is not known")
	require.NoError(t, shown[1].Err)
	cfg.Cluster.SSH.Jump.HostKey = shown[1].Line
	shown = Trust(t.Context(), All(cfg))
	require.NoError(t, shown[0].Err)
	assert.Equal(t, target.line(), shown[0].Line)
}

func TestTrust_OneThatIsSilentHasNoKey(t *testing.T) {
	home(t)
	silent := listen(t)
	shown := Trust(t.Context(), All(stackOf(&sshUser{}, nodeAt("orangepi", silent.Addr().(*net.TCPAddr).Port, "")), withTimeout(50*time.Millisecond)))
	require.ErrorContains(t, shown[0].Err, "does not answer within 50ms")
	assert.Empty(t, shown[0].Line)
}
