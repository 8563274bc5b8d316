// Command chain is the Pulumi program of a test: main.go of this repository, but for the catalog.
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
	"github.com/nullify005/manager-cluster-state/internal/chain"
	"github.com/nullify005/manager-cluster-state/workloads"
)

func main() {
	var info pulumi.RunInfo
	pulumi.Run(func(ctx *pulumi.Context) error { return run(ctx, &info) }, func(i *pulumi.RunInfo) { info = *i })
}

func run(ctx *pulumi.Context, info *pulumi.RunInfo) error {
	cfg, err := config.Load(info.Project, info.Config, info.ConfigSecretKeys, time.Now())
	if err != nil {
		return err
	}
	images, err := workloads.LoadImages(filepath.Join(info.RootDirectory, cfg.Images))
	if err != nil {
		return err
	}
	catalog, err := chain.Catalog(cfg, images)
	if err != nil {
		return err
	}
	revision := ""
	if cfg.Delivery == config.FluxCD && !ctx.DryRun() {
		revision, err = branch.Check(ctx.Context(), &branch.Args{Config: cfg, Stack: ctx.Stack(), Catalog: catalog, Images: images})
		if err != nil {
			return err
		}
	}
	on, err := cluster.New(ctx, cfg, info.RootDirectory)
	if err != nil {
		return err
	}
	keys, err := sealing.NewKeys(ctx, "sealing-keys", &sealing.KeysArgs{Keys: cfg.Sealing.Keys, Provider: on.Provider})
	if err != nil {
		return err
	}
	var deployKey []pulumi.Resource
	if cfg.Delivery == config.FluxCD {
		owner, repository := cfg.Git.Repository()
		key, err := github.NewDeployKey(ctx, "deploy-key", &github.DeployKeyArgs{
			PrivateKey: cfg.Secrets.DeployKey, Owner: owner, Repository: repository, BaseURL: cfg.Git.API(), Title: "chain",
		})
		if err != nil {
			return err
		}
		deployKey = key.Resources
	}
	return delivery.Deliver(ctx, &delivery.Args{
		Catalog:      catalog,
		Needs:        map[string][]pulumi.Resource{"sealed-secrets": keys.Secrets, workloads.SourceWorkload: deployKey},
		Delivery:     cfg.Delivery,
		Handover:     cfg.Handover,
		Suspend:      cfg.Suspend,
		Interval:     cfg.Flux.Interval.Duration,
		Revision:     revision,
		Provider:     on.Provider,
		Kubeconfig:   on.Kubeconfig,
		Context:      cfg.Cluster.Context,
		ReadyTimeout: cfg.ReadyTimeout.Duration,
	})
}
