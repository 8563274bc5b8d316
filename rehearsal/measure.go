package rehearsal

import (
	"context"
	"path/filepath"
)

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
