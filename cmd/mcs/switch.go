package main

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/handover"
	"github.com/nullify005/manager-cluster-state/internal/flux"
)

var errNoDelivery = errors.New("name the delivery to switch to: direct or flux")

func (a *application) switchCommand() *cobra.Command {
	on := &onStack{}
	rehearsed := false
	command := &cobra.Command{
		Use:   "switch direct|flux",
		Short: "Change how a running stack is delivered, without touching a pod",
		Long: `switch hands the objects of a running stack over to the other delivery: nothing is deleted, and
no pod restarts. It asks for a stack with no pending changes, and for flux that the rendered and
sealed manifests are pushed (mcs keys, seal and render make them). Then it runs pulumi up twice:
once to have what is there stay, once with the key delivery changed. Run it again after whatever
stopped it. To change the key by hand instead is refused at preview.

It acts on the stack itself; with --rehearsal on the stack's rehearsal.`,
		Example: `  mcs switch flux --stack development --rehearsal
  mcs switch direct --stack production --dry-run
  mcs switch flux --stack development --yes`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] != string(config.Direct) && args[0] != string(config.FluxCD) {
				return errNoDelivery
			}
			to := config.Delivery(args[0])
			if rehearsed {
				a.stack, a.project, a.tools = on.Name, on.Project, ""
				r, err := a.rehearsal()
				if err != nil {
					return err
				}
				return a.explain(r.Switch(cmd.Context(), to))
			}
			if on.dryRun {
				return on.planSwitch(cmd.Context(), to)
			}
			if err := on.confirm(cmd.Context(), cmd.InOrStdin(), "Switch stack %s to delivery %s, by two runs of pulumi up?", on.Name, to); err != nil {
				return err
			}
			if err := handover.Switch(cmd.Context(), &switchedStack{on}, to, a.log); err != nil {
				return err
			}
			on.sayf("stack %s is delivered by %s; next: commit %s", on.Name, to, on.File())
			return nil
		},
	}
	a.stackCommand(command, on)
	on.dryRunFlag(command)
	command.Flags().BoolVar(&on.yes, "yes", false, "don't ask")
	command.Flags().BoolVar(&rehearsed, "rehearsal", false, "act on the stack's rehearsal, as mcs rehearse up left it")
	// A rehearsal would be switched all the same.
	command.MarkFlagsMutuallyExclusive("rehearsal", "dry-run")
	command.MarkFlagsMutuallyExclusive("rehearsal", "config-file")
	return command
}

// planSwitch says what would be done.
func (o *onStack) planSwitch(ctx context.Context, to config.Delivery) error {
	cfg, err := o.load(ctx)
	if err != nil {
		return err
	}
	if cfg.Delivery == to {
		o.sayf("stack %s is delivered by %s already: pulumi up would be run once", o.Name, to)
		return nil
	}
	o.sayf("would check that stack %s has no pending changes, and that branch %s has what it runs", o.Name, cfg.Git.Branch)
	o.sayf("would set handover, and run pulumi up: what is delivered by %s is made to stay", cfg.Delivery)
	o.sayf("would set delivery to %s, remove handover, and run pulumi up", to)
	if to == config.Direct {
		o.sayf("would take Flux's marks off the objects, and delete the SealedSecrets but not their Secrets")
	}
	return nil
}

// switchedStack is a real stack as package handover sees it.
type switchedStack struct{ *onStack }

func (r *switchedStack) StackName() string { return path.Base(r.Name) }

func (r *switchedStack) ProjectDir() string { return r.Project }

func (r *switchedStack) GitEnv() []string { return nil }

func (r *switchedStack) Config(ctx context.Context) (*config.Config, error) {
	return r.Stack.Config(ctx)
}

func (r *switchedStack) SetDelivery(ctx context.Context, delivery config.Delivery, handover bool) error {
	if err := r.Set(ctx, "delivery", string(delivery), false); err != nil {
		return err
	}
	if !handover {
		return r.Remove(ctx, "handover")
	}
	return r.Set(ctx, "handover", "true", false)
}

func (r *switchedStack) Update(ctx context.Context) error { return r.Up(ctx, r.out) }

func (r *switchedStack) Client(ctx context.Context) (client.Client, error) {
	cfg, err := r.load(ctx)
	if err != nil {
		return nil, err
	}
	kubeconfig, err := r.Output(ctx, "kubeconfig")
	if err != nil {
		return nil, err
	}
	c, err := flux.NewClient([]byte(kubeconfig), cfg.Cluster.Context)
	if err != nil {
		return nil, fmt.Errorf("reaching the cluster of stack %s: %w", r.Name, err)
	}
	return c, nil
}
