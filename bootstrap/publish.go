package bootstrap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/render"
)

// repository is the clone that the project lies in.
type repository struct {
	folder string
	// remote is the one that Flux pulls from, branch what it pulls.
	remote, branch string
	// ours are the paths that bootstrap writes, and that it alone commits.
	ours []string
}

// publish has Git hold what Flux is to pull.
func (b *Bootstrap) publish(ctx context.Context) error {
	r := &repository{
		folder: b.Stack.Project, branch: b.cfg.Git.Branch,
		ours: []string{"Pulumi." + b.Stack.Short() + ".yaml", b.folder(), b.cfg.Images},
	}
	if err := r.find(ctx, b.cfg.Git); err != nil {
		return err
	}
	changed, err := r.git(ctx, append([]string{"status", "--porcelain", "--untracked-files=all", "--"}, r.ours...)...)
	if err != nil {
		return err
	}
	unpushed, err := r.unpushed(ctx)
	if err != nil {
		return err
	}
	commands := r.commands(b.Stack.Short(), changed != "")
	switch {
	case changed == "" && unpushed == "" && b.DryRun:
		b.sayf("branch %s of %s has all that is there; what the steps above would write would be committed and pushed, after asking", r.branch, b.cfg.Git.URL)
		return nil
	case changed == "" && unpushed == "":
		b.sayf("branch %s of %s has it all", r.branch, b.cfg.Git.URL)
		return nil
	case b.DryRun:
		b.show(changed, unpushed)
		b.sayf("would ask whether to commit and push these, with:\n  %s", strings.Join(commands, "\n  "))
		return nil
	}
	b.show(changed, unpushed)
	if !b.Ask(ctx, "Commit and push these?") {
		return fmt.Errorf("%w: Flux pulls what is pushed; do it with:\n  %s", ErrStopped, strings.Join(commands, "\n  "))
	}
	if changed != "" {
		if err := r.commit(ctx, b.Stack.Short()); err != nil {
			return err
		}
	}
	if _, err := r.git(ctx, "push", r.remote, "HEAD:refs/heads/"+r.branch); err != nil {
		return err
	}
	b.sayf("pushed to branch %s of %s", r.branch, b.cfg.Git.URL)
	return nil
}

// folder is that of the stack's files in Git.
func (b *Bootstrap) folder() string { return filepath.ToSlash(render.Folder(b.Stack.Short())) }

func (b *Bootstrap) show(changed, unpushed string) {
	if changed != "" {
		b.sayf("not committed:\n%s", indented(changed))
	}
	if unpushed != "" {
		b.sayf("not pushed:\n%s", indented(unpushed))
	}
}

func indented(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n  ")
}

func message(stack string) string { return "Stack " + stack + ": keys, sealed secrets, manifests" }

func (r *repository) commands(stack string, commit bool) []string {
	var lines []string
	if commit {
		paths := strings.Join(r.ours, " ")
		lines = append(lines, "git add "+paths, "git commit -m '"+message(stack)+"' "+paths)
	}
	return append(lines, "git push "+r.remote+" HEAD:refs/heads/"+r.branch)
}

// commit commits what is ours, and nothing else that may be staged.
func (r *repository) commit(ctx context.Context, stack string) error {
	if _, err := r.git(ctx, append([]string{"add", "--"}, r.ours...)...); err != nil {
		return err
	}
	_, err := r.git(ctx, append([]string{"commit", "--quiet", "--message", message(stack), "--"}, r.ours...)...)
	return err
}

// find looks for the remote that Flux pulls from, and at which branch is checked out.
func (r *repository) find(ctx context.Context, cfg config.Git) error {
	branch, err := r.git(ctx, "symbolic-ref", "--short", "HEAD")
	if err != nil {
		return fmt.Errorf("finding the branch that is checked out: %w", err)
	}
	if branch = strings.TrimSpace(branch); branch != r.branch {
		return fmt.Errorf("branch %s is checked out, and Flux pulls %s: run git switch %s, or set git.branch", branch, r.branch, r.branch)
	}
	remotes, err := r.git(ctx, "remote")
	if err != nil {
		return err
	}
	for remote := range strings.FieldsSeq(remotes) {
		url, err := r.git(ctx, "config", "--get", "remote."+remote+".url")
		if err == nil && isSame(strings.TrimSpace(url), cfg) {
			r.remote = remote
			return nil
		}
	}
	return fmt.Errorf("no remote of this clone is %s, which Flux pulls from: set git.url, or run git remote add flux %s", cfg.URL, cfg.URL)
}

// isSame says whether a remote's URL, of any form that Git takes, is the repository.
func isSame(remote string, cfg config.Git) bool {
	if !strings.Contains(remote, "://") {
		if host, path, scp := strings.Cut(remote, ":"); scp {
			remote = "ssh://" + host + "/" + path
		}
	}
	other := config.Git{URL: remote}
	owner, name := cfg.Repository()
	otherOwner, otherName := other.Repository()
	return other.Host() == cfg.Host() && otherOwner == owner && otherName == name
}

// unpushed lists the commits that the remote's branch lacks. It asks the remote, and fetches nothing.
func (r *repository) unpushed(ctx context.Context) (string, error) {
	said, err := r.git(ctx, "ls-remote", "--heads", r.remote, "refs/heads/"+r.branch)
	if err != nil {
		return "", err
	}
	there, _, found := strings.Cut(strings.TrimSpace(said), "\t")
	if !found {
		return r.git(ctx, "log", "--oneline", "HEAD")
	}
	if _, err := r.git(ctx, "merge-base", "--is-ancestor", there, "HEAD"); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", fmt.Errorf("branch %s has commits that this clone lacks: run git pull --rebase %s %s", r.branch, r.remote, r.branch)
	}
	return r.git(ctx, "log", "--oneline", there+"..HEAD")
}

// git runs a command that asks nobody, and is bounded by what a slow line takes.
func (r *repository) git(ctx context.Context, args ...string) (string, error) {
	const bound = 5 * time.Minute
	bounded, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	cmd := exec.CommandContext(bounded, "git", append([]string{"-C", r.folder}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "LC_ALL=C")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it takes its locks away
	cmd.WaitDelay = 10 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], errors.Join(bounded.Err(), err), oneLine(stderr.String()))
	}
	return stdout.String(), nil
}
