package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nullify005/manager-cluster-state/internal/report"
)

const (
	document = "docs/chaos.md"
	// cleanupBound is how long it may take to stop everything.
	cleanupBound = 2 * time.Minute
	// thoroughEvery says which of the tries of one fault ask for a preview too: it costs as much as
	// all other questions.
	thoroughEvery = 5
)

var errLost = errors.New("there are losses")

// attempt is a try that is going to be made.
type attempt struct {
	fault *fault
	at    point
}

func run(ctx context.Context, o *options, log *slog.Logger, out io.Writer) error {
	var results []*result
	var skipped []string
	stages := make([]*stage, len(o.stacks))
	for i, stack := range o.stacks { // all of them first: a run that begins anew takes up no record of an older one
		var err error
		if stages[i], err = newStage(o, stack, log); err != nil {
			return err
		}
	}
	for _, s := range stages {
		found, left, err := s.run(ctx, o)
		results = append(results, found...)
		for _, reason := range left {
			if !slices.Contains(skipped, reason) {
				skipped = append(skipped, reason)
			}
		}
		if err != nil {
			if len(results) > 0 { // hours may be in it
				fmt.Fprintf(out, "%s\nCut short after %d tries.\n", page(results, skipped, o), len(results))
			}
			return err
		}
	}
	text := page(results, skipped, o)
	fmt.Fprintln(out, text)
	if o.write {
		if err := report.ReplaceInFile(filepath.Join(o.project, document), "chaos", text); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(results, (*result).lost) {
		return fmt.Errorf("%w: see %s", errLost, filepath.Join(o.folder, "losses"))
	}
	return nil
}

// run makes every try with one stack.
func (s *stage) run(ctx context.Context, o *options) (results []*result, skipped []string, err error) {
	results = s.record.results(s.stack)
	if all, skipped := s.attempts(o); len(results) == len(all) {
		return results, skipped, nil
	}
	defer func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupBound)
		defer cancel()
		err = errors.Join(err, s.close(ending))
	}()
	if err := s.open(ctx); err != nil {
		return results, nil, err
	}
	attempts, skipped := s.attempts(o)
	for i, a := range attempts {
		if i < len(results) { // a run that was cut short has tried that
			if results[i].fault != a.fault.name {
				return nil, nil, fmt.Errorf("--resume: try %d was %q, and would be %q now: resume as the same user, with the same program", i+1, results[i].fault, a.fault.name)
			}
			continue
		}
		start := time.Now()
		thorough := i%thoroughEvery == 0 || !a.fault.spread
		r, err := s.try(ctx, a.fault, a.at, thorough)
		if r == nil && err != nil && ctx.Err() == nil {
			s.log.Warn("that was no try: once more", "because", err)
			r, err = s.try(ctx, a.fault, a.at, thorough)
		}
		if r != nil {
			results = append(results, r)
			err = errors.Join(err, s.record.add(r))
		}
		if err != nil {
			return results, skipped, fmt.Errorf("try %d, %s on stack %s: %w", i+1, a.fault.name, s.stack, err)
		}
		s.log.Info("tried", "number", fmt.Sprintf("%d/%d", i+1, len(attempts)), "fault", r.fault, "after step", r.at.steps,
			"of", len(s.steps), "update", firstOf(r.failed, "finished"), "recovery", r.recovery.Round(shortPause),
			"took", time.Since(start).Round(shortPause), "pending", len(r.pending), "lost", strings.Join(r.broken, "; "))
	}
	return results, skipped, nil
}

// attempts chooses what is tried, and where; and says what can't be tried here.
func (s *stage) attempts(o *options) (chosen []attempt, skipped []string) {
	random := rand.New(rand.NewPCG(o.seed, uint64(len(s.stack))))
	var spreading []*fault
	for _, f := range faults() {
		switch {
		case !slices.Contains(o.faults, f.group), len(f.stacks) > 0 && !slices.Contains(f.stacks, s.stack):
		case f.smallDisk && os.Geteuid() != 0:
			skipped = append(skipped, f.name+": only root may mount a small disk")
		case f.spread:
			spreading = append(spreading, &f)
		default:
			for _, share := range f.shares {
				chosen = append(chosen, attempt{&f, pointAt(share, s.steps, random)})
			}
		}
	}
	if len(spreading) == 0 {
		return chosen, skipped
	}
	// The faults that are spread take turns, so that together they have all the points.
	var kills []attempt
	for i, at := range spread(o.points, s.steps, random) {
		kills = append(kills, attempt{spreading[i%len(spreading)], at})
	}
	return append(chosen, kills...), skipped // the many last: a fault that is lost shows itself early
}

// page is what goes into the document.
func page(results []*result, skipped []string, o *options) string {
	var text strings.Builder
	text.WriteString("On " + report.Machine() + ".\n\n")
	text.WriteString(table(results))
	if said := errorsTable(results); strings.Count(said, "\n") > 2 {
		text.WriteString("\n" + said)
	}
	for _, reason := range skipped {
		text.WriteString("\nNot tried: " + reason + ".\n")
	}
	fmt.Fprintf(&text, "\nSeed %d, %d points.\n", o.seed, o.points)
	return text.String()
}
