// Command growth is the Pulumi program of a measurement: main.go of this repository, but for the catalog, which is
// as long as the environment says.
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/components/cluster"
	"github.com/nullify005/manager-cluster-state/components/delivery"
	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// count is the variable that says how many workloads there are.
const count = "GROWTH_WORKLOADS"

func main() {
	var info pulumi.RunInfo
	pulumi.Run(func(ctx *pulumi.Context) error { return run(ctx, &info) }, func(i *pulumi.RunInfo) { info = *i })
}

func run(ctx *pulumi.Context, info *pulumi.RunInfo) error {
	cfg, err := config.Load(info.Project, info.Config, info.ConfigSecretKeys, time.Now())
	if err != nil {
		return err
	}
	many, err := strconv.Atoi(os.Getenv(count))
	if err != nil {
		return fmt.Errorf("reading %s: %w", count, err)
	}
	on, err := cluster.New(ctx, cfg, info.RootDirectory)
	if err != nil {
		return err
	}
	return delivery.Deliver(ctx, &delivery.Args{
		Catalog: catalog(many), Delivery: cfg.Delivery, Interval: cfg.Flux.Interval.Duration,
		Provider: on.Provider, Kubeconfig: on.Kubeconfig, Context: cfg.Cluster.Context, ReadyTimeout: cfg.ReadyTimeout.Duration,
	}, on.On...)
}

// catalog lists workloads of one ConfigMap and one ServiceAccount each, in ten columns: each comes after the one
// that is ten before it, as far as a real catalog is deep.
func catalog(many int) []workloads.Workload {
	const columns, depth = 10, 3
	all := make([]workloads.Workload, many)
	for i := range all {
		name := fmt.Sprintf("small-%04d", i)
		meta := metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name, Labels: map[string]string{"app.kubernetes.io/name": name}}
		all[i] = workloads.Workload{Name: name, Namespace: metav1.NamespaceDefault, Objects: []client.Object{
			&corev1.ServiceAccount{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"}, ObjectMeta: meta},
			&corev1.ConfigMap{
				TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: meta, Data: map[string]string{"name": name},
			},
		}}
		if row := i / columns; row%depth > 0 {
			all[i].After = []string{all[i-columns].Name}
		}
	}
	return all
}
