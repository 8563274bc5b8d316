package sealed_test

import (
	"os"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/seal"
	"github.com/nullify005/manager-cluster-state/sealed"
	"github.com/nullify005/manager-cluster-state/workloads"
)

func secret(namespace, name, value string) *corev1.Secret {
	return &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Data:       map[string][]byte{"value": []byte(value)},
	}
}

func workload(name string, secrets ...client.Object) workloads.Workload {
	return workloads.Workload{Name: name, Namespace: name, Objects: append(secrets, &corev1.Namespace{})}
}

func keys(t *testing.T) []config.SealingKey {
	t.Helper()
	key, err := seal.NewSealingKey(time.Now())
	require.NoError(t, err)
	return []config.SealingKey{key}
}

// apply makes a tree of what changes would leave in an empty folder.
func apply(t *testing.T, changes []sealed.Change) fstest.MapFS {
	t.Helper()
	tree := fstest.MapFS{}
	for _, change := range changes {
		require.NotNil(t, change.Content, change.Path)
		tree[change.Path] = &fstest.MapFile{Data: change.Content}
	}
	return tree
}

func TestPlan_SealsWhatFluxPullsAndNothingElse(t *testing.T) {
	direct := workload("flux-system", secret("flux-system", "token", "x"))
	direct.Direct = true
	catalog := []workloads.Workload{
		direct, workload("app", secret("app", "creds", "one"), secret("other", "creds", "two")), workload("plain"),
	}
	with := keys(t)
	changes, files, err := sealed.Plan(fstest.MapFS{}, "OWNER/PROJECT/production", catalog, with)
	require.NoError(t, err)
	assert.Equal(t, 2, files)
	tree := apply(t, changes)
	require.Contains(t, tree, "manifests/production/app/sealedsecret-creds.yaml")
	require.Contains(t, tree, "manifests/production/app/sealedsecret-other-creds.yaml")
	assert.Len(t, tree, 2)

	require.NoError(t, sealed.Check(tree, "production", catalog, with))
	changes, _, err = sealed.Plan(tree, "production", catalog, with)
	require.NoError(t, err)
	assert.Empty(t, changes)

	key, err := seal.DigestKey(with)
	require.NoError(t, err)
	digests, err := sealed.Digests(tree, "production")
	require.NoError(t, err)
	assert.Equal(t, map[string]string{
		"app/creds": seal.Digest(key, secret("app", "creds", "one")), "other/creds": seal.Digest(key, secret("other", "creds", "two")),
	}, digests)
	none, err := sealed.Digests(tree, "development")
	require.NoError(t, err)
	assert.Empty(t, none)
}

func TestPlan_SaysWhyAFileChanges(t *testing.T) {
	older := keys(t)
	newer, err := seal.NewSealingKey(time.Now().Add(time.Hour))
	require.NoError(t, err)
	labelled := secret("app", "creds", "one")
	labelled.Labels = map[string]string{"a": "b"}
	seals := func(with []config.SealingKey) fstest.MapFS {
		changes, _, err := sealed.Plan(fstest.MapFS{}, "s", []workloads.Workload{workload("app", secret("app", "creds", "one"))}, with)
		require.NoError(t, err)
		return apply(t, changes)
	}
	sameKey := seals(older)
	for name, c := range map[string]struct {
		tree   fstest.MapFS
		with   []config.SealingKey
		secret *corev1.Secret
		want   string
	}{
		"new":      {fstest.MapFS{}, older, secret("app", "creds", "one"), "it is new"},
		"value":    {sameKey, older, secret("app", "creds", "two"), "its secret changed, or it was damaged"},
		"labels":   {sameKey, older, labelled, "its labels or annotations changed"},
		"damage":   {fstest.MapFS{"manifests/s/app/sealedsecret-creds.yaml": {Data: []byte("x")}}, older, secret("app", "creds", "one"), "its secret changed, or it was damaged"},
		"rotation": {sameKey, append([]config.SealingKey{newer}, older...), secret("app", "creds", "one"), "a newer key seals"},
	} {
		t.Run(name, func(t *testing.T) {
			changes, _, err := sealed.Plan(c.tree, "s", []workloads.Workload{workload("app", c.secret)}, c.with)
			require.NoError(t, err)
			require.Len(t, changes, 1)
			assert.Equal(t, c.want, changes[0].Why)
		})
	}
}

func TestPlan_RefusesTwoSecretsForOneFile(t *testing.T) {
	catalog := []workloads.Workload{workload("app", secret("app", "b-c", "one"), secret("b", "c", "two"))}
	_, _, err := sealed.Plan(fstest.MapFS{}, "s", catalog, keys(t))
	require.ErrorContains(t, err, "workload app: secrets app/b-c and b/c would both be sealed in manifests/s/app/sealedsecret-b-c.yaml")
}

func TestCheck_ReportsEveryProblemWithItsFile(t *testing.T) {
	catalog := []workloads.Workload{workload("app", secret("app", "one", "1"), secret("app", "two", "2"))}
	with := keys(t)
	tree := fstest.MapFS{
		"manifests/s/app/sealedsecret-two.yaml":   {Data: []byte("kind: Secret")},
		"manifests/s/gone/sealedsecret-gone.yaml": {Data: []byte("x")},
	}
	err := sealed.Check(tree, "s", catalog, with)
	require.ErrorContains(t, err, "manifests/s/app/sealedsecret-one.yaml: the sealed file of secret app/one: it is missing; run: make seal")
	require.ErrorContains(t, err, `manifests/s/app/sealedsecret-two.yaml: the sealed file of secret app/two: it is a "Secret"`)
	require.ErrorContains(t, err, "manifests/s/gone/sealedsecret-gone.yaml: no workload has that secret")

	_, err = sealed.Digests(tree, "s")
	require.ErrorContains(t, err, "manifests/s/app/sealedsecret-two.yaml")
	require.ErrorContains(t, err, "manifests/s/gone/sealedsecret-gone.yaml")
}

func TestApply_WritesAndRemoves(t *testing.T) {
	folder := t.TempDir()
	const name = "manifests/s/app/sealedsecret-a.yaml"
	require.NoError(t, sealed.Apply(folder, []sealed.Change{{Path: name, Content: []byte("x")}}))
	assert.FileExists(t, folder+"/"+name)
	require.NoError(t, sealed.Apply(folder, []sealed.Change{{Path: name}}))
	assert.NoFileExists(t, folder+"/"+name)
	require.ErrorIs(t, sealed.Apply(folder, []sealed.Change{{Path: name}}), os.ErrNotExist)
}
