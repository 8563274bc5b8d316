// Package branch holds what Flux would pull from Git against what this program would have it
// pull, before anything is changed.
package branch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/internal/git"
	"github.com/nullify005/manager-cluster-state/render"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// Args say what should be in Git.
type Args struct {
	// Config is the stack's, with its secrets.
	Config *config.Config
	// Stack names the folder of its files.
	Stack string
	// Catalog lists the workloads.
	Catalog []workloads.Workload
	// Images are the references whose tags Git has in one file.
	Images workloads.Images
	// GitEnv is added to the environment of the git command, which reads the branch as the user
	// does while the deploy key isn't registered.
	GitEnv []string
}

// NotThereError lists what the branch lacks.
type NotThereError struct {
	// Branch and Stack name what was looked at.
	Branch, Stack string
	// Problems are a line each.
	Problems []string
}

// Error lists every problem, and what mends them.
func (e *NotThereError) Error() string {
	return fmt.Sprintf("branch %s does not have what stack %s would run:\n  %s\nrun make seal render STACK=%s, commit and push",
		e.Branch, e.Stack, strings.Join(e.Problems, "\n  "), e.Stack)
}

// UnreachableError says that nobody could tell what the branch has.
type UnreachableError struct{ cause error }

// Error says why.
func (e *UnreachableError) Error() string {
	return "what the branch has can't be told: " + e.cause.Error()
}

// Unwrap is why.
func (e *UnreachableError) Unwrap() error { return e.cause }

// Check reads the branch, and returns the revision of its newest commit, as Flux writes one.
// The error is a NotThereError where the branch lacks something, and an UnreachableError where
// it could not be read.
func Check(ctx context.Context, args *Args) (revision string, err error) {
	head, err := args.fetch(ctx)
	if err != nil {
		return "", err
	}
	have, err := head.Files(render.Folder(args.Stack))
	if err != nil {
		return "", err
	}
	want, err := render.Render(&render.Args{
		Catalog: args.Catalog, Images: args.Images, ImagesFile: args.Config.Images, Sealed: have,
	})
	if err != nil {
		return "", err
	}
	problems, err := render.CheckSealed(args.Catalog, args.Config.Sealing.Keys, have)
	if err != nil {
		return "", err
	}
	problems = append(problems, render.Compare(want, have)...)
	_, unlisted, err := args.images(head)
	if err != nil {
		return "", err
	}
	problems = append(problems, unlisted...)
	if len(problems) > 0 {
		slices.Sort(problems)
		return head.Revision, args.notThere(problems...)
	}
	return head.Revision, nil
}

func (a *Args) notThere(problems ...string) error {
	return &NotThereError{Branch: a.Config.Git.Branch, Stack: a.Stack, Problems: problems}
}

// fetch reads the branch with the key that Flux will pull with; before that is registered, as
// the user.
func (a *Args) fetch(ctx context.Context) (*git.Head, error) {
	cfg := a.Config
	remote := git.Remote{
		URL: cfg.Git.URL, Branch: cfg.Git.Branch, PrivateKey: cfg.Secrets.DeployKey, HostKeys: cfg.Git.HostKeys(),
	}
	head, err := git.Fetch(ctx, remote)
	if errors.Is(err, git.ErrNoAccess) {
		refused := err
		if head, err = git.FetchAsUser(ctx, remote, a.GitEnv...); err != nil {
			err = errors.Join(refused, err)
		}
	}
	switch {
	case errors.Is(err, git.ErrNoBranch):
		return nil, a.notThere("there is no such branch")
	case err != nil:
		return nil, &UnreachableError{err}
	default:
		return head, nil
	}
}

// Images are the references in the branch's own list, which image automation may have changed.
func Images(ctx context.Context, args *Args) (workloads.Images, error) {
	head, err := args.fetch(ctx)
	if err != nil {
		return nil, err
	}
	images, problems, err := args.images(head)
	if err == nil && len(problems) > 0 {
		err = args.notThere(problems...)
	}
	return images, err
}

// images reads the branch's list, and says which names it lacks: what they name would run
// without a tag.
func (a *Args) images(head *git.Head) (images workloads.Images, problems []string, err error) {
	file := path.Clean(a.Config.Images)
	files, err := head.Files(path.Dir(file))
	if err != nil {
		return nil, nil, err
	}
	content, there := files[path.Base(file)]
	if !there {
		return nil, []string{file + " is missing"}, nil
	}
	if images, err = workloads.ParseImages(content); err != nil {
		return nil, []string{file + ": " + err.Error()}, nil //nolint:nilerr // one to list beside the others
	}
	for _, name := range slices.Sorted(maps.Keys(a.Images)) {
		if images[name] == "" {
			problems = append(problems, file+" lacks "+name)
		}
	}
	return images, problems, nil
}
