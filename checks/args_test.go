package checks_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
)

// A program that doesn't know one of its arguments never starts, and no simulated node would tell.
func TestArguments_AreOnesThatTheProgramsTake(t *testing.T) {
	t.Parallel()
	for name, source := range map[string]struct{ module, file string }{
		"prometheus":    {"github.com/prometheus/prometheus", "cmd/prometheus/main.go"},
		"snmp-exporter": {"github.com/prometheus/snmp_exporter", "main.go"},
	} {
		folder, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", source.module).Output()
		require.NoError(t, err)
		content, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(folder)), filepath.FromSlash(source.file)))
		require.NoError(t, err)
		known := map[string]bool{}
		for _, match := range regexp.MustCompile(`Flag\((?:a, )?"([a-z0-9.-]+)"`).FindAllStringSubmatch(string(content), -1) {
			known[match[1]] = true
		}
		require.Greater(t, len(known), 4, "%s's flags are declared in another way", name)
		checked := 0
		for _, workload := range production(t) {
			for _, object := range workload.Objects {
				deployment, ok := object.(*appsv1.Deployment)
				if !ok || deployment.Name != name {
					continue
				}
				for _, arg := range deployment.Spec.Template.Spec.Containers[0].Args {
					flag, _, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
					assert.True(t, known[flag], "%s has no flag --%s", name, flag)
					checked++
				}
			}
		}
		assert.Positive(t, checked, name)
	}
}
