package cluster

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/pulumi/pulumi-command/sdk/go/command/remote"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/nullify005/manager-cluster-state/components"
	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/internal/k3s"
)

//go:embed pi/*.sh
var piScripts embed.FS

// What a step is told to do. Settings and the script are its standard input, where no list of
// processes shows them; sudo asks nothing, or fails.
const (
	stepApply  = "sudo -n sh -s -- apply"
	stepRemove = "sudo -n sh -s -- remove"
)

// copyFolder is where files are copied to, in the home of the user who logs in. The steps remove it.
const copyFolder = ".manager-cluster-state"

// dialErrors is how often an attempt to connect may fail before a step does: hosts that are
// rebooted have been waited for already.
const dialErrors = 2

// PiArgs describes a cluster of Raspberry Pis.
type PiArgs struct {
	// Cluster is its part of the configuration, which is valid.
	Cluster *config.Cluster
	// SSHKey is the private key that the machines let in, PEM; empty uses the SSH agent.
	SSHKey string
	// ProjectDir is the absolute path of the Pulumi project.
	ProjectDir string
	// Installations has the token of each node's installation, by the node's name: the one that
	// was found there, or a new one. A node with another token than before is installed anew.
	// An offline node without one was never installed.
	Installations map[string]string
	// Reboot reboots a node, unless it has done so since bootID, and waits for it. It is called
	// in updates only, also when there was a reboot long ago, and for several nodes at once.
	Reboot func(ctx context.Context, node config.Node, bootID string) error
}

// Pi is k3s on Raspberry Pis, a server and its agents, all of it done over SSH.
//
// Each step is a command whose script finds out by itself what is to be done, so that a run that
// ended anywhere is mended by the next one. Agents are a chain: what is done to one is done, and
// the node ready, before the next is touched.
type Pi struct {
	pulumi.ResourceState

	// Kubeconfig of the cluster's admin; a secret.
	Kubeconfig pulumi.StringOutput
	// Identity tells this cluster from every other, also one that is made in its place. It is no
	// output of a command: what is replaced because of one that is, the engine deletes before the
	// program can say that it is protected no longer.
	Identity string
	// DeletedWith is for the option of that name of what lives in the cluster: it is gone with it,
	// and nobody need ask an API server that is gone too. It is replaced with each installation.
	DeletedWith pulumi.Resource
	// Joined are what to wait for until every node is a ready member of the cluster.
	Joined []pulumi.Resource

	name string
	args *PiArgs
	// server is the node that the steps on the server run on.
	server config.Node
	// last is the end of the chain.
	last  []pulumi.Resource
	token *remote.Command
	admin *remote.Command
}

// NewPi installs k3s on the server, then on each agent.
func NewPi(ctx *pulumi.Context, name string, args *PiArgs, opts ...pulumi.ResourceOption) (*Pi, error) {
	if err := args.validate(); err != nil {
		return nil, err
	}
	pi := &Pi{name: name, args: args, server: args.Cluster.Nodes[0]}
	inputs := pulumi.Map{"nodes": pulumi.ToStringArray(args.names()), "k3s": pulumi.String(args.Cluster.K3s)}
	if err := ctx.RegisterComponentResourceV2(components.TokenClusterPi, name, inputs, pi, opts...); err != nil {
		return nil, fmt.Errorf("registering the cluster of Pis %s: %w", name, err)
	}
	if err := pi.newServer(ctx); err != nil {
		return nil, err
	}
	for _, node := range args.Cluster.Nodes[1:] {
		if node.Offline && args.Installations[node.Name] == "" {
			if err := ctx.Log.Warn("cluster.nodes: "+node.Name+" is offline and was never installed: it is left out", &pulumi.LogArgs{Resource: pi}); err != nil {
				return nil, err
			}
			continue
		}
		if err := pi.newAgent(ctx, node); err != nil {
			return nil, err
		}
	}
	pi.Joined = pi.last
	return pi, ctx.RegisterResourceOutputs(pi, pulumi.Map{"kubeconfig": pi.Kubeconfig})
}

