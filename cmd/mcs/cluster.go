package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/internal/flux"
	"github.com/nullify005/manager-cluster-state/rehearsal"
	"github.com/nullify005/manager-cluster-state/render"
	"github.com/nullify005/manager-cluster-state/stack"
)

// liveCluster says which cluster a command acts on: a stack's own, its rehearsal's, or that of a
// kubeconfig.
type liveCluster struct {
	app *application

	stack, project, folder, tools, kubeconfig, context string
	rehearsal                                          bool
}

const onWhichCluster = `

It acts on the cluster of the stack, whose kubeconfig it asks Pulumi for; with --rehearsal on
the stack's rehearsal; with --kubeconfig on any other.`

func (a *application) on(cmd *cobra.Command) *liveCluster {
	on := &liveCluster{app: a}
	flags := cmd.Flags()
	flags.StringVarP(&on.stack, "stack", "s", "", "stack whose cluster it is: Pulumi.<stack>.yaml")
	flags.BoolVar(&on.rehearsal, "rehearsal", false, "act on the stack's rehearsal, as mcs rehearse up left it")
	flags.StringVar(&on.kubeconfig, "kubeconfig", "", "act on the cluster of this kubeconfig file")
	flags.StringVar(&on.context, "context", "", "context in the kubeconfig (default: the stack's, or the file's current one)")
	flags.StringVar(&on.project, "project", ".", "folder of Pulumi.yaml")
	flags.StringVar(&on.folder, "dir", "", "folder of the rehearsal (default .rehearsal/<stack> in the project)")
	flags.StringVar(&on.tools, "tools", "", "folder of the programs (default .tools/bin in the project)")
	cmd.MarkFlagsMutuallyExclusive("rehearsal", "kubeconfig")
	return on
}

// rehearsed is the stack's rehearsal.
func (l *liveCluster) rehearsed() (*rehearsal.Rehearsal, error) {
	return rehearsal.New(rehearsal.Options{
		Project: l.project, Stack: l.stack, Folder: l.folder, Tools: l.tools, Log: l.app.log,
	})
}

// stackFile is what the stack's file says.
func (l *liveCluster) stackFile() (*config.Config, error) {
	project, err := stack.ProjectName(l.project)
	if err != nil {
		return nil, err
	}
	named := &stack.Stack{Project: l.project, Name: l.stack}
	return render.Config(project, l.project, named.Short())
}

func (l *liveCluster) client(ctx context.Context) (client.Client, error) {
	kubeconfig, context, err := l.credentials(ctx)
	if err != nil {
		return nil, err
	}
	return flux.NewClient(kubeconfig, context)
}

func (l *liveCluster) credentials(ctx context.Context) (kubeconfig []byte, context string, err error) {
	if l.kubeconfig != "" {
		if kubeconfig, err = os.ReadFile(l.kubeconfig); err != nil {
			return nil, "", fmt.Errorf("reading the kubeconfig: %w", err)
		}
		return kubeconfig, l.context, nil
	}
	if l.stack == "" {
		return nil, "", errors.New("name the stack with --stack, or a cluster with --kubeconfig")
	}
	if l.rehearsal {
		r, err := l.rehearsed()
		if err != nil {
			return nil, "", err
		}
		kubeconfig, err = os.ReadFile(r.Kubeconfig())
		if errors.Is(err, fs.ErrNotExist) {
			return nil, "", fmt.Errorf("%w: start it with mcs rehearse up --stack %s", rehearsal.ErrNothing, l.stack)
		}
		if err != nil {
			return nil, "", fmt.Errorf("reading the rehearsal's kubeconfig: %w", err)
		}
		return kubeconfig, l.context, nil
	}
	if context = l.context; context == "" {
		cfg, err := l.stackFile()
		if err != nil {
			return nil, "", err
		}
		context = cfg.Cluster.Context
	}
	kubeconfig, err = l.askPulumi(ctx)
	return kubeconfig, context, err
}

// askPulumi has the kubeconfig go from the stack's state to this process's memory, and nowhere
// else.
func (l *liveCluster) askPulumi(ctx context.Context) ([]byte, error) {
	program := filepath.Join(l.tools, "pulumi")
	if l.tools == "" {
		program = filepath.Join(l.project, ".tools", "bin", "pulumi")
	}
	if _, err := os.Stat(program); err != nil {
		program = "pulumi"
	} else if program, err = filepath.Abs(program); err != nil {
		return nil, fmt.Errorf("finding pulumi: %w", err)
	}
	cmd := exec.CommandContext(ctx, program, "stack", "output", "kubeconfig", "--show-secrets", "--stack", l.stack)
	cmd.Dir, cmd.Env = l.project, append(os.Environ(), "PULUMI_SKIP_UPDATE_CHECK=true")
	var out bytes.Buffer
	// It may ask for the passphrase of the stack's secrets.
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("asking pulumi for the kubeconfig of stack %s: %w; was it brought up with pulumi up? "+
			"Its rehearsal is meant with --rehearsal, another cluster with --kubeconfig", l.stack, errors.Join(ctx.Err(), err))
	}
	return out.Bytes(), nil
}

// listed says whether the stack file has a workload on its `suspend` list. A stack file that
// can't be read has its say elsewhere.
func (l *liveCluster) listed(workload string) bool {
	cfg, err := l.stackFile()
	return err == nil && slices.Contains(cfg.Suspend, workload)
}

// deliveredByFlux are the Kustomizations and HelmReleases of a name, or all of them without one.
func deliveredByFlux(ctx context.Context, c client.Client, name string) ([]flux.State, error) {
	all, err := flux.Workloads(ctx, c)
	if err != nil {
		return nil, err
	}
	var found []flux.State
	var names []string
	for _, state := range all {
		if state.Kind == flux.GitRepository("", "").Kind {
			continue
		}
		names = append(names, state.Name)
		if name == "" || name == state.Name || name == state.Namespace+"/"+state.Name {
			found = append(found, state)
		}
	}
	slices.Sort(names)
	switch {
	case len(names) == 0:
		return nil, errors.New("no workload is delivered by Flux in this cluster: there is no Kustomization and no HelmRelease")
	case len(found) == 0:
		return nil, fmt.Errorf("no workload %s is delivered by Flux; there are: %s", name, strings.Join(slices.Compact(names), ", "))
	}
	return found, nil
}

func oneWorkload(_ *cobra.Command, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return errors.New("name one workload; mcs status lists them")
	}
	return nil
}
