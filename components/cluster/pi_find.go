package cluster

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/hosts"
)

// makePi looks at the machines, and installs what isn't there. A preview asks none of them, since
// it may run where they can't be reached: it takes what the last update has recorded for true.
func makePi(ctx *pulumi.Context, cfg *config.Config, projectDir string, opts ...pulumi.ResourceOption) (*Cluster, error) {
	recorded, err := installationsBefore(ctx)
	if err != nil {
		return nil, err
	}
	found := recorded
	if !ctx.DryRun() {
		if found, err = findPis(ctx, cfg); err != nil {
			return nil, err
		}
	}
	made := &Cluster{Installations: map[string]string{}}
	for i, node := range cfg.Cluster.Nodes {
		before, token := recorded[node.Name], found[node.Name]
		switch {
		case node.Offline:
			token = before
		case token == "":
			token = newInstallation()
		}
		if before != "" && token != before {
			made.Anew = made.Anew || i == 0
			if err := ctx.Log.Warn(becomesOf(node, found[node.Name] != "", i == 0), nil); err != nil {
				return nil, err
			}
		}
		if token != "" {
			made.Installations[node.Name] = token
		}
	}
	pi, err := NewPi(ctx, cfg.Cluster.Name, &PiArgs{
		Cluster: &cfg.Cluster, SSHKey: cfg.Secrets.SSHKey, ProjectDir: projectDir, Installations: made.Installations,
		Reboot: func(within context.Context, node config.Node, bootID string) error {
			return reboot(within, ctx, cfg, node, bootID)
		},
	}, opts...)
	if err != nil {
		return nil, err
	}
	made.Component, made.Kubeconfig, made.identity, made.joined = pi, pi.Kubeconfig, pulumi.String(pi.Identity), pi.Joined
	return made, nil
}

// findPis are the installations that are there, by the names of their nodes.
func findPis(ctx *pulumi.Context, cfg *config.Config) (map[string]string, error) {
	facts, err := hosts.Check(ctx.Context(), cfg, time.Now, hosts.ForStack(ctx.Stack()))
	if err != nil {
		return nil, fmt.Errorf("before anything of cluster %s was touched: %w", cfg.Cluster.Name, err)
	}
	found := map[string]string{}
	for name, fact := range facts {
		found[name] = fact.Installation
	}
	return found, nil
}

// becomesOf says what becomes of a node that is not as the last update left it.
func becomesOf(node config.Node, another, server bool) string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s: the k3s that the last update left there is gone", node.Name)
	if another {
		text.WriteString("; the one that is there now is of this program too, and is kept")
	} else {
		text.WriteString("; it is installed anew")
	}
	if server {
		text.WriteString(", with everything that was on the cluster")
	}
	return text.String()
}

func reboot(within context.Context, ctx *pulumi.Context, cfg *config.Config, node config.Node, bootID string) error {
	host, err := hosts.Named(cfg, node.Name, hosts.ForStack(ctx.Stack()))
	if err != nil {
		return err
	}
	return hosts.Reboot(within, host, bootID, cfg.Cluster.SSH.RebootTimeout.Duration, func(line string) {
		_ = ctx.Log.Info(line, nil) // progress that nobody sees is no reason to stop
	})
}
