package bootstrap

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/nullify005/manager-cluster-state/config"
)

// up runs the update, after showing what it would change; a dry run ends with that.
func (b *Bootstrap) up(ctx context.Context) error {
	problems, err := b.problems(ctx)
	if err != nil {
		return err
	}
	switch {
	case len(problems) > 0 && !b.DryRun:
		return problems
	case len(problems) > 0:
		b.sayf("would run pulumi up; what it would change can't be told before the rest is there")
		return nil
	}
	b.sayf("what pulumi up would change:")
	if err := b.Stack.Preview(ctx, b.Out); err != nil {
		return err
	}
	if b.DryRun {
		b.sayf("would run pulumi up")
		return nil
	}
	if !b.Ask(ctx, fmt.Sprintf("Run pulumi up of stack %s?", b.Stack.Name)) {
		return fmt.Errorf("%w: everything is in place for pulumi up -s %s", ErrStopped, b.Stack.Name)
	}
	if err := b.Stack.Up(ctx, b.Out); err != nil {
		return err
	}
	return b.summary(ctx)
}

// summary says what there is now, and what is done with it from now on.
func (b *Bootstrap) summary(ctx context.Context) error {
	said, err := b.Stack.Output(ctx, "urls")
	if err != nil {
		return err
	}
	var urls []string
	if err := json.Unmarshal([]byte(said), &urls); err != nil {
		return fmt.Errorf("reading the URLs among the stack's outputs: %w", err)
	}
	b.sayf("\nstack %s is ready", b.Stack.Name)
	for _, url := range urls {
		b.sayf("  %s", url)
	}
	if b.cfg.Cluster.Kind != config.Existing {
		b.sayf("kubectl:\n  (umask 077; pulumi stack output kubeconfig --show-secrets -s %s > kubeconfig.yaml)\n  kubectl --kubeconfig kubeconfig.yaml get pods -A", b.Stack.Name)
	}
	if b.cfg.Delivery == config.FluxCD {
		b.sayf("from now on git push is enough for what is in %s; what isn't takes pulumi up -s %s", b.folder(), b.Stack.Name)
		return nil
	}
	b.sayf("from now on a change takes pulumi up -s %s", b.Stack.Name)
	return nil
}

// oneLine is for messages of Git.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
