package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/nullify005/manager-cluster-state/internal/flux"
)

const howSuspensionsRelate = `

There are two ways to suspend. This one is for now: Pulumi leaves it alone, and so it lasts until
mcs resume, or flux resume. The other is declared: a workload that is on the list ` + "`suspend`" + ` of
the stack file is suspended by pulumi up, and resumed by the pulumi up after it is off the list.`

func (a *application) suspendCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "suspend WORKLOAD",
		Short: "Have Flux leave a workload alone, as it is",
		Long: `suspend has Flux apply nothing of a workload, and undo nothing that is changed by hand, until it
is resumed. What runs goes on running.` + howSuspensionsRelate + onWhichCluster,
		Example: `  mcs suspend chat-hvac --stack production
  mcs suspend chat-hvac --stack development --rehearsal`,
		Args: oneWorkload,
	}
	on := a.on(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return on.suspend(cmd.Context(), args[0]) }
	return cmd
}

func (l *liveCluster) suspend(ctx context.Context, name string) error {
	c, err := l.client(ctx)
	if err != nil {
		return err
	}
	found, err := deliveredByFlux(ctx, c, name)
	if err != nil {
		return err
	}
	for _, state := range found {
		if err := flux.Suspend(ctx, c, state.Ref); err != nil {
			return err
		}
		fmt.Fprintf(l.app.stdout, "%s is suspended: Flux leaves it alone until mcs resume %s\n", state.Ref, name)
	}
	return nil
}

func (a *application) resumeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "resume WORKLOAD",
		Short: "Have Flux deliver a suspended workload again, and wait until it is ready",
		Long:  `resume ends a suspension, has Flux fetch the workload's source, and waits until it is ready.` + howSuspensionsRelate + onWhichCluster,
		Example: `  mcs resume chat-hvac --stack production
  mcs resume chat-hvac --stack development --rehearsal`,
		Args: oneWorkload,
	}
	on := a.on(cmd)
	timeout := addTimeout(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return on.resume(cmd.Context(), args[0], *timeout) }
	return cmd
}

func addTimeout(cmd *cobra.Command) *time.Duration {
	return cmd.Flags().Duration("timeout", 5*time.Minute, "how long to wait for each object; Ctrl-C ends the wait at once")
}

func (l *liveCluster) resume(ctx context.Context, name string, timeout time.Duration) error {
	c, err := l.client(ctx)
	if err != nil {
		return err
	}
	found, err := deliveredByFlux(ctx, c, name)
	if err != nil {
		return err
	}
	var resumed []flux.State
	for _, state := range found {
		if l.listed(state.Name) {
			l.app.log.Warn("it is on the list `suspend` of the stack file: take it off, or pulumi up may suspend it again", "workload", state.Name)
		}
		if state.Ready != flux.Suspended {
			fmt.Fprintf(l.app.stdout, "%s was not suspended\n", state.Ref)
			continue
		}
		if err := flux.Resume(ctx, c, state.Ref); err != nil {
			return err
		}
		resumed = append(resumed, state)
	}
	return l.deliver(ctx, c, resumed, false, timeout)
}
