// Command pulumi-resource-github is a stand-in for Pulumi's official plugin of that name, for
// rehearsals and tests on machines where the official one can't be installed. It is not the
// official plugin, and no real stack is meant to run with it: where the official one is
// there, it is the one that is used.
//
// It knows one resource, github:index/repositoryDeployKey:RepositoryDeployKey, by the
// official token, with the inputs, outputs, IDs and replacements of version 6, and of the
// provider's configuration owner, token, baseUrl, maxRetries and retryDelayMs. It differs in
// this: to delete a key that is gone succeeds, an owner must be given, a refusal says what to
// do about it, and a token from the environment is never in the state.
package main

import (
	"os"

	"github.com/blang/semver"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"

	"github.com/nullify005/manager-cluster-state/rehearsal/plugins/serve"
)

// version is that of the SDK whose plugin this stands in for; the build sets it.
var version = "6.0.0"

func main() {
	os.Exit(serve.Main(packageName, version, func(version semver.Version, _ string) (plugin.Provider, error) {
		return newProvider(version, os.Getenv), nil
	}))
}
