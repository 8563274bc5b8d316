// Command generate writes what this project takes from its pinned modules as YAML: Flux's
// own installation, as `flux install` would render it, and the definition of SealedSecret.
// Run it with make generate, from the project's folder.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// fluxRelease is the Flux release whose controllers tools/flux/go.mod pins: raise the two
// together. Nothing in the modules says it.
const fluxRelease = "v2.9.4"

// errNotThere is that a pinned module is neither downloaded nor to be had.
var errNotThere = errors.New("downloading a pinned module")

func main() {
	out := "manifests"
	if len(os.Args) == 2 {
		out = os.Args[1]
	}
	if err := generate(context.Background(), out); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// generate is to be called from the project's folder: the pins are in tools/*/go.mod.
func generate(ctx context.Context, out string) error {
	if err := flux(ctx, filepath.Join(out, "flux-system")); err != nil {
		return err
	}
	return sealedSecrets(ctx, filepath.Join(out, "sealed-secrets"))
}

// controllers are the Flux controllers, in the order that flux install has them.
func controllers() []string {
	return []string{
		"source-controller", "kustomize-controller", "helm-controller",
		"notification-controller", "image-reflector-controller", "image-automation-controller",
	}
}

func flux(ctx context.Context, out string) error {
	const root = "/flux"
	disk := filesys.MakeFsInMemory()
	bases, err := moduleDir(ctx, "flux-cli", fluxModule)
	if err != nil {
		return err
	}
	for _, folder := range []string{"bases", "rbac", "policies"} {
		if err := copyInto(disk, filepath.Join(bases, "manifests", folder), filepath.Join(root, folder)); err != nil {
			return err
		}
	}
	pins, err := fluxPins()
	if err != nil {
		return err
	}
	for _, name := range controllers() {
		if err := controller(ctx, disk, filepath.Join(root, "bases", name), name, pins["github.com/fluxcd/"+name]); err != nil {
			return err
		}
	}
	if err := writeInstall(disk, root); err != nil {
		return err
	}
	objects, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(disk, root)
	if err != nil {
		return fmt.Errorf("building Flux's manifests: %w", err)
	}
	return write(out, header(pins), objects)
}

// controller makes a base whose CRDs and Deployment are the pinned module's own, where
// flux2 would download those of a release.
func controller(ctx context.Context, disk filesys.FileSystem, base, name, version string) error {
	module, err := moduleDir(ctx, "flux", "github.com/fluxcd/"+name)
	if err != nil {
		return err
	}
	for _, folder := range []string{"crd", "manager"} {
		if err := copyInto(disk, filepath.Join(module, "config", folder), filepath.Join(base, folder)); err != nil {
			return err
		}
	}
	return writeYAML(disk, filepath.Join(base, "kustomization.yaml"), map[string]any{
		"apiVersion":   "kustomize.config.k8s.io/v1beta1",
		"kind":         "Kustomization",
		"resources":    []string{"crd", "manager", "account.yaml"},
		"transformers": []string{"labels.yaml"},
		"images": []any{map[string]string{
			"name": "fluxcd/" + name, "newName": "ghcr.io/fluxcd/" + name, "newTag": version,
		}},
		"patches": []any{map[string]any{
			"path":   "patch.yaml",
			"target": map[string]string{"group": "apps", "version": "v1", "kind": "Deployment", "name": name},
		}},
	})
}

// writeInstall is what `flux install` puts around the bases: the namespace, roles that are
// named after it, policies, a node selector, and labels that say which release this is.
func writeInstall(disk filesys.FileSystem, root string) error {
	resources := []string{"namespace.yaml", "roles", "policies"}
	for _, name := range controllers() {
		resources = append(resources, "bases/"+name)
	}
	kustomization := func(fields map[string]any) map[string]any {
		fields["apiVersion"], fields["kind"] = "kustomize.config.k8s.io/v1beta1", "Kustomization"
		fields["namespace"] = "flux-system"
		return fields
	}
	return errors.Join(
		writeYAML(disk, filepath.Join(root, "namespace.yaml"), map[string]any{
			"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{
				"name": "flux-system",
				"labels": map[string]string{
					"pod-security.kubernetes.io/warn": "restricted", "pod-security.kubernetes.io/warn-version": "latest",
				},
			},
		}),
		writeYAML(disk, filepath.Join(root, "node-selector.yaml"), map[string]any{
			"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": "all"},
			"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
				"nodeSelector": map[string]string{"kubernetes.io/os": "linux"},
			}}},
		}),
		writeYAML(disk, filepath.Join(root, "roles", "kustomization.yaml"), kustomization(map[string]any{
			"resources": []string{"../rbac"}, "nameSuffix": "-flux-system",
		})),
		writeYAML(disk, filepath.Join(root, "labels.yaml"), map[string]any{
			"apiVersion": "builtin", "kind": "LabelTransformer", "metadata": map[string]any{"name": "labels"},
			"labels": map[string]string{
				"app.kubernetes.io/instance": "flux-system", "app.kubernetes.io/part-of": "flux",
				"app.kubernetes.io/version": fluxRelease,
			},
			"fieldSpecs": []any{
				map[string]any{"path": "metadata/labels", "create": true},
				map[string]any{"path": "spec/template/metadata/labels", "kind": "Deployment", "create": true},
			},
		}),
		writeYAML(disk, filepath.Join(root, "kustomization.yaml"), kustomization(map[string]any{
			"resources": resources, "transformers": []string{"labels.yaml"},
			"patches": []any{map[string]any{"path": "node-selector.yaml", "target": map[string]string{"kind": "Deployment"}}},
		})),
	)
}

