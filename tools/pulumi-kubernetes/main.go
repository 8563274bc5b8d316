// Command pulumi-resource-kubernetes is Pulumi's Kubernetes plugin, built from its module.
// The plugin's own main package embeds files that only its release process makes; here
// tools/build puts them in place for the time of the build.
package main

import (
	_ "embed"

	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/provider"
	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/version"
)

//go:embed schema.json
var schema []byte

//go:embed terraform-mapping.json
var mapping []byte

func main() { provider.Serve("kubernetes", version.Version, schema, mapping) }
