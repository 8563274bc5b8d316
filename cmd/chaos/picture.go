package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	gogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// picture is what a bring-up leaves behind, wherever it leaves it, in words that are the same after
// each: what is made once too often, or not at all, shows in the difference of two.
type picture struct {
	objects   []string // of the cluster
	resources []string // of Pulumi's state
	pending   []string // operations of which the state doesn't know how they ended
	keys      []string // deploy keys at GitHub
	commits   []string // of the Git host
}

// generated is the end of a name that Kubernetes draws by lot, for pods.
var generated = regexp.MustCompile(`-[bcdfghjklmnpqrstvwxz2456789]{5}$`)

// nameObjects makes names that are the same in any bring-up of what Rehearsal.Objects lists.
func nameObjects(objects []string) []string {
	var named []string
	for _, object := range objects {
		words := strings.Fields(object) // kind, name, UID
		if len(words) < 2 {
			continue
		}
		kind, name := words[0], words[1]
		if kind == "pods" {
			name = generated.ReplaceAllString(name, "-?????")
		}
		named = append(named, kind+" "+name)
	}
	slices.Sort(named)
	return named
}

// readState lists what a checkpoint of Pulumi's has.
func readState(data []byte) (resources, pending []string, err error) {
	type resource struct {
		URN    string `json:"urn"`
		Delete bool   `json:"delete"`
	}
	var state struct {
		Checkpoint struct {
			Latest struct {
				Resources []resource `json:"resources"`
				Pending   []struct {
					Type     string   `json:"type"`
					Resource resource `json:"resource"`
				} `json:"pending_operations"`
			} `json:"latest"`
		} `json:"checkpoint"`
	}
	if err := json.Unmarshal(data, &state); err != nil {
		return nil, nil, fmt.Errorf("reading Pulumi's state: %w", err)
	}
	for _, r := range state.Checkpoint.Latest.Resources {
		name := shortURN(r.URN)
		if r.Delete {
			name += " (to be deleted)"
		}
		resources = append(resources, name)
	}
	for _, p := range state.Checkpoint.Latest.Pending {
		pending = append(pending, p.Type+" "+shortURN(p.Resource.URN))
	}
	slices.Sort(resources)
	slices.Sort(pending)
	return resources, pending, nil
}

// shortURN leaves out stack and project, which are the same in all.
func shortURN(urn string) string {
	const parts = 4
	split := strings.SplitN(urn, "::", parts)
	return strings.Join(split[max(0, len(split)-2):], "::")
}

// readCommits lists the messages of all commits of the repositories below a folder.
func readCommits(folder string) ([]string, error) {
	var messages []string
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !entry.IsDir() || !strings.HasSuffix(path, ".git") {
			return err
		}
		found, err := commitsOf(path)
		messages = append(messages, found...)
		if err != nil {
			return fmt.Errorf("reading the commits of %s: %w", filepath.Base(path), err)
		}
		return fs.SkipDir
	})
	return messages, err
}

func commitsOf(path string) ([]string, error) {
	repository, err := gogit.PlainOpen(path)
	if err != nil {
		return nil, err
	}
	var messages []string
	commits, err := repository.Log(&gogit.LogOptions{All: true})
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	err = commits.ForEach(func(commit *object.Commit) error {
		messages = append(messages, strings.TrimSpace(commit.Message))
		return nil
	})
	return messages, err
}

// readCheckpoint finds the state's file in the folder of a rehearsal.
func readCheckpoint(folder, stack string) ([]byte, error) {
	// The folder is no pattern: its path may have brackets in it.
	found, err := fs.Glob(os.DirFS(folder), "state/.pulumi/stacks/*/"+stack+".json")
	if err != nil {
		return nil, fmt.Errorf("finding Pulumi's state in %s: %w", folder, err)
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("finding Pulumi's state in %s: there are %d files of stack %s", folder, len(found), stack)
	}
	return os.ReadFile(filepath.Join(folder, filepath.FromSlash(found[0])))
}

// complete refuses a picture to which anything would be equal: one that has nothing where a bring-up of the stack
// leaves something.
func (p *picture) complete(stack string) error {
	var nothing []error
	for where, found := range map[string][]string{"the cluster": p.objects, "the state": p.resources, "GitHub": p.keys, "Git": p.commits} {
		if len(found) == 0 && (delivery(stack) == "flux" || where == "the cluster" || where == "the state") {
			nothing = append(nothing, fmt.Errorf("a bring-up of %s that nothing disturbed has left nothing in %s", stack, where))
		}
	}
	if len(p.pending) > 0 {
		nothing = append(nothing, fmt.Errorf("a bring-up of %s that nothing disturbed has left %s", stack, strings.Join(p.pending, ", ")))
	}
	return errors.Join(nothing...)
}

// differences names each way in which a picture isn't the wanted one, by the property that it breaks.
func (p *picture) differences(want *picture) []string {
	var found []string
	compare := func(property, where string, got, want []string) {
		more, fewer := minus(got, want), minus(want, got)
		if len(more) > 0 {
			found = append(found, fmt.Sprintf("%s: %s has also %s", property, where, strings.Join(more, ", ")))
		}
		if len(fewer) > 0 {
			found = append(found, fmt.Sprintf("complete: %s lacks %s", where, strings.Join(fewer, ", ")))
		}
	}
	compare("no orphan", "the cluster", p.objects, want.objects)
	compare("no duplicate", "the state", p.resources, want.resources)
	compare("no duplicate", "GitHub", p.keys, want.keys)
	compare("no duplicate", "Git", p.commits, want.commits)
	return found
}

// minus is what of all is left when each of some is taken away once.
func minus(all, some []string) []string {
	left := slices.Clone(all)
	for _, one := range some {
		if i := slices.Index(left, one); i >= 0 {
			left = slices.Delete(left, i, i+1)
		}
	}
	return left
}
