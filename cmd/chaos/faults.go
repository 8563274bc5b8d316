package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/rehearsal"
	"github.com/nullify005/manager-cluster-state/rehearsal/forge/github"
)

const (
	apiServer = "kube-apiserver"
	gitHost   = "forge"
	day       = 24 * time.Hour
)

// faults are all that are tried, in the order of the table.
func faults() []fault {
	pulled := []string{"production"}
	middle := []float64{0.2, 0.5, 0.8}
	return []fault{
		{group: "kill", name: "kill -9 of the update, with its plugins and program", spread: true, ends: true, strike: killAtOnce},
		{group: "kill", name: "kill -9 of pulumi alone", spread: true, ends: true, strike: killPulumi},
		{group: "api", name: "API server killed, back after 5 s", shares: middle, lasts: 5 * time.Second, strike: killService(apiServer)},
		{group: "api", name: "API server hangs for 15 s", shares: middle, lasts: 15 * time.Second, strike: hang(apiServer)},
		{group: "git", name: "Git host and GitHub killed, back after 10 s", stacks: pulled, shares: []float64{0, 0.5}, lasts: 10 * time.Second, strike: killService(gitHost)},
		{group: "git", name: "Git host and GitHub hang for 15 s", stacks: pulled, shares: []float64{0, 0.5}, lasts: 15 * time.Second, strike: hang(gitHost)},
		{group: "github", name: "GitHub's API answers 500 for 15 s", stacks: pulled, shares: []float64{0, 0.5}, lasts: 15 * time.Second, strike: failing(github.Fault{Kind: github.ServerError, Status: 500})},
		{group: "github", name: "GitHub's API answers 500 until the update has ended", stacks: pulled, shares: []float64{0, 0.5}, strike: failing(github.Fault{Kind: github.ServerError, Status: 500})},
		{group: "github", name: "GitHub registers the key, and the answer is lost", stacks: pulled, shares: []float64{0}, strike: failing(github.Fault{Kind: github.ServerError, Method: "POST", AnswerLost: true})},
		{group: "disk", name: "disk full, where the state is", shares: middle, smallDisk: true, strike: fillDisk},
		{group: "two", name: "two pulumi up at the same moment", shares: []float64{0, 0}, together: true, strike: twin},
		{group: "two", name: "another pulumi up, and another mcs rehearse up", shares: []float64{0, 0.3, 0.7}, unharmed: true, strike: secondUpdate},
		{group: "clock", name: "the update's clock jumps a day ahead", shares: []float64{0.3}, strike: jumping(ofUpdate, day)},
		{group: "clock", name: "the update's clock jumps a day back", shares: []float64{0.3}, strike: jumping(ofUpdate, -day)},
		{group: "clock", name: "the clock of everything jumps a day ahead", shares: []float64{0.3}, strike: jumping(ofAnything, day)},
		{group: "clock", name: "the clock of everything jumps a day back", shares: []float64{0.3}, strike: jumping(ofAnything, -day)},
	}
}

// groups are what can be asked for.
func groups() []string {
	var names []string
	for _, f := range faults() {
		if !slices.Contains(names, f.group) {
			names = append(names, f.group)
		}
	}
	return names
}

// killAtOnce is what a machine that loses its power does to an update.
func killAtOnce(_ context.Context, s *stage) (func(context.Context) error, error) {
	s.Kill()        //nolint:contextcheck // it kills, whatever else has ended
	return nil, nil //nolint:nilnil // there is nothing to mend
}

// killPulumi is what somebody does who types kill -9: plugins and program find out by themselves.
func killPulumi(ctx context.Context, s *stage) (func(context.Context) error, error) {
	running, err := s.Running(ctx)
	if err != nil {
		return nil, err
	}
	for _, process := range running { // none, where it was quicker than the undisturbed one
		if process.Name() == "pulumi" {
			return nil, syscall.Kill(process.PID, syscall.SIGKILL)
		}
	}
	return nil, nil //nolint:nilnil // there is nothing to mend
}

type strike = func(context.Context, *stage) (func(context.Context) error, error)

// killService kills a process that others talk to; it is mended by starting it as it was.
func killService(name string) strike {
	return func(ctx context.Context, s *stage) (func(context.Context) error, error) {
		process, err := find(ctx, s.Rehearsal, name)
		if err != nil {
			return nil, err
		}
		known, err := remember(process.PID)
		if err != nil {
			return nil, err
		}
		if name == apiServer {
			known.record = filepath.Join(s.Folder(), "kwok", "clusters", "rehearsal", "pids", name+".pid")
		}
		mend := func(ctx context.Context) error { return errors.Join(known.start(ctx), s.answers(ctx, name)) }
		return mend, syscall.Kill(process.PID, syscall.SIGKILL)
	}
}

// hang has a process answer nobody, and hang up on nobody.
func hang(name string) strike {
	return func(ctx context.Context, s *stage) (func(context.Context) error, error) {
		process, err := find(ctx, s.Rehearsal, name)
		if err != nil {
			return nil, err
		}
		mend := func(ctx context.Context) error {
			return errors.Join(syscall.Kill(process.PID, syscall.SIGCONT), s.answers(ctx, name))
		}
		return mend, syscall.Kill(process.PID, syscall.SIGSTOP)
	}
}

