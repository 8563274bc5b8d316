package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nullify005/manager-cluster-state/internal/report"
	"github.com/nullify005/manager-cluster-state/rehearsal"
)

// bench is what the parts share.
type bench struct {
	project, tools, folder, document string
	runs                             int
	out                              io.Writer
	log                              *slog.Logger

	active atomic.Pointer[rehearsal.Rehearsal]
}

// check finds what would only be missed halfway.
func (b *bench) check(chosen []part) error {
	var err error
	for _, path := range []*string{&b.project, &b.document} {
		if *path, err = filepath.Abs(*path); err != nil {
			return fmt.Errorf("finding %s: %w", *path, err)
		}
	}
	if b.folder == "" {
		b.folder = filepath.Join(b.project, ".rehearsal", "bench")
	}
	if b.tools == "" {
		b.tools = filepath.Join(b.project, ".tools", "bin")
	}
	if b.tools, err = filepath.Abs(b.tools); err != nil {
		return fmt.Errorf("finding the tools: %w", err)
	}
	if !slices.ContainsFunc(chosen, func(p part) bool { return p.flux }) {
		return nil // a rehearsal looks for the rest itself, first thing
	}
	r, err := b.rehearsal(rehearsal.Options{Project: b.project, Stack: development})
	if err != nil {
		return err
	}
	if err := r.CheckTools(); err != nil {
		return err
	}
	if _, err := os.Stat(b.fluxCLI()); err != nil {
		return fmt.Errorf("flux is not there: %w; build it with: go run ./tools/build flux-cli", err)
	}
	return nil
}

func (b *bench) fluxCLI() string { return filepath.Join(b.tools, "flux") }

// rehearsal is one in the bench's own folder.
func (b *bench) rehearsal(options rehearsal.Options) (*rehearsal.Rehearsal, error) {
	options.Folder, options.Tools = b.folder, b.tools
	r, err := rehearsal.New(options)
	if err == nil {
		b.active.Store(r)
	}
	return r, err
}

// kill ends a Pulumi that runs, at once.
func (b *bench) kill() {
	if r := b.active.Load(); r != nil {
		r.Kill()
	}
}

// clear leaves no process and no file of what was measured, also when it was interrupted.
func (b *bench) clear(ctx context.Context) error {
	r := b.active.Load()
	if r == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer cancel()
	if _, err := r.Down(ctx); err != nil && !errors.Is(err, rehearsal.ErrNothing) {
		return fmt.Errorf("clearing up %s: %w", b.folder, err)
	}
	return nil
}

// fresh leaves a cluster with nothing on it but what k3s brings, and the stack ready for an update, its program
// compiled: a new cluster is no new code. Every run that begins from nothing begins there.
func (b *bench) fresh(ctx context.Context, r *rehearsal.Rehearsal, project string) error {
	if err := b.clear(ctx); err != nil {
		return err
	}
	if err := r.Prepare(ctx); err != nil {
		return err
	}
	return b.command(ctx, project, "go", "build", "-o", r.Program(), ".")
}

// pulumi runs one command. What it prints is only of interest when it fails.
func (b *bench) pulumi(ctx context.Context, r *rehearsal.Rehearsal, args ...string) error {
	var out bytes.Buffer
	if err := r.Pulumi(ctx, &out, args...); err != nil {
		return fmt.Errorf("%w\n%s", err, last(out.Bytes()))
	}
	return nil
}

// up are the arguments of an update as a script runs it.
func up(more ...string) []string {
	return append([]string{"up", "--yes", "--skip-preview", "--suppress-progress", "--color", "never"}, more...)
}

// look are the arguments of a preview.
func look() []string { return []string{"preview", "--suppress-progress", "--color", "never"} }

// last is the end of what a program printed.
func last(out []byte) []byte {
	const most = 4000
	return out[max(0, len(out)-most):]
}

// tell puts the table of a part into the document, or prints it.
func (b *bench) tell(name, text string, write bool) error {
	text = fmt.Sprintf("%s\n%s, %s\n", text, time.Now().UTC().Format(time.DateOnly), report.Machine())
	if _, err := os.Stat(filepath.Join(b.tools, "pulumi-language-go")); err != nil {
		text += "\nPulumi's Go host was the machine's own, which links the program at every command: that is in these figures.\n"
	}
	if write {
		if err := report.ReplaceInFile(b.document, "bench:"+name, text); err != nil {
			return err
		}
		b.log.Info("written", "part", name, "document", b.document)
	}
	fmt.Fprintf(b.out, "## %s\n\n%s\n", name, text)
	return nil
}
