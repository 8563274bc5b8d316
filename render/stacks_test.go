package render_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/internal/objects"
	"github.com/nullify005/manager-cluster-state/internal/stacktest"
	"github.com/nullify005/manager-cluster-state/render"
	"github.com/nullify005/manager-cluster-state/seal"
	"github.com/nullify005/manager-cluster-state/workloads"
)

const projectDir = ".."

// eachStack runs a test on every stack that has a file.
func eachStack(t *testing.T, test func(t *testing.T, stack string)) {
	t.Helper()
	for _, stack := range stacktest.Names(t, projectDir) {
		t.Run(stack, func(t *testing.T) { test(t, stack) })
	}
}

// committed is what a stack renders to, and what is there.
func committed(t *testing.T, stack string) (want, have render.Files) {
	t.Helper()
	want, have, err := render.Stack(stacktest.Project, projectDir, stack)
	require.NoError(t, err)
	return want, have
}

func TestCommitted_IsWhatTheCatalogGives(t *testing.T) {
	eachStack(t, func(t *testing.T, stack string) {
		want, have := committed(t, stack)
		assert.Empty(t, render.Compare(want, have), "%s is stale; run: make render, and commit", render.Folder(stack))
	})
}

func TestCommitted_NoFolderIsOfNoStack(t *testing.T) {
	// What is in no stack's folder is named here, so that a stack that goes leaves nothing.
	known := append(stacktest.Names(t, projectDir), "flux-system", "generate", "images", "sealed-secrets")
	entries, err := os.ReadDir(filepath.Join(projectDir, render.Root))
	require.NoError(t, err)
	for _, entry := range entries {
		if entry.IsDir() {
			assert.Contains(t, known, entry.Name(), "%s/%s is no stack's; remove it", render.Root, entry.Name())
		}
	}
}

func TestCommitted_HasAFolderForExactlyWhatFluxDelivers(t *testing.T) {
	eachStack(t, func(t *testing.T, stack string) {
		var pulled, folders []string
		for _, workload := range stacktest.Catalog(t, projectDir, stacktest.Config(t, projectDir, stack)) {
			if !workload.Direct {
				pulled = append(pulled, workload.Name)
			}
		}
		entries, err := os.ReadDir(filepath.Join(projectDir, render.Folder(stack)))
		require.NoError(t, err)
		for _, entry := range entries {
			folders = append(folders, entry.Name())
		}
		assert.NotEmpty(t, pulled)
		assert.ElementsMatch(t, pulled, folders)
	})
}

func TestStack_RendersTheSameBytesEachTime(t *testing.T) {
	eachStack(t, func(t *testing.T, stack string) {
		first, _ := committed(t, stack)
		for range 5 { // maps are walked in another order each time
			again, _ := committed(t, stack)
			require.Equal(t, first, again)
		}
	})
}

func TestRendered_HasNoSecretAndNoTag(t *testing.T) {
	eachStack(t, func(t *testing.T, stack string) {
		cfg := stacktest.Config(t, projectDir, stack)
		images := stacktest.Images(t, projectDir, cfg)
		made := rendered(t, render.Args{
			Catalog: stacktest.Catalog(t, projectDir, cfg), Images: images, ImagesFile: cfg.Images,
		})
		_, have := committed(t, stack)
		count := 0
		for _, files := range []render.Files{made, have} {
			for name, content := range files {
				assert.NotContains(t, string(content), stacktest.Canary, name)
				for _, reference := range images {
					assert.NotContains(t, string(content), reference, name+" has the tag of an image")
				}
				u := decode(t, content)[0]
				assert.NotEqual(t, "Secret", u.GetKind(), name)
				for _, image := range imagesOf(u.Object) {
					count++
					assert.Contains(t, images, image, "%s: the list of images has no such name", name)
				}
			}
		}
		assert.NotZero(t, count)
	})
}

// imagesOf are those of every container.
func imagesOf(value any) []string {
	var found []string
	switch v := value.(type) {
	case map[string]any:
		for key, inner := range v {
			if list, isList := inner.([]any); isList && strings.HasSuffix(strings.ToLower(key), "containers") {
				for _, container := range list {
					if image, isText := container.(map[string]any)["image"].(string); isText {
						found = append(found, image)
					}
				}
			}
			found = append(found, imagesOf(inner)...)
		}
	case []any:
		for _, inner := range v {
			found = append(found, imagesOf(inner)...)
		}
	}
	return found
}

