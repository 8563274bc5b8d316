package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/internal/githubapi"
)

// hostKeys has every machine held to a key.
func (b *Bootstrap) hostKeys(ctx context.Context) error {
	unknown := b.unknownHosts()
	if len(unknown) == 0 {
		b.sayf("the stack file has that of each machine")
		return nil
	}
	b.sayf("not known yet: %s", strings.Join(unknown, ", "))
	if err := b.Trust(ctx); err != nil {
		return err
	}
	return b.reload(ctx)
}

// unknownHosts are those whose key the stack file lacks.
func (b *Bootstrap) unknownHosts() []string {
	var unknown []string
	if jump := b.cfg.Cluster.SSH.Jump; jump.Host != "" && jump.HostKey == "" {
		unknown = append(unknown, jump.Host)
	}
	for _, node := range b.cfg.Cluster.Nodes {
		if node.HostKey == "" && !node.Offline {
			unknown = append(unknown, node.Host)
		}
	}
	return unknown
}

// release has k3s's files known by their checksums.
func (b *Bootstrap) release(ctx context.Context) error {
	if install := b.cfg.Cluster.Install; install.Binary != "" && install.Script != "" {
		b.sayf("k3s %s is pinned", b.cfg.Cluster.K3s)
		return nil
	}
	if err := b.Pin(ctx); err != nil {
		return err
	}
	return b.reload(ctx)
}

// hosts has every machine asked. In a dry run some may have no key to be known by yet.
func (b *Bootstrap) hosts(ctx context.Context) error {
	if unknown := b.unknownHosts(); len(unknown) > 0 {
		b.sayf("would ask them, once their host keys are kept")
		return nil
	}
	return b.CheckHosts(ctx)
}

func (b *Bootstrap) keys(ctx context.Context) error {
	if err := b.Keys(ctx); err != nil {
		return err
	}
	return b.reload(ctx)
}

// github asks whether the token may register the deploy key.
func (b *Bootstrap) github(ctx context.Context) error {
	owner, name := b.cfg.Git.Repository()
	token, err := b.Stack.Value(ctx, "github:token")
	if err != nil {
		return err
	}
	if token == "" {
		token = os.Getenv("GITHUB_TOKEN")
	}
	if token == "" {
		return fmt.Errorf("there is no token to register the deploy key of %s/%s with: run export GITHUB_TOKEN=… ; "+
			"a fine-grained token of that one repository will do, with the permission Administration: read and write", owner, name)
	}
	repository := &githubapi.Repository{BaseURL: b.cfg.Git.API(), Owner: owner, Name: name, Token: token}
	if err := repository.CheckAdministers(ctx); err != nil {
		return err
	}
	b.sayf("the token may administer %s/%s", owner, name)
	return nil
}

// secrets lists what only a person has.
func (b *Bootstrap) secrets(ctx context.Context) error {
	problems, err := b.problems(ctx)
	if err != nil {
		return err
	}
	wanted := slices.DeleteFunc(slices.Clone(problems), func(p config.Problem) bool { return !isSecret(p) })
	if len(wanted) == 0 {
		b.sayf("all that are needed are set")
		return nil
	}
	lines := make([]string, len(wanted))
	for i, problem := range wanted {
		lines[i] = "  " + problem.String()
	}
	return fmt.Errorf("%d are to be set, by whoever has them:\n%s\n%w", len(wanted), strings.Join(lines, "\n"), ErrStopped)
}

// files seals and renders.
func (b *Bootstrap) files(ctx context.Context) error {
	problems, err := b.problems(ctx)
	if err != nil {
		return err
	}
	switch {
	case len(problems) > 0 && !b.DryRun:
		return problems
	case len(problems) > 0: // keys and secrets that aren't there yet
		b.sayf("would seal the secrets and render everything else into %s", b.folder())
		return nil
	}
	return errors.Join(b.Seal(ctx), b.Render(ctx))
}
