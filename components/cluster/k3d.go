package cluster

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pulumi/pulumi-command/sdk/go/command/local"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"sigs.k8s.io/yaml"

	"github.com/nullify005/manager-cluster-state/components"
	"github.com/nullify005/manager-cluster-state/config"
)

// K3dArgs describes a k3d cluster.
type K3dArgs struct {
	// Name of the cluster: a DNS label.
	Name string
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

	create     *local.Command
	kubeconfig *local.Command
}

// NewK3d makes a cluster from a k3d config file that k3d reads from standard input. Any
// change of that file replaces the cluster, the old one deleted first, since both want
// ports 80 and 443.
func NewK3d(ctx *pulumi.Context, name string, args *K3dArgs, opts ...pulumi.ResourceOption) (*K3d, error) {
	file, err := args.configFile()
	if err != nil {
		return nil, err
	}
	k3d := &K3d{}
	inputs := pulumi.Map{"config": pulumi.String(file)}
	if err := ctx.RegisterComponentResourceV2(components.TokenClusterK3d, name, inputs, k3d, opts...); err != nil {
		return nil, fmt.Errorf("registering the k3d cluster %s: %w", name, err)
	}
	k3d.create, err = local.NewCommand(ctx, name, &local.CommandArgs{
		Create:   pulumi.String("k3d cluster create --config -"),
		Delete:   pulumi.String("k3d cluster delete " + args.Name),
		Stdin:    pulumi.String(file),
		Triggers: pulumi.Array{pulumi.String(file)},
	}, pulumi.Parent(k3d), pulumi.DeleteBeforeReplace(true))
	if err != nil {
		return nil, fmt.Errorf("creating the k3d cluster %s: %w", name, err)
	}
	k3d.kubeconfig, err = local.NewCommand(ctx, name+"-kubeconfig", &local.CommandArgs{
		Create:                 pulumi.String("k3d kubeconfig get " + args.Name),
		Triggers:               pulumi.Array{k3d.create.ID()},
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

// k3dFile is the part of k3d's config file (k3d.io/v1alpha5, Simple) that is used here.
type k3dFile struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   map[string]string `json:"metadata"`
	Servers    int               `json:"servers"`
	Agents     int               `json:"agents"`
	Image      string            `json:"image"`
	Ports      []k3dPort         `json:"ports"`
	Options    k3dOptions        `json:"options"`
}

type k3dPort struct {
	Port        string   `json:"port"`
	NodeFilters []string `json:"nodeFilters"`
}

type k3dOptions struct {
	K3d        k3dWait         `json:"k3d"`
	K3s        k3dK3s          `json:"k3s"`
	Kubeconfig map[string]bool `json:"kubeconfig"`
}

type k3dWait struct {
	Wait    bool   `json:"wait"`
	Timeout string `json:"timeout"`
}

type k3dK3s struct {
	ExtraArgs []k3dArg `json:"extraArgs,omitempty"`
}

type k3dArg struct {
	Arg         string   `json:"arg"`
	NodeFilters []string `json:"nodeFilters"`
}

func (a *K3dArgs) configFile() (string, error) {
	if a.Name == "" || a.K3s == "" {
		return "", errors.New("a k3d cluster needs a name and a k3s release; set cluster.name and cluster.k3s")
	}
	file := k3dFile{
		APIVersion: "k3d.io/v1alpha5",
		Kind:       "Simple",
		Metadata:   map[string]string{"name": a.Name},
		// An image tag can't have a plus, so k3s publishes v1.35.0+k3s1 as v1.35.0-k3s1.
		Image: "rancher/k3s:" + strings.ReplaceAll(a.K3s, "+", "-"),
		Ports: []k3dPort{
			{Port: "80:80", NodeFilters: []string{"loadbalancer"}},
			{Port: "443:443", NodeFilters: []string{"loadbalancer"}},
		},
		Options: k3dOptions{
			K3d: k3dWait{Wait: true, Timeout: "5m0s"},
			// The stack's output is the kubeconfig; the user's own file stays as it is.
			Kubeconfig: map[string]bool{"updateDefaultKubeconfig": false, "switchCurrentContext": false},
		},
	}
	if a.Flannel != "" {
		file.Options.K3s.ExtraArgs = append(file.Options.K3s.ExtraArgs, k3dArg{
			Arg: "--flannel-backend=" + string(a.Flannel), NodeFilters: []string{"server:*"},
		})
	}
	for _, node := range a.Nodes {
		filter := fmt.Sprintf("agent:%d", file.Agents)
		if node.Role == config.Server {
			filter = fmt.Sprintf("server:%d", file.Servers)
			file.Servers++
		} else {
			file.Agents++
		}
		if !node.RunsWorkloads() {
			file.Options.K3s.ExtraArgs = append(file.Options.K3s.ExtraArgs, k3dArg{
				Arg:         "--node-taint=node-role.kubernetes.io/control-plane=true:NoSchedule",
				NodeFilters: []string{filter},
			})
		}
	}
	if file.Servers == 0 {
		return "", errors.New("a k3d cluster needs a server; add a node with role server to cluster.nodes")
	}
	content, err := yaml.Marshal(file)
	if err != nil {
		return "", fmt.Errorf("writing the k3d config of cluster %s: %w", a.Name, err)
	}
	return string(content), nil
}
