package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/nullify005/manager-cluster-state/bootstrap"
)

func (a *application) bootstrapCommand() *cobra.Command {
	p := &pinner{onStack: &onStack{guided: true}}
	on := p.onStack
	command := a.stackCommand(&cobra.Command{
		Use:   "bootstrap",
		Short: "Bring a stack up from nothing, or go on with it, step by step",
		Long: `bootstrap goes from a clone to a running stack: tools, stack and passphrase, host keys, the k3s
release, the machines, keys, secrets, sealed and rendered files, commit and push, pulumi up. Which of
them there are follows from the stack's configuration. Each looks first and does only what is missing,
and asks before anything that others see. Stopped at any point, and run again, it goes on from there.

With --dry-run nothing is changed anywhere: it asks the machines, the Git host and GitHub, says what
it would do, and ends with pulumi preview where that is possible.`,
		Example: `  mcs bootstrap --stack production --dry-run
  mcs bootstrap --stack production
  mcs bootstrap --stack development --yes`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if on.ConfigFile != "" {
				return errors.New("bootstrap works on the stack's own file, which is what Git has: leave out --config-file")
			}
			on.shown = on.Stack.File()
			return a.explainBootstrap(a.newBootstrap(p, cmd.InOrStdin()).Run(cmd.Context()))
		},
	}, on)
	on.dryRunFlag(command)
	command.Flags().BoolVarP(&on.yes, "yes", "y", false, "don't ask: keep the host keys that are shown, commit, push and update")
	p.hiddenFlags(command)
	return command
}

func (a *application) newBootstrap(p *pinner, answers io.Reader) *bootstrap.Bootstrap {
	on := p.onStack
	return &bootstrap.Bootstrap{
		Stack: &on.Stack, Out: on.out, DryRun: on.dryRun,
		Actions: bootstrap.Actions{
			Trust:      func(ctx context.Context) error { return on.trust(ctx, answers, nil) },
			Pin:        p.pin,
			CheckHosts: on.checkHosts,
			Keys:       on.makeKeys,
			Seal: func(ctx context.Context) error {
				s, err := on.sealer(ctx)
				if err != nil {
					return err
				}
				return s.seal()
			},
			Render: func(context.Context) error {
				err := a.render(on.Project, []string{on.Short()}, on.dryRun)
				if errors.Is(err, errStale) {
					on.sayf("would render these")
					return nil
				}
				return err
			},
			Ask: func(ctx context.Context, question string) bool {
				return on.confirm(ctx, answers, "%s", question) == nil
			},
		},
	}
}

// explainBootstrap: what a dry run has found, it has said.
func (a *application) explainBootstrap(err error) error {
	if errors.Is(err, bootstrap.ErrNotReady) {
		fmt.Fprintln(a.stdout, err)
		return errSilent
	}
	return err
}
