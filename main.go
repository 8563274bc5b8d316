// Command manager-cluster-state is the Pulumi program of a home cluster: configuration to
// components. Nothing is decided here.
package main

import (
	"path/filepath"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/nullify005/manager-cluster-state/components/cluster"
	"github.com/nullify005/manager-cluster-state/components/delivery"
	"github.com/nullify005/manager-cluster-state/components/sealing"
	"github.com/nullify005/manager-cluster-state/config"
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
	catalog, err := workloads.Catalog(cfg, images)
	if err != nil {
		return err
	}
	if err := workloads.CheckMemory(cfg, catalog); err != nil {
		return err
	}
	on, err := cluster.New(ctx, &cfg.Cluster, info.RootDirectory)
	if err != nil {
		return err
	}
	keys, err := sealing.NewKeys(ctx, "sealing-keys", &sealing.KeysArgs{
		Keys: cfg.Sealing.Keys, Protect: cfg.Sealing.Protect, Provider: on.Provider,
	})
	if err != nil {
		return err
	}
	err = delivery.Deliver(ctx, &delivery.Args{
		Catalog:      catalog,
		Needs:        map[string][]pulumi.Resource{"sealed-secrets": keys.Secrets},
		Provider:     on.Provider,
		ReadyTimeout: cfg.ReadyTimeout.Duration,
	})
	if err != nil {
		return err
	}
	export(ctx, cfg, images, catalog, on)
	return nil
}
