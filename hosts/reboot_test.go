package hosts

import (
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// bootable is a machine with a boot id, which answers commands one at a time.
type bootable struct {
	mutex sync.Mutex
	// id is the boot's; orders counts those to reboot.
	id     string
	orders int
	// reboot is what an order does; it returns the exit status.
	reboot func(b *bootable, errs io.Writer) int
	// asked is called before each look.
	asked func(b *bootable)
}

func (b *bootable) command(command, _ string, out, errs io.Writer) int {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	switch command {
	case askBootID:
		if b.asked != nil {
			b.asked(b)
		}
		io.WriteString(out, b.id+"\n")
		return 0
	case "sudo -n systemctl reboot":
		b.orders++
		return b.reboot(b, errs)
	default:
		return 127
	}
}

func hostOf(t *testing.T, who *sshUser, b *bootable) *Host {
	t.Helper()
	return All(stackOf(who, serve(t, who, b.command).node("orangepi")), quick, ForStack("production"))[0]
}

func TestReboot_WaitsForAnotherBootHoweverLongThatTakes(t *testing.T) {
	who := newUser(t)
	looks := 0
	b := &bootable{id: bootBefore, reboot: func(*bootable, io.Writer) int { return 0 }, asked: func(b *bootable) {
		if b.orders > 0 {
			looks++
		}
		if looks == 20 {
			b.id = bootAfter
		}
	}}
	h := hostOf(t, who, b)
	var lines []string
	require.NoError(t, Reboot(t.Context(), h, bootBefore, time.Minute, func(line string) { lines = append(lines, line) }))
	assert.Equal(t, 1, b.orders)
	assert.Equal(t, "orangepi reboots", lines[0])
	assert.Contains(t, strings.Join(lines, "\n"), "of 1m0s: it still runs, and stops what it has to stop")
	assert.Contains(t, lines[len(lines)-1], "orangepi is back after")

	lines = nil
	require.NoError(t, Reboot(t.Context(), h, bootBefore, time.Minute, func(line string) { lines = append(lines, line) }))
	assert.Equal(t, 1, b.orders, "again is nothing to do")
	assert.Empty(t, lines)
}

func TestReboot_AnOrderWhoseConnectionDiesIsSaidAgainOnlyIfItWasNotHeard(t *testing.T) {
	who := newUser(t)
	for name, heard := range map[string]bool{"heard": true, "not heard": false} {
		t.Run(name, func(t *testing.T) {
			b := &bootable{id: bootBefore, reboot: func(b *bootable, _ io.Writer) int {
				if heard || b.orders > 1 {
					b.id = bootAfter
				}
				return -1
			}}
			require.NoError(t, Reboot(t.Context(), hostOf(t, who, b), bootBefore, time.Minute, func(string) {}))
			want := 2
			if heard {
				want = 1
			}
			assert.Equal(t, want, b.orders)
		})
	}
}

func TestReboot_OneThatNeverComesBackSaysWhatToDoByHand(t *testing.T) {
	who := newUser(t)
	var s *server
	b := &bootable{id: bootBefore, reboot: func(*bootable, io.Writer) int {
		s.Close()
		return -1
	}}
	s = serve(t, who, b.command)
	h := All(stackOf(who, s.node("orangepi")), quick, ForStack("production"))[0]
	var lines []string
	err := Reboot(t.Context(), h, bootBefore, 3*time.Second, func(line string) { lines = append(lines, line) })
	require.ErrorContains(t, err, "orangepi (127.0.0.1): it did not come back from its reboot within 3s; last seen: nothing listens at its port")
	require.ErrorContains(t, err, "switch it off and on, and run again: that is safe")
	require.ErrorContains(t, err, "pulumi config set --path cluster.ssh.rebootTimeout 20m --stack production")
	assert.Contains(t, strings.Join(lines, "\n"), "orangepi: waiting for its reboot")
}

func TestReboot_AnOrderThatIsNeverAnsweredIsWhatWasLastSeen(t *testing.T) {
	b := &bootable{id: bootBefore, reboot: func(*bootable, io.Writer) int {
		<-t.Context().Done()
		return -1
	}}
	err := Reboot(t.Context(), hostOf(t, newUser(t), b), bootBefore, 3*time.Second, func(string) {})
	require.ErrorContains(t, err, "within 3s; last seen: it was told to reboot, and has not answered")
}

func TestReboot_AnOrderThatIsRefusedEndsIt(t *testing.T) {
	b := &bootable{id: bootBefore, reboot: func(_ *bootable, errs io.Writer) int {
		io.WriteString(errs, "Operation inhibited by root")
		return 1
	}}
	err := Reboot(t.Context(), hostOf(t, newUser(t), b), bootBefore, time.Minute, func(string) {})
	require.ErrorContains(t, err, `it does not reboot: exit status 1, "Operation inhibited by root"; reboot it by hand`)
}

func TestReboot_AHostThatComesBackWithAnotherKeyEndsIt(t *testing.T) {
	who := newUser(t)
	b := &bootable{id: bootBefore}
	s := serve(t, who, b.command)
	h := All(stackOf(who, nodeAt("orangepi", s.port(), Line(newHostKey(t).PublicKey()))), quick)[0]
	err := Reboot(t.Context(), h, bootBefore, time.Minute, func(string) {})
	var changed *ChangedKeyError
	require.ErrorAs(t, err, &changed)
}

func TestReboot_WithoutABootIDOrAKeyIsRefused(t *testing.T) {
	who := newUser(t)
	b := &bootable{id: bootBefore}
	h := hostOf(t, who, b)
	require.ErrorContains(t, Reboot(t.Context(), h, "", time.Minute, func(string) {}), "is no boot id")
	h.HostKey = ""
	require.ErrorContains(t, Reboot(t.Context(), h, bootBefore, time.Minute, func(string) {}), "make trust STACK=production")
	assert.Zero(t, b.orders)
}

func TestReboot_CtrlCEndsTheWait(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := &bootable{id: bootBefore, reboot: func(*bootable, io.Writer) int { return 0 }, asked: func(b *bootable) {
		if b.orders > 0 {
			cancel()
		}
	}}
	err := Reboot(ctx, hostOf(t, newUser(t), b), bootBefore, time.Minute, func(string) {})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "run again: it is safe")
}
