package render_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/render"
	"github.com/nullify005/manager-cluster-state/workloads"
)

const imagesFile = "manifests/images/kustomization.yaml"

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

func configMap(namespace, name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: meta(namespace, name),
		Data: map[string]string{"b": "2", "a": "1", "c": "image: example.org/app:v1"},
	}
}

func deployment(images ...string) *appsv1.Deployment {
	d := &appsv1.Deployment{TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}, ObjectMeta: meta("app-v1", "app")}
	d.Spec.Template.Spec.InitContainers = []corev1.Container{{Name: "first", Image: images[0]}}
	for _, image := range images[1:] {
		d.Spec.Template.Spec.Containers = append(d.Spec.Template.Spec.Containers, corev1.Container{Name: "c", Image: image})
	}
	return d
}

func app(objects ...client.Object) []workloads.Workload {
	return []workloads.Workload{{Name: "app", Namespace: "app-v1", Objects: objects}}
}

func rendered(t *testing.T, args render.Args) render.Files {
	t.Helper()
	if args.ImagesFile == "" {
		args.ImagesFile = imagesFile
	}
	files, err := render.Render(&args)
	require.NoError(t, err)
	return files
}

func TestRender_WritesAFilePerObjectAndAListOfThem(t *testing.T) {
	files := rendered(t, render.Args{Catalog: app(configMap("other-v1", "b"), configMap("app-v1", "a"))})
	assert.Equal(t, []string{"app/configmap-a.yaml", "app/configmap-other-v1-b.yaml", "app/kustomization.yaml"}, slices.Sorted(maps.Keys(files)))
	const header = "# Generated from workloads/ and the stack's configuration. Do not edit: run make render.\n"
	assert.Equal(t, header+`apiVersion: kustomize.config.k8s.io/v1beta1
components:
- ../../images
kind: Kustomization
resources:
- configmap-a.yaml
- configmap-other-v1-b.yaml
`, string(files["app/kustomization.yaml"]))
	assert.Equal(t, header+`apiVersion: v1
data:
  a: "1"
  b: "2"
  c: 'image: example.org/app:v1'
kind: ConfigMap
metadata:
  name: a
  namespace: app-v1
`, string(files["app/configmap-a.yaml"]))
}

func TestRender_LeavesTagsToTheListOfImages(t *testing.T) {
	const digest = "@sha256:097efc10563b707806a125a49a240ef09bc0b7258c09b048afa6455ec35d1f9d"
	object := deployment("example.org/first:v2"+digest, "example.org/app:v1", "example.org/stranger:v3")
	before := object.DeepCopy()
	files := rendered(t, render.Args{
		Catalog: app(object, configMap("app-v1", "a")),
		Images:  workloads.Images{"example.org/app": "example.org/app:v1", "example.org/first": "example.org/first:v2" + digest},
	})
	text := string(files["app/deployment-app.yaml"])
	assert.Contains(t, text, "image: example.org/app\n")
	assert.Contains(t, text, "image: example.org/first\n")
	assert.Contains(t, text, "image: example.org/stranger:v3\n", "nothing would add the tag of what is not listed")
	assert.Contains(t, string(files["app/configmap-a.yaml"]), "image: example.org/app:v1", "a text is no container")
	assert.Equal(t, before, object, "the catalog stays as it is")
}

func TestRender_FindsTheListOfImagesWhereverItIs(t *testing.T) {
	for file, component := range map[string]string{
		imagesFile:                              "../../images",
		"manifests/kustomization.yaml":          "../..",
		"kustomization.yaml":                    "../../..",
		"elsewhere/images/kustomization.yaml":   "../../../elsewhere/images",
		"manifests/a/b/c/kustomization.yaml":    "../../a/b/c",
		"./manifests/images/kustomization.yaml": "../../images",
	} {
		files := rendered(t, render.Args{Catalog: app(), ImagesFile: file})
		assert.Contains(t, string(files["app/kustomization.yaml"]), "components:\n- "+component+"\n", file)
	}
}

func TestRender_HasNoSecretButPassesOnWhatSealsIt(t *testing.T) {
	catalog := app(secret("app-v1", "creds", "canary"), secret("other-v1", "creds", "canary"), secret("app-v1", "unsealed", "canary"))
	sealed := render.Files{
		"app/sealedsecret-creds.yaml":          []byte("sealed one"),
		"app/sealedsecret-other-v1-creds.yaml": []byte("sealed two"),
		"app/sealedsecret-gone.yaml":           []byte("of no use"),
		"app/configmap-a.yaml":                 []byte("not sealed"),
	}
	files := rendered(t, render.Args{Catalog: catalog, Sealed: sealed})
	assert.Equal(t, []string{"app/kustomization.yaml", "app/sealedsecret-creds.yaml", "app/sealedsecret-other-v1-creds.yaml"}, slices.Sorted(maps.Keys(files)))
	assert.Contains(t, string(files["app/kustomization.yaml"]), "resources:\n- sealedsecret-creds.yaml\n- sealedsecret-other-v1-creds.yaml\n")
	assert.Equal(t, "sealed one", string(files["app/sealedsecret-creds.yaml"]))

	none := rendered(t, render.Args{Catalog: catalog})
	assert.Equal(t, []string{"app/kustomization.yaml"}, slices.Collect(maps.Keys(none)))
	assert.NotContains(t, string(none["app/kustomization.yaml"]), "creds")
}