func (p *Pi) newServer(ctx *pulumi.Context) error {
	booted, err := p.newHost(ctx, p.server)
	if err != nil {
		return err
	}
	files, err := p.newCopies(ctx, p.server, booted)
	if err != nil {
		return err
	}
	settings, err := p.k3sSettings(p.server, "")
	if err != nil {
		return err
	}
	// Another installation is an update: of what is replaced, the deletion would go to the machine
	// as it was, with the host key that it had.
	server, err := p.newStep(ctx, p.server, "k3s", &step{stdin: script(settings, "k3s"), remove: true},
		pulumi.DependsOn(files), pulumi.DependsOnInputs(booted))
	if err != nil {
		return err
	}
	p.last = []pulumi.Resource{server}
	// What is replaced instead is what is read from it, and with it whatever is of that very cluster.
	p.token, err = p.newStep(ctx, p.server, "token", &step{
		stdin: script([]setting{{"NODE", p.server.Name}}, "token"), secret: true,
		triggers: pulumi.Array{pulumi.String(p.args.Installations[p.server.Name])},
	}, pulumi.DependsOn(p.last))
	if err != nil {
		return err
	}
	p.Identity = p.name + "/" + p.args.Installations[p.server.Name]
	// Another release may have renewed the certificate in it.
	p.admin, err = p.newStep(ctx, p.server, "kubeconfig", &step{
		stdin:  script([]setting{{"NODE", p.server.Name}, {"RELEASE", p.args.Cluster.K3s}}, "kubeconfig"),
		secret: true, triggers: pulumi.Array{p.token.ID()},
	}, pulumi.DependsOn(p.last))
	if err != nil {
		return err
	}
	p.DeletedWith = p.admin
	p.Kubeconfig = p.kubeconfig(ctx)
	return nil
}

func (p *Pi) newAgent(ctx *pulumi.Context, node config.Node) error {
	booted, err := p.newHost(ctx, node)
	if err != nil {
		return err
	}
	files, err := p.newCopies(ctx, node, booted)
	if err != nil {
		return err
	}
	onServer := []setting{
		{"NODE", p.server.Name},
		{"AGENT", node.Name},
		{"RELEASE", p.args.Cluster.K3s},
		{"INSTALLATION", p.args.Installations[node.Name]},
		{"WORKLOADS", yesNo(node.RunsWorkloads())},
		// A new server knows no agent: it is to be told of each again.
		{"SERVER", p.args.Installations[p.server.Name]},
	}
	drain, err := p.newStep(ctx, node, "drain", &step{onServer: true, stdin: script(onServer, "node", "drain")},
		pulumi.DependsOn(p.last))
	if err != nil {
		return err
	}
	joins := p.token.Stdout.ApplyT(func(token string) (string, error) {
		settings, err := p.k3sSettings(node, strings.TrimSpace(token))
		if err != nil {
			return "", err
		}
		return settled(settings, "k3s"), nil
	})
	stdin := joins.(pulumi.StringOutput) //nolint:forcetypeassert // what the function returns
	agent, err := p.newStep(ctx, node, "k3s", &step{
		stdin: secret(stdin), secret: true, remove: true,
	}, pulumi.DependsOn(slices.Concat([]pulumi.Resource{drain}, files, p.last)),
		pulumi.DependsOnInputs(booted))
	if err != nil {
		return err
	}
	member, err := p.newStep(ctx, node, "member", &step{onServer: true, stdin: script(onServer, "node", "member"), remove: true},
		pulumi.DependsOn([]pulumi.Resource{agent}), pulumi.DeletedWith(p.DeletedWith))
	if err != nil {
		return err
	}
	p.last = []pulumi.Resource{member}
	return nil
}