// write splits the objects in two files: the definitions, which nobody reads, and the rest.
func write(out, header string, objects resmap.ResMap) error {
	var crds, rest [][]byte
	for _, object := range objects.Resources() {
		content, err := object.AsYAML()
		if err != nil {
			return fmt.Errorf("writing %s: %w", object.CurId(), err)
		}
		if object.GetKind() == "CustomResourceDefinition" {
			crds = append(crds, content)
		} else {
			rest = append(rest, content)
		}
	}
	return errors.Join(
		writeFile(filepath.Join(out, "crds.yaml"), header, bytes.Join(crds, []byte("---\n"))),
		writeFile(filepath.Join(out, "install.yaml"), header, bytes.Join(rest, []byte("---\n"))),
	)
}

func sealedSecrets(ctx context.Context, out string) error {
	module, err := moduleDir(ctx, "sealed-secrets", sealedModule)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(filepath.Join(module, "helm", "sealed-secrets", "crds", "bitnami.com_sealedsecrets.yaml"))
	if err != nil {
		return fmt.Errorf("reading the definition of SealedSecret: %w", err)
	}
	pins, err := sealedSecretsPins()
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(out, "crds.yaml"), header(pins), bytes.TrimPrefix(content, []byte("---\n")))
}

// header says what a file was generated from, so that a glance, and a test that needs none
// of the modules, can tell whether it is stale.
func header(pins map[string]string) string {
	var text strings.Builder
	text.WriteString("# Generated from the modules that tools/ pins. Do not edit: run make generate.\n")
	for _, module := range slices.Sorted(maps.Keys(pins)) {
		fmt.Fprintf(&text, "# %s %s\n", module, pins[module])
	}
	return text.String()
}

func writeFile(path, header string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := os.WriteFile(path, append([]byte(header), content...), 0o644); err != nil { //nolint:gosec // it is committed
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

func writeYAML(disk filesys.FileSystem, path string, value any) error {
	content, err := yaml.Marshal(value)
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return disk.WriteFile(path, content)
}

func copyInto(disk filesys.FileSystem, from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("copying Flux's manifests: %w", err)
		}
		return disk.WriteFile(filepath.Join(to, strings.TrimPrefix(path, from)), content)
	})
}

const (
	fluxModule   = "github.com/fluxcd/flux2/v2"
	sealedModule = "github.com/bitnami/sealed-secrets"
)

// fluxPins are the modules that manifests/flux-system is made of, with their versions.
func fluxPins() (map[string]string, error) {
	pins, err := pinned("flux-cli", fluxModule)
	if err != nil {
		return nil, err
	}
	modules := make([]string, 0, len(controllers()))
	for _, name := range controllers() {
		modules = append(modules, "github.com/fluxcd/"+name)
	}
	of, err := pinned("flux", modules...)
	maps.Copy(pins, of)
	return pins, err
}

func sealedSecretsPins() (map[string]string, error) {
	return pinned("sealed-secrets", sealedModule)
}

// pinned are the versions of modules that a tool's go.mod requires.
func pinned(tool string, modules ...string) (map[string]string, error) {
	path := filepath.Join("tools", tool, "go.mod")
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the pins of %s: %w", tool, err)
	}
	file, err := modfile.Parse(path, content, nil)
	if err != nil {
		return nil, fmt.Errorf("reading the pins of %s: %w", tool, err)
	}
	versions := make(map[string]string, len(modules))
	for _, require := range file.Require {
		if slices.Contains(modules, require.Mod.Path) {
			versions[require.Mod.Path] = require.Mod.Version
		}
	}
	for _, module := range modules {
		if versions[module] == "" {
			return nil, fmt.Errorf("reading the pins of %s: %s doesn't require %s", tool, path, module)
		}
	}
	return versions, nil
}

// moduleDir is the folder of a module that a tool pins, downloaded if need be.
func moduleDir(ctx context.Context, tool, module string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", module)
	cmd.Dir = filepath.Join("tools", tool)
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOSUMDB=off")
	out, err := cmd.Output()
	var found struct {
		Dir   string `json:"Dir"`
		Error string `json:"Error"`
	}
	if err := json.Unmarshal(out, &found); err == nil && found.Error != "" {
		return "", fmt.Errorf("%w: %s, pinned in tools/%s: %s", errNotThere, module, tool, found.Error)
	}
	if err != nil || found.Dir == "" {
		return "", fmt.Errorf("finding %s, pinned in tools/%s: %w", module, tool, err)
	}
	return found.Dir, nil
}
