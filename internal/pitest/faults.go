//go:build linux

package pitest

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Unplug pulls the network cable.
func (p *Pi) Unplug() { p.plug(false) }

// Plug puts the network cable in again.
func (p *Pi) Plug() { p.plug(true) }

func (p *Pi) plug(in bool) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.plugged = in
	p.setLink()
}

// Off cuts the power: nothing is asked to end.
func (p *Pi) Off(t *testing.T) {
	t.Helper()
	_, err := io.WriteString(p.orders, "cut\n")
	require.NoError(t, err)
	require.True(t, p.wait(func() bool { return p.init == 0 }), "%s did not go off", p.Name)
}

// On puts the power on, and returns when the Pi answers; if its cable is out, when it is up.
func (p *Pi) On(t *testing.T) {
	t.Helper()
	p.mutex.Lock()
	boots, plugged := p.boots, p.plugged
	err := p.order()
	p.mutex.Unlock()
	require.NoError(t, err)
	if plugged {
		p.WaitUp(t, boots+1)
		return
	}
	require.True(t, p.wait(func() bool { return p.up }), "%s did not come up", p.Name)
}

// Reflash puts a new system on the SD card, which has another host key, and boots it. It is what
// Left tells the differences from.
func (p *Pi) Reflash(t *testing.T) {
	t.Helper()
	p.Off(t)
	for _, folder := range []string{"upper", "work"} {
		require.NoError(t, os.RemoveAll(p.held("disk", folder)))
		require.NoError(t, os.Mkdir(p.held("disk", folder), 0o755))
	}
	p.fill(t)
	p.On(t)
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.original = p.disk(t)
}

// NewHostKey has sshd answer with another key.
func (p *Pi) NewHostKey(t *testing.T) {
	t.Helper()
	private, public := newKey(t)
	require.NoError(t, os.WriteFile(p.Path("/etc/ssh/ssh_host_ed25519_key"), []byte(private), 0o600))
	p.mutex.Lock()
	p.hostKey = public
	init := p.init
	p.mutex.Unlock()
	listener, _ := daemons(init)
	require.NotZero(t, listener, "%s has no sshd", p.Name)
	require.NoError(t, syscall.Kill(listener, syscall.SIGHUP))
	require.Eventually(t, func() bool {
		client, err := p.Dial(t.Context())
		return err == nil && client.Close() == nil
	}, bound, 50*time.Millisecond)
}

// filler is a file that no path of the Pi leads to.
const filler = "filler"

// FillDisk leaves so many bytes of the disk free.
func (p *Pi) FillDisk(t *testing.T, free int64) {
	t.Helper()
	p.EmptyDisk(t)
	var disk syscall.Statfs_t
	require.NoError(t, syscall.Statfs(p.held("disk"), &disk))
	size := int64(disk.Bavail)*disk.Bsize - free //nolint:gosec // no disk is so big
	require.Positive(t, size, "%s has no such room", p.Name)
	file, err := os.Create(p.held("disk", filler))
	require.NoError(t, err)
	defer file.Close()
	require.NoError(t, syscall.Fallocate(int(file.Fd()), 0, 0, size))
}

// EmptyDisk takes away what FillDisk filled it with.
func (p *Pi) EmptyDisk(t *testing.T) {
	t.Helper()
	if err := os.Remove(p.held("disk", filler)); !errors.Is(err, os.ErrNotExist) {
		require.NoError(t, err)
	}
}

// Drop cuts every SSH connection off. What they run on the Pi is not told.
func (p *Pi) Drop(t *testing.T) {
	t.Helper()
	p.mutex.Lock()
	init := p.init
	p.mutex.Unlock()
	_, sessions := daemons(init)
	for _, pid := range sessions {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Errorf("cutting off a connection to %s: %v", p.Name, err)
		}
	}
}

// daemons are the processes of sshd on the Pi of that init: the one that listens, and the others.
func daemons(init int) (listener int, sessions []int) {
	namespace, err := os.Readlink("/proc/" + strconv.Itoa(init) + "/ns/pid")
	if err != nil {
		return 0, nil
	}
	folders, _ := filepath.Glob("/proc/[0-9]*")
	for _, folder := range folders {
		own, err := os.Readlink(folder + "/ns/pid")
		if err != nil || own != namespace {
			continue
		}
		name, err := os.ReadFile(folder + "/comm")
		if err != nil || !strings.HasPrefix(string(name), "sshd") {
			continue
		}
		stat, err := os.ReadFile(folder + "/stat")
		if err != nil {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(folder))
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(init) {
			listener = pid
		} else {
			sessions = append(sessions, pid)
		}
	}
	return listener, sessions
}

// When does something as soon as a file is there on the Pi, whose path may have wildcards. What it
// returns is closed when that was done; a test that never waits for it never knows.
func (p *Pi) When(t *testing.T, path string, do func()) <-chan struct{} {
	t.Helper()
	done := make(chan struct{})
	go func() {
		for t.Context().Err() == nil {
			if found, _ := filepath.Glob(p.Path(path)); len(found) > 0 {
				do()
				close(done)
				return
			}
			time.Sleep(2 * time.Millisecond)
		}
	}()
	return done
}

// DropAfter cuts every SSH connection off as soon as a file is there.
func (p *Pi) DropAfter(t *testing.T, path string) <-chan struct{} {
	t.Helper()
	return p.When(t, path, func() { p.Drop(t) })
}
