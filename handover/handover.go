// Package handover changes how a running stack is delivered, from direct to flux or back, so
// that no object is deleted and no pod restarts: what one delivery made is left in the cluster,
// and the other takes it over as it is.
package handover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/branch"
	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// Stack is a stack that runs, real or rehearsed.
type Stack interface {
	// StackName names it.
	StackName() string
	// ProjectDir is the folder that its list of images is relative to.
	ProjectDir() string
	// GitEnv is added to the environment of git, when it reads the branch as the user.
	GitEnv() []string
	// Config is its configuration now, with its secrets.
	Config(ctx context.Context) (*config.Config, error)
	// SetDelivery changes the two keys of its configuration.
	SetDelivery(ctx context.Context, delivery config.Delivery, handover bool) error
	// Pending says how many resources an update would change.
	Pending(ctx context.Context) (int, error)
	// Update runs pulumi up.
	Update(ctx context.Context) error
	// Client talks to its cluster.
	Client(ctx context.Context) (client.Client, error)
}

var (
	// ErrPending says that the stack isn't as its configuration has it.
	ErrPending = errors.New("the stack has changes that are not applied yet")
	// ErrImagesDiffer says that Git has other image tags than the local list.
	ErrImagesDiffer = errors.New("the list of images in Git is not the local one")
)

// Switch changes the delivery. Run again after whatever stopped it, it goes on from there.
func Switch(ctx context.Context, stack Stack, to config.Delivery, log *slog.Logger) error {
	cfg, err := stack.Config(ctx)
	if err != nil {
		return err
	}
	if cfg.Delivery != to {
		if err := begin(ctx, stack, cfg, to, log); err != nil {
			return err
		}
		log.Info("the objects change hands", "delivery", to)
	}
	if cfg.Delivery != to || cfg.Handover {
		if err := stack.SetDelivery(ctx, to, false); err != nil {
			return err
		}
	}
	if err := stack.Update(ctx); err != nil {
		return fmt.Errorf("delivering by %s: %w; mend it, and run the same command again", to, err)
	}
	// The configuration says nothing of what is left to do now.
	if err := takeOver(ctx, stack, to, log); err != nil {
		return fmt.Errorf("the stack is delivered by %s, and objects still have marks of before: %w; run the same command again", to, err)
	}
	return nil
}

// begin makes what is delivered now stay in the cluster.
func begin(ctx context.Context, stack Stack, cfg *config.Config, to config.Delivery, log *slog.Logger) error {
	if err := check(ctx, stack, cfg, to); err != nil {
		return err
	}
	if !cfg.Handover {
		pending, err := stack.Pending(ctx)
		if err != nil {
			return err
		}
		if pending > 0 {
			return fmt.Errorf("%w: %d resources; run pulumi up first, so that nothing but the delivery changes", ErrPending, pending)
		}
	}
	log.Info("what is delivered now is made to stay", "delivery", cfg.Delivery)
	if err := stack.SetDelivery(ctx, cfg.Delivery, true); err != nil {
		return err
	}
	if err := stack.Update(ctx); err != nil {
		return fmt.Errorf("making what is delivered now stay: %w; mend it, and run the same command again", err)
	}
	return nil
}

// check says what the configuration lacks for the other delivery, and holds Git against what the
// stack runs: the same objects, so that nothing rolls.
func check(ctx context.Context, stack Stack, cfg *config.Config, to config.Delivery) error {
	after := *cfg
	after.Delivery = to
	if err := after.Validate(time.Now()); err != nil {
		return fmt.Errorf("delivering by %s: %w", to, err)
	}
	images, err := workloads.LoadImages(filepath.Join(stack.ProjectDir(), cfg.Images))
	if err != nil {
		return err
	}
	pulled := *cfg
	pulled.Delivery = config.FluxCD
	catalog, err := workloads.Catalog(&pulled, images)
	if err != nil {
		return err
	}
	args := &branch.Args{Config: &pulled, Stack: stack.StackName(), Catalog: catalog, Images: images, GitEnv: stack.GitEnv()}
	tags, err := branch.Images(ctx, args)
	if err != nil {
		return err
	}
	for name, reference := range images {
		if tags[name] != reference {
			return fmt.Errorf("%w: %s is %s here and %s there; git pull, or push", ErrImagesDiffer, name, reference, tags[name])
		}
	}
	if to == config.Direct {
		return nil
	}
	_, err = branch.Check(ctx, args)
	return err
}