// newHost prepares the machine. What it returns is known once it has booted with what k3s needs;
// nothing but the order depends on it, so nothing is done again for it.
func (p *Pi) newHost(ctx *pulumi.Context, node config.Node) (pulumi.ResourceArrayOutput, error) {
	settings := []setting{{"NODE", node.Name}, {"LOGIN", node.User}, {"INSTALLATION", p.args.Installations[node.Name]}}
	host, err := p.newStep(ctx, node, "host", &step{stdin: script(settings, "host"), remove: true})
	if err != nil {
		return pulumi.ResourceArrayOutput{}, err
	}
	booted := host.Stdout.ApplyTWithContext(ctx.Context(), func(within context.Context, said string) ([]pulumi.Resource, error) {
		if bootID, needed := rebootNeeded(said); needed && !node.Offline && !ctx.DryRun() {
			if err := p.args.Reboot(within, node, bootID); err != nil {
				return nil, fmt.Errorf("rebooting %s: %w", node.Name, err)
			}
		}
		return []pulumi.Resource{host}, nil
	})
	return booted.(pulumi.ResourceArrayOutput), nil //nolint:forcetypeassert // what the function returns
}

// rebootNeeded reads what the step host printed.
func rebootNeeded(said string) (bootID string, needed bool) {
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(line)
		if id, found := strings.CutPrefix(line, "boot "); found {
			bootID = id
		}
		needed = needed || line == "reboot"
	}
	return bootID, needed
}

// newCopies copies the files of the release, if they come from a folder.
func (p *Pi) newCopies(ctx *pulumi.Context, node config.Node, booted pulumi.ResourceArrayOutput) ([]pulumi.Resource, error) {
	install := p.args.Cluster.Install
	folder := p.args.folder()
	if folder == "" {
		return nil, nil
	}
	var copies []pulumi.Resource
	for _, file := range []struct{ step, name, sum string }{
		{"binary", k3s.BinaryFile, install.Binary}, {"script", k3s.ScriptFile, install.Script},
	} {
		copied, err := remote.NewCopyToRemote(ctx, p.named(node, file.step), &remote.CopyToRemoteArgs{
			Connection: p.connection(node),
			Source:     pulumi.NewFileAsset(p.args.inFolder(file.name)),
			RemotePath: pulumi.String(copyFolder + "/" + file.name),
			// They are gone from there once they are installed.
			Triggers: pulumi.Array{pulumi.String(p.args.Installations[node.Name]), pulumi.String(file.sum)},
		}, p.options(node, false, []string{"connection", "source", "remotePath", "triggers"}, pulumi.DependsOnInputs(booted))...)
		if err != nil {
			return nil, fmt.Errorf("copying %s to %s: %w", file.name, node.Name, err)
		}
		copies = append(copies, copied)
	}
	return copies, nil
}

// step is a script that runs on a node.
type step struct {
	// stdin is its settings and itself.
	stdin pulumi.StringInput
	// triggers replace the step; none that can be removed has any.
	triggers pulumi.Array
	// secret says that standard input or output is.
	secret bool
	// remove says that deleting the step undoes it.
	remove bool
	// onServer says that it runs on the server, for an agent.
	onServer bool
}

