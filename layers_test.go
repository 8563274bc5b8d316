package main

import (
	"go/build"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Data flows one way: a layer knows those before it, what is nobody's own, and not the engine
// until there are components. A rehearsal, and the helper for it, is known to none.
func TestProgram_EachLayerKnowsOnlyTheOnesBeforeIt(t *testing.T) {
	const module, engine = "github.com/nullify005/manager-cluster-state/", "github.com/pulumi/"
	components, err := filepath.Glob("components/*")
	require.NoError(t, err)
	components = slices.DeleteFunc(components, func(path string) bool { return filepath.Ext(path) == ".go" })
	require.NotEmpty(t, components)
	known := []string{"manifests", "internal/flux", "internal/git", "internal/githubapi", "internal/k3s", "internal/objects"}
	for _, layer := range [][]string{
		known, {"config"}, {"hosts"}, {"seal"}, {"workloads"}, {"render"}, {"graph"}, {"branch"}, {"components"}, components, {"."},
	} {
		for _, folder := range layer {
			found, err := build.ImportDir(folder, 0)
			require.NoError(t, err)
			mayKnowTheEngine := folder == "." || strings.HasPrefix(folder, "components")
			for _, imported := range found.Imports {
				if own, isOwn := strings.CutPrefix(imported, module); isOwn {
					assert.True(t, slices.Contains(known, own) && !slices.Contains(layer, own), "%s imports %s", folder, own)
				}
				assert.False(t, strings.HasPrefix(imported, engine) && !mayKnowTheEngine, "%s imports %s", folder, imported)
			}
		}
		known = append(known, layer...)
	}
}
