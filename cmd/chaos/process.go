package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/nullify005/manager-cluster-state/rehearsal"
)

// service is a process as somebody started it, to be started again after it was killed: what a
// machine's service manager does.
type service struct {
	argv, env []string
	dir, log  string
	record    string // the file of its number, by which others know whether it runs; or empty
}

func remember(pid int) (*service, error) {
	folder := fmt.Sprintf("/proc/%d", pid)
	argv, err := os.ReadFile(filepath.Join(folder, "cmdline"))
	env, envErr := os.ReadFile(filepath.Join(folder, "environ"))
	dir, dirErr := os.Readlink(filepath.Join(folder, "cwd"))
	log, logErr := os.Readlink(filepath.Join(folder, "fd", "1"))
	if err := errors.Join(err, envErr, dirErr, logErr); err != nil {
		return nil, fmt.Errorf("looking at process %d: %w", pid, err)
	}
	return &service{argv: words(argv), env: words(env), dir: dir, log: log}, nil
}

func words(text []byte) []string {
	return strings.Split(string(bytes.TrimRight(text, "\x00")), "\x00")
}

// start has it run again, in a session of its own.
func (s *service) start(ctx context.Context) error {
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("starting %s again: %w", filepath.Base(s.argv[0]), err)
	}
	defer log.Close()
	cmd := exec.CommandContext(context.WithoutCancel(ctx), s.argv[0], s.argv[1:]...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = s.env, s.dir, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s again: %w", filepath.Base(s.argv[0]), err)
	}
	if s.record != "" {
		if err := os.WriteFile(s.record, []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
			return fmt.Errorf("recording that %s runs: %w", filepath.Base(s.argv[0]), err)
		}
	}
	go func() { _ = cmd.Wait() }() // reaped, should it end while we are here
	return nil
}

// find is the process of a rehearsal that has that name.
func find(ctx context.Context, r *rehearsal.Rehearsal, name string) (*rehearsal.Process, error) {
	running, err := r.Running(ctx)
	if err != nil {
		return nil, err
	}
	for _, process := range running {
		if process.Name() == name {
			return &process, nil
		}
	}
	return nil, fmt.Errorf("%s does not run", name)
}

// killAll ends every process of a rehearsal at once: its data are not wanted any more.
func killAll(ctx context.Context, r *rehearsal.Rehearsal) error {
	const rounds = 50
	for range rounds {
		running, err := r.Running(ctx)
		if err != nil || len(running) == 0 {
			return err
		}
		for _, process := range running {
			if err := syscall.Kill(process.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("ending %s: %w", process, err)
			}
		}
		if err := pause(ctx, shortPause); err != nil {
			return err
		}
	}
	return errors.New("the processes of a rehearsal don't end")
}
