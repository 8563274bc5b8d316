package rehearsal

import (
	"context"
	"path/filepath"
)

// Program is where Pulumi's Go host keeps the project's program.
func (r *Rehearsal) Program() string {
	return filepath.Join(r.folder.programs(), filepath.Base(r.root))
}

// KeepLog has Pulumi keep its own log of each command, which a rehearsal otherwise does without, or not.
func (r *Rehearsal) KeepLog(keep bool) error { return r.engine.keepLog(keep) }

// SaveOnce has Pulumi write its state when an update ends, and not the whole of it before and after each step: an
// experiment of Pulumi's, under which an update that is killed has never been. It is there to be measured.
func (r *Rehearsal) SaveOnce(once bool) { r.engine.saveOnce = once }

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
