package rehearsal

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/internal/flux"
)

// awaitedKinds are the kinds whose readiness is that of their workload.
func awaitedKinds() []string { return []string{"Deployment", "StatefulSet", "DaemonSet"} }

// readiness is how one object does.
type readiness struct {
	object objectID
	ready  bool
	since  time.Time // when it last became available
	reason string    // why it is not ready
	// pulledBy is the workload that Flux delivers it with, if it does.
	pulledBy string
}

// observed is what the API server says about everything that runs pods.
type observed struct {
	deployments  []appsv1.Deployment
	statefulSets []appsv1.StatefulSet
	daemonSets   []appsv1.DaemonSet
	replicaSets  []appsv1.ReplicaSet
	pods         []corev1.Pod
}

func observe(ctx context.Context, c client.Client) (*observed, error) {
	var (
		deployments  appsv1.DeploymentList
		statefulSets appsv1.StatefulSetList
		daemonSets   appsv1.DaemonSetList
		replicaSets  appsv1.ReplicaSetList
		pods         corev1.PodList
	)
	for _, list := range []client.ObjectList{&deployments, &statefulSets, &daemonSets, &replicaSets, &pods} {
		if err := c.List(ctx, list); err != nil {
			return nil, fmt.Errorf("asking the cluster what is ready: %w", err)
		}
	}
	return &observed{deployments.Items, statefulSets.Items, daemonSets.Items, replicaSets.Items, pods.Items}, nil
}

// diagnose says of every object that runs pods whether it is ready, and if not, why.
func (o *observed) diagnose() []readiness {
	var all []readiness
	for i := range o.deployments {
		all = append(all, o.deployment(&o.deployments[i]))
	}
	for i := range o.statefulSets {
		set := &o.statefulSets[i]
		wanted := replicas(set.Spec.Replicas)
		ready := set.Status.ObservedGeneration >= set.Generation && set.Status.AvailableReplicas >= wanted && set.Status.UpdatedReplicas >= wanted
		all = append(all, o.counted("StatefulSet", &set.ObjectMeta, ready, set.Status.AvailableReplicas, wanted))
	}
	for i := range o.daemonSets {
		set := &o.daemonSets[i]
		wanted := set.Status.DesiredNumberScheduled
		ready := set.Status.ObservedGeneration >= set.Generation && set.Status.NumberAvailable >= wanted && set.Status.UpdatedNumberScheduled >= wanted
		all = append(all, o.counted("DaemonSet", &set.ObjectMeta, ready, set.Status.NumberAvailable, wanted))
	}
	return all
}

func (o *observed) deployment(d *appsv1.Deployment) readiness {
	result := readiness{object: objectID{"Deployment", d.Namespace, d.Name}, pulledBy: d.Labels[pulledBy]}
	wanted := replicas(d.Spec.Replicas)
	available := deploymentCondition(d, appsv1.DeploymentAvailable)
	if available != nil {
		result.since = available.LastTransitionTime.Time
	}
	result.ready = d.Status.ObservedGeneration >= d.Generation &&
		available != nil && available.Status == corev1.ConditionTrue &&
		d.Status.UpdatedReplicas >= wanted && d.Status.AvailableReplicas >= wanted && d.Status.UnavailableReplicas == 0
	if result.ready {
		return result
	}
	var reasons []string
	if failed := deploymentCondition(d, appsv1.DeploymentReplicaFailure); failed != nil && failed.Status == corev1.ConditionTrue {
		reasons = append(reasons, failed.Message)
	}
	if progress := deploymentCondition(d, appsv1.DeploymentProgressing); progress != nil && progress.Status == corev1.ConditionFalse {
		reasons = append(reasons, progress.Message)
	}
	reasons = append(reasons, o.podReasons(d.UID)...)
	switch {
	case len(reasons) > 0:
	case available != nil && available.Status != corev1.ConditionTrue:
		reasons = append(reasons, available.Message)
	default:
		reasons = append(reasons, fmt.Sprintf("%d of %d replicas are updated, %d available", d.Status.UpdatedReplicas, wanted, d.Status.AvailableReplicas))
	}
	result.reason = strings.Join(slices.Compact(reasons), "; ")
	return result
}

func (o *observed) counted(kind string, meta *metav1.ObjectMeta, ready bool, available, wanted int32) readiness {
	result := readiness{object: objectID{kind, meta.Namespace, meta.Name}, ready: ready, pulledBy: meta.Labels[pulledBy]}
	for _, pod := range o.podsOf(meta.UID) {
		if c := podCondition(&pod, corev1.PodReady); c != nil && c.LastTransitionTime.After(result.since) {
			result.since = c.LastTransitionTime.Time
		}
	}
	if !ready {
		reasons := o.podReasons(meta.UID)
		if len(reasons) == 0 {
			reasons = append(reasons, fmt.Sprintf("%d of %d pods are available", available, wanted))
		}
		result.reason = strings.Join(reasons, "; ")
	}
	return result
}

func replicas(count *int32) int32 {
	if count == nil {
		return 1
	}
	return *count
}

func deploymentCondition(d *appsv1.Deployment, of appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	for i := range d.Status.Conditions {
		if d.Status.Conditions[i].Type == of {
			return &d.Status.Conditions[i]
		}
	}
	return nil
}

func podCondition(pod *corev1.Pod, of corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == of {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

// podsOf lists the pods that an object owns, itself or by its replica sets.
func (o *observed) podsOf(owner types.UID) []corev1.Pod {
	owners := map[types.UID]bool{owner: true}
	for _, set := range o.replicaSets {
		if isOwned(set.OwnerReferences, owners) {
			owners[set.UID] = true
		}
	}
	var pods []corev1.Pod
	for _, pod := range o.pods {
		if isOwned(pod.OwnerReferences, owners) {
			pods = append(pods, pod)
		}
	}
	return pods
}

func isOwned(references []metav1.OwnerReference, owners map[types.UID]bool) bool {
	return slices.ContainsFunc(references, func(r metav1.OwnerReference) bool { return owners[r.UID] })
}

// podReasons says, once each, why an object's pods don't run.
func (o *observed) podReasons(owner types.UID) []string {
	var reasons []string
	for _, pod := range o.podsOf(owner) {
		if reason := flux.PodReason(&pod); reason != "" && !slices.Contains(reasons, reason) {
			reasons = append(reasons, reason)
		}
	}
	return reasons
}

// watchReadiness tells what stays unready while the engine runs: each reason once, when it
// has lasted.
func (r *Rehearsal) watchReadiness(ctx context.Context) {
	const every, patience = 2 * time.Second, 10 * time.Second
	first, told := map[string]time.Time{}, map[string]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(every):
		}
		c, err := r.Client()
		if err != nil {
			continue
		}
		seen, err := observe(ctx, c)
		if err != nil {
			continue // the engine says so itself when the cluster is gone
		}
		for _, object := range seen.diagnose() {
			key := object.object.String() + object.reason
			if object.ready || told[key] {
				continue
			}
			if first[key].IsZero() {
				first[key] = time.Now()
			}
			if time.Since(first[key]) > patience {
				told[key] = true
				r.log.Warn("not ready yet", "object", object.object.String(), "reason", object.reason)
			}
		}
	}
}
