package cluster

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/nullify005/manager-cluster-state/components"
)

// InstallationsOutput is the stack's output that says which installation each node has: a map
// from its name to a token. A node of k3d has that of its cluster.
const InstallationsOutput = "installations"

// newInstallation names an installation that is about to be made. An installation carries its
// token itself: the program finds it there, and so sees that what the state knows is gone, or
// that what the state doesn't know is there.
func newInstallation() string {
	var token [8]byte
	_, _ = rand.Read(token[:]) // never fails
	return hex.EncodeToString(token[:])
}

// installationsBefore are those that the update before this one has recorded.
func installationsBefore(ctx *pulumi.Context) (map[string]string, error) {
	outputs, err := components.OutputsBefore(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading which installations the stack has: %w", err)
	}
	recorded := map[string]string{}
	installations, _ := outputs[InstallationsOutput].(map[string]any)
	for node, value := range installations {
		if token, isText := value.(string); isText {
			recorded[node] = token
		}
	}
	return recorded, nil
}
