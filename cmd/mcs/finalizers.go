package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
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
		Short: "Let go of Flux's objects when no controller of Flux is left to do it",
		Long: `clear-finalizers is for a teardown that hangs because Flux's controllers are gone or broken. It
removes the finalizer finalizers.fluxcd.io from every object of Flux's own kinds, so that their
deletion ends; it touches no other kind and no other finalizer. It lists them, and asks first.

What those objects had applied stays in the cluster, since nobody is left to take it away: where
the controllers still run, let pulumi destroy do it.` + onWhichCluster,
		Example: `  mcs clear-finalizers --stack production --dry-run
  mcs clear-finalizers --stack production
  mcs clear-finalizers --stack development --rehearsal --yes`,
		Args: cobra.NoArgs,
	}
	on := a.on(cmd)
	dryRun := cmd.Flags().Bool("dry-run", false, "list them, and do nothing")
	yes := cmd.Flags().Bool("yes", false, "don't ask")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		confirm := func(question string) bool { return *yes || on.confirm(cmd.Context(), cmd.InOrStdin(), question) }
		return on.clearFinalizers(cmd.Context(), *dryRun, confirm)
	}
	return cmd
}

func (l *liveCluster) clearFinalizers(ctx context.Context, dryRun bool, confirm func(string) bool) error {
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
	for _, one := range held {
		how := ""
		if one.Deleted {
			how = ", which is being deleted"
		}
		fmt.Fprintf(l.app.stdout, "%s%s\n", one.Ref, how)
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
	if !confirm(fmt.Sprintf("Remove Flux's finalizer from these %d? What they had applied stays in the cluster. [y/N] ", len(held))) {
		return errNotConfirmed
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

// confirm asks a person. Ctrl-C is a no.
func (l *liveCluster) confirm(ctx context.Context, in io.Reader, question string) bool {
	fmt.Fprint(l.app.stdout, question)
	answers := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(in).ReadString('\n')
		answers <- line
	}()
	select {
	case <-ctx.Done():
		return false
	case answer := <-answers:
		return slices.Contains([]string{"y", "yes"}, strings.ToLower(strings.TrimSpace(answer)))
	}
}
