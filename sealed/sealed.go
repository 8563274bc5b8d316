// Package sealed keeps the sealed files of a stack, which lie beside its rendered manifests:
// manifests/<stack>/<workload>/sealedsecret-<name>.yaml. It reads any tree of files, so that a
// commit can be looked at as well as a folder.
package sealed

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/seal"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// Folder is where the manifests of a stack are, in the project.
func Folder(stack string) string { return path.Join("manifests", path.Base(stack)) }

// Change is one file to write or to remove.
type Change struct {
	// Path in the project, with slashes.
	Path string
	// Why, for people.
	Why string
	// Content to write; nil removes the file.
	Content []byte
}

// Plan is what makes the sealed files of a stack those of the catalog: a file whose secret and
// key are the same stays as it is. The tree is the project's folder. Files are all those that
// the catalog wants.
func Plan(tree fs.FS, stack string, catalog []workloads.Workload, keys []config.SealingKey) (changes []Change, files int, err error) {
	wanted, err := wanted(stack, catalog)
	if err != nil {
		return nil, 0, err
	}
	digestKey, err := seal.DigestKey(keys)
	if err != nil {
		return nil, 0, err
	}
	var problems []error
	for _, name := range sorted(wanted) {
		existing, err := read(tree, name)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		content, err := seal.Update(existing, wanted[name], keys, digestKey)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if !bytes.Equal(content, existing) {
			changes = append(changes, Change{name, why(existing, wanted[name], keys, digestKey), content})
		}
	}
	stray, err := stray(tree, stack, wanted)
	for _, name := range stray {
		changes = append(changes, Change{Path: name, Why: "no workload has that secret"})
	}
	return changes, len(wanted), errors.Join(append(problems, err)...)
}

// why a file is written again.
func why(existing []byte, secret *corev1.Secret, keys []config.SealingKey, digestKey []byte) string {
	switch {
	case existing == nil:
		return "it is new"
	case seal.Check(existing, secret, keys, digestKey) == nil:
		return "a newer key seals"
	case seal.Current(existing, secret, keys, digestKey):
		return "its labels or annotations changed"
	default:
		return "its secret changed, or it was damaged"
	}
}

// Apply makes the changes in the project's folder.
func Apply(project string, changes []Change) error {
	for _, change := range changes {
		file := filepath.Join(project, filepath.FromSlash(change.Path))
		if change.Content == nil {
			if err := os.Remove(file); err != nil {
				return fmt.Errorf("removing a sealed file: %w", err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return fmt.Errorf("making a folder for sealed files: %w", err)
		}
		if err := os.WriteFile(file, change.Content, 0o644); err != nil { //nolint:gosec // it is committed
			return fmt.Errorf("writing a sealed file: %w", err)
		}
	}
	return nil
}

// Check says what of the sealed files would not become the secrets of the catalog: every
// problem, each with what to do.
func Check(tree fs.FS, stack string, catalog []workloads.Workload, keys []config.SealingKey) error {
	wanted, err := wanted(stack, catalog)
	if err != nil {
		return err
	}
	digestKey, err := seal.DigestKey(keys)
	if err != nil {
		return err
	}
	var problems []error
	for _, name := range sorted(wanted) {
		existing, err := read(tree, name)
		if err == nil {
			err = seal.Check(existing, wanted[name], keys, digestKey)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", name, err))
		}
	}
	stray, err := stray(tree, stack, wanted)
	for _, name := range stray {
		problems = append(problems, fmt.Errorf("%s: no workload has that secret; %s", name, seal.Mend))
	}
	return errors.Join(append(problems, err)...)
}

// Digests are those that the sealed files of a stack carry, by namespace/name, for
// workloads.WithDigests.
func Digests(tree fs.FS, stack string) (map[string]string, error) {
	names, err := present(tree, stack)
	if err != nil {
		return nil, err
	}
	digests := map[string]string{}
	var problems []error
	for _, name := range names {
		content, err := read(tree, name)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		id, digest, err := seal.DigestOf(content)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w; %s", name, err, seal.Mend))
			continue
		}
		digests[id] = digest
	}
	return digests, errors.Join(problems...)
}

// wanted are the secrets that Flux pulls, by the path of their sealed files.
func wanted(stack string, catalog []workloads.Workload) (map[string]*corev1.Secret, error) {
	files := map[string]*corev1.Secret{}
	for _, workload := range catalog {
		if workload.Direct {
			continue
		}
		for _, object := range workload.Objects {
			secret, ok := object.(*corev1.Secret)
			if !ok {
				continue
			}
			name := path.Join(Folder(stack), workload.Name, seal.File(workload.Namespace, secret.Namespace, secret.Name))
			if other, taken := files[name]; taken {
				return nil, fmt.Errorf("workload %s: secrets %s/%s and %s/%s would both be sealed in %s; rename one",
					workload.Name, other.Namespace, other.Name, secret.Namespace, secret.Name, name)
			}
			files[name] = secret
		}
	}
	return files, nil
}

func sorted(files map[string]*corev1.Secret) []string {
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// present are the sealed files that are there.
func present(tree fs.FS, stack string) ([]string, error) {
	names, err := fs.Glob(tree, path.Join(Folder(stack), "*", "sealedsecret-*.yaml"))
	if err != nil {
		return nil, fmt.Errorf("looking for the sealed files of stack %s: %w", stack, err)
	}
	return names, nil
}

// stray are the sealed files that no secret is wanted in.
func stray(tree fs.FS, stack string, wanted map[string]*corev1.Secret) ([]string, error) {
	names, err := present(tree, stack)
	return slices.DeleteFunc(names, func(name string) bool { return wanted[name] != nil }), err
}

// read is nil for a file that is not there.
func read(tree fs.FS, name string) ([]byte, error) {
	content, err := fs.ReadFile(tree, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading a sealed file: %w", err)
	}
	return content, nil
}
