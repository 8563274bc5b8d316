package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/nullify005/manager-cluster-state/components"
)

// ExistingArgs says where the kubeconfig of a cluster lies.
type ExistingArgs struct {
	// KubeconfigPath is a file; a relative one counts from ProjectDir.
	KubeconfigPath string
	// ProjectDir is the absolute path of the Pulumi project.
	ProjectDir string
	// Context is a context in the file; empty means its current one.
	Context string
}

// Existing is a cluster that somebody else made.
type Existing struct {
	pulumi.ResourceState

	// Kubeconfig is the content of the file; a secret.
	Kubeconfig pulumi.StringOutput
}

// NewExisting reads the kubeconfig of a cluster that already runs. The cluster itself is
// not asked, so a preview works while it is down.
func NewExisting(ctx *pulumi.Context, name string, args *ExistingArgs, opts ...pulumi.ResourceOption) (*Existing, error) {
	kubeconfig, err := args.read()
	if err != nil {
		return nil, err
	}
	existing := &Existing{}
	inputs := pulumi.Map{"kubeconfigPath": pulumi.String(args.KubeconfigPath), "context": pulumi.String(args.Context)}
	if err := ctx.RegisterComponentResourceV2(components.TokenClusterExisting, name, inputs, existing, opts...); err != nil {
		return nil, fmt.Errorf("registering the cluster %s: %w", name, err)
	}
	existing.Kubeconfig = secret(pulumi.String(kubeconfig))
	return existing, ctx.RegisterResourceOutputs(existing, pulumi.Map{"kubeconfig": existing.Kubeconfig})
}

func (a *ExistingArgs) read() (string, error) {
	path := a.KubeconfigPath
	if !filepath.IsAbs(path) {
		path = filepath.Join(a.ProjectDir, path)
	}
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("cluster.kubeconfig is %q: no such file; write it there, or set another with "+
			"pulumi config set --path cluster.kubeconfig PATH", a.KubeconfigPath)
	}
	if err != nil {
		return "", fmt.Errorf("reading cluster.kubeconfig: %w", err)
	}
	// The parser's own error may quote the file, credentials and all, so it is not passed on.
	kubeconfig, err := clientcmd.Load(content)
	if err != nil {
		return "", fmt.Errorf("cluster.kubeconfig is %q: not a kubeconfig", a.KubeconfigPath)
	}
	context := a.Context
	if context == "" {
		context = kubeconfig.CurrentContext
	}
	if _, ok := kubeconfig.Contexts[context]; !ok {
		return "", fmt.Errorf("cluster.context is %q: not in %s; kubectl config get-contexts --kubeconfig %q lists what is",
			context, a.KubeconfigPath, a.KubeconfigPath)
	}
	return string(content), nil
}
