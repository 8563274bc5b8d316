package objects_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nullify005/manager-cluster-state/internal/objects"
)

func TestUnstructured_LeavesOutWhatOnlyAClusterSets(t *testing.T) {
	deployment := &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "a", Labels: map[string]string{"a": "b"}},
		Status:     appsv1.DeploymentStatus{Replicas: 1},
	}
	deployment.Spec.Template.Spec.Containers = []corev1.Container{{Name: "c"}}
	before := deployment.DeepCopy()
	u, err := objects.Unstructured(deployment)
	require.NoError(t, err)
	assert.Equal(t, map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment",
		"metadata": map[string]any{"namespace": "n", "name": "a", "labels": map[string]any{"a": "b"}},
		"spec": map[string]any{
			"strategy": map[string]any{},
			"template": map[string]any{
				"metadata": map[string]any{},
				"spec":     map[string]any{"containers": []any{map[string]any{"name": "c", "resources": map[string]any{}}}},
			},
		},
	}, u.Object, "no status, and no field that is null")
	u.GetLabels()["a"] = "changed"
	u.SetLabels(map[string]string{"a": "changed"})
	assert.Equal(t, before, deployment, "it is a copy")
}

func TestUnstructured_MovesTheTextsOfASecretToItsData(t *testing.T) {
	secret := &corev1.Secret{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: metav1.ObjectMeta{Name: "a"},
		Data: map[string][]byte{"bytes": {0, 255}, "both": []byte("loses")}, StringData: map[string]string{"both": "wins", "text": "t"},
	}
	before := secret.DeepCopy()
	u, err := objects.Unstructured(secret)
	require.NoError(t, err)
	assert.Equal(t, map[string]any{"bytes": "AP8=", "both": "d2lucw==", "text": "dA=="}, u.Object["data"])
	assert.NotContains(t, u.Object, "stringData")
	assert.Equal(t, before, secret)
}

func TestUnstructured_RefusesAnObjectThatSaysNotWhatItIs(t *testing.T) {
	for name, object := range map[string]*corev1.ConfigMap{
		"no kind": {TypeMeta: metav1.TypeMeta{APIVersion: "v1"}, ObjectMeta: metav1.ObjectMeta{Name: "a"}},
		"no name": {TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}},
		"no API":  {TypeMeta: metav1.TypeMeta{Kind: "ConfigMap"}, ObjectMeta: metav1.ObjectMeta{Name: "a"}},
	} {
		_, err := objects.Unstructured(object)
		require.ErrorContains(t, err, "lacks its apiVersion, kind or name", name)
	}
}
