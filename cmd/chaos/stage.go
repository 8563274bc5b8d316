package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/nullify005/manager-cluster-state/rehearsal"
)

const (
	shortPause = 100 * time.Millisecond
	// settleBound is how long Kubernetes may take to clear away by itself.
	settleBound = 60 * time.Second
	// runBound is how long one update may take until it counts as hanging.
	runBound = 12 * time.Minute
	// readyTimeout is how long an update waits for one object, as a real one would: where the API server dies before
	// it serves a definition that it has accepted, it looks at that again within five minutes.
	readyTimeout = "10m"
	// diskSize is that of the file system that fills: more than any state needs.
	diskSize = "96m"
)

// stage is a rehearsal of one stack, which is brought back to the same empty cluster before each try.
type stage struct {
	*rehearsal.Rehearsal

	stack     string
	prepared  string // a copy of all that there is before an update
	kept      string // where the logs of a loss go
	secondary func() (*rehearsal.Rehearsal, error)
	progress  *progress
	log       *slog.Logger
	record    *record
	disk      bool     // the state is on a small file system
	second    *outcome // of the try that runs: faults say in it how a second update was answered

	want  *picture
	steps []time.Duration // of a bring-up that nothing disturbs
}

func newStage(options *options, stack string, log *slog.Logger) (*stage, error) {
	s := &stage{stack: stack, progress: &progress{}, log: log.With("stack", stack)}
	work, err := filepath.Abs(options.folder)
	if err != nil {
		return nil, fmt.Errorf("finding the folder: %w", err)
	}
	s.prepared, s.kept = filepath.Join(work, stack+"-prepared"), filepath.Join(work, "losses")
	given := rehearsal.Options{
		Project: options.project, Tools: options.tools, Stack: stack, Folder: filepath.Join(work, stack), Out: s.progress,
		Overrides: map[string]any{"readyTimeout": readyTimeout},
	}
	s.secondary = func() (*rehearsal.Rehearsal, error) { return rehearsal.New(given) }
	if s.record, err = openRecord(options, stack); err != nil {
		return nil, err
	}
	if s.Rehearsal, err = rehearsal.New(given); err != nil {
		return nil, err
	}
	return s, s.CheckTools()
}

// open takes the picture that every try is held against.
func (s *stage) open(ctx context.Context) error {
	if err := s.close(ctx); err != nil { // what a run that was killed has left
		return err
	}
	s.log.Info("preparing: a cluster, a stack, and what Git has of it")
	if err := errors.Join(s.Prepare(ctx), s.StopCluster(ctx)); err != nil {
		return fmt.Errorf("preparing stack %s: %w", s.stack, err)
	}
	if err := s.copy(ctx, s.Folder(), s.prepared); err != nil {
		return err
	}
	if err := s.reset(ctx, false); err != nil {
		return err
	}
	s.log.Info("bringing it up undisturbed")
	start := time.Now()
	s.progress.begin(0)
	if err := s.Up(ctx, rehearsal.UpOptions{}); err != nil {
		return fmt.Errorf("bringing stack %s up undisturbed: %w\n%s", s.stack, err, s.progress.text())
	}
	s.steps = s.progress.steps()
	s.log.Info("is up", "took", time.Since(start).Round(shortPause), "steps", len(s.steps))
	if len(s.steps) == 0 {
		return fmt.Errorf("bringing stack %s up undisturbed: no step was seen in\n%s", s.stack, s.progress.text())
	}
	if err := s.settled(ctx); err != nil {
		return err
	}
	var err error
	if s.want, err = s.picture(ctx); err != nil {
		return err
	}
	return s.want.complete(s.stack)
}

// close leaves nothing running and nothing behind.
func (s *stage) close(ctx context.Context) error {
	err := killAll(ctx, s.Rehearsal)
	if err == nil {
		err = s.eject(ctx)
	}
	if err == nil {
		if _, err = s.Down(ctx); errors.Is(err, rehearsal.ErrNothing) {
			err = nil
		}
	}
	if err = errors.Join(err, os.RemoveAll(s.prepared)); err != nil {
		return fmt.Errorf("clearing up stack %s: %w", s.stack, err)
	}
	return nil
}

// lasting is what no try changes for the next one: programs, and the lock that says who is here.
func lasting(name string) bool {
	return slices.Contains([]string{"bin", "pulumi-home", "lock"}, name)
}

