package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/hosts"
)

func (a *application) hostsCommand() *cobra.Command {
	on := &onStack{}
	command := a.stackCommand(&cobra.Command{
		Use:   "hosts",
		Short: "Look at the machines of a stack, and learn their host keys",
		Long:  "hosts is for stacks of kind pi, whose machines are reached over SSH.",
		Example: `  mcs hosts trust --stack production
  mcs hosts check --stack production`,
	}, on)
	command.AddCommand(on.trustCommand(), on.checkCommand())
	return command
}

func (o *onStack) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Ask every machine whether it is ready for k3s, and change nothing",
		Long: `check asks what pulumi up asks before it changes anything: whether each machine is reached, has the
host key that is kept, lets us use sudo without a password, and has the CPU, memory, disk, clock and
boot files that k3s needs. All problems of all machines are told at once, with what mends each.
Machines that are offline in the stack file are not asked.`,
		Example: `  mcs hosts check --stack production`,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.checkHosts(cmd.Context()) },
	}
}

// machines loads the config of a stack that has machines.
func (o *onStack) machines(ctx context.Context) (*config.Config, error) {
	cfg, err := o.load(ctx)
	if err != nil {
		return nil, err
	}
	if cfg.Cluster.Kind != config.Pi {
		return nil, fmt.Errorf("stack %s has no machines of its own: its cluster is of kind %s, and only kind %s has them; name another with --stack",
			o.Name, cfg.Cluster.Kind, config.Pi)
	}
	return cfg, nil
}

func (o *onStack) checkHosts(ctx context.Context) error {
	cfg, err := o.machines(ctx)
	if err != nil {
		return err
	}
	facts, err := hosts.Check(ctx, cfg, time.Now, hosts.ForStack(o.Name))
	o.showFacts(cfg, facts)
	if err != nil {
		return err
	}
	o.sayf("the machines of stack %s are ready", o.Name)
	return nil
}

func (o *onStack) showFacts(cfg *config.Config, facts hosts.Facts) {
	table := tabwriter.NewWriter(o.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NODE\tHOST\tROLE\tCPU\tMEMORY\tFREE DISK\tKERNEL\tK3S\tINSTALLATION")
	for _, node := range cfg.Cluster.Nodes {
		row := []string{node.Name, node.Host, string(node.Role)}
		fact, answered := facts[node.Name]
		switch {
		case node.Offline:
			row = append(row, "offline")
		case !answered:
			row = append(row, "no answer")
		default:
			row = append(row, fact.Machine, mebibytes(fact.Memory), mebibytes(fact.DiskFree), fact.Kernel, orNone(fact.K3s), orNone(fact.Installation))
		}
		fmt.Fprintln(table, strings.Join(row, "\t"))
	}
	_ = table.Flush()
}

func mebibytes(bytes int64) string { return fmt.Sprintf("%dMi", bytes>>20) }

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

func (o *onStack) trustCommand() *cobra.Command {
	var replace []string
	command := &cobra.Command{
		Use:   "trust",
		Short: "Read the machines' SSH host keys, and keep them in the stack file, after asking",
		Long: `trust shows the fingerprint of the host key of each machine that has none in the stack file yet, and
says whether ~/.ssh/known_hosts has the same. After a yes it writes them there, and from then on each
machine is held to its key. Compare the fingerprints with those that the machines themselves show:

  ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub

A machine that shows another key than the one that is kept, or than the one in known_hosts, is told
of and left alone until it is named with --replace: it has a new SD card, or somebody stands in
between.`,
		Example: `  mcs hosts trust --stack production --dry-run
  mcs hosts trust --stack production
  mcs hosts trust --stack production --replace orangepi.lan`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.trust(cmd.Context(), cmd.InOrStdin(), replace) },
	}
	o.dryRunFlag(command)
	command.Flags().BoolVarP(&o.yes, "yes", "y", false, "don't ask")
	command.Flags().StringSliceVar(&replace, "replace", nil, "node, or host name, whose key may differ from the one that is known")
	return command
}

// errUntrusted ends a trust that has told which machines it left alone.
var errUntrusted = errors.New("not every machine's host key is kept; see above")

// errJumpAlone ends a trust whose second question was answered with no.
var errJumpAlone = errors.New("not confirmed: the jump host's key is kept, and those of the others are not")

func (o *onStack) trust(ctx context.Context, answers io.Reader, replace []string) error {
	cfg, err := o.machines(ctx)
	if err != nil {
		return err
	}
	t := &truster{onStack: o, answers: answers, replace: replace, kept: map[string]string{}}
	if err := t.namesExist(cfg); err != nil {
		return err
	}
	// The others are reached through it, so its key comes first.
	if jump := hosts.Jump(cfg, hosts.ForStack(o.Name)); jump != nil {
		if err := t.trust(ctx, []*hosts.Host{jump}); err != nil {
			return err
		}
		cfg.Cluster.SSH.Jump.HostKey = t.kept[jump.Path]
	}
	for _, node := range cfg.Cluster.Nodes {
		if node.Offline && node.HostKey == "" {
			o.sayf("%s is offline, so its key is not read", node.Name)
		}
	}
	err = t.trust(ctx, hosts.All(cfg, hosts.ForStack(o.Name)))
	if errors.Is(err, errDeclined) && t.written > 0 {
		return errJumpAlone
	}
	if err != nil {
		return err
	}
	if t.written > 0 {
		o.nextf("commit %s", o.File())
	}
	return nil
}

