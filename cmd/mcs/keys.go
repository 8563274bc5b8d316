package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/seal"
	"github.com/nullify005/manager-cluster-state/stack"
)

const deployKeyPath = "secrets.deployKey"

// errDeclined ends a command whose question was not answered with yes.
var errDeclined = errors.New("not confirmed, so nothing was changed; --yes confirms beforehand")

// onStack is what the commands that work on a real stack share.
type onStack struct {
	stack.Stack

	out         io.Writer
	dryRun, yes bool
	// guided is a command that runs others in their order: what to do next is not theirs to say.
	guided bool
	// shown is the stack file that messages name, where a copy stands in for it.
	shown string
}

// stackCommand is a command with the flags that name a stack.
func (a *application) stackCommand(command *cobra.Command, on *onStack) *cobra.Command {
	on.out = a.stdout
	a.stacks = append(a.stacks, on)
	flags := command.PersistentFlags()
	flags.StringVarP(&on.Name, "stack", "s", "development", "stack to work on")
	flags.StringVar(&on.Project, "project", ".", "folder of Pulumi.yaml")
	flags.StringVar(&on.ConfigFile, "config-file", "", "stack file (default Pulumi.<stack>.yaml in the project)")
	return command
}

func (o *onStack) dryRunFlag(command *cobra.Command) {
	command.Flags().BoolVar(&o.dryRun, "dry-run", false, "say what would be done, and do nothing")
}

func (o *onStack) sayf(format string, values ...any) { fmt.Fprintf(o.out, format+"\n", values...) }

// nextf says what to do next.
func (o *onStack) nextf(format string, values ...any) {
	if !o.guided {
		o.sayf("next: "+format, values...)
	}
}

// File is where the stack's configuration stands.
func (o *onStack) File() string {
	if o.shown != "" {
		return o.shown
	}
	return o.Stack.File()
}

// load reads the config; the keys need not be there yet.
func (o *onStack) load(ctx context.Context) (*config.Config, error) {
	return o.Config(ctx, config.SkipSecrets())
}

func (a *application) keysCommand() *cobra.Command {
	on := &onStack{}
	command := a.stackCommand(&cobra.Command{
		Use:   "keys",
		Short: "Make the sealing key and the deploy key that a stack lacks",
		Long: `keys makes the key pair that seals secrets for Git and the SSH key that Flux pulls with, where
the stack has none, and stores them as secrets in its config: they outlive any cluster and any
state. What is there stays. Only public halves are printed.`,
		Example: `  mcs keys --stack production
  mcs keys --stack production --dry-run
  mcs keys list --stack production
  mcs keys rotate sealing --stack production
  mcs keys rotate deploy --stack production`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return on.makeKeys(cmd.Context()) },
	}, on)
	on.dryRunFlag(command)
	command.AddCommand(on.listCommand(), on.rotateCommand())
	return command
}

func (o *onStack) makeKeys(ctx context.Context) error {
	cfg, err := o.load(ctx)
	if err != nil {
		return err
	}
	// All of what is there is looked at before anything is made.
	if _, err := seal.Newest(cfg.Sealing.Keys); err != nil {
		return broken(err, "it was made by hand, or not to its end; remove it with: pulumi config rm --path 'sealing.keys[…]'")
	}
	if cfg.Secrets.DeployKey != "" {
		if _, err := seal.AuthorizedKey(cfg.Secrets.DeployKey); err != nil {
			return broken(err, "replace it with: make rotate-deploy-key STACK="+o.Short())
		}
	}
	noSealing, noDeploy := len(cfg.Sealing.Keys) == 0, cfg.Secrets.DeployKey == ""
	if !noSealing && !noDeploy {
		o.sayf("stack %s has its keys; nothing to make", o.Name)
		return o.list(cfg)
	}
	if o.dryRun {
		o.would(noSealing, "make a sealing key: RSA, 4096 bits, good for ten years")
		o.would(noDeploy, "make a deploy key: ed25519")
		o.sayf("would store it in %s, encrypted", o.File())
		return nil
	}
	if noSealing {
		if err := o.addSealingKey(ctx, cfg); err != nil {
			return err
		}
		if cfg.Delivery == config.Direct {
			o.sayf("the next pulumi up rolls each pod that reads a secret, once: digests are keyed with it from now on")
		}
	}
	if noDeploy {
		if err := o.setDeployKey(ctx); err != nil {
			return err
		}
		o.register(cfg)
	}
	o.nextf("commit %s, then make seal STACK=%s", o.File(), o.Short())
	return nil
}

