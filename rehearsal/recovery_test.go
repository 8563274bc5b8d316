package rehearsal

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

func TestRemoveUnknown_LeavesWhatChangesHands(t *testing.T) {
	r := newRehearsal(t)
	pending, err := parsePending([]byte(`{"checkpoint": {"latest": {"pending_operations": [
		{"type": "creating", "resource": {"type": "kubernetes:core/v1:Namespace", "inputs": {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "unknown"}}}},
		{"type": "creating", "resource": {"type": "kubernetes:core/v1:Namespace", "inputs": {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "pulled"}}}},
		{"type": "creating", "resource": {"type": "kubernetes:core/v1:Namespace", "inputs": {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "never-made"}}}},
		{"type": "updating", "resource": {"type": "kubernetes:core/v1:Namespace", "inputs": {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "known"}}}}
	]}}}`))
	require.NoError(t, err)
	namespace := func(name string, labels map[string]string) client.Object {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	}
	c := fake.NewClientBuilder().WithObjects(
		namespace("unknown", nil), namespace("known", nil), namespace("pulled", map[string]string{pulledBy: "app"}),
	).Build()
	left := func() (names []string) {
		t.Helper()
		var list corev1.NamespaceList
		require.NoError(t, c.List(t.Context(), &list))
		for _, item := range list.Items {
			names = append(names, item.Name)
		}
		return names
	}

	require.NoError(t, writePrivate(r.folder.switched(), []byte(`{"delivery": "direct", "handover": false}`)))
	require.NoError(t, r.removeUnknown(t.Context(), c, pending))
	assert.Equal(t, []string{"known", "pulled", "unknown"}, left(), "a Secret that was sealed has no label of Flux's")

	require.NoError(t, os.Remove(r.folder.switched()))
	require.NoError(t, r.removeUnknown(t.Context(), c, pending))
	assert.Equal(t, []string{"known", "pulled"}, left())
}
