package rehearsal

import (
	"context"
	"io"
	"path/filepath"
	"slices"
	"time"
)

// Prepare leaves behind what an update of a stack that Pulumi delivers itself runs on, and runs none: the cluster,
// the stack and its placeholders. A measurement begins there.
func (r *Rehearsal) Prepare(ctx context.Context) error {
	return r.locked(ctx, func() error {
		// The controllers of Flux are not among the programs that it needs.
		if err := r.startCluster(ctx, &stopwatch{start: time.Now()}, slices.Concat(clusterPrograms(), enginePrograms())); err != nil {
			return err
		}
		if err := r.engine.prepare(ctx); err != nil {
			return err
		}
		return r.engine.settle(ctx)
	})
}

// Pulumi runs one command of Pulumi as the rehearsal does, in the project, and writes all that it prints to out.
// Nothing is prepared for it and nothing is done after it.
func (r *Rehearsal) Pulumi(ctx context.Context, out io.Writer, args ...string) error {
	return r.locked(ctx, func() error { return r.engine.run(ctx, out, out, args...) })
}

// Program is where Pulumi's Go host keeps the project's program.
func (r *Rehearsal) Program() string {
	return filepath.Join(r.folder.programs(), filepath.Base(r.root))
}

// OnStack are the arguments of a command of Pulumi that is about the rehearsed stack.
func (r *Rehearsal) OnStack(args ...string) []string { return r.engine.stackArgs(args...) }

// ResourceUse is what a process of the rehearsal has taken so far.
type ResourceUse struct {
	Process

	// PeakMemory is the most that it ever had in memory, in bytes.
	PeakMemory int64
}

// EngineUse lists what Pulumi, its plugins and the program take now; none between two commands.
func (r *Rehearsal) EngineUse(ctx context.Context) ([]ResourceUse, error) {
	running, err := r.engine.processes(ctx)
	if err != nil {
		return nil, err
	}
	var uses []ResourceUse
	for _, process := range running {
		// It may have ended since.
		if peak, ok := peakMemory(process.PID); ok {
			uses = append(uses, ResourceUse{Process: process, PeakMemory: peak})
		}
	}
	return uses, nil
}
