package rehearsal

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBelonging_IsDecidedByTheProgramsOwnPath(t *testing.T) {
	all := []Process{
		{PID: 1, Command: "/home/a/.rehearsal/s/bin/etcd --data-dir=/home/a/.rehearsal/s/kwok"},
		{PID: 2, Command: "vim /home/a/.rehearsal/s/Pulumi.s.yaml"},
		{PID: 3, Command: "/usr/bin/tail -f /home/a/.rehearsal/s/logs/etcd.log"},
		{PID: 4, Command: "/home/a/.rehearsal/s2/bin/etcd"},
		{PID: 5, Command: "/home/a/.rehearsal/s"},
		{PID: 6, Command: "/home/a/.rehearsal/s/bin/pulumi up"},
	}
	ours := belonging(all, "/home/a/.rehearsal/s/", 6)
	require.Len(t, ours, 1, "neither a user of its files, nor another stack's, nor the asking process")
	assert.Equal(t, 1, ours[0].PID)
	assert.Equal(t, "etcd", ours[0].Name())
}

func TestStillRuns_ARecycledNumberIsAStranger(t *testing.T) {
	record := Process{PID: 7, Started: "100", Command: "/f/bin/etcd"}
	found := stillRuns([]Process{{PID: 7, Started: "200", Command: "/f/bin/etcd"}}, record)
	assert.False(t, found, "the same number, started at another time")
	found = stillRuns([]Process{{PID: 7, Started: "100", Command: "/f/bin/etcd"}}, record)
	assert.True(t, found)
}

func TestStopProcesses_LeavesStrangersAlone(t *testing.T) {
	folder, program := sleeper(t)
	started, err := startDetached(t.Context(), program, []string{"300"}, os.Environ(), filepath.Join(folder, "log"))
	require.NoError(t, err)
	elsewhere, elsewhereEnded := stranger(t, "sleep")
	later, laterEnded := stranger(t, program)
	later.Started = "at another time"
	require.NoError(t, stopProcesses(t.Context(), folder, []Process{started, elsewhere, later}, syscall.SIGTERM, 5*time.Second))

	left, err := processesOf(t.Context(), folder)
	require.NoError(t, err)
	require.Len(t, left, 1)
	assert.Equal(t, later.PID, left[0].PID)
	select {
	case <-elsewhereEnded:
		t.Error("a program of another folder was ended")
	case <-laterEnded:
		t.Error("a process that has the number of an older one was ended")
	case <-time.After(300 * time.Millisecond):
	}
}

// stranger is a process that runs until the test ends, or until somebody ends it.
func stranger(t *testing.T, program string) (identity Process, ended <-chan struct{}) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, "300")
	require.NoError(t, cmd.Start())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_ = cmd.Wait() // without it, it would be a zombie once it is killed, which takes signals too
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-gone
	})
	all, err := listProcesses(t.Context())
	require.NoError(t, err)
	i := slices.IndexFunc(all, func(p Process) bool { return p.PID == cmd.Process.Pid })
	require.GreaterOrEqual(t, i, 0)
	return all[i], gone
}

func TestStopProcesses_EndsOneThatIgnoresTheFirstSignal(t *testing.T) {
	folder, program := sleeper(t)
	started, err := startDetached(t.Context(), program, []string{"300"}, os.Environ(), filepath.Join(folder, "log"))
	require.NoError(t, err)
	// SIGCONT stands for any signal that ends nothing.
	require.NoError(t, stopProcesses(t.Context(), folder, []Process{started}, syscall.SIGCONT, 200*time.Millisecond))
	left, err := processesOf(t.Context(), folder)
	require.NoError(t, err)
	assert.Empty(t, left)
}

// sleeper makes a folder with a program in it that does nothing for long.
func sleeper(t *testing.T) (folder, program string) {
	t.Helper()
	sleep, err := exec.LookPath("sleep")
	require.NoError(t, err)
	folder, err = resolve(t.TempDir())
	require.NoError(t, err)
	program = filepath.Join(folder, "sleep")
	require.NoError(t, os.Symlink(sleep, program))
	return folder, program
}

func TestParsePS_KeepsPathsWithSpaces(t *testing.T) {
	out := "    1 Mon Nov 23 14:26:11 2026     /sbin/launchd\n" +
		" 4711 Tue Dec  1 04:05:06 2026     /Users/some one/s/bin/etcd --name=node0\n" +
		"bad line\n"
	assert.Equal(t, []Process{
		{PID: 1, Started: "Mon Nov 23 14:26:11 2026", Command: "/sbin/launchd"},
		{PID: 4711, Started: "Tue Dec 1 04:05:06 2026", Command: "/Users/some one/s/bin/etcd --name=node0"},
	}, parsePS(out))
}
