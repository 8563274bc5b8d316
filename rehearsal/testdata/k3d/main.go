// Command k3d is the Pulumi program of a test: the cluster of main.go, with one object on it, which is
// protected as the sealing keys are.
package main

import (
	"time"

	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/nullify005/manager-cluster-state/components/cluster"
	"github.com/nullify005/manager-cluster-state/config"
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
	on, err := cluster.New(ctx, cfg, info.RootDirectory)
	if err != nil {
		return err
	}
	_, err = corev1.NewNamespace(ctx, "trial", &corev1.NamespaceArgs{
		Metadata: &metav1.ObjectMetaArgs{Name: pulumi.String("trial")},
	}, append(on.On, pulumi.Provider(on.Provider), pulumi.Protect(cfg.Sealing.Protect && !on.Anew))...)
	if err != nil {
		return err
	}
	ctx.Export("kubeconfig", on.Kubeconfig)
	ctx.Export(cluster.InstallationsOutput, pulumi.ToStringMap(on.Installations))
	return nil
}
