package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/nullify005/manager-cluster-state/internal/review"
	"github.com/nullify005/manager-cluster-state/stack"
)

func (a *application) manifestsDiffCommand() *cobra.Command {
	var projectDir string
	args := &review.Args{}
	command := &cobra.Command{
		Use:   "manifests-diff",
		Short: "Show what a branch changes in the objects that Flux delivers, as Markdown",
		Long: `manifests-diff compares what the stacks deliver through Git now with what they did where this
branch left another, per stack and workload: rendered, and built with the list of images as Flux
builds it. It needs no cluster, no passphrase and no network. Ciphertexts are not shown.`,
		Example: `  mcs manifests-diff --base origin/main
  mcs manifests-diff --base origin/main --max 60000   # what fits a comment`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if args.Project, err = stack.ProjectName(projectDir); err != nil {
				return err
			}
			if args.Stacks, err = stacksOf(projectDir); err != nil {
				return err
			}
			args.ProjectDir = projectDir
			text, err := review.Manifests(cmd.Context(), args)
			if err != nil {
				return err
			}
			fmt.Fprint(a.stdout, text)
			return nil
		},
	}
	flags := command.Flags()
	flags.StringVar(&args.Base, "base", "origin/main", "branch or commit to compare with")
	flags.IntVar(&args.Limit, "max", 0, "bytes to cut the text to (default no limit)")
	flags.StringVar(&projectDir, "project", ".", "folder of Pulumi.yaml")
	return command
}