// register says who tells the Git host.
func (o *onStack) register(cfg *config.Config) {
	if cfg.Git.API() == "" {
		o.sayf("add that line to the repository as a deploy key, by hand: no API is known that could (config key git.githubURL)")
		return
	}
	o.sayf("pulumi up registers it at %s", cfg.Git.API())
}

func broken(err error, mend string) error { return fmt.Errorf("a key is broken: %w; %s", err, mend) }

func (o *onStack) would(really bool, what string) {
	if really {
		o.sayf("would %s", what)
	}
}

// addSealingKey makes the pair that seals from now on.
func (o *onStack) addSealingKey(ctx context.Context, cfg *config.Config) error {
	begin, err := beginOf(cfg.Sealing.Keys, time.Now())
	if err != nil {
		return err
	}
	key, err := seal.NewSealingKey(begin)
	if err != nil {
		return err
	}
	if err := o.AppendSealingKey(ctx, key); err != nil {
		return err
	}
	o.sayf("made a sealing key:")
	return o.showSealingKey(key, "seals")
}

// beginOf is when the certificate of a new key begins: a little before now, for clocks that
// differ, and after any other, since the last to begin seals. Certificates know whole seconds.
func beginOf(keys []config.SealingKey, now time.Time) (time.Time, error) {
	begin := now.Add(-time.Minute)
	newest, err := seal.Newest(keys)
	if err != nil || newest < 0 {
		return begin, err
	}
	certificate, err := seal.Certificate(keys[newest])
	if err != nil {
		return begin, err
	}
	if next := certificate.NotBefore.Add(time.Second); next.After(begin) {
		begin = next
	}
	return begin, nil
}

func (o *onStack) setDeployKey(ctx context.Context) error {
	private, public, err := seal.NewDeployKey("flux-" + o.Short())
	if err != nil {
		return err
	}
	if err := o.Set(ctx, deployKeyPath, private, true); err != nil {
		return err
	}
	o.sayf("made a deploy key:\n  %s", public)
	return nil
}

func (o *onStack) listCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Show the public halves of a stack's keys",
		Long:  "list shows each sealing certificate's fingerprint and dates, and the deploy key as a line of authorized_keys.",
		Example: `  mcs keys list --stack production
  mcs keys list --stack production | grep ssh-ed25519`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := o.load(cmd.Context())
			if err != nil {
				return err
			}
			return o.list(cfg)
		},
	}
}

func (o *onStack) list(cfg *config.Config) error {
	newest, err := seal.Newest(cfg.Sealing.Keys)
	if err != nil {
		return err
	}
	o.sayf("sealing keys:%s", none(len(cfg.Sealing.Keys) == 0))
	for i, key := range cfg.Sealing.Keys {
		use := "opens what it sealed"
		if i == newest {
			use = "seals"
		}
		if err := o.showSealingKey(key, use); err != nil {
			return err
		}
	}
	o.sayf("deploy key:%s", none(cfg.Secrets.DeployKey == ""))
	if cfg.Secrets.DeployKey == "" {
		return nil
	}
	public, err := seal.AuthorizedKey(cfg.Secrets.DeployKey)
	if err != nil {
		return err
	}
	o.sayf("  %s", public)
	return nil
}

func none(really bool) string {
	if really {
		return " none"
	}
	return ""
}

func (o *onStack) showSealingKey(key config.SealingKey, use string) error {
	certificate, err := seal.Certificate(key)
	if err != nil {
		return err
	}
	name, err := seal.Fingerprint(key.Certificate)
	if err != nil {
		return err
	}
	o.sayf("  %s from %s until %s, %s", name, certificate.NotBefore.UTC().Format(time.DateOnly),
		certificate.NotAfter.UTC().Format(time.DateOnly), use)
	return nil
}

