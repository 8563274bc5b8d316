package workloads_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/modfile"

	"github.com/nullify005/manager-cluster-state/workloads"
)

const component = "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n"

func TestParseImages_JoinsNameTagAndDigest(t *testing.T) {
	list, err := workloads.ParseImages([]byte(component + `images:
  - {name: a, newTag: v1}
  - {name: b, digest: "sha256:0"}
  - {name: c, newTag: latest, digest: "sha256:0"}
`))
	require.NoError(t, err)
	assert.Equal(t, workloads.Images{"a": "a:v1", "b": "b@sha256:0", "c": "c:latest@sha256:0"}, list)
}

func TestParseImages_ListsEveryProblem(t *testing.T) {
	_, err := workloads.ParseImages([]byte(`kind: Kustomization
images:
  - {name: a, newTag: v1}
  - {name: a, newTag: v2}
  - {name: b}
  - {name: c, newTag: latest}
  - {newTag: v1}
  - {name: d, newName: e}
  - {name: "host:5000/f:v1", newTag: v1, tagSuffix: -alpine}
  - {name: "host:5000/g", newTag: v1}
resources: [elsewhere]
`))
	require.Error(t, err)
	for _, want := range []string{
		`apiVersion is "" and kind is "Kustomization": the list is a kustomize Component`, "it has more than images",
		`images[1].name is "a": it is listed already`,
		"images[2].newTag is empty: b needs a tag", `images[3].newTag is "latest"`, "images[4].name is empty", `images[5].newName is "e"`,
		"images[5].newTag is empty: d needs a tag", `images[6].name is "host:5000/f:v1": a tag`, `images[6].tagSuffix is "-alpine"`,
	} {
		require.ErrorContains(t, err, want)
	}
	assert.NotContains(t, err.Error(), "images[7]")
	_, err = workloads.ParseImages([]byte(component + "imagess: []\n"))
	require.ErrorContains(t, err, `unknown field "imagess"`)
	_, err = workloads.LoadImages(filepath.Join(t.TempDir(), "none.yaml"))
	assert.ErrorIs(t, err, os.ErrNotExist)
}

// Image automation finds a tag by a comment that has to stand on its line.
func TestImages_TheAppsTagsCarryTheirPolicysMarker(t *testing.T) {
	content, err := os.ReadFile(filepath.Join("..", "manifests", "images", "kustomization.yaml"))
	require.NoError(t, err)
	for _, app := range []string{"service-intesis", "exporter-weather", "chat-hvac"} {
		assert.Regexp(t, `name: ghcr\.io/nullify005/`+app+`\n\s+newTag: v[0-9.]+ # \{"\$imagepolicy": "flux-system:`+app+`:tag"\}\n`, string(content))
	}
}

func TestImages_SealedSecretsIsTheReleaseThatTheToolsPin(t *testing.T) {
	path := filepath.Join("..", "tools", "sealed-secrets", "go.mod")
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	file, err := modfile.Parse(path, content, nil)
	require.NoError(t, err)
	const image = "docker.io/bitnami/sealed-secrets-controller"
	for _, require := range file.Require {
		if require.Mod.Path == "github.com/bitnami/sealed-secrets" {
			assert.Equal(t, image+":"+require.Mod.Version[1:], imageList(t)[image])
			return
		}
	}
	t.Fatal("tools/sealed-secrets does not pin sealed-secrets")
}
