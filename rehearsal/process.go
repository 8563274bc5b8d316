package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Process is a process of this rehearsal. Its identity is the number together with the
// moment it started: a number alone may have been given to somebody else since.
type Process struct {
	PID     int    `json:"pid"`
	Started string `json:"started"`
	Command string `json:"command"`
}

// Name is the file name of the program.
func (p Process) Name() string {
	program, _, _ := strings.Cut(p.Command, " ")
	return filepath.Base(program)
}

func (p Process) String() string { return fmt.Sprintf("%s (process %d)", p.Name(), p.PID) }

func (p Process) same(other Process) bool {
	return p.PID == other.PID && p.Started == other.Started
}

// processesOf lists the processes that belong to a state folder. Everything long-lived is
// started by a path inside that folder, so the program's own path is the proof; an editor or
// a tail that merely has one of its files open is not ours.
func processesOf(ctx context.Context, folder string) ([]Process, error) {
	all, err := listProcesses(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	return belonging(all, folder, os.Getpid()), nil
}

func belonging(all []Process, folder string, self int) []Process {
	prefix := filepath.Clean(folder) + string(filepath.Separator)
	return slices.DeleteFunc(all, func(p Process) bool {
		return p.PID == self || !strings.HasPrefix(p.Command, prefix)
	})
}

// stillRuns says whether the process of that identity does, and not another of its number.
func stillRuns(all []Process, record Process) bool { return slices.ContainsFunc(all, record.same) }

// stopProcesses ends processes of the folder: politely, then, after the grace, not. Before
// every signal the process is looked up again, so that no stranger is hit.
func stopProcesses(ctx context.Context, folder string, victims []Process, first syscall.Signal, grace time.Duration) error {
	if err := signalProcesses(ctx, folder, victims, first); err != nil {
		return err
	}
	alive, err := waitGone(ctx, folder, victims, grace)
	if err != nil || len(alive) == 0 {
		return err
	}
	if err := signalProcesses(ctx, folder, alive, syscall.SIGKILL); err != nil {
		return err
	}
	const reaping = 10 * time.Second
	if alive, err = waitGone(ctx, folder, alive, reaping); err != nil {
		return err
	}
	if len(alive) > 0 {
		return fmt.Errorf("stopping %v: still there %s after SIGKILL", alive, reaping)
	}
	return nil
}

func signalProcesses(ctx context.Context, folder string, victims []Process, signal syscall.Signal) error {
	running, err := processesOf(ctx, folder)
	if err != nil {
		return err
	}
	var problems []error
	for _, victim := range victims {
		if !stillRuns(running, victim) {
			continue
		}
		if err := syscall.Kill(victim.PID, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			problems = append(problems, fmt.Errorf("sending %s to %s: %w", signal, victim, err))
		}
	}
	return errors.Join(problems...)
}

func waitGone(ctx context.Context, folder string, victims []Process, grace time.Duration) ([]Process, error) {
	var alive []Process
	err := poll(ctx, 100*time.Millisecond, grace, func(ctx context.Context) (bool, error) {
		running, err := processesOf(ctx, folder)
		if err != nil {
			return false, err
		}
		alive = slices.DeleteFunc(slices.Clone(victims), func(p Process) bool { return !stillRuns(running, p) })
		return len(alive) == 0, nil
	})
	if errors.Is(err, errTimeout) {
		return alive, nil
	}
	return alive, err
}

// startDetached starts a process in a session of its own, its output appended to a log
// file, and returns its identity. It outlives this program.
func startDetached(ctx context.Context, program string, args, env []string, logFile string) (Process, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return Process{}, fmt.Errorf("opening the log of %s: %w", filepath.Base(program), err)
	}
	defer log.Close()
	// The process is meant to outlive us, so not even the end of our context ends it.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), program, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return Process{}, fmt.Errorf("starting %s: %w", filepath.Base(program), err)
	}
	go func() { _ = cmd.Wait() }() // reaped, should it die while we are here
	pid := cmd.Process.Pid
	all, err := listProcesses(ctx)
	if err != nil {
		return Process{}, fmt.Errorf("looking up %s just started: %w", filepath.Base(program), err)
	}
	for _, p := range all {
		if p.PID == pid {
			return p, nil
		}
	}
	return Process{}, fmt.Errorf("starting %s: it ended at once; see %s", filepath.Base(program), logFile)
}

var errTimeout = errors.New("timed out")

// poll asks until done, an error, the bound, or the end of the context.
func poll(ctx context.Context, every, bound time.Duration, done func(context.Context) (bool, error)) error {
	deadline := time.Now().Add(bound)
	for {
		ok, err := done(ctx)
		if ok || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%w after %s", errTimeout, bound)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(every):
		}
	}
}
