package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nullify005/manager-cluster-state/render"
	"github.com/nullify005/manager-cluster-state/stack"
)

var errStale = errors.New("rendered files are stale; run: make render, and commit")

func (a *application) renderCommand() *cobra.Command {
	var stacks []string
	var projectDir string
	var check bool
	command := &cobra.Command{
		Use:   "render",
		Short: "Write the manifests that Flux pulls from Git",
		Long: `render writes manifests/<stack>/<workload>/ from the catalog and the stack file: plain
Kubernetes objects with no image tag, which manifests/images adds, and no secret, which
mcs seal seals beside them. It needs no cluster, no passphrase and no network, and writes the
same bytes each time.`,
		Example: `  mcs render                      # every stack
  mcs render --stack production
  mcs render --check              # change nothing; fail if a file is stale`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.render(projectDir, stacks, check) },
	}
	flags := command.Flags()
	flags.StringSliceVarP(&stacks, "stack", "s", nil, "stack to render (default each that has a Pulumi.<stack>.yaml)")
	flags.StringVar(&projectDir, "project", ".", "folder of Pulumi.yaml")
	flags.BoolVar(&check, "check", false, "change nothing; list what is stale, and fail if anything is")
	return command
}

func (a *application) render(projectDir string, stacks []string, check bool) error {
	project, err := stack.ProjectName(projectDir)
	if err != nil {
		return err
	}
	if len(stacks) == 0 {
		if stacks, err = stacksOf(projectDir); err != nil {
			return err
		}
	}
	stale := false
	for _, name := range stacks {
		want, have, err := render.Stack(project, projectDir, name)
		if err != nil {
			return err
		}
		if check {
			for _, difference := range render.Compare(want, have) {
				stale = true
				fmt.Fprintln(a.stdout, render.Folder(name)+"/"+difference)
			}
			continue
		}
		changed, err := render.Write(filepath.Join(projectDir, filepath.FromSlash(render.Folder(name))), want, have)
		for _, line := range changed {
			verb, file, _ := strings.Cut(line, " ")
			fmt.Fprintln(a.stdout, verb, render.Folder(name)+"/"+file)
		}
		if err != nil {
			return err
		}
		a.log.Info("rendered", "stack", name, "files", len(want), "changed", len(changed))
	}
	if stale {
		return errStale
	}
	return nil
}

// stacksOf lists the stacks that have a file.
func stacksOf(dir string) ([]string, error) {
	files, err := fs.Glob(os.DirFS(dir), "Pulumi.*.yaml")
	if err != nil {
		return nil, fmt.Errorf("listing the stack files: %w", err)
	}
	stacks := make([]string, len(files))
	for i, file := range files {
		stacks[i] = strings.TrimSuffix(strings.TrimPrefix(file, "Pulumi."), ".yaml")
	}
	slices.Sort(stacks)
	return stacks, nil
}
