package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/internal/flux"
)

func (a *application) reconcileCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reconcile [WORKLOAD]",
		Short: "Have Flux pull and apply now, and wait until it is done",
		Long: `reconcile has Flux fetch the source of a workload, then deliver the workload, without waiting for
its interval; of every workload, when none is named. It shows what Flux says meanwhile, and ends
when all is ready, or at once with Flux's own words when Flux gives up. Suspended workloads are
left alone.

--reset has a HelmRelease that has used up its retries try again.` + onWhichCluster,
		Example: `  mcs reconcile --stack production
  mcs reconcile chat-hvac --stack production --timeout 20m
  mcs reconcile chat-hvac --stack development --rehearsal
  mcs reconcile some-chart --stack production --reset`,
		Args: cobra.MaximumNArgs(1),
	}
	on := a.on(cmd)
	timeout := addTimeout(cmd)
	reset := cmd.Flags().Bool("reset", false, "forget how often a HelmRelease has failed")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name := ""
		if len(args) > 0 {
			name = args[0]
		}
		return on.reconcile(cmd.Context(), name, *reset, *timeout)
	}
	return cmd
}

func (l *liveCluster) reconcile(ctx context.Context, name string, reset bool, timeout time.Duration) error {
	c, err := l.client(ctx)
	if err != nil {
		return err
	}
	found, err := deliveredByFlux(ctx, c, name)
	if err != nil {
		return err
	}
	var asked []flux.State
	for _, state := range found {
		switch {
		case state.Ready != flux.Suspended:
			asked = append(asked, state)
		case name != "":
			return fmt.Errorf("%s is suspended: resume it with mcs resume %s", state.Ref, name)
		default:
			fmt.Fprintf(l.app.stdout, "%s is suspended, and left alone\n", state.Ref)
		}
	}
	return l.deliver(ctx, c, asked, reset, timeout)
}

// deliver brings sources up to date, then workloads to what their sources have.
func (l *liveCluster) deliver(ctx context.Context, c client.Client, asked []flux.State, reset bool, timeout time.Duration) error {
	var sources []flux.Ref
	for _, state := range asked {
		if state.Source.Name != "" && !slices.Contains(sources, state.Source) {
			sources = append(sources, state.Source)
		}
	}
	fetched, err := l.fetch(ctx, c, sources, timeout)
	if err != nil {
		return err
	}
	return l.apply(ctx, c, asked, fetched, reset, timeout)
}

// fetched is a source that was brought up to date.
type fetched struct {
	revision string
	isNew    bool // it had another before
}

// fetch brings sources up to date.
func (l *liveCluster) fetch(ctx context.Context, c client.Client, sources []flux.Ref, timeout time.Duration) (map[flux.Ref]fetched, error) {
	var waits []awaited
	before := map[flux.Ref]string{}
	for _, source := range sources {
		state, err := flux.StateOf(ctx, c, source)
		if err != nil {
			return nil, err
		}
		before[source] = state.Revision
		requestedAt, err := flux.Reconcile(ctx, c, source)
		if err != nil {
			return nil, err
		}
		waits = append(waits, awaited{Ref: source, requestedAt: requestedAt})
	}
	if err := l.await(ctx, c, waits, timeout); err != nil {
		return nil, err
	}
	all := map[flux.Ref]fetched{}
	for _, source := range sources {
		state, err := flux.StateOf(ctx, c, source)
		if err != nil {
			return nil, err
		}
		all[source] = fetched{revision: state.Revision, isNew: state.Revision != before[source]}
	}
	return all, nil
}

// apply brings workloads to what their sources have now.
func (l *liveCluster) apply(
	ctx context.Context, c client.Client, asked []flux.State, from map[flux.Ref]fetched, reset bool, timeout time.Duration,
) error {
	var waits []awaited
	for _, state := range asked {
		source := from[state.Source]
		wait := awaited{Ref: state.Ref, revision: source.revision}
		if !appliesByItself(state, source) {
			ask := flux.Reconcile
			if reset && state.Kind == flux.HelmRelease("", "").Kind {
				ask = flux.Reset
			}
			var err error
			if wait.requestedAt, err = ask(ctx, c, state.Ref); err != nil {
				return err
			}
		}
		waits = append(waits, wait)
	}
	return l.await(ctx, c, waits, timeout)
}

// appliesByItself says whether Flux is at a Kustomization already, since its source has news. A request would have it
// break off the health checks that it is in then, and begin again later.
func appliesByItself(state flux.State, source fetched) bool {
	return state.Kind == flux.Kustomization("", "").Kind && source.isNew && state.Revision != source.revision && state.Ready != flux.Stalled
}

// awaited is an object that a command waits for.
type awaited struct {
	flux.Ref

	requestedAt, revision string
}

// await waits for all of them at once, shows what Flux says, and reports every one that didn't
// become ready.
func (l *liveCluster) await(ctx context.Context, c client.Client, waits []awaited, timeout time.Duration) error {
	problems := make([]error, len(waits))
	var all sync.WaitGroup
	for i, wait := range waits {
		all.Go(func() {
			problems[i] = flux.WaitReady(ctx, c, wait.Ref, flux.WaitOptions{
				Timeout: timeout, Revision: wait.revision, RequestedAt: wait.requestedAt,
				Progress: func(message string) { l.app.log.Info(message, "of", wait.String()) },
			})
		})
	}
	all.Wait()
	for i, wait := range waits {
		if problems[i] != nil {
			continue
		}
		state, err := flux.StateOf(ctx, c, wait.Ref)
		if err != nil {
			problems[i] = err
			continue
		}
		at := ""
		if revision := state.ShortRevision(); revision != "" {
			at = " at " + revision
		}
		if state.Ready == flux.Suspended {
			fmt.Fprintf(l.app.stdout, "%s is suspended%s\n", wait.Ref, at)
		} else {
			fmt.Fprintf(l.app.stdout, "%s is ready%s\n", wait.Ref, at)
		}
	}
	return errors.Join(problems...)
}