func (p *Pi) newStep(ctx *pulumi.Context, node config.Node, kind string, s *step, opts ...pulumi.ResourceOption) (*remote.Command, error) {
	on := node
	if s.onServer {
		on = p.server
	}
	args := &remote.CommandArgs{
		Connection: p.connection(on), Create: pulumi.String(stepApply), Stdin: s.stdin, Triggers: s.triggers,
		AddPreviousOutputInEnv: pulumi.Bool(false),
	}
	if s.remove {
		args.Delete = pulumi.String(stepRemove)
	}
	if s.secret {
		args.Logging = remote.LoggingNone
		opts = append(opts, pulumi.AdditionalSecretOutputs([]string{"stdin", "stdout", "stderr"}))
	}
	inputs := []string{"connection", "create", "delete", "stdin", "triggers", "logging", "addPreviousOutputInEnv"}
	command, err := remote.NewCommand(ctx, p.named(node, kind), args, p.options(node, s.onServer, inputs, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("the step %s of %s: %w", kind, node.Name, err)
	}
	return command, nil
}

func (p *Pi) named(node config.Node, kind string) string {
	return p.name + "-" + node.Name + "-" + kind
}

// options are those of every resource. An offline machine is not asked: what the state knows of it
// stays as it is, and is forgotten with the node. The server can be asked to forget it too.
func (p *Pi) options(node config.Node, onServer bool, inputs []string, opts ...pulumi.ResourceOption) []pulumi.ResourceOption {
	all := append([]pulumi.ResourceOption{pulumi.Parent(p)}, opts...)
	if node.Offline {
		all = append(all, pulumi.IgnoreChanges(inputs))
		if !onServer {
			all = append(all, pulumi.RetainOnDelete(true))
		}
	}
	return all
}

func (p *Pi) connection(node config.Node) *remote.ConnectionArgs {
	ssh := p.args.Cluster.SSH
	timeout := pulumi.Int(int(ssh.Timeout.Seconds()))
	connection := &remote.ConnectionArgs{
		Host: pulumi.String(node.Host), Port: pulumi.Float64(node.Port), User: pulumi.String(node.User),
		HostKey: pulumi.String(node.HostKey), PrivateKey: p.privateKey(),
		PerDialTimeout: timeout, DialErrorLimit: pulumi.Int(dialErrors),
	}
	if jump := ssh.Jump; jump.Host != "" {
		connection.Proxy = &remote.ProxyConnectionArgs{
			Host: pulumi.String(jump.Host), Port: pulumi.Float64(jump.Port), User: pulumi.String(jump.User),
			HostKey: pulumi.String(jump.HostKey), PrivateKey: p.privateKey(),
			PerDialTimeout: timeout, DialErrorLimit: pulumi.Int(dialErrors),
		}
	}
	return connection
}

// privateKey is nil for the agent, whose socket the plugin finds in its environment.
func (p *Pi) privateKey() pulumi.StringPtrInput {
	if p.args.SSHKey == "" {
		return nil
	}
	return secret(pulumi.String(p.args.SSHKey)).ToStringPtrOutput()
}

func (a *PiArgs) names() []string {
	var names []string
	for _, node := range a.Cluster.Nodes {
		names = append(names, node.Name)
	}
	return names
}

// apiURL is where the API server is reached, by agents and from here.
func (p *Pi) apiURL() string {
	const port = 6443
	return "https://" + net.JoinHostPort(p.server.Host, strconv.Itoa(port))
}

// validate reports every problem that the machines need not be asked for.
func (a *PiArgs) validate() error {
	if a.Cluster == nil || len(a.Cluster.Nodes) == 0 || a.Cluster.Nodes[0].Role != config.Server || a.Cluster.Name == "" || a.Cluster.K3s == "" {
		return errors.New("a cluster of Pis needs a name, a k3s release, and a server as its first node; " +
			"set cluster.name, cluster.k3s and cluster.nodes")
	}
	var problems []error
	if a.Reboot == nil {
		problems = append(problems, errors.New("nothing can reboot the Pis: PiArgs.Reboot is not set"))
	}
	for i, node := range a.Cluster.Nodes {
		if i > 0 && node.Role == config.Server {
			problems = append(problems, fmt.Errorf("cluster.nodes[%d] is a second server, and kind pi has one; make %s an agent", i, node.Name))
		}
		if a.Installations[node.Name] == "" && !node.Offline {
			problems = append(problems, fmt.Errorf("cluster.nodes[%d]: nobody has looked for an installation on %s", i, node.Name))
		}
		if allocatable := node.Allocatable(); allocatable.Sign() <= 0 {
			problems = append(problems, fmt.Errorf("cluster.nodes[%d] has no memory for pods; set memory and reserved of %s", i, node.Name))
		}
	}
	return errors.Join(append(problems, a.validateFiles())...)
}
