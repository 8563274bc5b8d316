package checks_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/workloads"
)

// What judges the files here is the code of the very releases that run them: raise an image and
// the module together.
func TestVersions_TheImagesAreOfTheReleasesWhoseCodeChecksHere(t *testing.T) {
	t.Parallel()
	images, err := workloads.LoadImages(filepath.Join("..", "manifests", "images", "kustomization.yaml"))
	require.NoError(t, err)
	content, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	pinned := func(module string) string {
		match := regexp.MustCompile(`(?m)^\t` + regexp.QuoteMeta(module) + ` (v\S+)`).FindSubmatch(content)
		require.NotNil(t, match, module)
		return string(match[1])
	}
	// Prometheus 3.13.0 is module v0.313.0.
	prometheus := regexp.MustCompile(`^v0\.(\d)(\d\d)\.(\d+)$`).ReplaceAllString(pinned("github.com/prometheus/prometheus"), "v$1.$2.$3")
	assert.Equal(t, "docker.io/prom/prometheus:"+prometheus, images["docker.io/prom/prometheus"])
	assert.Equal(t, "docker.io/prom/snmp-exporter:"+pinned("github.com/prometheus/snmp_exporter"), images["docker.io/prom/snmp-exporter"])

	schemas, err := filepath.Glob(filepath.Join("testdata", "alloy-*.json"))
	require.NoError(t, err)
	require.Len(t, schemas, 1)
	schema := regexp.MustCompile(`alloy-(v[\d.]+)\.json$`).FindStringSubmatch(schemas[0])
	require.NotNil(t, schema)
	assert.Equal(t, "docker.io/grafana/alloy:"+schema[1], images["docker.io/grafana/alloy"])
}
