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
		text.WriteString(ways[i].about + "\n\n" + grownTable(ways[i].all) + "\n")
	}
	return text.String(), nil
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
	header := []string{"workloads", "`up`", "a workload", "no-op `up`", "a workload", "preview", "a workload", "memory: engine, plugin, program", "a workload", "runs"}
	counts := slices.Sorted(maps.Keys(all))
	base := all[counts[0]]
	rows := make([][]string, 0, len(counts))
	for _, count := range counts {
		g := all[count]
		row := []string{strconv.Itoa(count)}
		for _, pair := range [][2][]time.Duration{{g.up, base.up}, {g.noOp, base.noOp}, {g.preview, base.preview}} {
			row = append(row, seconds(report.Median(pair[0]))+" ("+between(pair[0])+")", perWorkload(pair[0], pair[1], count))
		}
		row = append(row, memoryOf(g.memory), memoryPerWorkload(g.memory, base.memory, count), strconv.Itoa(len(g.up)))
		rows = append(rows, row)
	}
	return report.Table(header, rows)
}

// perWorkload is what each of count workloads took, pair by pair with a run without any.
func perWorkload(with, without []time.Duration, count int) string {
	if count == 0 {
		return ""
	}
	var each []float64
	for i := range min(len(with), len(without)) {
		each = append(each, float64((with[i]-without[i]).Milliseconds())/float64(count))
	}
	return spread(each, "%.1f") + " ms"
}

const mib = 1 << 20

// memoryOf is the median of each program's most, in MiB.
func memoryOf(runs []map[string]int64) string {
	parts := make([]string, 0, 3)
	for _, name := range []string{"engine", "plugin", "program"} {
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

// memoryPerWorkload is what all programs together held for each workload, in KiB.
func memoryPerWorkload(with, without []map[string]int64, count int) string {
	if count == 0 {
		return ""
	}
	total := func(run map[string]int64) (sum int64) {
		for _, name := range []string{"engine", "plugin", "program"} {
			sum += run[name]
		}
		return sum
	}
	var each []float64
	for i := range min(len(with), len(without)) {
		each = append(each, float64(total(with[i])-total(without[i]))/float64(count)/1024)
	}
	return spread(each, "%.0f") + " KiB"
}
