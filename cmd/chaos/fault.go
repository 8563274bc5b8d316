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
	"time"

	"github.com/nullify005/manager-cluster-state/rehearsal"
)

// fault is one way in which a bring-up is disturbed.
type fault struct {
	name  string
	group string // by which it is asked for: kill, api, …
	// stacks that it can happen to; all where there are none.
	stacks []string
	// shares of the bring-up at which it strikes, a try for each; or so many, spread over all of it.
	shares []float64
	spread bool
	// strike does the harm, and says how to undo it.
	strike func(ctx context.Context, s *stage) (mend func(context.Context) error, err error)
	// lasts is how long the harm lasts; zero is until the update has ended.
	lasts time.Duration
	// ends says that the update is killed, so that nobody waits for it.
	ends bool
	// smallDisk has the state on a file system of its own.
	smallDisk bool
	// unharmed says that the update may not fail.
	unharmed bool
	// together strikes as soon as Pulumi is started, before it has said anything.
	together bool
}

// result is one try.
type result struct {
	fault, stack string
	at           point
	failed       string // what the disturbed update ended with; nothing where it came to its end
	broken       []string
	pending      []string // operations that the state has after all
	recovery     time.Duration
}

func (r *result) lost() bool { return len(r.broken) > 0 }

// outcome is what a try came to, before anyone looks closer.
type outcome struct {
	failed    string   // what the disturbed update ended with; nothing where it came to its end
	refused   bool     // whether the second of two updates that began at once was
	unrefused string   // what became of a second update that nothing kept from running beside the first
	next      string   // what the next update ended with; nothing where it came to its end, or there was none
	differs   []string // from a bring-up that nothing disturbed
	unknown   error    // why that couldn't be told
}

// rerun says whether an update that came to its end is wanted after the disturbed one.
func (f *fault) rerun(o *outcome) bool { return o.failed != "" && !f.unharmed }

// judge names each property that is broken; none where the stack has recovered.
func (f *fault) judge(o *outcome) (broken []string) {
	if f.together && !o.refused && !strings.Contains(o.failed, isLocked) {
		broken = append(broken, "unharmed: two updates ran at once")
	}
	if f.unharmed && o.failed != "" {
		broken = append(broken, "unharmed: the update failed: "+o.failed)
	}
	if o.next != "" {
		broken = append(broken, "converges: the next update failed: "+o.next)
	}
	if o.unrefused != "" {
		broken = append(broken, "unharmed: "+o.unrefused)
	}
	broken = append(broken, o.differs...)
	if o.unknown != nil {
		broken = append(broken, "converges: "+o.unknown.Error())
	}
	return broken
}

