package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nullify005/manager-cluster-state/internal/report"
)

// figures are what one way of doing something took, run by run.
type figures struct {
	name   string
	values []time.Duration
}

// way is one of the ways of doing the same thing.
type way struct {
	name string
	// before makes ready for a run, and isn't measured.
	before func(ctx context.Context) error
	run    func(ctx context.Context) error
	// after is what is to be done with what a run has left, and isn't measured.
	after func(ctx context.Context) error
}

// inTurn measures ways against each other: the first, the second, and so on, then the first again. What else the
// machine does meanwhile meets all of them.
func (b *bench) inTurn(ctx context.Context, ways ...way) ([]figures, error) {
	all := make([]figures, len(ways))
	for i, w := range ways {
		all[i].name = w.name
	}
	for n := range b.runs {
		for i, w := range ways {
			if w.before != nil {
				if err := w.before(ctx); err != nil {
					return nil, fmt.Errorf("before %s: %w", w.name, err)
				}
			}
			start := time.Now()
			if err := w.run(ctx); err != nil {
				return nil, fmt.Errorf("%s: %w", w.name, err)
			}
			took := time.Since(start)
			all[i].values = append(all[i].values, took)
			b.log.Info("ran", "what", w.name, "run", n+1, "took", took.Round(10*time.Millisecond))
			if w.after != nil {
				if err := w.after(ctx); err != nil {
					return nil, fmt.Errorf("after %s: %w", w.name, err)
				}
			}
		}
	}
	return all, nil
}

// to are the ratios of these figures to others, pair by pair: of the runs that were next to each other.
func (f *figures) to(other *figures) []float64 {
	ratios := make([]float64, 0, len(f.values))
	for i := range min(len(f.values), len(other.values)) {
		ratios = append(ratios, f.values[i].Seconds()/other.values[i].Seconds())
	}
	return ratios
}

// compared is a table of ways, each held against the second: what the first is measured by.
func compared(all []figures) string {
	const reference = 1
	header := []string{"", "median", "min – max", "runs", "to " + all[reference].name}
	rows := make([][]string, 0, len(all))
	for i := range all {
		ratio := "1"
		if i != reference {
			ratio = spread(all[i].to(&all[reference]), "%.2f")
		}
		rows = append(rows, []string{
			all[i].name, seconds(report.Median(all[i].values)), between(all[i].values), strconv.Itoa(len(all[i].values)), ratio,
		})
	}
	return report.Table(header, rows)
}

// spread is a median with what it lies between.
func spread(values []float64, format string) string {
	if len(values) == 0 {
		return ""
	}
	return fmt.Sprintf(format+" ("+format+" – "+format+")", report.Median(values), slices.Min(values), slices.Max(values))
}

func between(values []time.Duration) string {
	if len(values) == 0 {
		return ""
	}
	return seconds(slices.Min(values)) + " – " + seconds(slices.Max(values))
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// verdict says whether a ratio is within what was aimed for.
func verdict(goal string, ratios []float64, most float64) string {
	median := report.Median(ratios)
	if median <= most {
		return fmt.Sprintf("Goal: %s. Met: %.2f.\n", goal, median)
	}
	return fmt.Sprintf("Goal: %s. Not met: %.2f.\n", goal, median)
}
