package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nullify005/manager-cluster-state/internal/flux"
)

func (a *application) fluxStatusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show Flux's view of each workload: message, revision and age",
		Long: `status changes nothing. It exits with 1 when Flux says of something that it isn't ready; what is
suspended is as someone wanted it.` + onWhichCluster,
		Example: `  mcs status --stack production
  mcs status --stack development --rehearsal
  mcs status --kubeconfig ~/.kube/config`,
		Args: cobra.NoArgs,
	}
	on := a.on(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return on.status(cmd.Context()) }
	return cmd
}

func (l *liveCluster) status(ctx context.Context) error {
	c, err := l.client(ctx)
	if err != nil {
		return err
	}
	states, err := flux.Workloads(ctx, c)
	if err != nil {
		return err
	}
	if len(states) == 0 {
		fmt.Fprintln(l.app.stdout, "Flux delivers nothing in this cluster")
		return nil
	}
	fmt.Fprint(l.app.stdout, flux.Table(states))
	if problems := flux.Problems(states); len(problems) > 0 {
		fmt.Fprintf(l.app.stdout, "\nNot ready:\n  %s\n", strings.Join(problems, "\n  "))
		return errSilent
	}
	return nil
}
