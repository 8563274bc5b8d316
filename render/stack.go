package render

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/seal"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// Stack renders a stack from its file in the project, with the sealed secrets that lie among
// its rendered files. It decrypts nothing: the digests of secrets come from the sealed ones.
// What it returns beside the files are those that there are now.
func Stack(project, projectDir, stack string) (want, have Files, err error) {
	cfg, err := Config(project, projectDir, stack)
	if err != nil {
		return nil, nil, err
	}
	images, err := workloads.LoadImages(filepath.Join(projectDir, cfg.Images))
	if err != nil {
		return nil, nil, err
	}
	if have, err = Read(filepath.Join(projectDir, Folder(stack))); err != nil {
		return nil, nil, err
	}
	digests, err := have.digests()
	if err != nil {
		return nil, nil, err
	}
	catalog, err := workloads.Catalog(cfg, images, workloads.WithDigests(digests))
	if err != nil {
		return nil, nil, err
	}
	want, err = Render(&Args{Catalog: catalog, Images: images, ImagesFile: cfg.Images, Sealed: have})
	return want, have, err
}

// Config is that of a stack's file in the project. It decrypts nothing, and demands no secret.
func Config(project, projectDir, stack string) (*config.Config, error) {
	file := filepath.Join(projectDir, "Pulumi."+stack+".yaml")
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the stack file: %w", err)
	}
	values, secretKeys, err := config.ReadStackFile(project, data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	cfg, err := config.Load(project, values, secretKeys, time.Now(), config.SkipSecrets())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return cfg, nil
}

// digests are those of the sealed secrets, by namespace/name.
func (f Files) digests() (map[string]string, error) {
	digests := map[string]string{}
	for name, content := range f {
		if !IsSealed(name) {
			continue
		}
		var sealed metav1.PartialObjectMetadata
		if err := yaml.Unmarshal(content, &sealed); err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
		digests[sealed.Namespace+"/"+sealed.Name] = sealed.Annotations[seal.DigestAnnotation]
	}
	return digests, nil
}

// Read reads every file below a folder; of a folder that isn't there, none.
func Read(folder string) (Files, error) {
	files := Files{}
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(folder, path)
		files[filepath.ToSlash(name)] = content
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading %s: %w", folder, err)
	}
	return files, nil
}

// Write makes a folder hold what is wanted: files that are the same stay untouched, and those
// of no use go, sealed secrets excepted. It returns a line for each file that it changed.
func Write(folder string, want, have Files) ([]string, error) {
	var changed []string
	for _, name := range slices.Sorted(maps.Keys(want)) {
		content, there := have[name]
		if there && string(content) == string(want[name]) {
			continue
		}
		path := filepath.Join(folder, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return changed, fmt.Errorf("writing %s: %w", path, err)
		}
		if err := os.WriteFile(path, want[name], 0o644); err != nil { //nolint:gosec // it is committed
			return changed, fmt.Errorf("writing %s: %w", path, err)
		}
		changed = append(changed, "wrote "+name)
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if _, wanted := want[name]; wanted || IsSealed(name) {
			continue
		}
		path := filepath.Join(folder, filepath.FromSlash(name))
		if err := os.Remove(path); err != nil {
			return changed, fmt.Errorf("removing %s: %w", path, err)
		}
		changed = append(changed, "removed "+name)
		// A workload that is gone leaves no folder; one that isn't empty stays.
		_ = os.Remove(filepath.Dir(path))
	}
	return changed, nil
}
