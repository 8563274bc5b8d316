package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/internal/flux"
)

var errNotConfirmed = errors.New("nothing was cleared: it was not confirmed; --yes confirms")

func (a *application) clearFinalizersCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "clear-finalizers",
		Short: "Do the controllers' part of a teardown when none of Flux's is left to do it",
		Long: `clear-finalizers is for a teardown that hangs because Flux's controllers are gone or broken; where
they still run, let pulumi destroy do it. It deletes what the Kustomizations had applied, and
removes the finalizer finalizers.fluxcd.io from every object of Flux's own kinds, so that their
deletion ends; it touches no other finalizer. It lists all of that, and asks first. Run pulumi
destroy after it, or let the one that hangs go on.

What a Helm release installed goes with its namespace; its uninstall hooks don't run.` + onWhichCluster,
		Example: `  mcs clear-finalizers --stack production --dry-run
  mcs clear-finalizers --stack production
  mcs clear-finalizers --stack production --keep-objects   # leave what was applied in the cluster
  mcs clear-finalizers --stack development --rehearsal --yes`,
		Args: cobra.NoArgs,
	}
	on := a.on(cmd)
	dryRun := cmd.Flags().Bool("dry-run", false, "list them, and do nothing")
	keep := cmd.Flags().Bool("keep-objects", false, "leave what the Kustomizations had applied in the cluster")
	yes := cmd.Flags().Bool("yes", false, "don't ask")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		confirm := func(question string) bool { return *yes || ask(cmd.Context(), cmd.InOrStdin(), a.stdout, question) }
		return on.clearFinalizers(cmd.Context(), *dryRun, *keep, confirm)
	}
	return cmd
}

func (l *liveCluster) clearFinalizers(ctx context.Context, dryRun, keep bool, confirm func(string) bool) error {
	c, err := l.client(ctx)
	if err != nil {
		return err
	}
	held, err := flux.ClearFinalizers(ctx, c, true)
	if err != nil {
		return err
	}
	if len(held) == 0 {
		fmt.Fprintln(l.app.stdout, "no object has Flux's finalizer")
		return nil
	}
	var applied []flux.Ref
	if !keep {
		if applied, err = flux.Applied(ctx, c); err != nil {
			return err
		}
	}
	for _, ref := range applied {
		fmt.Fprintf(l.app.stdout, "%s, which a Kustomization applied: to be deleted\n", ref)
	}
	for _, one := range held {
		how := ""
		if one.Deleted {
			how = ", which is being deleted"
		}
		fmt.Fprintf(l.app.stdout, "%s%s: to be let go\n", one.Ref, how)
	}
	alive, err := l.alive(ctx, c)
	if err != nil {
		return err
	}
	if len(alive) > 0 {
		l.app.log.Warn("these controllers run, and would let go of their objects themselves once what they applied is gone",
			"controllers", strings.Join(alive, ", "))
	}
	if dryRun {
		return nil
	}
	if !confirm(fmt.Sprintf("Remove Flux's finalizer from %d objects, and delete %d that were applied?", len(held), len(applied))) {
		return errNotConfirmed
	}
	if !keep {
		pruned, err := flux.Prune(ctx, c)
		fmt.Fprintf(l.app.stdout, "deleted %d\n", len(pruned))
		if err != nil {
			return err
		}
	}
	cleared, err := flux.ClearFinalizers(ctx, c, false)
	fmt.Fprintf(l.app.stdout, "cleared %d\n", len(cleared))
	return err
}

// alive names the controllers of Flux that run: in a rehearsal as processes, which hold no lease.
func (l *liveCluster) alive(ctx context.Context, c client.Client) ([]string, error) {
	if !l.rehearsal {
		return flux.Alive(ctx, c)
	}
	r, err := l.rehearsed()
	if err != nil {
		return nil, err
	}
	running, err := r.Running(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, process := range running {
		if slices.Contains(flux.Controllers(), process.Name()) {
			names = append(names, process.Name())
		}
	}
	return names, nil
}
