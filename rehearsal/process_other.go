//go:build !linux

package rehearsal

import (
	"context"
	"fmt"
	"os"
	"os/exec"
)

func listProcesses(ctx context.Context) ([]Process, error) {
	cmd := exec.CommandContext(ctx, "ps", "-axww", "-o", "pid=,lstart=,command=")
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("running ps: %w", err)
	}
	return parsePS(string(out)), nil
}

// peakMemory is not told by this system.
func peakMemory(int) (int64, bool) { return 0, false }