// copy copies the entries of a folder that differ from one try to the next.
func (s *stage) copy(ctx context.Context, from, to string) error {
	entries, err := os.ReadDir(from)
	if err == nil {
		err = os.MkdirAll(to, 0o700)
	}
	if err != nil {
		return fmt.Errorf("copying what is prepared: %w", err)
	}
	for _, entry := range entries {
		source, target := filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name())
		if lasting(entry.Name()) {
			continue
		}
		if _, err := os.Stat(target); err == nil && entry.IsDir() { // a file system is mounted there
			source += string(filepath.Separator) + "."
		}
		// cp keeps modes, links and holes; etcd's files are mostly holes.
		if err := command(ctx, "cp", "-a", source, target); err != nil {
			return fmt.Errorf("copying what is prepared: %w", err)
		}
	}
	return nil
}

// reset goes back to the cluster that nothing has been brought up on. With smallDisk the state is on
// a file system of its own.
func (s *stage) reset(ctx context.Context, smallDisk bool) error {
	if err := killAll(ctx, s.Rehearsal); err != nil {
		return err
	}
	if err := s.eject(ctx); err != nil {
		return err
	}
	entries, err := os.ReadDir(s.Folder())
	if err != nil {
		return fmt.Errorf("clearing the try before: %w", err)
	}
	for _, entry := range entries {
		if lasting(entry.Name()) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(s.Folder(), entry.Name())); err != nil {
			return fmt.Errorf("clearing the try before: %w", err)
		}
	}
	if smallDisk {
		if err := s.mount(ctx); err != nil {
			return err
		}
	}
	return s.copy(ctx, s.prepared, s.Folder())
}

func (s *stage) state() string { return filepath.Join(s.Folder(), "state") }

func (s *stage) mount(ctx context.Context) error {
	if err := os.MkdirAll(s.state(), 0o700); err != nil {
		return fmt.Errorf("making a small disk: %w", err)
	}
	if err := command(ctx, "mount", "-t", "tmpfs", "-o", "size="+diskSize+",mode=0700", "chaos", s.state()); err != nil {
		return fmt.Errorf("making a small disk: %w", err)
	}
	s.disk = true
	return nil
}

// eject takes the small disk away; also that of a run that was killed.
func (s *stage) eject(ctx context.Context) error {
	if !s.disk && !mounted(s.state()) {
		return nil
	}
	if err := command(ctx, "umount", s.state()); err != nil {
		return fmt.Errorf("taking the small disk away: %w", err)
	}
	s.disk = false
	return nil
}

func mounted(path string) bool {
	mounts, err := os.ReadFile("/proc/self/mounts")
	return err == nil && bytes.Contains(mounts, []byte("chaos "+path+" tmpfs "))
}

func command(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(out))
	}
	return nil
}

func (s *stage) picture(ctx context.Context) (*picture, error) {
	objects, err := s.Objects(ctx)
	if err != nil {
		return nil, err
	}
	p := &picture{objects: nameObjects(objects)}
	checkpoint, err := readCheckpoint(s.Folder(), s.stack)
	if err != nil {
		return nil, err
	}
	if p.resources, p.pending, err = readState(checkpoint); err != nil {
		return nil, err
	}
	hub, err := s.Forge()
	if err != nil {
		return nil, err
	}
	keys, err := hub.DeployKeys(ctx)
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		p.keys = append(p.keys, fmt.Sprintf("%s %s read-only=%t %s", key.Repository, key.Title, key.ReadOnly, key.Key))
	}
	p.commits, err = readCommits(filepath.Join(s.Folder(), "forge", "git"))
	return p, err
}

// compare holds the cluster, the state, GitHub and Git against the picture of what nothing disturbed;
// Kubernetes is given a moment to clear away what ends.
func (s *stage) compare(ctx context.Context) (broken, pending []string, err error) {
	for deadline := time.Now().Add(settleBound); ; {
		p, err := s.picture(ctx)
		if err == nil {
			broken, pending = p.differences(s.want), p.pending
			if len(broken) == 0 {
				return nil, pending, nil
			}
		}
		if time.Now().After(deadline) {
			return broken, pending, err
		}
		if err := pause(ctx, 5*shortPause); err != nil {
			return nil, nil, err
		}
	}
}

// settled says what another update would change, which is nothing.
func (s *stage) settled(ctx context.Context) error {
	var said bytes.Buffer
	if err := s.Pulumi(ctx, &said, s.OnStack("preview", "--expect-no-changes", "--diff")...); err != nil {
		return fmt.Errorf("another update would change something: %w\n%s", err, said.String())
	}
	return nil
}

func pause(ctx context.Context, length time.Duration) error {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
