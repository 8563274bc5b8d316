// Command chaos breaks what a bring-up stands on, in the middle of it, and sees whether the next
// update puts everything right: the real engine, API server, Git and Flux of a rehearsal are killed,
// hung, filled up, doubled and put on another day, and cluster, state, GitHub and Git are held against
// those of a bring-up that nothing disturbed. Its table is docs/chaos.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
)

const exitInterrupted = 130 // as a shell reports Ctrl-C

// options are the flags.
type options struct {
	project, tools, folder string
	faults, stacks         []string
	points                 int
	seed                   uint64
	write, resume          bool
}

func main() {
	ctrllog.SetLogger(logr.Discard()) // what the Kubernetes client would log is in its errors too
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := chaosCommand(slog.New(slog.NewTextHandler(os.Stderr, nil))).ExecuteContext(ctx)
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case interrupted:
		fmt.Fprintf(os.Stderr, "chaos: interrupted; --resume goes on: %v\n", err)
		os.Exit(exitInterrupted)
	case err != nil:
		fmt.Fprintln(os.Stderr, "chaos: "+err.Error())
		os.Exit(1)
	}
}

// leastPoints is at how many points of each bring-up the update is killed for the document's table.
const leastPoints = 50

func allStacks() []string { return []string{"development", "production"} }

func chaosCommand(log *slog.Logger) *cobra.Command {
	o := &options{}
	c := &cobra.Command{
		Use:   "chaos",
		Short: "Break what a bring-up stands on, and see whether the next update puts it right",
		Long: `chaos brings the stacks up again and again, each time from the same empty cluster, does one harm in
the middle, runs the update again where it failed, and holds cluster, Pulumi's state, GitHub and Git
against those of a bring-up that nothing disturbed. It prints a table of tries, recoveries and losses,
and exits with 1 when there is a loss; what is known of each is kept in the folder that it names. Each
try is kept as it ends: a Ctrl-C prints the table so far, and writes none; --resume goes on where it was.`,
		Example: `  chaos --write                            # everything, into docs/chaos.md; some three hours
  chaos --write --resume                   # go on with one that was cut short
  chaos --faults kill --points 4 --stacks development
  chaos --faults api,disk`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.validate(); err != nil {
				return err
			}
			return run(cmd.Context(), o, log, cmd.OutOrStdout())
		},
	}
	flags := c.Flags()
	flags.StringSliceVar(&o.faults, "faults", groups(), "what to do: "+strings.Join(groups(), ", "))
	flags.StringSliceVar(&o.stacks, "stacks", allStacks(), "whose deliveries to disturb: development's is direct, production's flux")
	flags.IntVar(&o.points, "points", leastPoints, "at how many points of each bring-up the update is killed")
	flags.Uint64Var(&o.seed, "seed", 1, "where exactly the points lie: the same seed, the same points")
	flags.BoolVar(&o.write, "write", false, "write the table into docs/chaos.md")
	flags.BoolVar(&o.resume, "resume", false, "go on with a run of the same --faults, --points and --seed that was cut short")
	flags.StringVar(&o.project, "project", ".", "folder of Pulumi.yaml")
	flags.StringVar(&o.tools, "tools", "", "folder of the programs (default .tools/bin in the project)")
	flags.StringVar(&o.folder, "dir", "", "folder to work in (default .rehearsal/chaos in the project)")
	return c
}

func (o *options) validate() error {
	var problems []error
	for _, name := range o.faults {
		if !slices.Contains(groups(), name) {
			problems = append(problems, fmt.Errorf("--faults has %q: they are %s", name, strings.Join(groups(), ", ")))
		}
	}
	for _, stack := range o.stacks {
		if delivery(stack) == "" {
			problems = append(problems, fmt.Errorf("--stacks has %q: they are development and production", stack))
		}
	}
	if o.points < 1 {
		problems = append(problems, fmt.Errorf("--points is %d: at least 1", o.points))
	}
	if o.write && (len(minus(groups(), o.faults)) > 0 || len(minus(allStacks(), o.stacks)) > 0 || o.points < leastPoints) {
		problems = append(problems, fmt.Errorf("--write is for a whole run: of every fault, both stacks, and %d points at least", leastPoints))
	}
	if o.folder == "" {
		o.folder = filepath.Join(o.project, ".rehearsal", "chaos")
	}
	return errors.Join(problems...)
}
