package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/render"
	"github.com/nullify005/manager-cluster-state/seal"
	"github.com/nullify005/manager-cluster-state/workloads"
)

var errUnsealed = errors.New("sealed files are not what the stack's config says")

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
			s, err := on.sealer(cmd.Context())
			if err != nil {
				return err
			}
			if check {
				return s.check()
			}
			return s.seal()
		},
	}, on)
	on.dryRunFlag(command)
	command.Flags().BoolVar(&check, "check", false, "change nothing; fail when a file is missing, useless, or not what the config says")
	command.MarkFlagsMutuallyExclusive("check", "dry-run")
	return command
}

// sealer is a stack with its secrets, and the files that there are.
type sealer struct {
	*onStack

	catalog []workloads.Workload
	keys    []config.SealingKey
	have    render.Files
}

func (o *onStack) sealer(ctx context.Context) (*sealer, error) {
	cfg, err := o.Config(ctx)
	if err != nil {
		return nil, err
	}
	if len(cfg.Sealing.Keys) == 0 {
		return nil, fmt.Errorf("stack %s has no sealing key; make it with: make keys STACK=%s", o.Name, o.Short())
	}
	images, err := workloads.LoadImages(filepath.Join(o.Project, cfg.Images))
	if err != nil {
		return nil, err
	}
	catalog, err := workloads.Catalog(cfg, images)
	if err != nil {
		return nil, err
	}
	s := &sealer{onStack: o, catalog: catalog, keys: cfg.Sealing.Keys}
	s.have, err = render.Read(filepath.Join(o.Project, s.path("")))
	return s, err
}

// path of a file of the stack, in the project.
func (s *sealer) path(file string) string {
	return filepath.FromSlash(path.Join(render.Folder(s.Short()), file))
}

func (s *sealer) seal() error {
	sealed, err := render.Seal(s.catalog, s.keys, s.have)
	if err != nil {
		return err
	}
	changed := slices.DeleteFunc(slices.Sorted(maps.Keys(sealed)), func(file string) bool {
		content, there := s.have[file]
		return there && bytes.Equal(content, sealed[file])
	})
	useless := render.Useless(sealed, s.have)
	seals, removes := "would seal", "would remove"
	if !s.dryRun {
		seals, removes = "sealed", "removed"
		if err := s.write(sealed, useless); err != nil {
			return err
		}
	}
	for _, file := range changed {
		why, err := s.why(file)
		if err != nil {
			return err
		}
		s.sayf("%s %s: %s", seals, s.path(file), why)
	}
	for _, file := range useless {
		s.sayf("%s %s: no workload has that secret", removes, s.path(file))
	}
	s.sayf("%d sealed files of stack %s stay as they are", len(sealed)-len(changed), s.Name)
	if len(changed)+len(useless) > 0 && !s.dryRun {
		s.nextf("make render STACK=%s, then commit and push", s.Short())
	}
	return nil
}

func (s *sealer) write(sealed render.Files, useless []string) error {
	// What is rendered is not its to write or to remove.
	have := maps.Clone(s.have)
	maps.DeleteFunc(have, func(file string, _ []byte) bool { return !render.IsSealed(file) })
	if _, err := render.Write(filepath.Join(s.Project, s.path("")), sealed, have); err != nil {
		return err
	}
	for _, file := range useless {
		if err := os.Remove(filepath.Join(s.Project, s.path(file))); err != nil {
			return fmt.Errorf("removing a sealed secret: %w", err)
		}
	}
	return nil
}

// why a file is written again.
func (s *sealer) why(file string) (string, error) {
	secrets, err := render.Secrets(s.catalog)
	if err != nil {
		return "", err
	}
	digestKey, err := seal.DigestKey(s.keys)
	if err != nil {
		return "", err
	}
	return why(s.have[file], secrets[file], s.keys, digestKey), nil
}

func why(existing []byte, secret *corev1.Secret, keys []config.SealingKey, digestKey []byte) string {
	switch {
	case existing == nil:
		return "it is new"
	case seal.Check(existing, secret, keys, digestKey) == nil:
		return "a newer key seals"
	case seal.Current(existing, secret, keys, digestKey):
		return "its labels or annotations changed"
	default:
		return "its secret changed, or it was damaged"
	}
}

func (s *sealer) check() error {
	problems, err := render.CheckSealed(s.catalog, s.keys, s.have)
	if err != nil {
		return err
	}
	for _, problem := range problems {
		s.sayf("%s/%s", render.Folder(s.Short()), problem)
	}
	if len(problems) > 0 {
		return errUnsealed
	}
	s.sayf("every secret of stack %s is sealed, and opens with its keys", s.Name)
	return nil
}