// answers waits until a service that was away is back.
func (s *stage) answers(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, settleBound)
	defer cancel()
	for {
		err := s.ask(ctx, name)
		if err == nil {
			return nil
		}
		if pause(ctx, shortPause) != nil {
			return fmt.Errorf("%s doesn't answer again: %w", name, err)
		}
	}
}

func (s *stage) ask(ctx context.Context, name string) error {
	if name == gitHost {
		hub, err := s.Forge()
		if err == nil {
			_, err = hub.DeployKeys(ctx)
		}
		return err
	}
	c, err := s.Client()
	if err != nil {
		return err
	}
	return c.Get(ctx, client.ObjectKey{Name: metav1.NamespaceSystem}, &corev1.Namespace{})
}

// failing has GitHub's API alone fail.
func failing(fault github.Fault) strike {
	return func(ctx context.Context, s *stage) (func(context.Context) error, error) {
		hub, err := s.Forge()
		if err != nil {
			return nil, err
		}
		if !fault.AnswerLost {
			fault.Times = 1_000_000 // until it is healed
		}
		return hub.Heal, hub.Fail(ctx, fault)
	}
}

// fillDisk is what somebody else's file does to the disk that the state is on.
func fillDisk(_ context.Context, s *stage) (func(context.Context) error, error) {
	path := filepath.Join(s.state(), "somebody-elses")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	mend := func(context.Context) error { return os.Remove(path) }
	for block := make([]byte, 1<<20); len(block) > 0; {
		// The last bytes too: a file of the state may be small.
		if _, err := file.Write(block); errors.Is(err, syscall.ENOSPC) {
			block = block[:len(block)/2]
		} else if err != nil {
			return mend, err
		}
	}
	return mend, nil
}

// isLocked is how Pulumi refuses to work on a stack that another works on.
const isLocked = "the stack is currently locked by"

// twin runs a second update to its end. One of the two may go on, or neither; the other is refused.
func twin(ctx context.Context, s *stage) (func(context.Context) error, error) {
	var said bytes.Buffer
	err := s.Pulumi(ctx, &said, s.OnStack("up", "--yes", "--skip-preview")...)
	s.second.refused = err != nil && strings.Contains(said.String(), isLocked)
	return nil, nil //nolint:nilnil // there is nothing to mend
}

// secondUpdate wants to be refused twice, and to harm nobody.
func secondUpdate(ctx context.Context, s *stage) (func(context.Context) error, error) {
	var said bytes.Buffer
	if err := s.Pulumi(ctx, &said, s.OnStack("up", "--yes", "--skip-preview")...); err == nil || !strings.Contains(said.String(), isLocked) {
		s.second.unrefused = "the second pulumi up was not refused by the state's lock, but ended with " + firstOf(firstError(said.String()), errorText(err), "no error")
		return nil, nil //nolint:nilnil // there is nothing to mend
	}
	second, err := s.secondary()
	if err != nil {
		return nil, err
	}
	if err := second.Up(ctx, rehearsal.UpOptions{}); !isBusy(err) {
		s.second.unrefused = "the second mcs rehearse up was not refused, but ended with " + firstOf(errorText(err), "no error")
	}
	return nil, nil //nolint:nilnil // there is nothing to mend
}

func isBusy(err error) bool {
	_, busy := errors.AsType[*rehearsal.BusyError](err)
	return busy
}

// ofUpdate are pulumi, its plugins, and the program.
func ofUpdate(s *stage, process *rehearsal.Process) bool {
	return strings.HasPrefix(process.Name(), "pulumi") || strings.HasPrefix(process.Command, filepath.Join(s.Folder(), "tmp"))
}

// ofAnything is every process of the rehearsal, whichever machine it would be on at home.
func ofAnything(*stage, *rehearsal.Process) bool { return true }

// jumping moves the clock of those processes, and of each that is started after, until the update has
// ended. The next update finds the clock where it belongs: it has jumped once more.
func jumping(of func(*stage, *rehearsal.Process) bool, by time.Duration) strike {
	return func(ctx context.Context, s *stage) (func(context.Context) error, error) {
		moved := map[string]rehearsal.Process{}
		round := func(ctx context.Context, by time.Duration) error {
			running, err := s.Running(ctx)
			if err != nil {
				return err
			}
			for _, process := range running {
				identity := fmt.Sprint(process.PID, process.Started)
				if _, done := moved[identity]; done || !of(s, &process) {
					continue
				}
				if err := jumpClock(process.PID, by); err != nil && !ended(process.PID) {
					return err
				}
				moved[identity] = process
			}
			return nil
		}
		if err := round(ctx, by); err != nil {
			return nil, err
		}
		watching, stop := context.WithCancel(ctx)
		var wait sync.WaitGroup
		var problem error
		wait.Go(func() {
			for problem == nil && pause(watching, shortPause/2) == nil {
				problem = round(context.WithoutCancel(watching), by)
			}
		})
		return func(ctx context.Context) error {
			stop()
			wait.Wait()
			clear(moved)
			return errors.Join(problem, round(ctx, 0))
		}, nil
	}
}

// ended says whether a process is gone, or as good as gone.
func ended(pid int) bool {
	command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err != nil || len(command) == 0
}