func TestRender_LeavesOutWhatPulumiDelivers(t *testing.T) {
	catalog := app(configMap("app-v1", "a"))
	catalog[0].Direct = true
	assert.Empty(t, rendered(t, render.Args{Catalog: catalog}))
}

func TestRender_RefusesTwoObjectsForOneFile(t *testing.T) {
	for name, catalog := range map[string][]workloads.Workload{
		"app/configmap-b-c.yaml":    app(configMap("app-v1", "b-c"), configMap("b", "c")),
		"app/sealedsecret-b-c.yaml": app(secret("app-v1", "b-c", "canary"), secret("b", "c", "canary")),
	} {
		_, err := render.Render(&render.Args{
			Catalog: catalog, ImagesFile: imagesFile, Sealed: render.Files{"app/sealedsecret-b-c.yaml": []byte("x")},
		})
		require.ErrorContains(t, err, "rendering workload app")
		require.ErrorContains(t, err, name)
		assert.NotContains(t, err.Error(), "canary")
	}
}

func TestRender_SaysWhichWorkloadHasAnObjectWithoutAName(t *testing.T) {
	_, err := render.Render(&render.Args{Catalog: app(configMap("app-v1", "")), ImagesFile: imagesFile})
	require.ErrorContains(t, err, "rendering workload app")
}

func TestCompare_SaysWhatOfEachFile(t *testing.T) {
	want := render.Files{
		"app/a.yaml": []byte("a"), "app/b.yaml": []byte("b"), "app/c.yaml": []byte("c"), "app/sealedsecret-a.yaml": []byte("one"),
	}
	have := render.Files{
		"app/a.yaml": []byte("a"), "app/b.yaml": []byte("B"), "gone/d.yaml": []byte("d"),
		"app/sealedsecret-a.yaml": []byte("two"), "app/sealedsecret-b.yaml": []byte("three"),
	}
	assert.Equal(t, []string{"app/b.yaml is stale", "app/c.yaml is missing", "gone/d.yaml is of no use any more"}, render.Compare(want, have))
	assert.Empty(t, render.Compare(want, want))
	assert.Empty(t, render.Compare(nil, nil))
}

// place writes files below a folder, long ago.
func place(t *testing.T, folder string, files render.Files) time.Time {
	t.Helper()
	longAgo := time.Now().Add(-time.Hour).Truncate(time.Second)
	for name, content := range files {
		path := filepath.Join(folder, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o750))
		require.NoError(t, os.WriteFile(path, content, 0o600))
		require.NoError(t, os.Chtimes(path, longAgo, longAgo))
	}
	return longAgo
}

func TestWrite_TouchesOnlyWhatDiffers(t *testing.T) {
	folder := t.TempDir()
	have := render.Files{
		"app/same.yaml": []byte("same"), "app/stale.yaml": []byte("before"), "app/gone.yaml": []byte("x"),
		"app/sealedsecret-a.yaml": []byte("sealed"), "gone/gone.yaml": []byte("x"), "half/gone.yaml": []byte("x"), "half/sealedsecret-b.yaml": []byte("sealed"),
	}
	longAgo := place(t, folder, have)
	read, err := render.Read(folder)
	require.NoError(t, err)
	require.Equal(t, have, read)

	want := render.Files{"app/same.yaml": []byte("same"), "app/stale.yaml": []byte("after"), "new/new.yaml": []byte("new")}
	changed, err := render.Write(folder, want, read)
	require.NoError(t, err)
	assert.Equal(t, []string{
		"wrote app/stale.yaml", "wrote new/new.yaml", "removed app/gone.yaml", "removed gone/gone.yaml", "removed half/gone.yaml",
	}, changed)
	for name, content := range want {
		got, err := os.ReadFile(filepath.Join(folder, name))
		require.NoError(t, err)
		assert.Equal(t, string(content), string(got), name)
	}
	for _, name := range []string{"app/same.yaml", "app/sealedsecret-a.yaml", "half/sealedsecret-b.yaml"} {
		info, err := os.Stat(filepath.Join(folder, name))
		require.NoError(t, err, name)
		assert.Equal(t, longAgo, info.ModTime(), name+" was not to be touched")
	}
	assert.NoFileExists(t, filepath.Join(folder, "app", "gone.yaml"))
	assert.NoDirExists(t, filepath.Join(folder, "gone"), "a workload that is gone leaves no folder")

	read, err = render.Read(folder)
	require.NoError(t, err)
	changed, err = render.Write(folder, want, read)
	require.NoError(t, err)
	assert.Empty(t, changed)
}

func TestWrite_SaysWhatItCouldNotWrite(t *testing.T) {
	folder := t.TempDir()
	place(t, folder, render.Files{"app": []byte("a file where a folder is to be")})
	_, err := render.Write(folder, render.Files{"app/a.yaml": nil}, nil)
	require.ErrorContains(t, err, filepath.Join(folder, "app", "a.yaml"))
}

func TestRead_OfAFolderThatIsNotThereIsEmpty(t *testing.T) {
	files, err := render.Read(filepath.Join(t.TempDir(), "nothing"))
	require.NoError(t, err)
	assert.Empty(t, files)
}
