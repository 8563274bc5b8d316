package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/seal"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// Surroundings starts what a real stack finds outside of it: a Git host, GitHub, a registry with
// images, the plugins.
func (r *Rehearsal) Surroundings(ctx context.Context) error {
	return r.locked(ctx, func() error {
		if err := errors.Join(r.ensureForge(ctx), r.ensurePlugins(ctx)); err != nil {
			return err
		}
		cfg, err := r.Rehearsed()
		if err != nil {
			return err
		}
		images, err := workloads.LoadImages(filepath.Join(r.root, cfg.Images))
		if err != nil {
			return err
		}
		catalog, err := r.catalog(cfg, images)
		if err != nil {
			return err
		}
		return r.publishImages(ctx, cfg, catalog, images)
	})
}

// Controllers runs the controllers of Flux and of sealed-secrets as their Deployments come, until ended is
// closed and all of them are healthy.
func (r *Rehearsal) Controllers(ctx context.Context, ended <-chan struct{}) error {
	return r.superviseControllers(ctx, ended)
}

// StackFile is the stack's file with what is physical replaced, and without any key or secret.
func (r *Rehearsal) StackFile() ([]byte, error) {
	source, err := os.ReadFile(r.sourceFile())
	if err != nil {
		return nil, err
	}
	nothing := &stackFile{project: r.project, root: &yaml.Node{Kind: yaml.MappingNode}}
	data, _, err := r.rehearsalFile(source, nothing)
	return data, err
}

// Environment is what a command of a person has, with the rehearsal's GitHub, Git host and Pulumi.
func (r *Rehearsal) Environment() []string { return r.engine.environment() }

// Build builds a program of the project.
func (r *Rehearsal) Build(ctx context.Context, pkg, path string) error {
	return r.build(ctx, pkg, path)
}

// SecretConfig is the rehearsed configuration, with the placeholders of its secrets in the clear.
func (r *Rehearsal) SecretConfig(ctx context.Context) (*config.Config, error) {
	return r.secretConfig(ctx)
}

// Placeholders are the values that a rehearsal has for secrets, by their paths.
func (r *Rehearsal) Placeholders() (map[string]string, error) {
	record, err := r.forge()
	if err != nil {
		return nil, err
	}
	return placeholders(record), nil
}

// WaitHealthy waits for the control plane as its start does.
func (r *Rehearsal) WaitHealthy(ctx context.Context) error {
	identity, err := os.ReadFile(r.folder.clusterID())
	if err != nil {
		return err
	}
	return r.waitHealthy(ctx, string(identity))
}

// Pull brings the clone to the newest commit of the branch.
func (r *Rehearsal) Pull(ctx context.Context) error {
	cfg, err := r.Rehearsed()
	if err != nil {
		return err
	}
	if _, err := r.openWorkTree(ctx, cfg); err != nil {
		return fmt.Errorf("pulling the rehearsal's repository: %w", err)
	}
	return nil
}

// Unset takes back what Set replaced.
func (r *Rehearsal) Unset(path string) { delete(r.overrides, path) }

// StopControllers ends the controllers of Flux and of sealed-secrets, as if they had died.
func (r *Rehearsal) StopControllers(ctx context.Context) error {
	return r.locked(ctx, func() error { return r.stopControllers(ctx) })
}

// RotateDeployKey has the next update pull with another key, as make rotate-deploy-key does with a
// real stack.
func (r *Rehearsal) RotateDeployKey(ctx context.Context) error {
	return r.locked(ctx, func() error {
		record, err := r.forge()
		if err != nil {
			return err
		}
		if record.DeployKey, _, err = seal.NewDeployKey("flux"); err != nil {
			return fmt.Errorf("making the rehearsal's deploy key: %w", err)
		}
		return r.writeForge(record)
	})
}

// RotateSealingKey adds a key pair, which seals from the next update on, as make
// rotate-sealing-key does with a real stack.
func (r *Rehearsal) RotateSealingKey(ctx context.Context) error {
	return r.locked(ctx, func() error {
		if err := r.engine.prepare(ctx); err != nil {
			return err
		}
		key, err := seal.NewSealingKey(time.Now())
		if err != nil {
			return err
		}
		return r.pulumiStack().AppendSealingKey(ctx, key)
	})
}