// truster goes from what hosts show to what the stack file keeps.
type truster struct {
	*onStack

	answers io.Reader
	replace []string
	// kept are the keys of hosts by their path, written or there before.
	kept    map[string]string
	written int
	told    []string
}

// namesExist: a name that nobody has would replace nothing, silently.
func (t *truster) namesExist(cfg *config.Config) error {
	list := hosts.All(cfg)
	if jump := hosts.Jump(cfg); jump != nil {
		list = append(list, jump)
	}
	for _, name := range t.replace {
		if !slices.ContainsFunc(list, func(h *hosts.Host) bool { return h.Is(name) }) {
			return fmt.Errorf("--replace %s names no machine that is asked; look at cluster.nodes in %s", name, t.File())
		}
	}
	return nil
}

func (t *truster) trust(ctx context.Context, list []*hosts.Host) error {
	shown := hosts.Trust(ctx, list)
	if ctx.Err() != nil {
		return fmt.Errorf("reading host keys: %w", ctx.Err())
	}
	var take []hosts.Shown
	left := 0
	for _, s := range shown {
		takeIt, ok := t.consider(s)
		if !ok {
			left++
		}
		if takeIt {
			take = append(take, s)
		}
	}
	if err := t.keep(ctx, take); err != nil {
		return err
	}
	if left > 0 {
		return errUntrusted
	}
	return nil
}

// consider tells what a host shows, whether its key is to be taken, and whether all is well.
func (t *truster) consider(s hosts.Shown) (take, ok bool) {
	replaced := slices.ContainsFunc(t.replace, s.Host.Is)
	switch {
	case s.Err != nil:
		t.sayOnce(problemOf(s))
		return false, false
	case s.IsKept():
		t.kept[s.Host.Path] = s.Host.HostKey
		t.sayf("%s: %s is kept already", s.Host, s.Fingerprint)
		return false, true
	case s.Kept != "" && !replaced:
		t.sayf("%s: it shows %s, and %s is kept: it has a new SD card or a new system, or somebody stands in between;\n"+
			"  if the new one is what it has, keep that with --replace %s", s.Host, s.Fingerprint, s.Kept, s.Host.Address)
		return false, false
	case s.Known == hosts.KnownOther && !replaced:
		t.sayf("%s: it shows %s, and known_hosts has another key for it: it has a new SD card or a new system, or somebody stands in between;\n"+
			"  if this one is what it has, keep it with --replace %s", s.Host, s.Fingerprint, s.Host.Address)
		return false, false
	}
	t.sayf("%s: %s%s%s", s.Host, s.Fingerprint, instead(s.Kept), knownAs[s.Known])
	return true, true
}

// sayOnce: what is wrong with the jump host is met on the way to each machine.
func (t *truster) sayOnce(problem error) {
	if line := problem.Error(); !slices.Contains(t.told, line) {
		t.told = append(t.told, line)
		t.sayf("%s", line)
	}
}

func problemOf(s hosts.Shown) error {
	if problem, is := errors.AsType[hosts.Problem](s.Err); is {
		return problem // it names the host, which may be the jump host
	}
	return fmt.Errorf("%s: %w", s.Host, s.Err)
}

func instead(kept string) string {
	if kept == "" {
		return ""
	}
	return ", instead of " + kept
}

var knownAs = map[hosts.Known]string{
	hosts.KnownSame:  ", as known_hosts has it",
	hosts.KnownOther: ", and known_hosts has another",
	hosts.KnownNot:   ", not in known_hosts",
}

// keep writes the keys into the stack file, after a yes.
func (t *truster) keep(ctx context.Context, take []hosts.Shown) error {
	if len(take) == 0 {
		return nil
	}
	noun := "this host key"
	if len(take) > 1 {
		noun = fmt.Sprintf("these %d host keys", len(take))
	}
	if t.dryRun {
		t.sayf("would keep %s in %s", noun, t.File())
	} else if err := t.confirm(ctx, t.answers, "Keep %s in %s?", noun, t.File()); err != nil {
		return err
	}
	for _, s := range take {
		t.kept[s.Host.Path] = s.Line
		if t.dryRun {
			continue
		}
		if err := t.Set(ctx, s.Host.Path+".hostKey", s.Line, false); err != nil {
			return err
		}
		t.written++
	}
	return nil
}
