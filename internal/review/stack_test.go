package review

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/render"
)

// ours is a repository of this project's own files, as far as manifests depend on them, but for what
// an owner has set.
func ours(t *testing.T) (*repository, *Args) {
	t.Helper()
	top := filepath.Join("..", "..")
	args := &Args{Project: "manager-cluster-state", Stacks: []string{"development", "production"}, Base: "main"}
	from := map[string]string{"Pulumi.yaml": top, "manifests/images/kustomization.yaml": top}
	for _, stack := range args.Stacks {
		from["Pulumi."+stack+".yaml"] = filepath.Join(top, "workloads", "testdata")
	}
	files := map[string]string{}
	for name, folder := range from {
		content, err := os.ReadFile(filepath.Join(folder, filepath.FromSlash(name)))
		require.NoError(t, err)
		files[name] = string(content)
	}
	r := commits(t, files)
	args.ProjectDir = r.folder
	for _, stack := range args.Stacks {
		want, have, err := render.Stack(args.Project, r.folder, stack)
		require.NoError(t, err)
		_, err = render.Write(filepath.Join(r.folder, filepath.FromSlash(render.Folder(stack))), want, have)
		require.NoError(t, err)
	}
	r.commit(t, nil)
	return r, args
}

func (r *repository) replace(t *testing.T, name, old, with string) {
	t.Helper()
	path := filepath.Join(r.folder, filepath.FromSlash(name))
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(content), old)
	require.NoError(t, os.WriteFile(path, []byte(strings.Replace(string(content), old, with, 1)), 0o600))
}

func TestManifests_OfAnUntouchedWorkTreeAreTheBases(t *testing.T) {
	_, args := ours(t)
	text, err := Manifests(t.Context(), args)
	require.NoError(t, err)
	assert.Contains(t, text, "the same as at `main`, in every stack")
}

func TestManifests_AreRenderedFromTheWorkTreeWithoutMakeRender(t *testing.T) {
	r, args := ours(t)
	r.replace(t, "Pulumi.production.yaml", "interval: 120s", "interval: 240s")
	text, err := Manifests(t.Context(), args)
	require.NoError(t, err)
	assert.Contains(t, text, "| production | service-intesis | 1 changed |\n")
	assert.NotContains(t, text, "| development |")
	assert.NotContains(t, text, "| production | grafana |")
}

func TestManifests_TheOtherObservabilityIsWorkloadsThatComeAndGo(t *testing.T) {
	r, args := ours(t)
	r.replace(t, "Pulumi.development.yaml", "observability: local", `observability: cloud
  manager-cluster-state:cloud:
    metrics: {url: "https://prometheus.example.net/api/prom/push", username: "1"}
    logs: {url: "https://logs.example.net/loki/api/v1/push", username: "2"}`)
	text, err := Manifests(t.Context(), args)
	require.NoError(t, err)
	for _, row := range []string{"alloy | new workload: ", "grafana | workload is gone: ", "prometheus | workload is gone: "} {
		assert.Contains(t, text, "| development | "+row)
	}
}

func TestManifests_OfAStackFileThatIsWrongSaysWhichAndWhy(t *testing.T) {
	r, args := ours(t)
	r.replace(t, "Pulumi.production.yaml", "interval: 120s", "interval: -1s")
	_, err := Manifests(t.Context(), args)
	require.ErrorContains(t, err, "rendering production")
	require.ErrorContains(t, err, "hvac.interval")
}

func TestMarker_IsWhatTheWorkflowFindsTheCommentBy(t *testing.T) {
	workflow, err := os.ReadFile(filepath.Join("..", "..", ".github", "workflows", "check.yml"))
	require.NoError(t, err)
	assert.Contains(t, string(workflow), `startswith("`+Marker+`")`)
}
