// Package bootstrap brings a stack up from nothing, or goes on with one: a list of steps, each of which
// looks first, and does only what is missing. So it can be stopped and run again at any point.
package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/stack"
)

// Actions are what other commands of the helper do too. In a dry run they say what they would do.
type Actions struct {
	// Trust keeps the machines' host keys, after asking.
	Trust func(ctx context.Context) error
	// Pin writes what k3s's files must be.
	Pin func(ctx context.Context) error
	// CheckHosts asks every machine whether it is ready.
	CheckHosts func(ctx context.Context) error
	// Keys makes the keys that are missing.
	Keys func(ctx context.Context) error
	// Seal writes the secrets' sealed files, Render all others.
	Seal, Render func(ctx context.Context) error
	// Ask asks a person; whatever isn't a yes is a no.
	Ask func(ctx context.Context, question string) bool
}

// Bootstrap is one run.
type Bootstrap struct {
	Actions

	// Stack is the stack, whose own file is read and written.
	Stack *stack.Stack
	// Out takes what people read.
	Out io.Writer
	// DryRun changes nothing, anywhere.
	DryRun bool

	cfg *config.Config
	// scratch is a folder to try things in, where a dry run has no stack.
	scratch string
	// open are the steps that a run would not get past.
	open []string
}

var (
	// ErrStopped ends a run that a person has to do something for, which it has said.
	ErrStopped = errors.New("stopped")
	// ErrNotReady ends a dry run that has found what would stop a run.
	ErrNotReady = errors.New("a run would not get to its end: see above")
)

// step is one of the list.
type step struct {
	name string
	// applies says whether a stack has use for it; all have if nil.
	applies func(*config.Config) bool
	run     func(ctx context.Context) error
	// must ends a dry run too, if it fails: nothing after it can be told then.
	must bool
}

func (b *Bootstrap) steps() []step {
	machines := func(cfg *config.Config) bool { return cfg.Cluster.Kind == config.Pi }
	pulled := func(cfg *config.Config) bool { return cfg.Delivery == config.FluxCD }
	registers := func(cfg *config.Config) bool { return pulled(cfg) && cfg.Git.API() != "" }
	return []step{
		{name: "configuration", run: b.configuration, must: true},
		{name: "tools", run: b.tools, must: true},
		{name: "stack and passphrase", run: b.stack, must: true},
		{name: "host keys", applies: machines, run: b.hostKeys},
		{name: "k3s release", applies: machines, run: b.release},
		{name: "hosts", applies: machines, run: b.hosts},
		{name: "keys", applies: pulled, run: b.keys},
		{name: "GitHub", applies: registers, run: b.github},
		{name: "secrets", run: b.secrets},
		{name: "sealed and rendered files", applies: pulled, run: b.files},
		{name: "commit and push", applies: pulled, run: b.publish},
		{name: "pulumi up", run: b.up},
	}
}

// Run goes through the steps.
func (b *Bootstrap) Run(ctx context.Context) error {
	defer func() {
		if b.scratch != "" {
			_ = os.RemoveAll(b.scratch)
		}
	}()
	number := 0
	for _, s := range b.steps() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if s.applies != nil && !s.applies(b.cfg) {
			continue
		}
		number++
		b.sayf("\n%d. %s", number, s.name)
		err := s.run(ctx)
		switch {
		case ctx.Err() != nil:
			return errors.Join(ctx.Err(), err)
		case err != nil && b.DryRun && !s.must:
			b.sayf("%v", err)
			b.open = append(b.open, s.name)
		case err != nil:
			return fmt.Errorf("%s: %w\nafter that, run the same command again: it goes on from there", s.name, err)
		}
	}
	if b.DryRun && len(b.open) > 0 {
		return ErrNotReady
	}
	return nil
}

func (b *Bootstrap) sayf(format string, values ...any) { fmt.Fprintf(b.Out, format+"\n", values...) }

// configuration reads the stack file by itself: what is wrong with it is told all at once, before
// anybody needs a tool.
func (b *Bootstrap) configuration(context.Context) error {
	project, err := stack.ProjectName(b.Stack.Project)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(b.Stack.File())
	if err != nil {
		return fmt.Errorf("reading the stack file: %w", err)
	}
	values, secretKeys, err := config.ReadStackFile(project, content)
	if err != nil {
		return fmt.Errorf("%s: %w", b.Stack.File(), err)
	}
	b.cfg, err = config.Load(project, values, secretKeys, time.Now(), config.SkipSecrets(), config.ForStack(b.Stack.Name))
	if err != nil {
		return err
	}
	b.sayf("a cluster of kind %s, delivered by %s: nothing is wrong with it", b.cfg.Cluster.Kind, b.cfg.Delivery)
	return nil
}

// reload reads the configuration after something of it was changed.
func (b *Bootstrap) reload(ctx context.Context) (err error) {
	b.cfg, err = b.Stack.Config(ctx, config.SkipSecrets())
	return err
}

// problems are those of the configuration with its secrets.
func (b *Bootstrap) problems(ctx context.Context) (config.Problems, error) {
	_, err := b.Stack.Config(ctx)
	problems, are := errors.AsType[config.Problems](err)
	if are {
		return problems, nil
	}
	return nil, err
}
