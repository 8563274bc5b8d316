package main

import (
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/nullify005/manager-cluster-state/components/cluster"
	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// export sets the stack's outputs.
func export(ctx *pulumi.Context, cfg *config.Config, images workloads.Images, catalog []workloads.Workload, on *cluster.Cluster) {
	urls, names, versions := pulumi.StringArray{}, pulumi.StringArray{}, pulumi.StringMap{}
	for _, workload := range catalog {
		names = append(names, pulumi.String(workload.Name))
		urls = append(urls, pulumi.ToStringArray(workload.URLs)...)
	}
	for name, version := range workloads.Versions(catalog, images) {
		versions[name] = pulumi.String(version)
	}
	if cfg.Cluster.K3s != "" {
		versions["k3s"] = pulumi.String(cfg.Cluster.K3s)
	}
	ctx.Export("kubeconfig", on.Kubeconfig)
	if len(on.Installations) > 0 {
		ctx.Export(cluster.InstallationsOutput, pulumi.ToStringMap(on.Installations))
	}
	ctx.Export("urls", urls)
	ctx.Export("workloads", names)
	ctx.Export("versions", versions)
}
