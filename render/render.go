// Package render turns the catalog into the files that Flux pulls from Git: a folder per
// workload, deterministic to the byte, with no secret and no image tag in it. It knows no
// cluster and no Git.
package render

import (
	"bytes"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kustomize "sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/yaml"

	"github.com/nullify005/manager-cluster-state/internal/objects"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// Root is the folder of the repository that holds a folder of rendered files per stack.
const Root = "manifests"

const (
	kustomizationFile = "kustomization.yaml"
	sealedPrefix      = "sealedsecret-"
	fileSuffix        = ".yaml"

	header = "# Generated from workloads/ and the stack's configuration. Do not edit: run make render.\n"
)

// Files are the contents of files by their slash-separated paths: below manifests/<stack>,
// grafana/deployment-grafana.yaml.
type Files map[string][]byte

// Args say what to render.
type Args struct {
	// Catalog lists the workloads; those that Pulumi delivers itself are left out.
	Catalog []workloads.Workload
	// Images are the references whose tags the rendered files leave to the images component.
	Images workloads.Images
	// ImagesFile is the path of that component's file in the repository.
	ImagesFile string
	// Sealed are the sealed secrets that there are, among other files or not. They are passed on
	// as they are; a Secret without one is left out.
	Sealed Files
}

// Folder is where a stack's files lie in the repository.
func Folder(stack string) string { return path.Join(Root, stack) }

// SealedFile is the path of the file that stands for a Secret, below the stack's folder.
func SealedFile(workload workloads.Workload, namespace, name string) string {
	return path.Join(workload.Name, fileName("sealedsecret", workload.Namespace, namespace, name))
}

// IsSealed says whether a path is that of a sealed secret.
func IsSealed(file string) bool { return strings.HasPrefix(path.Base(file), sealedPrefix) }

// Render makes the files of a stack.
func Render(args *Args) (Files, error) {
	files := Files{}
	for _, workload := range args.Catalog {
		if workload.Direct {
			continue
		}
		if err := args.workload(files, workload); err != nil {
			return nil, fmt.Errorf("rendering workload %s: %w", workload.Name, err)
		}
	}
	return files, nil
}

func (a *Args) workload(files Files, workload workloads.Workload) error {
	var resources []string
	for _, object := range workload.Objects {
		u, err := objects.Unstructured(object)
		if err != nil {
			return err
		}
		name := path.Join(workload.Name, fileName(u.GetKind(), workload.Namespace, u.GetNamespace(), u.GetName()))
		var content []byte
		if u.GetKind() == "Secret" {
			name = SealedFile(workload, u.GetNamespace(), u.GetName())
			if content = a.Sealed[name]; content == nil {
				continue
			}
		} else if content, err = a.file(u); err != nil {
			return err
		}
		if _, taken := files[name]; taken {
			return fmt.Errorf("two objects would be written to %s", name)
		}
		files[name] = content
		resources = append(resources, path.Base(name))
	}
	slices.Sort(resources)
	return a.kustomization(files, workload.Name, resources)
}

func (a *Args) kustomization(files Files, workload string, resources []string) error {
	// A path in the repository, whatever the machine's own separator is.
	component, err := filepath.Rel(filepath.Join(Root, "stack", workload), filepath.Dir(filepath.FromSlash(a.ImagesFile)))
	if err != nil {
		return fmt.Errorf("finding the list of images from its folder: %w", err)
	}
	content, err := yaml.Marshal(map[string]any{
		"apiVersion": kustomize.KustomizationVersion,
		"kind":       kustomize.KustomizationKind,
		"resources":  resources,
		"components": []string{filepath.ToSlash(component)},
	})
	if err != nil {
		return fmt.Errorf("writing its kustomization: %w", err)
	}
	files[path.Join(workload, kustomizationFile)] = append([]byte(header), content...)
	return nil
}

func (a *Args) file(u *unstructured.Unstructured) ([]byte, error) {
	untagged := make(map[string]string, len(a.Images))
	for name, reference := range a.Images {
		untagged[reference] = name
	}
	dropTags(u.Object, untagged)
	content, err := yaml.Marshal(u.Object)
	if err != nil {
		return nil, fmt.Errorf("writing %s %s: %w", u.GetKind(), u.GetName(), err)
	}
	return append([]byte(header), content...), nil
}

// dropTags leaves the tag of each listed image of a container to the component, which kustomize
// applies to fields of the same names.
func dropTags(value any, untagged map[string]string) {
	switch v := value.(type) {
	case map[string]any:
		for key, inner := range v {
			if key == "containers" || key == "initContainers" {
				dropImageTags(inner, untagged)
			}
			dropTags(inner, untagged)
		}
	case []any:
		for _, inner := range v {
			dropTags(inner, untagged)
		}
	}
}

func dropImageTags(containers any, untagged map[string]string) {
	list, _ := containers.([]any)
	for _, item := range list {
		container, isMap := item.(map[string]any)
		if !isMap {
			continue
		}
		reference, _ := container["image"].(string)
		if name, listed := untagged[reference]; listed {
			container["image"] = name
		}
	}
}

// fileName tells a reader what is in a file: deployment-grafana.yaml; with the namespace in
// it where that is not the workload's.
func fileName(kind, home, namespace, name string) string {
	parts := []string{strings.ToLower(kind)}
	if namespace != "" && namespace != home {
		parts = append(parts, namespace)
	}
	return strings.Join(append(parts, name), "-") + fileSuffix
}

// Compare lists how what is there differs from what should be: a line per file, or one for a
// workload of which there is none. Sealed secrets are not compared: sealing the same again gives
// another text.
func Compare(want, have Files) []string {
	there := map[string]bool{}
	for name := range have {
		there[path.Dir(name)] = true
	}
	var differences []string
	for _, name := range slices.Sorted(maps.Keys(want)) {
		content, found := have[name]
		switch {
		case IsSealed(name):
		case !there[path.Dir(name)]:
			differences = append(differences, path.Dir(name)+"/ is missing")
		case !found:
			differences = append(differences, name+" is missing")
		case !bytes.Equal(content, want[name]):
			differences = append(differences, name+" is stale")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if _, wanted := want[name]; !wanted && !IsSealed(name) {
			differences = append(differences, name+" is of no use any more")
		}
	}
	return slices.Compact(differences)
}
