// Command pulumi-resource-command is a stand-in for Pulumi's official plugin of that name, for
// rehearsals and tests on machines where the official one can't be installed. It is not the
// official plugin, and no real stack is meant to run with it: where the official one is
// there, it is the one that is used.
//
// It knows command:local:Command, command:remote:Command, command:remote:CopyToRemote and the
// function command:local:run, by the official tokens, with the inputs, outputs, replacements,
// retries and errors of version 1.2. It differs in this: assetPaths, archivePaths and CopyFile
// are refused, a connection is closed when its command has ended, and a line of output may be
// longer than 64 KiB.
package main

import (
	"os"

	"github.com/blang/semver"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"

	"github.com/nullify005/manager-cluster-state/rehearsal/plugins/serve"
)

// version is that of the SDK whose plugin this stands in for; the build sets it.
var version = "1.0.0"

func main() {
	os.Exit(serve.Main(packageName, version, func(version semver.Version, engine string) (plugin.Provider, error) {
		return newProvider(version, engine)
	}))
}
