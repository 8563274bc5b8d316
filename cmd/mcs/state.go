package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/nullify005/manager-cluster-state/stack"
)

func (a *application) restoreStateCommand() *cobra.Command {
	on := &onStack{}
	command := a.stackCommand(&cobra.Command{
		Use:   "restore-state",
		Short: "Put Pulumi's newest whole copy of a stack's state where a full disk has cut it off",
		Long: `restore-state is for a state in a folder (pulumi login --local) that Pulumi can't read any more:
"failed to load checkpoint: unexpected end of JSON input". Where its disk is full, Pulumi's file
backend leaves as much of a state as there was room for. It has copies of the steps before, of which
this puts the newest whole one back; what is broken is kept beside it. A state that is whole is left
alone. The next pulumi up finds what was made since, and takes it over.`,
		Example: `  mcs restore-state --stack production --dry-run
  mcs restore-state --stack production`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return on.restoreState(cmd.Context(), func(question string) bool {
				return on.yes || ask(cmd.Context(), cmd.InOrStdin(), a.stdout, question)
			})
		},
	}, on)
	on.dryRunFlag(command)
	command.Flags().BoolVar(&on.yes, "yes", false, "don't ask")
	return command
}

func (o *onStack) restoreState(ctx context.Context, confirm func(string) bool) error {
	state, err := o.State(ctx)
	if err != nil {
		return err
	}
	count, err := state.Resources()
	switch {
	case err == nil:
		o.sayf("the state of stack %s is whole, with %d resources: nothing to restore", o.Name, count)
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("stack %s has no state in %s; make one with: pulumi stack init %s", o.Name, state.Backend, o.Name)
	case !errors.Is(err, stack.ErrCutOff):
		return err
	}
	broken := err
	locks, err := state.Locks()
	if err != nil {
		return err
	}
	if len(locks) > 0 {
		return fmt.Errorf("%w; but the stack is locked: when nobody else runs an update of it, run pulumi cancel -s %s first", broken, o.Name)
	}
	newest, err := state.Newest()
	if err != nil {
		return fmt.Errorf("%w; %w; docs/clusters.md has what to do when a state is lost", broken, err)
	}
	o.sayf("%v", broken)
	o.sayf("the newest whole copy is of %s, with %d resources: %s", newest.Written.Format(time.DateTime), newest.Resources, newest.File)
	if o.dryRun {
		o.sayf("would put it back")
		return nil
	}
	if !confirm("Put it back?") {
		return errDeclined
	}
	if err := state.Restore(newest); err != nil {
		return err
	}
	o.sayf("done; what was cut off is in %s.broken", state.File())
	o.nextf("make room on that disk, then pulumi up -s %s", o.Name)
	return nil
}