// decode reads the objects of a text.
func decode(t *testing.T, content []byte) []*unstructured.Unstructured {
	t.Helper()
	var found []*unstructured.Unstructured
	decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 4096)
	for {
		object := map[string]any{}
		err := decoder.Decode(&object)
		if errors.Is(err, io.EOF) {
			return found
		}
		require.NoError(t, err)
		if len(object) > 0 {
			found = append(found, &unstructured.Unstructured{Object: object})
		}
	}
}

// sealedProject is a project of which a stack is rendered and sealed, as make seal render does.
func sealedProject(t *testing.T, stack string, cfg *config.Config, catalog []workloads.Workload) string {
	t.Helper()
	project := t.TempDir()
	images, err := os.ReadFile(filepath.Join(projectDir, cfg.Images))
	require.NoError(t, err)
	place(t, project, render.Files{
		cfg.Images: images, "Pulumi." + stack + ".yaml": stacktest.File(t, projectDir, stack, cfg),
	})
	sealed, err := render.Seal(catalog, cfg.Sealing.Keys, nil)
	require.NoError(t, err)
	folder := filepath.Join(project, render.Folder(stack))
	place(t, folder, sealed)
	want, have, err := render.Stack(stacktest.Project, project, stack)
	require.NoError(t, err)
	_, err = render.Write(folder, want, have)
	require.NoError(t, err)
	return project
}

func TestStack_RendersWithoutSecretsWhatTheProgramHasWithThem(t *testing.T) {
	eachStack(t, func(t *testing.T, stack string) {
		cfg := stacktest.Config(t, projectDir, stack)
		catalog := stacktest.Catalog(t, projectDir, cfg)
		project := sealedProject(t, stack, cfg, catalog)
		have, err := render.Read(filepath.Join(project, render.Folder(stack)))
		require.NoError(t, err)
		want := rendered(t, render.Args{
			Catalog: catalog, Images: stacktest.Images(t, projectDir, cfg), ImagesFile: cfg.Images, Sealed: have,
		})
		assert.Empty(t, render.Compare(want, have))

		unsealed, _ := committed(t, stack)
		const bot = "chat-hvac/deployment-chat-hvac.yaml"
		assert.NotEqual(t, string(unsealed[bot]), string(have[bot]), "the digest of the sealed file reaches the pods")
		for name, content := range have {
			assert.NotContains(t, string(content), stacktest.Canary, name)
		}
	})
}

func TestStack_SaysWhichSealedFileItCannotRead(t *testing.T) {
	project := t.TempDir()
	for _, name := range []string{"Pulumi.production.yaml", imagesFile} {
		content, err := os.ReadFile(filepath.Join(projectDir, name))
		require.NoError(t, err)
		place(t, project, render.Files{name: content})
	}
	place(t, project, render.Files{"manifests/production/chat-hvac/sealedsecret-chat-hvac.yaml": []byte("- no object")})
	_, _, err := render.Stack(stacktest.Project, project, "production")
	require.ErrorContains(t, err, "chat-hvac/sealedsecret-chat-hvac.yaml")
	_, _, err = render.Stack(stacktest.Project, project, "nothing")
	require.ErrorContains(t, err, "Pulumi.nothing.yaml")
}

// build is what kustomize makes of a folder of a project.
func build(t *testing.T, project, folder string) []byte {
	t.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(project, folder))
	require.NoError(t, err)
	content, err := built.AsYaml()
	require.NoError(t, err)
	return content
}

// plain is an object as JSON has it, whatever Go types it was made of.
func plain(t *testing.T, u *unstructured.Unstructured) map[string]any {
	t.Helper()
	content, err := json.Marshal(u.Object)
	require.NoError(t, err)
	var object map[string]any
	require.NoError(t, json.Unmarshal(content, &object))
	return object
}

func id(u *unstructured.Unstructured) string {
	return strings.Join([]string{u.GetAPIVersion(), u.GetKind(), u.GetNamespace(), u.GetName()}, " ")
}

func byID(t *testing.T, content []byte) map[string]map[string]any {
	t.Helper()
	found := map[string]map[string]any{}
	for _, u := range decode(t, content) {
		require.NotContains(t, found, id(u))
		found[id(u)] = u.Object
	}
	return found
}

