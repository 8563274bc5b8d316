package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/graph"
	"github.com/nullify005/manager-cluster-state/render"
	"github.com/nullify005/manager-cluster-state/stack"
	"github.com/nullify005/manager-cluster-state/workloads"
)

func (a *application) graphCommand() *cobra.Command {
	var stackName, projectDir string
	command := &cobra.Command{
		Use:   "graph",
		Short: "Draw the graph of workloads as a Mermaid picture",
		Long: `graph draws what waits for what, as Mermaid: GitHub, and many an editor, shows it as a picture.
Of a stack it draws what its file says. Without one it draws all that a stack can be: the
workloads of every stack file, in either delivery and with either observability; that is the
picture of the README. It needs no cluster, no passphrase and no network.`,
		Example: `  mcs graph
  mcs graph --stack production`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.graph(projectDir, stackName) },
	}
	flags := command.Flags()
	flags.StringVarP(&stackName, "stack", "s", "", "stack to draw (default all that a stack can be)")
	flags.StringVar(&projectDir, "project", ".", "folder of Pulumi.yaml")
	return command
}

func (a *application) graph(projectDir, stackName string) error {
	project, err := stack.ProjectName(projectDir)
	if err != nil {
		return err
	}
	stacks := []string{stackName}
	if stackName == "" {
		if stacks, err = stacksOf(projectDir); err != nil {
			return err
		}
	}
	var views []graph.View
	for _, name := range stacks {
		cfg, err := render.Config(project, projectDir, name)
		if err != nil {
			return err
		}
		images, err := workloads.LoadImages(filepath.Join(projectDir, cfg.Images))
		if err != nil {
			return err
		}
		drawn := []*config.Config{cfg}
		if stackName == "" {
			drawn = graph.Every(cfg)
		}
		for _, cfg := range drawn {
			catalog, err := workloads.Catalog(cfg, images)
			if err != nil {
				return err
			}
			views = append(views, graph.View{Config: cfg, Catalog: catalog})
		}
	}
	fmt.Fprint(a.stdout, graph.Mermaid(views...))
	return nil
}
