package rehearsal

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/internal/k3s"
)

func TestEnsureAddons_AsksForACluster_OnlyWhereTheStackHasAK3sRelease(t *testing.T) {
	r := &Rehearsal{folder: folder(t.TempDir())} // no cluster is there to ask
	require.NoError(t, r.ensureAddons(t.Context(), ""))
	require.ErrorContains(t, r.ensureAddons(t.Context(), "v1.35.0+k3s1"), "kubeconfig")
}

// listing is an API server that has Deployments.
type listing struct {
	client.Client

	deployments []appsv1.Deployment
}

func (l listing) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	if all, ok := list.(*appsv1.DeploymentList); ok {
		all.Items = l.deployments
	}
	return nil
}

func TestAwaitAddons_WarnsOfTheOnesThatAreNotReadyAndGoesOn(t *testing.T) {
	addons := k3s.Addons("v1.35.0+k3s1")
	ready := appsv1.DeploymentStatus{UpdatedReplicas: 1, AvailableReplicas: 1, Conditions: []appsv1.DeploymentCondition{
		{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue},
	}}
	cluster := listing{deployments: []appsv1.Deployment{
		{ObjectMeta: metav1.ObjectMeta{Namespace: "chat-hvac-v1", Name: "chat-hvac"}}, // nobody waits for it
	}}
	for _, addon := range addons {
		made := *addon
		made.Status = ready
		cluster.deployments = append(cluster.deployments, made)
	}
	var said bytes.Buffer
	r := &Rehearsal{log: slog.New(slog.NewTextHandler(&said, nil))}
	require.NoError(t, r.awaitAddons(t.Context(), cluster, addons, time.Minute))
	assert.Empty(t, said.String())

	last := &cluster.deployments[2]
	last.Status.Conditions = []appsv1.DeploymentCondition{
		{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionFalse, Message: "no room"},
	}
	require.NoError(t, r.awaitAddons(t.Context(), cluster, addons, time.Millisecond))
	assert.Regexp(t, `^time=\S+ level=WARN .* object="Deployment kube-system/`+last.Name+`" reason="no room" after=1ms\n$`, said.String())

	interrupted, interrupt := context.WithCancel(t.Context())
	interrupt()
	require.ErrorIs(t, r.awaitAddons(interrupted, cluster, addons, time.Minute), context.Canceled)
}
