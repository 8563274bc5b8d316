package rehearsal

import (
	"context"
	"errors"
	"fmt"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/rehearsal/plugins"
)

// ensurePlugin leaves a plugin where the rehearsal's Pulumi finds it: the official one where
// this machine has it, else its stand-in.
func (r *Rehearsal) ensurePlugin(ctx context.Context, name string) error {
	target := plugins.Target{Project: r.source, Home: r.folder.pulumiHome(), Environ: r.environment()}
	official, err := target.Ensure(ctx, name)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("installing the %s plugin: %w", name, ErrInterrupted)
	case err != nil:
		return err
	case official != "":
		r.log.Info("using the official "+name+" plugin", "path", official)
	default:
		r.log.Info("using the stand-in of the " + name + " plugin: the official one is not on this machine")
	}
	return nil
}

// ensurePlugins leaves the plugins of every SDK that the stack uses where the rehearsal's Pulumi finds them. Where they
// belong has the SDK's version in it, which may have been raised while the cluster runs.
func (r *Rehearsal) ensurePlugins(ctx context.Context) error {
	rehearsed, err := r.Rehearsed()
	if err = errors.Join(err, r.ensurePlugin(ctx, plugins.GitHub)); err != nil {
		return err
	}
	if rehearsed.Cluster.Kind == config.Existing {
		return nil // it takes no command
	}
	return r.ensurePlugin(ctx, plugins.Command)
}

// build builds a program of the project.
func (r *Rehearsal) build(ctx context.Context, pkg, path string) error {
	err := plugins.Build(ctx, r.source, r.environment(), pkg, path)
	if ctx.Err() != nil {
		return fmt.Errorf("building %s: %w", pkg, ErrInterrupted)
	}
	return err
}
