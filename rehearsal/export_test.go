package rehearsal

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"

	"github.com/nullify005/manager-cluster-state/config"
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
