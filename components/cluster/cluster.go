// Package cluster has a component for every kind of cluster that a stack can run on. Each
// offers the same thing to the layers above: a kubeconfig.
package cluster

import (
	"errors"
	"fmt"

	"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/nullify005/manager-cluster-state/config"
)

// ErrNotBuilt says that a kind of cluster is valid configuration with no component yet.
var ErrNotBuilt = errors.New("this kind of cluster can't be made yet")

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
}

// New makes, or finds, the cluster that cfg describes, and the provider that talks to it.
// A relative kubeconfig path counts from projectDir.
func New(ctx *pulumi.Context, cfg *config.Cluster, projectDir string, opts ...pulumi.ResourceOption) (*Cluster, error) {
	made, identifier := &Cluster{}, cfg.Name
	switch cfg.Kind {
	case config.Existing:
		existing, err := NewExisting(ctx, cfg.Name, &ExistingArgs{
			KubeconfigPath: cfg.Kubeconfig, ProjectDir: projectDir, Context: cfg.Context,
		}, opts...)
		if err != nil {
			return nil, err
		}
		made.Component, made.Kubeconfig = existing, existing.Kubeconfig
	case config.K3d:
		k3d, err := makeK3d(ctx, cfg, opts...)
		if err != nil {
			return nil, err
		}
		made.Component, made.Kubeconfig = k3d, k3d.Kubeconfig
		made.Installations = map[string]string{}
		for _, node := range cfg.Nodes {
			made.Installations[node.Name] = k3d.Installation
		}
		identifier += "/" + k3d.Installation
	case config.Pi:
		return nil, fmt.Errorf("cluster.kind is pi: %w; rehearse the stack with make up STACK=%s, "+
			"or set cluster.kind to existing with a kubeconfig of a k3s that already runs", ErrNotBuilt, ctx.Stack())
	default:
		return nil, fmt.Errorf("cluster.kind is %q: no such kind of cluster", cfg.Kind)
	}
	provider, err := NewProvider(ctx, cfg.Name, pulumi.String(identifier), made.Kubeconfig, cfg.Context, pulumi.Parent(made.Component))
	if err != nil {
		return nil, err
	}
	made.Provider = provider
	if made.Installations != nil {
		// Not with the command that makes the cluster: the engine doesn't count that as deleted
		// while it is deleted before it is replaced. The provider is replaced with each installation.
		made.On = []pulumi.ResourceOption{pulumi.DeletedWith(provider)}
	}
	return made, nil
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
