package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nullify005/manager-cluster-state/internal/report"
	"github.com/nullify005/manager-cluster-state/rehearsal"
)

const (
	growthProgram = "cmd/bench/testdata/growth"
	// growthCount is the variable by which that program knows how many workloads to make.
	growthCount = "GROWTH_WORKLOADS"
)

// grown is what a number of workloads took, run by run.
type grown struct {
	up, noOp, preview []time.Duration
	memory            []map[string]int64 // the most of each program, in up
}

// growing is one way for a stack to grow.
type growing struct {
	about string
	// sizes are how many workloads there are. Without any, there is what a stack costs before its first.
	sizes []int
	// once has the state written at the end of an update.
	once bool
	all  map[int]*grown
}

// growth runs each size in turn, from a new cluster. As Pulumi's file backend is, a thousand workloads take most of
// an hour; so those are measured without what that takes, and it beside.
func growth(ctx context.Context, b *bench) (string, error) {
	project := filepath.Join(b.project, filepath.FromSlash(growthProgram))
	r, err := b.rehearsal(rehearsal.Options{
		Project: project, Stack: "growth", Overrides: map[string]any{"sealing.keys": []any{}},
	})
	if err != nil {
		return "", err
	}
	ways := []growing{
		{about: "As Pulumi does it: its file backend writes the whole state before and after each step.", sizes: []int{0, 10, 100, 300}, all: map[int]*grown{}},
		{about: "With the state written when the update ends (`PULUMI_SKIP_CHECKPOINTS`):", sizes: []int{0, 10, 100, 1000}, once: true, all: map[int]*grown{}},
	}
	for range b.runs {
		for i := range ways {
			way := &ways[i]
			r.SaveOnce(way.once)
			for _, size := range way.sizes {
				if way.all[size] == nil {
					way.all[size] = &grown{}
				}
				if err := b.grow(ctx, r, project, size, way.all[size]); err != nil {
					return "", fmt.Errorf("with %d workloads: %w", size, err)
				}
			}
		}
	}
	var text strings.Builder
	for i := range ways {
		text.WriteString(ways[i].about + "\n\n" + grownTable(ways[i].all) + "\n" + flatness(ways[i].all) + "\n")
	}
	return strings.TrimRight(text.String(), "\n") + "\n", nil
}

func (b *bench) grow(ctx context.Context, r *rehearsal.Rehearsal, project string, size int, into *grown) error {
	if err := b.fresh(ctx, r, project); err != nil {
		return err
	}
	if err := os.Setenv(growthCount, strconv.Itoa(size)); err != nil {
		return fmt.Errorf("telling the program how many workloads there are: %w", err)
	}
	memory, stop := b.watchMemory(ctx, r)
	for _, did := range []struct {
		name string
		into *[]time.Duration
		args []string
	}{
		{"up", &into.up, up()},
		{"no-op up", &into.noOp, up("--expect-no-changes")},
		{"preview", &into.preview, look()},
	} {
		start := time.Now()
		if err := b.pulumi(ctx, r, r.OnStack(did.args...)...); err != nil {
			return errors.Join(err, stop())
		}
		took := time.Since(start)
		*did.into = append(*did.into, took)
		b.log.Info("ran", "what", did.name, "workloads", size, "took", took.Round(10*time.Millisecond))
		if did.name == "up" {
			// What comes after it holds less.
			if err := stop(); err != nil {
				return err
			}
			into.memory = append(into.memory, maps.Clone(memory))
		}
	}
	return nil
}

// watchMemory looks at the engine's processes until it is stopped: the system keeps the most that each had.
func (b *bench) watchMemory(ctx context.Context, r *rehearsal.Rehearsal) (peaks map[string]int64, stop func() error) {
	const every = 200 * time.Millisecond
	seen := map[string]int64{}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		for {
			uses, err := r.EngineUse(ctx)
			if ctx.Err() != nil || err != nil {
				if ctx.Err() != nil {
					err = nil
				}
				ended <- err
				return
			}
			for _, use := range uses {
				name := programOf(use.Name())
				seen[name] = max(seen[name], use.PeakMemory)
			}
			select {
			case <-ctx.Done():
			case <-time.After(every):
			}
		}
	}()
	once := false
	return seen, func() error {
		if once {
			return nil
		}
		once = true
		cancel()
		return <-ended
	}
}

// programOf names what a process is to a reader.
func programOf(name string) string {
	switch {
	case name == "pulumi":
		return "engine"
	case strings.HasPrefix(name, "pulumi-resource-"):
		return "plugin"
	case strings.HasPrefix(name, "pulumi-language-"):
		return "language host"
	default:
		return "program"
	}
}

