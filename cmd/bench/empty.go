package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nullify005/manager-cluster-state/rehearsal"
)

// empty is a Pulumi program that makes nothing, in the same Go module, with the same engine and backend: what no
// program can be faster than.
type empty struct {
	b      *bench
	r      *rehearsal.Rehearsal
	folder string // keeps its stack file
}

const emptyProgram = "cmd/bench/testdata/empty"

// newEmpty makes its stack, beside the one of the rehearsal, its program compiled as that one's is.
func (b *bench) newEmpty(ctx context.Context, r *rehearsal.Rehearsal) (*empty, error) {
	e := &empty{b: b, r: r, folder: filepath.Join(r.Folder(), "empty")}
	project := e.project()
	if err := b.command(ctx, project, "go", "build", "-o", filepath.Join(filepath.Dir(r.Program()), filepath.Base(project)), "."); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(e.folder, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of the empty program: %w", err)
	}
	// In a folder of its own: making a stack writes a stack file, and knows no --config-file.
	if err := os.WriteFile(filepath.Join(e.folder, "Pulumi.yaml"), []byte("name: empty\nruntime: go\n"), 0o600); err != nil {
		return nil, fmt.Errorf("writing the project of the empty program: %w", err)
	}
	if err := b.pulumi(ctx, r, "stack", "init", "empty", "--no-select", "--cwd", e.folder); err != nil {
		return nil, err
	}
	return e, nil
}

func (e *empty) project() string { return filepath.Join(e.b.project, filepath.FromSlash(emptyProgram)) }

func (e *empty) run(ctx context.Context, args ...string) error {
	return e.b.pulumi(ctx, e.r, append(args, "--stack", "empty",
		"--cwd", e.project(),
		"--config-file", filepath.Join(e.folder, "Pulumi.empty.yaml"))...)
}
