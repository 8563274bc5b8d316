// Command bench measures this program on a rehearsal's cluster, beside what it is compared with, and writes the
// tables of docs/benchmarks.md. Nothing here judges: what a figure should be, a person does.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
)

// The exit codes of bench.
const (
	exitFailure     = 1
	exitInterrupted = 130 // as a shell reports Ctrl-C
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	// What the Kubernetes client would log is in its errors too.
	ctrllog.SetLogger(logr.Discard())
	// Buffered for both: the first Ctrl-C stops in good order, the second at once.
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	b := &bench{out: os.Stdout, log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	go func() {
		<-signals
		b.log.Info("stopping, and clearing up; Ctrl-C again stops at once and leaves what runs")
		cancel()
		<-signals
		b.kill()
		os.Exit(exitInterrupted)
	}()
	c := command(b)
	c.SetArgs(args)
	switch err := c.ExecuteContext(ctx); {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		b.log.Info("interrupted: a part that had come to its end is written, as far as it was to be", "because", err)
		return exitInterrupted
	default:
		fmt.Fprintln(os.Stderr, "bench: "+err.Error())
		return exitFailure
	}
}

// leastRuns is of how many runs the medians in the document are.
const leastRuns = 5

func command(b *bench) *cobra.Command {
	var only []string
	var write bool
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure this program on a rehearsal's cluster, beside what it is compared with",
		Long: `bench measures, on a rehearsal's cluster, in turn with what each is compared with: A B A B. A whole run
writes its tables into the document, each between the comments of its part; a run of some parts prints
them, and writes them with --write. The machine had better do nothing else meanwhile.

Parts:
` + described(),
		Example: `  bench                          # all of it, and write the tables
  bench --only preview --runs 1  # a look at one part
  bench --only growth --write    # put one part's table into the document`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			chosen, err := choose(only)
			if err != nil {
				return err
			}
			if b.runs < 1 {
				return errors.New("--runs is less than 1: it is how often each is measured")
			}
			write = write || len(only) == 0
			if write && b.runs < leastRuns {
				return fmt.Errorf("--runs is %d: a table in the document is of %d at least; --only looks at a part", b.runs, leastRuns)
			}
			return b.measure(cmd.Context(), chosen, write)
		},
	}
	flags := c.Flags()
	flags.StringSliceVar(&only, "only", nil, "measure these parts alone")
	flags.IntVar(&b.runs, "runs", leastRuns, "how often each is measured")
	flags.BoolVar(&write, "write", false, "write the tables of these parts into the document")
	flags.StringVar(&b.document, "document", "docs/benchmarks.md", "the document")
	flags.StringVar(&b.project, "project", ".", "folder of Pulumi.yaml")
	flags.StringVar(&b.folder, "dir", "", "folder to work in (default .rehearsal/bench in the project)")
	flags.StringVar(&b.tools, "tools", "", "folder of the programs (default .tools/bin in the project)")
	return c
}

// part is one table of the document, between the comments <!-- bench:NAME -->.
type part struct {
	name, about string
	measure     func(ctx context.Context, b *bench) (string, error)
	// flux says that it needs Flux's controllers and command too.
	flux bool
}

func parts() []part {
	return []part{
		{name: "bring-up", about: "pulumi up of the development stack from nothing, and kubectl apply and wait of the same objects", measure: bringUp},
		{name: "no-op", about: "pulumi up with nothing to change, and kubectl diff", measure: noOp},
		{name: "preview", about: "pulumi preview, and that of an empty program", measure: preview},
		{name: "push", about: "from git push until the change is ready, by mcs and by Flux's own command", measure: push, flux: true},
		{name: "growth", about: "up, no-op and preview with up to 300 workloads, and with up to 1,000 where the state is written once", measure: growth},
		{name: "nodes", about: "up with 3, 30 and 300 nodes", measure: nodes},
	}
}

func described() string {
	var text strings.Builder
	for _, p := range parts() {
		fmt.Fprintf(&text, "  %-9s %s\n", p.name, p.about)
	}
	return text.String()
}

// choose finds parts by their names; no name means all.
func choose(names []string) ([]part, error) {
	if len(names) == 0 {
		return parts(), nil
	}
	var chosen []part
	for _, name := range names {
		found := false
		for _, p := range parts() {
			if p.name == name {
				chosen, found = append(chosen, p), true
			}
		}
		if !found {
			return nil, fmt.Errorf("--only %s: there is no such part; there are:\n%s", name, described())
		}
	}
	return chosen, nil
}

// measure runs parts, one after the other, and prints or writes the table of each as it comes.
func (b *bench) measure(ctx context.Context, chosen []part, write bool) error {
	if err := b.check(chosen); err != nil {
		return err
	}
	for _, p := range chosen {
		start := time.Now()
		b.log.Info("measuring", "part", p.name, "runs", b.runs)
		text, err := p.measure(ctx, b)
		if err = errors.Join(err, b.clear(ctx)); err != nil {
			return fmt.Errorf("measuring %s: %w", p.name, err)
		}
		b.log.Info("measured", "part", p.name, "took", time.Since(start).Round(time.Second))
		if err := b.tell(p.name, text, write); err != nil {
			return err
		}
	}
	return nil
}