// grownTable has a row per size, and what each workload cost beyond a stack without any.
func grownTable(all map[int]*grown) string {
	header := []string{"workloads"}
	for _, one := range costs() {
		header = append(header, one.name, "a workload")
	}
	header = append(header, "runs")
	counts := slices.Sorted(maps.Keys(all))
	base := all[counts[0]]
	rows := make([][]string, 0, len(counts))
	for _, count := range counts {
		row := []string{strconv.Itoa(count)}
		for _, one := range costs() {
			each := ""
			if count > 0 {
				each = spread(perWorkload(one.of(all[count]), one.of(base), count), one.format) + " " + one.unit
			}
			row = append(row, one.whole(all[count]), each)
		}
		rows = append(rows, append(row, strconv.Itoa(len(all[count].up))))
	}
	return report.Table(header, rows)
}

// cost is one of the things that a workload takes.
type cost struct {
	name         string
	whole        func(*grown) string    // what a stack took, for people
	of           func(*grown) []float64 // run by run, in its unit
	format, unit string                 // of what one workload took
}

func (c *cost) short() string { name, _, _ := strings.Cut(c.name, ":"); return name }

func costs() []cost {
	lasting := func(name string, of func(*grown) []time.Duration) cost {
		return cost{
			name: name, format: "%.1f", unit: "ms",
			whole: func(g *grown) string { return seconds(report.Median(of(g))) + " (" + between(of(g)) + ")" },
			of: func(g *grown) []float64 {
				var values []float64
				for _, took := range of(g) {
					values = append(values, float64(took.Milliseconds()))
				}
				return values
			},
		}
	}
	return []cost{
		lasting("`up`", func(g *grown) []time.Duration { return g.up }),
		lasting("no-op `up`", func(g *grown) []time.Duration { return g.noOp }),
		lasting("preview", func(g *grown) []time.Duration { return g.preview }),
		{
			name: "memory: engine, plugin, program", format: "%.0f", unit: "KiB",
			whole: func(g *grown) string { return memoryOf(g.memory) },
			of: func(g *grown) []float64 {
				total := make([]float64, len(g.memory))
				for _, name := range measured() {
					for i, peak := range peaksOf(g.memory, name) {
						total[i] += peak / 1024
					}
				}
				return total
			},
		},
	}
}

// perWorkload is what each of count workloads took, pair by pair with a run without any.
func perWorkload(with, without []float64, count int) []float64 {
	var each []float64
	for i := range min(len(with), len(without)) {
		each = append(each, (with[i]-without[i])/float64(count))
	}
	return each
}

// flatness says of each cost whether a workload takes about the same however many there are: what it takes at the most
// of them, to what it takes at the fewest at which every run has shown that it takes anything.
func flatness(all map[int]*grown) string {
	const most = 1.2
	counts := slices.Sorted(maps.Keys(all))
	base, last := all[counts[0]], counts[len(counts)-1]
	var text strings.Builder
	for _, one := range costs() {
		at := func(count int) []float64 { return perWorkload(one.of(all[count]), one.of(base), count) }
		first := slices.IndexFunc(counts, func(count int) bool { return count > 0 && slices.Min(at(count)) > 0 })
		if first < 0 || counts[first] == last {
			fmt.Fprintf(&text, "Goal: a workload's %s flat within 20 %%. Not told: runs differ by more than workloads take.\n\n", one.short())
			continue
		}
		goal := fmt.Sprintf("a workload's %s at most 1.2 times as dear at %d as at %d", one.short(), last, counts[first])
		text.WriteString(verdict(goal, []float64{report.Median(at(last)) / report.Median(at(counts[first]))}, most) + "\n")
	}
	return text.String()
}

const mib = 1 << 20

// measured are the programs whose memory is.
func measured() []string { return []string{"engine", "plugin", "program"} }

// memoryOf is the median of each program's most, in MiB.
func memoryOf(runs []map[string]int64) string {
	parts := make([]string, 0, len(measured()))
	for _, name := range measured() {
		parts = append(parts, fmt.Sprintf("%.0f", report.Median(peaksOf(runs, name))/mib))
	}
	return strings.Join(parts, ", ") + " MiB"
}

func peaksOf(runs []map[string]int64, name string) []float64 {
	peaks := make([]float64, len(runs))
	for i, run := range runs {
		peaks[i] = float64(run[name])
	}
	return peaks
}
