package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/internal/k3s"
	"github.com/nullify005/manager-cluster-state/pin"
)

// pinner writes what a k3s release's files must be.
type pinner struct {
	*onStack

	k3s, from, folder string
	// releases and scripts stand in for GitHub in tests.
	releases, scripts string
}

func (a *application) pinCommand() *cobra.Command {
	p := &pinner{onStack: &onStack{}}
	command := a.stackCommand(&cobra.Command{
		Use:   "pin",
		Short: "Write into the stack file what k3s's files must be, and fetch them",
		Long: `pin asks for the checksums of k3s-arm64 and install.sh of a release, and writes them and the release
into the stack file: each Pi holds what it gets against them. With --download both files are fetched
into a folder here, once, and each Pi gets them from there.

Without --from the files are those of k3s's release at GitHub, or of cluster.install.from.`,
		Example: `  mcs pin --stack production
  mcs pin --stack production --k3s v1.35.1+k3s1
  mcs pin --stack production --download downloads/k3s
  mcs pin --stack production --from https://mirror.example.net/k3s`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.pin(cmd.Context()) },
	}, p.onStack)
	p.dryRunFlag(command)
	flags := command.Flags()
	flags.StringVar(&p.k3s, "k3s", "", "release to move to, as v1.35.1+k3s1 (default the one in the stack file)")
	flags.StringVar(&p.from, "from", "", "folder or URL that holds k3s-arm64 and install.sh of that release")
	flags.StringVar(&p.folder, "download", "", "folder to fetch both files into, from which each Pi gets them")
	p.hiddenFlags(command)
	return command
}

// hiddenFlags are for tests.
func (p *pinner) hiddenFlags(command *cobra.Command) {
	flags := command.Flags()
	flags.StringVar(&p.releases, "releases-url", "", "stands in for the URL of k3s's releases")
	flags.StringVar(&p.scripts, "source-url", "", "stands in for the URL of k3s's source")
	for _, name := range []string{"releases-url", "source-url"} {
		_ = flags.MarkHidden(name) // it is there
	}
}

func (p *pinner) pin(ctx context.Context) error {
	cfg, err := p.load(ctx)
	if err != nil {
		return err
	}
	if cfg.Cluster.Kind != config.Pi {
		return fmt.Errorf("stack %s has nothing to pin: its cluster is of kind %s, and only kind %s installs k3s's files; "+
			"another release is set with pulumi config set --path cluster.k3s --stack %s", p.Name, cfg.Cluster.Kind, config.Pi, p.Name)
	}
	release := cfg.Cluster.K3s
	if p.k3s != "" {
		release = p.k3s
	}

	if !pin.IsRelease(release) {
		return fmt.Errorf("no k3s release is called %s: one is of the form v1.35.1+k3s1", release)
	}
	source, err := p.source(cfg, release)
	if err != nil {
		return err
	}
	pins, err := source.Pins(ctx, release)
	if err != nil {
		return err
	}
	values := map[string]string{
		"cluster.k3s": release, "cluster.install.binary": pins.Binary, "cluster.install.script": pins.Script,
	}
	p.sayf("k3s %s, from %s:\n  %s  %s\n  %s  %s", release, whence(source.From), pins.Binary, k3s.BinaryFile, pins.Script, k3s.ScriptFile)
	switch {
	case p.folder != "":
		if values["cluster.install.from"], err = p.inProject(p.folder); err != nil {
			return err
		}
	case p.from != "":
		if values["cluster.install.from"], err = p.inProject(p.from); err != nil {
			return err
		}
	}
	if p.dryRun {
		p.would(p.folder != "", "fetch them into "+p.folder)
		p.sayf("would write that into %s", p.File())
		return nil
	}
	if p.folder != "" {
		if err := source.Download(ctx, release, pins, p.folder); err != nil {
			return err
		}
	}
	if err := p.SetAll(ctx, values); err != nil {
		return err
	}
	p.sayf("written into %s", p.File())
	p.nextf("commit it, and pulumi up")
	return nil
}

// source is where the release's files are. Files that are here already are of the release that the stack
// file names, unless they are said to be of another.
func (p *pinner) source(cfg *config.Config, release string) (*pin.Source, error) {
	source := &pin.Source{
		From: p.from, Releases: p.releases, Scripts: p.scripts,
		Progress: func(line string) { p.sayf("  %s", line) },
	}
	here := cfg.Cluster.Install.From
	switch {
	case p.from != "" || p.folder != "" || here == "":
		return source, nil
	case release != cfg.Cluster.K3s:
		return nil, fmt.Errorf("cluster.install.from is %s, which has the files of %s: fetch those of %s with --download, or name a folder or URL that has them with --from",
			here, cfg.Cluster.K3s, release)
	}
	source.From = here
	if !strings.Contains(here, "://") && !filepath.IsAbs(here) {
		source.From = filepath.Join(p.Project, filepath.FromSlash(here))
	}
	return source, nil
}

// inProject is a folder as the stack file has it: relative to the project, if it lies there. A URL is
// one.
func (p *pinner) inProject(folder string) (string, error) {
	if strings.Contains(folder, "://") {
		return folder, nil
	}
	absolute, err := filepath.Abs(folder)
	project, projectErr := filepath.Abs(p.Project)
	if err := errors.Join(err, projectErr); err != nil {
		return "", fmt.Errorf("finding %s: %w", folder, err)
	}
	if relative, err := filepath.Rel(project, absolute); err == nil && filepath.IsLocal(relative) {
		return filepath.ToSlash(relative), nil
	}
	return filepath.ToSlash(absolute), nil
}

func whence(from string) string {
	if from == "" {
		return "its release at GitHub"
	}
	return from
}
