// Package cluster has a component for every kind of cluster that a stack can run on. Each
// offers the same thing to the layers above: a kubeconfig.
package cluster

import (
	"fmt"

	"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/nullify005/manager-cluster-state/config"
)

// Cluster is a cluster of any kind.
type Cluster struct {
	// Component is the resource to depend on.
	Component pulumi.Resource
	// Kubeconfig is the content of a kubeconfig file; a secret.
	Kubeconfig pulumi.StringOutput
	// Provider talks to the cluster.
	Provider *kubernetes.Provider
	// On are the options of what is on the cluster. Of one that the program makes, nothing is to be
	// deleted there that goes with the installation; its API may be gone already.
	On []pulumi.ResourceOption
	// Installations tell the installation that each node is of; none of an existing cluster.
	Installations map[string]string
	// Anew says that the cluster which the last update left is gone, and this is another.
	Anew bool

	// identity tells it from every other cluster, also from one that had its name before.
	identity pulumi.StringInput
	// joined are what to wait for until every node is there.
	joined []pulumi.Resource
}

// New makes, or finds, the cluster that cfg describes, and the provider that talks to it.
// A relative kubeconfig path counts from projectDir.
func New(ctx *pulumi.Context, cfg *config.Config, projectDir string, opts ...pulumi.ResourceOption) (*Cluster, error) {
	made, err := makeOrFind(ctx, cfg, projectDir, opts...)
	if err != nil {
		return nil, err
	}
	name := cfg.Cluster.Name
	made.Provider, err = NewProvider(ctx, name, made.identity, made.Kubeconfig, cfg.Cluster.Context,
		pulumi.Parent(made.Component), pulumi.DependsOn(made.joined))
	if err != nil {
		return nil, err
	}
	if made.Installations != nil {
		// Not with the command that makes the cluster: the engine doesn't count that as deleted
		// while it is deleted before it is replaced. The provider is replaced with each installation.
		made.On = []pulumi.ResourceOption{pulumi.DeletedWith(made.Provider)}
	}
	return made, nil
}

func makeOrFind(ctx *pulumi.Context, cfg *config.Config, projectDir string, opts ...pulumi.ResourceOption) (*Cluster, error) {
	switch of := &cfg.Cluster; of.Kind {
	case config.Existing:
		existing, err := NewExisting(ctx, of.Name, &ExistingArgs{
			KubeconfigPath: of.Kubeconfig, ProjectDir: projectDir, Context: of.Context,
		}, opts...)
		if err != nil {
			return nil, err
		}
		return &Cluster{Component: existing, Kubeconfig: existing.Kubeconfig, identity: pulumi.String(of.Name)}, nil
	case config.K3d:
		return makeK3d(ctx, of, opts...)
	case config.Pi:
		return makePi(ctx, cfg, projectDir, opts...)
	default:
		return nil, fmt.Errorf("cluster.kind is %q: no such kind of cluster", of.Kind)
	}
}

// secret is a string that is encrypted in the state and never shown.
func secret(text pulumi.StringInput) pulumi.StringOutput {
	return pulumi.ToSecret(text.ToStringOutput()).(pulumi.StringOutput) //nolint:forcetypeassert // it keeps the type of what it is given
}

// NewProvider makes the one Kubernetes provider of a stack. It is replaced, and everything
// with it, only when the cluster is another one: a rotated kubeconfig is an update.
func NewProvider(
	ctx *pulumi.Context, clusterName string, identity pulumi.StringInput, kubeconfig pulumi.StringOutput, context string, opts ...pulumi.ResourceOption,
) (*kubernetes.Provider, error) {
	args := &kubernetes.ProviderArgs{
		ClusterIdentifier:      identity,
		EnableConfigMapMutable: pulumi.Bool(true),
		EnableSecretMutable:    pulumi.Bool(true),
		EnableServerSideApply:  pulumi.Bool(true),
		Kubeconfig:             kubeconfig,
		// The API server itself is fair to those who ask it (API Priority and Fairness); the provider's own limit, 50
		// requests a second, is what more than a hundred objects would wait for.
		KubeClientSettings: &kubernetes.KubeClientSettingsArgs{Qps: pulumi.Float64(-1)},
	}
	if context != "" {
		args.Context = pulumi.String(context)
	}
	provider, err := kubernetes.NewProvider(ctx, clusterName, args, opts...)
	if err != nil {
		return nil, fmt.Errorf("making the Kubernetes provider of cluster %s: %w", clusterName, err)
	}
	return provider, nil
}
