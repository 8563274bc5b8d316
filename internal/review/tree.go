package review

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/krusty"
	kustomize "sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/nullify005/manager-cluster-state/render"
)

// place is where a workload's manifests lie.
type place struct{ stack, workload string }

func (p place) String() string { return p.stack + "/" + p.workload }

// tree is a project's files as they are at one commit, as far as Flux builds anything of them.
type tree struct {
	files     filesys.FileSystem
	workloads map[place]bool
}

func newTree() *tree { return &tree{files: filesys.MakeFsInMemory(), workloads: map[place]bool{}} }

const root = "/"

// add takes a file in, by its path in the project.
func (t *tree) add(name string, content []byte) error {
	parts := strings.Split(name, "/")
	if len(parts) == 4 && parts[0] == render.Root && parts[3] == konfig.DefaultKustomizationFileName() {
		t.workloads[place{stack: parts[1], workload: parts[2]}] = true
	}
	if err := t.files.WriteFile(root+name, content); err != nil {
		return fmt.Errorf("taking in %s: %w", name, err)
	}
	return nil
}

// build makes what Flux would apply of a workload, by kind and name: nothing of one that isn't.
func (t *tree) build(in place) (map[string]object, error) {
	objects := map[string]object{}
	if !t.workloads[in] {
		return objects, nil
	}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(t.files, root+path.Join(render.Folder(in.stack), in.workload))
	if err != nil {
		return nil, fmt.Errorf("manifests of %s can't be built: %w", in, err)
	}
	for _, resource := range built.Resources() {
		content, err := resource.Map()
		if err != nil {
			return nil, fmt.Errorf("manifests of %s can't be read: %w", in, err)
		}
		name := resource.GetName()
		if namespace := resource.GetNamespace(); namespace != "" {
			name = namespace + "/" + name
		}
		objects[resource.GetKind()+" "+name] = content
	}
	return objects, nil
}

// fromGit is the tree of the commit at which the work tree's branch left the base.
func fromGit(ctx context.Context, dir, base string) (*tree, error) {
	if strings.HasPrefix(base, "-") {
		return nil, fmt.Errorf("%q is no commit", base)
	}
	commit, err := git(ctx, dir, "merge-base", base, "HEAD")
	if err != nil {
		return nil, fmt.Errorf("finding where this branch left %s: %w; "+
			"if it isn't here, or the clone is shallow: git fetch --unshallow origin", base, err)
	}
	archive, err := git(ctx, dir, "archive", "--format=tar", strings.TrimSpace(string(commit)))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", base, err)
	}
	t := newTree()
	for reader := tar.NewReader(bytes.NewReader(archive)); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return t, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", base, err)
		}
		if header.Typeflag != tar.TypeReg || path.Ext(header.Name) != ".yaml" {
			continue
		}
		content, err := io.ReadAll(reader)
		if err != nil {
			return nil, fmt.Errorf("reading %s of %s: %w", header.Name, base, err)
		}
		if err := t.add(header.Name, content); err != nil {
			return nil, err
		}
	}
}

func git(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	var stderr bytes.Buffer
	cmd.Dir, cmd.Stderr = dir, &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

// rendered is the tree that make render would write.
func rendered(project, dir string, stacks []string) (*tree, error) {
	t := newTree()
	for _, stack := range stacks {
		files, _, err := render.Stack(project, dir, stack)
		if err != nil {
			return nil, fmt.Errorf("rendering %s: %w", stack, err)
		}
		for name, content := range files {
			name = path.Join(render.Folder(stack), name)
			if err := t.add(name, content); err != nil {
				return nil, err
			}
			if path.Base(name) != konfig.DefaultKustomizationFileName() {
				continue
			}
			if err := t.addComponents(dir, path.Dir(name), content); err != nil {
				return nil, err
			}
		}
	}
	return t, nil
}

// addComponents takes in what a kustomization refers to outside of its folder, which nobody
// renders: the list of images.
func (t *tree) addComponents(dir, folder string, content []byte) error {
	var file kustomize.Kustomization
	if err := yaml.Unmarshal(content, &file); err != nil {
		return fmt.Errorf("reading the kustomization of %s: %w", folder, err)
	}
	for _, component := range file.Components {
		name := path.Join(folder, component, konfig.DefaultKustomizationFileName())
		content, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			return fmt.Errorf("reading what %s refers to: %w", folder, err)
		}
		if err := t.add(name, content); err != nil {
			return err
		}
	}
	return nil
}
