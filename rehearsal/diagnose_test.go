package rehearsal

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func fabricated(conditions ...appsv1.DeploymentCondition) appsv1.Deployment {
	return appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "app", UID: "deployment", Generation: 2},
		Spec:       appsv1.DeploymentSpec{Replicas: new(int32(1))},
		Status:     appsv1.DeploymentStatus{ObservedGeneration: 2, Conditions: conditions},
	}
}

func condition(of appsv1.DeploymentConditionType, status corev1.ConditionStatus, message string) appsv1.DeploymentCondition {
	return appsv1.DeploymentCondition{Type: of, Status: status, Message: message, LastTransitionTime: metav1.Unix(1000, 0)}
}

func owner(uid types.UID) []metav1.OwnerReference { return []metav1.OwnerReference{{UID: uid}} }

func TestDiagnose_SaysWhyADeploymentIsNotReady(t *testing.T) {
	unavailable := condition(appsv1.DeploymentAvailable, corev1.ConditionFalse, "Deployment does not have minimum availability.")
	set := appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{UID: "set", OwnerReferences: owner("deployment")}}
	pod := func(status corev1.PodStatus) corev1.Pod {
		return corev1.Pod{ObjectMeta: metav1.ObjectMeta{OwnerReferences: owner("set")}, Status: status}
	}
	for name, test := range map[string]struct {
		deployment appsv1.Deployment
		pods       []corev1.Pod
		want       string
	}{
		"the scheduler's own words": {
			fabricated(unavailable),
			[]corev1.Pod{pod(corev1.PodStatus{Conditions: []corev1.PodCondition{{
				Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/3 nodes are available: 3 Insufficient memory.",
			}}})},
			"Unschedulable: 0/3 nodes are available: 3 Insufficient memory.",
		},
		"the same words of two pods once": {
			fabricated(unavailable),
			[]corev1.Pod{
				pod(corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted", Message: "disk"}),
				pod(corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted", Message: "disk"}),
			},
			"pod failed: Evicted: disk",
		},
		"what a container waits for": {
			fabricated(unavailable),
			[]corev1.Pod{pod(corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
				Name: "c", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "no such image"}},
			}}})},
			"container c: ImagePullBackOff: no such image",
		},
		"why no pod is made": {
			fabricated(unavailable, condition(appsv1.DeploymentReplicaFailure, corev1.ConditionTrue, `pods "x" is forbidden: violates PodSecurity`)),
			nil,
			`pods "x" is forbidden: violates PodSecurity`,
		},
		"the condition, when nothing says more": {
			fabricated(unavailable), nil, "Deployment does not have minimum availability.",
		},
		"replicas still rolling": {
			fabricated(condition(appsv1.DeploymentAvailable, corev1.ConditionTrue, "")), nil,
			"0 of 1 replicas are updated, 0 available",
		},
	} {
		t.Run(name, func(t *testing.T) {
			seen := observed{deployments: []appsv1.Deployment{test.deployment}, replicaSets: []appsv1.ReplicaSet{set}, pods: test.pods}
			got := seen.diagnose()
			require.Len(t, got, 1)
			assert.False(t, got[0].ready)
			assert.Equal(t, test.want, got[0].reason)
		})
	}
}

func TestDiagnose_ReadyMeansTheNewestGenerationIsAvailable(t *testing.T) {
	ready := fabricated(condition(appsv1.DeploymentAvailable, corev1.ConditionTrue, ""))
	ready.Status.UpdatedReplicas, ready.Status.AvailableReplicas = 1, 1
	seen := observed{deployments: []appsv1.Deployment{ready}}
	assert.True(t, seen.diagnose()[0].ready)
	assert.Equal(t, time.Unix(1000, 0), seen.diagnose()[0].since)

	ready.Generation = 3
	seen = observed{deployments: []appsv1.Deployment{ready}}
	assert.False(t, seen.diagnose()[0].ready, "the controller has not seen the change yet")

	none := fabricated(condition(appsv1.DeploymentAvailable, corev1.ConditionTrue, ""))
	none.Spec.Replicas = new(int32(0))
	seen = observed{deployments: []appsv1.Deployment{none}}
	assert.True(t, seen.diagnose()[0].ready, "no replica is asked for")
}

func TestDiagnose_CountsOtherKindsThatRunPods(t *testing.T) {
	seen := observed{
		statefulSets: []appsv1.StatefulSet{{
			ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "db", UID: "db"},
			Spec:       appsv1.StatefulSetSpec{Replicas: new(int32(2))},
			Status:     appsv1.StatefulSetStatus{AvailableReplicas: 1, UpdatedReplicas: 2},
		}},
		daemonSets: []appsv1.DaemonSet{{
			ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "agent", UID: "agent"},
			Status:     appsv1.DaemonSetStatus{DesiredNumberScheduled: 3, NumberAvailable: 3, UpdatedNumberScheduled: 3},
		}},
	}
	got := seen.diagnose()
	require.Len(t, got, 2)
	assert.Equal(t, "1 of 2 pods are available", got[0].reason)
	assert.True(t, got[1].ready)
}