// try brings the stack up, does the harm in the middle, and does what a person would do then. An
// error is one of the try itself, which says nothing of the program.
func (s *stage) try(ctx context.Context, f *fault, at point, thorough bool) (*result, error) {
	r, o := &result{fault: f.name, stack: s.stack, at: at}, &outcome{}
	s.second = o
	if err := s.reset(ctx, f.smallDisk); err != nil {
		return nil, err
	}
	var err error
	o.failed, err = s.disturb(ctx, f, at)
	if err != nil || ctx.Err() != nil {
		return nil, errors.Join(err, ctx.Err())
	}
	r.failed = o.failed
	disturbed := s.progress.text()
	if f.rerun(o) {
		start := time.Now()
		s.progress.begin(0)
		if err := s.up(ctx, rehearsal.UpOptions{Plain: true}); err != nil {
			o.next = fmt.Sprintf("%v: %s", err, s.progress.says())
		}
		r.recovery = time.Since(start)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	o.differs, r.pending, o.unknown = s.compare(ctx)
	r.broken = f.judge(o)
	if len(r.broken) == 0 && thorough {
		r.broken = s.lookCloser(ctx, len(r.pending) > 0)
	}
	if ctx.Err() != nil { // what was found broken is that nobody waited for it
		return nil, ctx.Err()
	}
	if r.lost() {
		return r, s.keep(ctx, r, disturbed)
	}
	return r, nil
}

// lookCloser asks what takes as long as an update. Where the state has operations left of which
// Pulumi doesn't know how they ended, it has the command that README names forget them.
func (s *stage) lookCloser(ctx context.Context, pending bool) (broken []string) {
	if pending {
		var said bytes.Buffer
		if err := s.Pulumi(ctx, &said, s.OnStack("refresh", "--yes", "--skip-preview", "--clear-pending-creates")...); err != nil {
			return []string{fmt.Sprintf("nothing pending: %v: %s", err, firstError(said.String()))}
		}
		differs, left, err := s.compare(ctx)
		if broken = differs; len(left) > 0 {
			broken = append(broken, "nothing pending: still "+strings.Join(left, ", "))
		}
		if err != nil {
			broken = append(broken, "nothing pending: "+err.Error())
		}
	}
	if err := s.settled(ctx); err != nil {
		broken = append(broken, "settled: "+err.Error())
	}
	return broken
}

// disturb runs the update that is disturbed, and says what it ended with; nothing where it came to its end.
func (s *stage) disturb(ctx context.Context, f *fault, at point) (failed string, err error) {
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	reached := s.progress.begin(at.steps)
	ended := make(chan error, 1)
	go func() { ended <- s.up(running, rehearsal.UpOptions{}) }()
	if f.together {
		reached = s.started(running)
	}
	// However this function ends, no update runs on.
	finished := false
	wait := func() {
		if !finished {
			finished = true
			if problem := <-ended; problem != nil {
				failed = firstOf(s.progress.says(), problem.Error())
			}
		}
	}
	defer wait()
	defer func() {
		if err != nil {
			cancel()
		}
	}()
	tooEarly := func(problem error) error {
		finished = true
		return fmt.Errorf("an update ended before anything disturbed it, with %s:\n%s", firstOf(errorText(problem), "no error"), s.progress.text())
	}
	select {
	case <-reached:
	case problem := <-ended:
		return "", tooEarly(problem)
	}
	if err := pause(ctx, at.after); err != nil {
		return "", err
	}
	select {
	case problem := <-ended:
		return "", tooEarly(problem)
	default:
	}
	mend, err := f.strike(ctx, s)
	if mend != nil {
		defer func() { err = errors.Join(err, mend(context.WithoutCancel(ctx))) }()
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", f.name, err)
	}
	switch {
	case f.ends:
		cancel()
		wait()
		failed = "killed"
	case f.lasts > 0:
		err = pause(ctx, f.lasts)
	default:
		wait()
	}
	return failed, err
}

// started is closed when an update of the stack runs.
func (s *stage) started(ctx context.Context) <-chan struct{} {
	seen := make(chan struct{})
	go func() {
		defer close(seen)
		for {
			running, err := s.Running(ctx)
			if err != nil || slices.ContainsFunc(running, func(p rehearsal.Process) bool {
				return p.Name() == "pulumi" && strings.Contains(p.Command, " up ")
			}) {
				return
			}
			if pause(ctx, shortPause/10) != nil {
				return
			}
		}
	}()
	return seen
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func firstOf(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			line, _, _ := strings.Cut(text, "\n")
			return line
		}
	}
	return ""
}

// up is an update that doesn't hang.
func (s *stage) up(ctx context.Context, options rehearsal.UpOptions) error {
	ctx, cancel := context.WithTimeout(ctx, runBound)
	defer cancel()
	return s.Up(ctx, options)
}

// keep puts what is known of a loss where the next try doesn't wipe it out.
func (s *stage) keep(ctx context.Context, r *result, disturbed string) error {
	name := fmt.Sprintf("%s-%s-%d", strings.ReplaceAll(r.fault, " ", "-"), r.stack, time.Now().Unix())
	folder := filepath.Join(s.kept, name)
	err := os.MkdirAll(folder, 0o700)
	account := fmt.Sprintf("%s, stack %s, %s after step %d: %s\n\n%s\n", r.fault, r.stack, r.at.after, r.at.steps, r.failed, strings.Join(r.broken, "\n"))
	for file, text := range map[string]string{"account": account, "disturbed": disturbed, "next": s.progress.text()} {
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, file), []byte(text), 0o600)
		}
	}
	for _, part := range []string{"logs", "state", filepath.Join("kwok", "clusters", "rehearsal", "logs")} {
		if err == nil {
			err = command(ctx, "cp", "-a", filepath.Join(s.Folder(), part), filepath.Join(folder, strings.ReplaceAll(part, string(filepath.Separator), "-")))
		}
	}
	if err != nil {
		return fmt.Errorf("keeping what is known of a loss: %w", err)
	}
	s.log.Warn("a loss", "kept", folder)
	return nil
}
