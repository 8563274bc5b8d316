package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/nullify005/manager-cluster-state/rehearsal"
)

// application is what the commands share.
type application struct {
	stdout io.Writer
	log    *slog.Logger

	stack, project, folder, tools string
	active                        atomic.Pointer[rehearsal.Rehearsal]
	stacks                        []*onStack // one for each command that works on a real stack
}

// interrupt asks a real stack's update that runs once more to stop, and says whether there is one.
func (a *application) interrupt() bool {
	return slices.ContainsFunc(a.stacks, func(o *onStack) bool { return o.Interrupt() })
}

func (a *application) kill() {
	if r := a.active.Load(); r != nil {
		r.Kill()
	}
}

func (a *application) rehearsal() (*rehearsal.Rehearsal, error) {
	r, err := rehearsal.New(rehearsal.Options{
		Project: a.project, Stack: a.stack, Folder: a.folder, Tools: a.tools,
		Out: a.stdout, Color: wantsColor(a.stdout), Log: a.log,
	})
	if err != nil {
		return nil, err
	}
	a.active.Store(r)
	return r, nil
}

func wantsColor(out io.Writer) bool {
	file, isFile := out.(*os.File)
	if !isFile || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (a *application) rehearseCommand() *cobra.Command {
	group := &cobra.Command{
		Use:   "rehearse",
		Short: "Run a stack against a simulated cluster on this machine",
		Long: `rehearse runs a stack where only what is physical is replaced: the real Kubernetes
control plane as plain processes, simulated nodes of the sizes that the stack names, the
real ` + "`pulumi up`" + ` of the stack file, and the real controllers of Flux and sealed-secrets.
Kubelets are simulated, so no image is pulled. No Docker and no root are needed.`,
		Example: `  mcs rehearse up                      # the development stack
  mcs rehearse up --stack production
  mcs rehearse preview
  mcs rehearse status --stack production
  mcs rehearse down --stack production`,
	}
	flags := group.PersistentFlags()
	flags.StringVarP(&a.stack, "stack", "s", "development", "stack to rehearse: Pulumi.<stack>.yaml")
	flags.StringVar(&a.project, "project", ".", "folder of Pulumi.yaml")
	flags.StringVar(&a.folder, "dir", "", "folder of the rehearsal (default .rehearsal/<stack> in the project)")
	flags.StringVar(&a.tools, "tools", "", "folder of the programs (default .tools/bin in the project)")
	group.AddCommand(a.upCommand(), a.previewCommand(), a.statusCommand(), a.downCommand())
	return group
}

func (a *application) upCommand() *cobra.Command {
	var options rehearsal.UpOptions
	command := &cobra.Command{
		Use:   "up",
		Short: "Bring a stack up, from nothing or from whatever is there",
		Long: `up starts the control plane if it does not run, simulates the nodes of the stack file, runs
pulumi up, and starts the controllers. It ends with the readiness of each workload, and why
one is not ready. Run it again after a change, a crash or a Ctrl-C.`,
		Example: `  mcs rehearse up
  mcs rehearse up --stack production
  eval "$(mcs rehearse up | tail -1)" && kubectl get pods -A`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.rehearsal()
			if err != nil {
				return err
			}
			return r.Up(cmd.Context(), options)
		},
	}
	command.Flags().BoolVar(&options.ExpectNoChanges, "expect-no-changes", false, "fail if the update changes anything")
	return command
}

func (a *application) previewCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "preview",
		Short: "Show what up would change, field by field",
		Long: `preview is pulumi preview against the state of the rehearsal. It changes nothing, and needs no
running cluster, but one that was up before.`,
		Example: `  mcs rehearse preview
  mcs rehearse preview --stack production`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.rehearsal()
			if err != nil {
				return err
			}
			return a.explain(r.ShowPreview(cmd.Context()))
		},
	}
}

// explain tells how to get out of the one situation that only a person can end.
func (a *application) explain(err error) error {
	if errors.Is(err, rehearsal.ErrNothing) {
		return fmt.Errorf("%w: start it with mcs rehearse up --stack %s", err, a.stack)
	}
	return err
}

func (a *application) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show each workload's readiness, and the processes of the rehearsal",
		Long:  "status changes nothing. It exits with 1 when something is not ready, or nothing is up.",
		Example: `  mcs rehearse status
  mcs rehearse status --stack production`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.rehearsal()
			if err != nil {
				return err
			}
			return a.status(cmd.Context(), r)
		},
	}
}

func (a *application) status(ctx context.Context, r *rehearsal.Rehearsal) error {
	report, err := r.Status(ctx)
	if err != nil {
		return a.explain(err)
	}
	for _, process := range report.Processes {
		a.log.Info("runs", "program", process.Name(), "process", process.PID)
	}
	if err := report.Render(a.stdout); err != nil {
		return err
	}
	if !report.OK() {
		return errSilent
	}
	return nil
}

func (a *application) downCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Stop the rehearsal and remove what it left",
		Long: `down stops every process of the rehearsal and removes its folder, from any half state. A
process is known by the path that it was started by, so no other is hit.`,
		Example: `  mcs rehearse down
  mcs rehearse down --stack production`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.rehearsal()
			if err != nil {
				return err
			}
			stopped, err := r.Down(cmd.Context())
			if errors.Is(err, rehearsal.ErrNothing) {
				fmt.Fprintln(a.stdout, "nothing to stop")
				return nil
			}
			if err != nil {
				return err
			}
			for _, process := range stopped {
				fmt.Fprintln(a.stdout, "stopped", process)
			}
			fmt.Fprintln(a.stdout, "removed", r.Folder())
			return nil
		},
	}
}
