package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/sealed"
	"github.com/nullify005/manager-cluster-state/workloads"
)

func (a *application) sealCommand() *cobra.Command {
	on, check := &onStack{}, false
	command := a.stackCommand(&cobra.Command{
		Use:   "seal",
		Short: "Seal a stack's secrets into files for Git",
		Long: `seal writes manifests/<stack>/<workload>/sealedsecret-<name>.yaml for each secret that Flux
pulls, from the stack's config. A file changes only when its secret or the key that seals did,
and one whose secret is gone is removed.`,
		Example: `  mcs seal --stack production
  mcs seal --stack production --dry-run
  mcs seal --stack production --check`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if check {
				return on.checkSealed(cmd.Context())
			}
			return on.seal(cmd.Context())
		},
	}, on)
	on.dryRunFlag(command)
	command.Flags().BoolVar(&check, "check", false, "change nothing; fail when a file is missing, stray, or not what the config says")
	command.MarkFlagsMutuallyExclusive("check", "dry-run")
	return command
}

// wanted is the config with its secrets, and the catalog of it.
func (o *onStack) wanted(ctx context.Context) (*config.Config, []workloads.Workload, error) {
	cfg, err := o.Config(ctx)
	if err != nil {
		return nil, nil, err
	}
	if len(cfg.Sealing.Keys) == 0 {
		return nil, nil, fmt.Errorf("stack %s has no sealing key; make it with: make keys STACK=%s", o.Name, o.short())
	}
	images, err := workloads.LoadImages(filepath.Join(o.Project, cfg.Images))
	if err != nil {
		return nil, nil, err
	}
	catalog, err := workloads.Catalog(cfg, images)
	return cfg, catalog, err
}

func (o *onStack) seal(ctx context.Context) error {
	cfg, catalog, err := o.wanted(ctx)
	if err != nil {
		return err
	}
	changes, files, err := sealed.Plan(os.DirFS(o.Project), o.Name, catalog, cfg.Sealing.Keys)
	if err != nil {
		return err
	}
	removes, seals := "removed", "sealed"
	if o.dryRun {
		removes, seals = "would remove", "would seal"
	} else if err := sealed.Apply(o.Project, changes); err != nil {
		return err
	}
	written := 0
	for _, change := range changes {
		verb := removes
		if change.Content != nil {
			verb, written = seals, written+1
		}
		o.sayf("%s %s: %s", verb, change.Path, change.Why)
	}
	o.sayf("%d sealed files of stack %s stay as they are", files-written, o.Name)
	if len(changes) > 0 && !o.dryRun {
		o.sayf("next: make render STACK=%s, then commit and push", o.short())
	}
	return nil
}

func (o *onStack) checkSealed(ctx context.Context) error {
	cfg, catalog, err := o.wanted(ctx)
	if err != nil {
		return err
	}
	if err := sealed.Check(os.DirFS(o.Project), o.Name, catalog, cfg.Sealing.Keys); err != nil {
		return err
	}
	o.sayf("every secret of stack %s is sealed, and opens with its keys", o.Name)
	return nil
}
