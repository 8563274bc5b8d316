// Command manager-cluster-state is the Pulumi program of a home cluster: configuration to
// components. Nothing is decided here.
package main

import (
	"path/filepath"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/nullify005/manager-cluster-state/branch"
	"github.com/nullify005/manager-cluster-state/components/cluster"
	"github.com/nullify005/manager-cluster-state/components/delivery"
	"github.com/nullify005/manager-cluster-state/components/github"
	"github.com/nullify005/manager-cluster-state/components/sealing"
	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/workloads"
)

func main() {
	var info pulumi.RunInfo
	pulumi.Run(func(ctx *pulumi.Context) error { return run(ctx, &info) }, func(i *pulumi.RunInfo) { info = *i })
}

func run(ctx *pulumi.Context, info *pulumi.RunInfo) error {
	cfg, err := config.Load(info.Project, info.Config, info.ConfigSecretKeys, time.Now(), config.ForStack(ctx.Stack()))
	if err != nil {
		return err
	}
	images, err := workloads.LoadImages(filepath.Join(info.RootDirectory, cfg.Images))
	if err != nil {
		return err
	}
	catalog, err := workloads.Catalog(cfg, images)
	if err != nil {
		return err
	}
	if err := workloads.CheckMemory(cfg, catalog); err != nil {
		return err
	}
	revision, err := inGit(ctx, cfg, images, catalog)
	if err != nil {
		return err
	}
	on, err := cluster.New(ctx, cfg, info.RootDirectory)
	if err != nil {
		return err
	}
	keys, err := sealing.NewKeys(ctx, "sealing-keys", &sealing.KeysArgs{
		// What is protected in a cluster that is gone can't be kept from going with it.
		Keys: cfg.Sealing.Keys, Protect: cfg.Sealing.Protect && !on.Anew, Provider: on.Provider,
	}, on.On...)
	if err != nil {
		return err
	}
	deployKey, err := registerDeployKey(ctx, cfg)
	if err != nil {
		return err
	}
	err = delivery.Deliver(ctx, &delivery.Args{
		Catalog:      catalog,
		Needs:        map[string][]pulumi.Resource{workloads.SealedSecretsWorkload: keys.Secrets, workloads.SourceWorkload: deployKey},
		Delivery:     cfg.Delivery,
		Handover:     cfg.Handover,
		Suspend:      cfg.Suspend,
		Interval:     cfg.Flux.Interval.Duration,
		Revision:     revision,
		Provider:     on.Provider,
		Kubeconfig:   on.Kubeconfig,
		Context:      cfg.Cluster.Context,
		ReadyTimeout: cfg.ReadyTimeout.Duration,
	}, on.On...)
	if err != nil {
		return err
	}
	export(ctx, cfg, images, catalog, on)
	return nil
}

// inGit says which commit Flux is to pull. A preview only warns of what Git lacks: it may be of
// a branch that is not merged yet, or on a machine that can't reach the Git host.
func inGit(ctx *pulumi.Context, cfg *config.Config, images workloads.Images, catalog []workloads.Workload) (string, error) {
	if cfg.Delivery != config.FluxCD {
		return "", nil
	}
	revision, err := branch.Check(ctx.Context(), &branch.Args{Config: cfg, Stack: ctx.Stack(), Catalog: catalog, Images: images})
	if err != nil && ctx.DryRun() {
		return "", ctx.Log.Warn(err.Error(), nil)
	}
	return revision, err
}

// registerDeployKey lets Flux pull; where git.githubURL is empty and the host isn't GitHub, that
// is done by hand.
func registerDeployKey(ctx *pulumi.Context, cfg *config.Config) ([]pulumi.Resource, error) {
	if cfg.Delivery != config.FluxCD || cfg.Git.API() == "" {
		return nil, nil
	}
	owner, repository := cfg.Git.Repository()
	key, err := github.NewDeployKey(ctx, "deploy-key", &github.DeployKeyArgs{
		PrivateKey: cfg.Secrets.DeployKey, Owner: owner, Repository: repository, BaseURL: cfg.Git.API(),
		Writable: cfg.Pushes(), Title: "flux-" + cfg.Cluster.Name,
	})
	if err != nil {
		return nil, err
	}
	ctx.Export(github.RegisteredOutput, key.Registered)
	return key.Resources, nil
}
