package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// patchSource is this file: a tool that has a patch is stale when it changes.
//
//go:embed patches.go
var patchSource []byte

// pluginSchema gives the Kubernetes plugin the two files that its release process makes:
// its schema with the version in it, and its mapping.
func pluginSchema(folder, version string) error {
	folder = filepath.Join(folder, "cmd", "pulumi-resource-kubernetes")
	content, err := os.ReadFile(filepath.Join(folder, "schema.json"))
	if err != nil {
		return fmt.Errorf("reading the plugin's schema: %w", err)
	}
	var schema map[string]json.RawMessage
	if err := json.Unmarshal(content, &schema); err != nil {
		return fmt.Errorf("reading the plugin's schema: %w", err)
	}
	schema["version"] = json.RawMessage(`"` + plain(version) + `"`)
	content, err = json.Marshal(schema)
	if err != nil {
		return fmt.Errorf("writing the plugin's schema: %w", err)
	}
	if err := os.WriteFile(filepath.Join(folder, "schema-embed.json"), content, 0o600); err != nil {
		return fmt.Errorf("writing the plugin's schema: %w", err)
	}
	if err := os.Rename(filepath.Join(folder, "terraform-mapping.json"), filepath.Join(folder, "terraform-mapping-embed.json")); err != nil {
		return fmt.Errorf("writing the plugin's mapping: %w", err)
	}
	return nil
}

// noManifests stands in for the manifests that flux's release process embeds for `flux
// install` and `flux bootstrap`. This project installs Flux with Pulumi, so the CLI built
// here has neither, and everything else.
func noManifests(folder, _ string) error {
	folder = filepath.Join(folder, "cmd", "flux", "manifests")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("writing flux's stand-in manifest: %w", err)
	}
	content := []byte("# this build has no manifests: Flux is installed by pulumi up\n")
	if err := os.WriteFile(filepath.Join(folder, "none.yaml"), content, 0o600); err != nil {
		return fmt.Errorf("writing flux's stand-in manifest: %w", err)
	}
	return nil
}

// kubeconfigToo lets the sealed-secrets controller run outside of a cluster, as Flux's
// controllers can: with KUBECONFIG set it uses that, and without it does what it always did.
func kubeconfigToo(folder, version string) error {
	path := filepath.Join(folder, "pkg", "controller", "main.go")
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading the sealed-secrets controller: %w", err)
	}
	for old, replacement := range map[string]string{
		"rest.InClusterConfig()":  `clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))`,
		`"k8s.io/client-go/rest"`: `"k8s.io/client-go/tools/clientcmd"`,
	} {
		if bytes.Count(content, []byte(old)) != 1 {
			return fmt.Errorf("sealed-secrets %s does not have %s once in pkg/controller/main.go: "+
				"look at what it does now, and change patches.go", version, old)
		}
		content = bytes.Replace(content, []byte(old), []byte(replacement), 1)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return fmt.Errorf("writing the sealed-secrets controller: %w", err)
	}
	return nil
}
