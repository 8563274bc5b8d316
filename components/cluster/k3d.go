package cluster

import (
	"cmp"
	_ "embed"
	"fmt"
	"strings"

	"github.com/pulumi/pulumi-command/sdk/go/command/local"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/nullify005/manager-cluster-state/components"
	"github.com/nullify005/manager-cluster-state/config"
)

// k3dScript makes and removes a cluster, after the settings that go before it.
//
//go:embed k3d/k3d.sh
var k3dScript string

// K3dArgs describes a k3d cluster.
type K3dArgs struct {
	// Name of the cluster: a DNS label.
	Name string
	// Installation tells this cluster from every other that ever has its name: the token of the
	// one that is there, or a new one, which then replaces what is there.
	Installation string
	// K3s is the release, as v1.35.0+k3s1.
	K3s string
	// Flannel is the backend for traffic between nodes; empty leaves it to k3s.
	Flannel config.Flannel
	// Nodes gives the number of servers and agents, and which of them take no workloads.
	Nodes []config.Node
}

// K3d is a k3s cluster in Docker containers, made and deleted by the k3d command.
type K3d struct {
	pulumi.ResourceState

	// Kubeconfig of the cluster's admin; a secret.
	Kubeconfig pulumi.StringOutput
	// Installation is the token of this very cluster; another one has other objects.
	Installation string
	// Created is the resource that the cluster lives and dies with.
	Created pulumi.Resource

	create     *local.Command
	kubeconfig *local.Command
}

// makeK3d makes the cluster that cfg describes, or keeps the one that is there. In a preview,
// what would stop an update is only told: it may run where there is no Docker.
func makeK3d(ctx *pulumi.Context, cfg *config.Cluster, opts ...pulumi.ResourceOption) (*Cluster, error) {
	args := k3dArgs(cfg)
	recorded, err := installationsBefore(ctx)
	if err != nil {
		return nil, err
	}
	before := ""
	for _, node := range cfg.Nodes {
		before = cmp.Or(before, recorded[node.Name])
	}
	found, err := findK3d(ctx.Context(), args)
	switch {
	case err != nil && !ctx.DryRun():
		return nil, fmt.Errorf("before anything of the k3d cluster %s was touched: %w", args.Name, err)
	case err != nil:
		err = ctx.Log.Warn(fmt.Sprintf("an update on this machine would stop before it touches anything: %v", err), nil)
		found = &k3dFound{installation: before}
	default:
		err = found.say(ctx, args.Name, before)
	}
	if err != nil {
		return nil, err
	}
	args.Installation = newInstallation()
	if found.keeps() {
		args.Installation = found.installation
		if found.stopped && !ctx.DryRun() {
			if err := startK3d(ctx.Context(), args.Name); err != nil {
				return nil, err
			}
		}
	}
	k3d, err := NewK3d(ctx, cfg.Name, args, opts...)
	if err != nil {
		return nil, err
	}
	made := &Cluster{
		Component: k3d, Kubeconfig: k3d.Kubeconfig, Installations: map[string]string{},
		Anew:     before != "" && before != k3d.Installation,
		identity: pulumi.String(cfg.Name + "/" + k3d.Installation),
	}
	for _, node := range cfg.Nodes {
		made.Installations[node.Name] = k3d.Installation
	}
	return made, nil
}

// say tells what becomes of what is there, and of what was there after the last update.
func (f *k3dFound) say(ctx *pulumi.Context, cluster, before string) error {
	const lost = "what its pods have stored, metrics and logs among it, is lost; what this stack describes is made again"
	switch {
	case len(f.changed) > 0:
		return ctx.Log.Warn(fmt.Sprintf("the k3d cluster %s is replaced, because of %s: %s", cluster, strings.Join(f.changed, ", "), lost), nil)
	case f.half:
		return ctx.Log.Warn(fmt.Sprintf("the k3d cluster %s is only half there, and made anew", cluster), nil)
	case f.installation == "" && before != "":
		return ctx.Log.Warn(fmt.Sprintf("the k3d cluster %s, which the last update left, is gone: it is made anew, with everything on it", cluster), nil)
	case f.installation != before && f.installation != "":
		return ctx.Log.Info(fmt.Sprintf("a k3d cluster %s of this program is there already, and as it is wanted: it is kept", cluster), nil)
	case f.stopped:
		return ctx.Log.Info(fmt.Sprintf("the k3d cluster %s is stopped: an update starts it", cluster), nil)
	}
	return nil
}

// NewK3d makes a cluster from a k3d config file. Another
// installation replaces it, the old one deleted first, since both want ports 80 and 443.
func NewK3d(ctx *pulumi.Context, name string, args *K3dArgs, opts ...pulumi.ResourceOption) (*K3d, error) {
	file, err := args.configFile()
	if err != nil {
		return nil, err
	}
	described, err := file.describe()
	if err != nil {
		return nil, err
	}
	content, err := file.labelled(args.Installation)
	if err != nil {
		return nil, err
	}
	k3d := &K3d{Installation: args.Installation}
	// Field by field, so that a preview shows what changes.
	inputs := pulumi.Map{"config": pulumi.ToMap(described)}
	if err := ctx.RegisterComponentResourceV2(components.TokenClusterK3d, name, inputs, k3d, opts...); err != nil {
		return nil, fmt.Errorf("registering the k3d cluster %s: %w", name, err)
	}
	k3d.create, err = local.NewCommand(ctx, name, &local.CommandArgs{
		Create:                 pulumi.String("sh -s -- create"),
		Delete:                 pulumi.String("sh -s -- delete"),
		Stdin:                  pulumi.String(args.script(content)),
		Triggers:               pulumi.Array{pulumi.String(args.Installation)},
		AddPreviousOutputInEnv: pulumi.Bool(false),
	}, pulumi.Parent(k3d), pulumi.DeleteBeforeReplace(true))
	if err != nil {
		return nil, fmt.Errorf("creating the k3d cluster %s: %w", name, err)
	}
	k3d.Created = k3d.create
	k3d.kubeconfig, err = local.NewCommand(ctx, name+"-kubeconfig", &local.CommandArgs{
		Create:                 pulumi.String("k3d kubeconfig get " + args.Name),
		Triggers:               pulumi.Array{pulumi.String(args.Installation)},
		Logging:                local.LoggingNone,
		AddPreviousOutputInEnv: pulumi.Bool(false),
	}, pulumi.Parent(k3d), pulumi.DependsOn([]pulumi.Resource{k3d.create}),
		pulumi.AdditionalSecretOutputs([]string{"stdout", "stderr"}))
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig of the k3d cluster %s: %w", name, err)
	}
	k3d.Kubeconfig = secret(k3d.kubeconfig.Stdout)
	return k3d, ctx.RegisterResourceOutputs(k3d, pulumi.Map{"kubeconfig": k3d.Kubeconfig})
}

// script is what the shell reads. Its settings need no quotes: a name is a DNS label, a token hex.
func (a *K3dArgs) script(file string) string {
	return fmt.Sprintf("cluster=%s\ninstallation=%s\nconfig() {\n\tcat <<'END'\n%sEND\n}\n%s", a.Name, a.Installation, file, k3dScript)
}
