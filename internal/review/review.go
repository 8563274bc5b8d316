// Package review tells a reviewer what a change does to the objects that Flux delivers: the
// rendered manifests of a base commit against those of the work tree, each built as Flux builds
// it, per stack and workload, as Markdown. It knows no cluster, and no secret.
package review

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
)

// Args say what to compare.
type Args struct {
	// Project is the name of Pulumi.yaml, ProjectDir its folder in a Git work tree.
	Project, ProjectDir string
	// Stacks are those that the work tree has.
	Stacks []string
	// Base is a commit or a branch; compared is the commit at which the work tree's left it.
	Base string
	// Limit is how many bytes the text may have; 0 is no limit.
	Limit int
}

// Manifests is the difference as Markdown. The base's manifests are those that lie in Git, the
// work tree's are rendered anew.
func Manifests(ctx context.Context, args *Args) (string, error) {
	base, err := fromGit(ctx, args.ProjectDir, args.Base)
	if err != nil {
		return "", err
	}
	head, err := rendered(args.Project, args.ProjectDir, args.Stacks)
	if err != nil {
		return "", err
	}
	changes, err := compare(base, head)
	if err != nil {
		return "", err
	}
	return markdown(changes, args.Base, args.Limit)
}

// change is what becomes of a workload of a stack.
type change struct {
	stack, workload         string
	added, changed, removed int
	// fresh and gone are of the workload as a whole.
	fresh, gone bool
	// diff is unified, object after object.
	diff string
}

// compare lists the workloads that differ, in order of stack and name.
func compare(base, head *tree) ([]change, error) {
	var changes []change
	for _, in := range union(base.workloads, head.workloads) {
		before, err := base.build(in)
		if err != nil {
			return nil, fmt.Errorf("the base's %w", err)
		}
		after, err := head.build(in)
		if err != nil {
			return nil, err
		}
		mask(before, after)
		made, err := between(before, after)
		if err != nil {
			return nil, fmt.Errorf("comparing %s: %w", in, err)
		}
		made.stack, made.workload = in.stack, in.workload
		made.fresh, made.gone = !base.workloads[in], !head.workloads[in]
		if made.fresh || made.gone || made.diff != "" {
			changes = append(changes, *made)
		}
	}
	return changes, nil
}

func union(a, b map[place]bool) []place {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return slices.SortedFunc(maps.Keys(all), func(x, y place) int { return strings.Compare(x.String(), y.String()) })
}

// between counts and shows the objects that differ.
func between(before, after map[string]object) (*change, error) {
	names := maps.Clone(before)
	maps.Copy(names, after)
	c := &change{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		old, was := before[name]
		now, is := after[name]
		oldText, err := old.text()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		nowText, err := now.text()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		switch {
		case !was:
			c.added++
		case !is:
			c.removed++
		case bytes.Equal(oldText, nowText):
			continue
		default:
			c.changed++
		}
		text := string(diff.Diff(name, oldText, name, nowText))
		_, text, _ = strings.Cut(text, "\n") // its first line names the two files, as the next two do
		c.diff += text
	}
	return c, nil
}