// pulledAndDirect are the objects of a workload by what they are: as kustomize builds them, with
// each sealed secret opened, and as direct delivery registers them.
func pulledAndDirect(t *testing.T, built []byte, workload workloads.Workload, keys []config.SealingKey) (pulled, direct map[string]map[string]any) {
	t.Helper()
	pulled, direct = map[string]map[string]any{}, map[string]map[string]any{}
	for _, u := range decode(t, built) {
		if u.GetKind() == "SealedSecret" {
			content, err := json.Marshal(u.Object)
			require.NoError(t, err)
			secret, err := seal.Open(content, keys)
			require.NoError(t, err)
			delete(secret.Annotations, seal.DigestAnnotation)
			u, err = objects.Unstructured(secret)
			require.NoError(t, err)
		}
		require.NotContains(t, pulled, id(u))
		pulled[id(u)] = plain(t, u)
	}
	for _, object := range workload.Objects {
		u, err := objects.Unstructured(object)
		require.NoError(t, err)
		if u.GetKind() == "Secret" {
			unstructured.RemoveNestedField(u.Object, "metadata", "annotations", seal.DigestAnnotation)
		}
		direct[id(u)] = plain(t, u)
	}
	for _, all := range []map[string]map[string]any{pulled, direct} {
		for _, object := range all { // no annotations, however they are written
			if annotations, _, _ := unstructured.NestedMap(object, "metadata", "annotations"); len(annotations) == 0 {
				unstructured.RemoveNestedField(object, "metadata", "annotations")
			}
		}
	}
	return pulled, direct
}

func TestDeliveries_AreOfTheSameObjects(t *testing.T) {
	eachStack(t, func(t *testing.T, stack string) {
		cfg := stacktest.Config(t, projectDir, stack)
		git, here := *cfg, *cfg
		git.Delivery, here.Delivery = config.FluxCD, config.Direct
		pulledCatalog, directCatalog := stacktest.Catalog(t, projectDir, &git), stacktest.Catalog(t, projectDir, &here)
		project := sealedProject(t, stack, cfg, pulledCatalog)
		compared := 0
		for _, workload := range directCatalog {
			if workload.Direct {
				continue
			}
			i := slices.IndexFunc(pulledCatalog, func(w workloads.Workload) bool { return w.Name == workload.Name && !w.Direct })
			require.NotEqual(t, -1, i, "Flux delivers %s too", workload.Name)
			pulled, direct := pulledAndDirect(t, build(t, project, filepath.Join(render.Folder(stack), workload.Name)), workload, cfg.Sealing.Keys)
			assert.ElementsMatch(t, slices.Collect(maps.Keys(direct)), slices.Collect(maps.Keys(pulled)), workload.Name)
			for name, object := range direct {
				assert.Equal(t, object, pulled[name], name)
				compared++
			}
		}
		assert.Greater(t, compared, 50)
	})
}

func TestDeliveries_AreOfTheSameObjectsWhenTheListOfImagesIsElsewhere(t *testing.T) {
	const stack, elsewhere = "development", "lists/of/mine/kustomization.yaml"
	cfg := stacktest.Config(t, projectDir, stack)
	catalog := stacktest.Catalog(t, projectDir, cfg)
	project := t.TempDir()
	list, err := os.ReadFile(filepath.Join(projectDir, cfg.Images))
	require.NoError(t, err)
	place(t, project, render.Files{elsewhere: list})
	place(t, filepath.Join(project, render.Folder(stack)), rendered(t, render.Args{
		Catalog: catalog, Images: stacktest.Images(t, projectDir, cfg), ImagesFile: elsewhere,
	}))
	for _, workload := range catalog {
		if workload.Direct {
			continue
		}
		pulled, direct := pulledAndDirect(t, build(t, project, filepath.Join(render.Folder(stack), workload.Name)), workload, nil)
		maps.DeleteFunc(direct, func(_ string, object map[string]any) bool { return object["kind"] == "Secret" })
		assert.Equal(t, direct, pulled, workload.Name)
	}
}

// tool is a program of this project's, or a reason to skip.
func tool(t *testing.T, name, of string) string {
	t.Helper()
	program, err := filepath.Abs(filepath.Join(projectDir, ".tools", "bin", name))
	require.NoError(t, err)
	if _, err := os.Stat(program); err != nil {
		t.Skipf("needs the pinned %s: go run ./tools/build %s", name, of)
	}
	return program
}

func TestKustomize_ThePinnedOneBuildsTheSameOfWhatIsCommitted(t *testing.T) {
	program := tool(t, "kustomize", "kustomize")
	eachStack(t, func(t *testing.T, stack string) {
		entries, err := os.ReadDir(filepath.Join(projectDir, render.Folder(stack)))
		require.NoError(t, err)
		for _, entry := range entries {
			folder := filepath.Join(render.Folder(stack), entry.Name())
			cmd := exec.CommandContext(t.Context(), program, "build", filepath.Join(projectDir, folder))
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			require.NoError(t, err, stderr.String())
			assert.Empty(t, stderr.String(), "it warns of nothing in %s", folder)
			// It sorts them its own way.
			assert.Equal(t, byID(t, build(t, projectDir, folder)), byID(t, out), folder)
		}
	})
}
