// Command build builds the pinned tools of this project, each from a Go module of its own
// under tools/, into a folder that Git ignores. It builds what is missing or stale and
// nothing else, one tool at a time.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
)

// tempPrefix marks the folders of builds; one that is there when nobody builds is a
// leftover.
const tempPrefix = ".build-"

const usage = `Usage: go run ./tools/build [flags] [TOOL...]

Builds the pinned tools that are missing or stale; with no TOOL, all of them.

`

func main() { os.Exit(exitCode()) }

func exitCode() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "interrupted: what was built is kept, the rest is built next time")
		return 130
	default:
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("build", flag.ContinueOnError)
	out := flags.String("out", filepath.Join(".tools", "bin"), "the folder to put binaries in")
	verbose := flags.Bool("v", false, "show go's own output, and name what is up to date")
	list := flags.Bool("list", false, "list the tools, their versions, and what their last build took")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	builds, err := selected(flags.Args(), "tools", *out)
	if err != nil {
		return err
	}
	if *list {
		return printList(stdout, builds)
	}
	stale, err := staleOnes(ctx, builds, stdout, *verbose)
	if err != nil || len(stale) == 0 {
		return err
	}
	if err := preflight(stale, runtime.Version()); err != nil {
		return err
	}
	return buildAll(ctx, stale, *out, stdout, *verbose)
}

func selected(names []string, toolsDir, out string) ([]*build, error) {
	out, err := filepath.Abs(out)
	if err != nil {
		return nil, fmt.Errorf("finding the binaries' folder: %w", err)
	}
	toolsDir, err = filepath.Abs(toolsDir)
	if err != nil {
		return nil, fmt.Errorf("finding tools: %w", err)
	}
	var builds []*build
	var known []string
	for _, t := range tools() {
		known = append(known, t.name)
		if len(names) > 0 && !slices.Contains(names, t.name) {
			continue
		}
		b, err := newBuild(t, toolsDir, out)
		if err != nil {
			return nil, err
		}
		builds = append(builds, b)
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("no tool is called %q; there are %s", name, strings.Join(known, ", "))
		}
	}
	return builds, nil
}

// staleOnes leaves out what is built already, and what the machine has in a version that
// works.
func staleOnes(ctx context.Context, builds []*build, stdout io.Writer, verbose bool) ([]*build, error) {
	var stale []*build
	for _, b := range builds {
		fresh, err := b.fresh()
		if err != nil {
			return nil, err
		}
		if fresh {
			if verbose {
				fmt.Fprintf(stdout, "%-20s %-12s up to date\n", b.name, b.version)
			}
			continue
		}
		if version, ok := b.installed.find(ctx, b.out); ok {
			if verbose {
				fmt.Fprintf(stdout, "%-20s %-12s installed on this machine\n", b.name, version)
			}
			continue
		}
		stale = append(stale, b)
	}
	return stale, nil
}

func buildAll(ctx context.Context, stale []*build, out string, stdout io.Writer, verbose bool) error {
	if err := os.MkdirAll(filepath.Join(out, ".stamps"), 0o755); err != nil {
		return fmt.Errorf("making the binaries' folder: %w", err)
	}
	warnOfFullDisk(ctx, stdout, out, len(stale))
	unlock, err := lock(ctx, filepath.Join(out, ".stamps", "lock"), stdout)
	if err != nil {
		return err
	}
	defer unlock()
	leftovers, err := fs.Glob(os.DirFS(out), tempPrefix+"*")
	if err != nil {
		return fmt.Errorf("looking for leftovers of builds: %w", err)
	}
	for _, leftover := range leftovers {
		if err := os.RemoveAll(filepath.Join(out, leftover)); err != nil {
			return fmt.Errorf("removing the leftovers of a build: %w", err)
		}
	}
	for i, b := range stale {
		// Whoever held the lock may have built it meanwhile.
		if fresh, err := b.fresh(); err != nil || fresh {
			if err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(stdout, "[%d/%d] %-20s %-12s", i+1, len(stale), b.name, b.version)
		if verbose {
			b.verbose = stdout
		}
		s, err := b.run(ctx)
		if err != nil {
			fmt.Fprintln(stdout)
			return err
		}
		fmt.Fprintf(stdout, " %4.0f s, %d MiB at its peak\n", s.Seconds, s.PeakMiB)
	}
	return nil
}

func printList(stdout io.Writer, builds []*build) error {
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "TOOL\tVERSION\tSTATE\tSECONDS\tPEAK MIB\tBINARIES")
	var seconds float64
	for _, b := range builds {
		fresh, err := b.fresh()
		if err != nil {
			return err
		}
		state := "to build"
		if fresh {
			state = "built"
		}
		binaries := make([]string, 0, len(b.binaries))
		for _, binary := range b.binaries {
			binaries = append(binaries, binary)
		}
		slices.Sort(binaries)
		s, _ := b.readStamp()
		seconds += s.Seconds
		fmt.Fprintf(table, "%s\t%s\t%s\t%.0f\t%d\t%s\n", b.name, b.version, state, s.Seconds, s.PeakMiB, strings.Join(binaries, ", "))
	}
	fmt.Fprintf(table, "all\t\t\t%.0f\t\t\n", seconds)
	return table.Flush()
}