func (o *onStack) rotateCommand() *cobra.Command {
	group := &cobra.Command{
		Use:   "rotate",
		Short: "Replace a key of a stack, after asking",
		Long:  "rotate makes a new key. It asks first, and says what to do next.",
		Example: `  mcs keys rotate sealing --stack production --dry-run
  mcs keys rotate deploy --stack production`,
	}
	sealing := &cobra.Command{
		Use:   "sealing",
		Short: "Add a sealing key, which seals from then on",
		Long: `sealing adds a key pair to the stack's list. The newest seals; the others still open what they
sealed, so that no commit of the past is lost. Digests stay, and no pod is rolled.`,
		Example: `  mcs keys rotate sealing --stack production --dry-run
  mcs keys rotate sealing --stack production --yes`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.rotateSealing(cmd.Context(), cmd.InOrStdin()) },
	}
	deploy := &cobra.Command{
		Use:   "deploy",
		Short: "Replace the deploy key",
		Long: `deploy replaces the SSH key that Flux pulls with. The one update after it registers the new key,
gives it to Flux, and only then removes the old one.`,
		Example: `  mcs keys rotate deploy --stack production --dry-run
  mcs keys rotate deploy --stack production --yes`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.rotateDeploy(cmd.Context(), cmd.InOrStdin()) },
	}
	for _, command := range []*cobra.Command{sealing, deploy} {
		o.dryRunFlag(command)
		command.Flags().BoolVarP(&o.yes, "yes", "y", false, "don't ask")
		group.AddCommand(command)
	}
	return group
}

func (o *onStack) rotateSealing(ctx context.Context, answers io.Reader) error {
	cfg, err := o.load(ctx)
	if err != nil {
		return err
	}
	if _, err := seal.Newest(cfg.Sealing.Keys); err != nil {
		return err
	}
	if len(cfg.Sealing.Keys) == 0 {
		return fmt.Errorf("stack %s has no sealing key yet; make it with: make keys STACK=%s", o.Name, o.Short())
	}
	if o.dryRun {
		o.sayf("would add a sealing key to the %d of stack %s, in %s; it seals from then on", len(cfg.Sealing.Keys), o.Name, o.File())
		return nil
	}
	if err := o.confirm(ctx, answers, "Add a sealing key to stack %s, which seals from then on?", o.Name); err != nil {
		return err
	}
	if err := o.addSealingKey(ctx, cfg); err != nil {
		return err
	}
	o.nextf("commit %s, and pulumi up, which gives the key to the cluster; after it make seal STACK=%s, commit and push: "+
		"what is pushed before stays closed until the key is there", o.File(), o.Short())
	return nil
}

func (o *onStack) rotateDeploy(ctx context.Context, answers io.Reader) error {
	cfg, err := o.load(ctx)
	if err != nil {
		return err
	}
	if cfg.Secrets.DeployKey == "" {
		return fmt.Errorf("stack %s has no deploy key yet; make it with: make keys STACK=%s", o.Name, o.Short())
	}
	if o.dryRun {
		o.sayf("would replace the deploy key of stack %s, in %s", o.Name, o.File())
		return nil
	}
	if err := o.confirm(ctx, answers, "Replace the deploy key of stack %s?", o.Name); err != nil {
		return err
	}
	if err := o.setDeployKey(ctx); err != nil {
		return err
	}
	o.register(cfg)
	o.nextf("commit %s, and pulumi up; until then Flux pulls with the old key", o.File())
	return nil
}

// confirm asks a question whose answer is no, unless it is yes.
func (o *onStack) confirm(ctx context.Context, answers io.Reader, question string, values ...any) error {
	if o.yes || ask(ctx, answers, o.out, fmt.Sprintf(question, values...)) {
		return nil
	}
	return errDeclined
}

// ask asks a person. Ctrl-C is a no, and so is whatever isn't a yes.
func ask(ctx context.Context, answers io.Reader, out io.Writer, question string) bool {
	fmt.Fprint(out, question+" [y/N] ")
	said := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(&oneByOne{answers}).ReadString('\n') // what was typed before it ended counts
		said <- line
	}()
	answer := ""
	select {
	case <-ctx.Done():
	case answer = <-said:
	}
	if !strings.HasSuffix(answer, "\n") {
		fmt.Fprintln(out) // there is nobody who ended the line
	}
	return slices.Contains([]string{"y", "yes"}, strings.ToLower(strings.TrimSpace(answer)))
}

// oneByOne hands out a byte at a time, so that each question takes its own line of what is typed
// beforehand.
type oneByOne struct{ io.Reader }

func (o *oneByOne) Read(into []byte) (int, error) {
	if len(into) == 0 {
		return 0, nil
	}
	return o.Reader.Read(into[:1])
}
