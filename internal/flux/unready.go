package flux

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// unready says of a Kustomization's own objects which aren't ready and why, as an addition to
// what Flux says, which names them at most. It is a help, so it has no errors.
func unready(ctx context.Context, c client.Client, o *object) string {
	const most = 5
	if o == nil || o.ref.Kind != kustomizev1.KustomizationKind || o.Status.Inventory == nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var reasons []string
	for _, entry := range o.Status.Inventory.Entries {
		ref, ok := inventoried(entry)
		if !ok || len(reasons) == most {
			continue
		}
		if reason := reasonOf(ctx, c, ref); reason != "" {
			reasons = append(reasons, ref.String()+": "+reason)
		}
	}
	if len(reasons) == 0 {
		return ""
	}
	return "\n  " + strings.Join(reasons, "\n  ")
}

// inventoried reads an entry of an inventory: NAMESPACE_NAME_GROUP_KIND, with two underscores in
// the name for a colon.
func inventoried(entry kustomizev1.ResourceRef) (Ref, bool) {
	namespace, rest, ok := strings.Cut(entry.ID, "_")
	rest, kind, hasKind := cutLast(rest, "_")
	name, group, hasGroup := cutLast(rest, "_")
	if !ok || !hasKind || !hasGroup || name == "" {
		return Ref{}, false
	}
	of := schema.GroupVersionKind{Group: group, Version: entry.Version, Kind: kind}
	return Ref{of, namespace, strings.ReplaceAll(name, "__", ":")}, true
}

func cutLast(text, separator string) (before, after string, found bool) {
	i := strings.LastIndex(text, separator)
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+len(separator):], true
}

func reasonOf(ctx context.Context, c client.Client, ref Ref) string {
	key := client.ObjectKey{Namespace: ref.Namespace, Name: ref.Name}
	switch {
	case ref.Group == appsv1.GroupName && ref.Kind == "Deployment":
		var d appsv1.Deployment
		if c.Get(ctx, key, &d) != nil || d.Status.ObservedGeneration == d.Generation &&
			d.Status.AvailableReplicas >= wanted(d.Spec.Replicas) && d.Status.UpdatedReplicas >= wanted(d.Spec.Replicas) {
			return ""
		}
		return counted(ctx, c, ref.Namespace, d.Spec.Selector, d.Status.AvailableReplicas, wanted(d.Spec.Replicas))
	case ref.Group == appsv1.GroupName && ref.Kind == "StatefulSet":
		var s appsv1.StatefulSet
		if c.Get(ctx, key, &s) != nil || s.Status.AvailableReplicas >= wanted(s.Spec.Replicas) {
			return ""
		}
		return counted(ctx, c, ref.Namespace, s.Spec.Selector, s.Status.AvailableReplicas, wanted(s.Spec.Replicas))
	case ref.Group == appsv1.GroupName && ref.Kind == "DaemonSet":
		var s appsv1.DaemonSet
		if c.Get(ctx, key, &s) != nil || s.Status.NumberAvailable >= s.Status.DesiredNumberScheduled {
			return ""
		}
		return counted(ctx, c, ref.Namespace, s.Spec.Selector, s.Status.NumberAvailable, s.Status.DesiredNumberScheduled)
	case slices.Contains(groups(), ref.Group), ref.Group == "bitnami.com":
		return conditionOf(ctx, c, ref)
	default:
		return ""
	}
}

// conditionOf is what a kind with conditions says when one that should be true is false: Ready of
// Flux's, Synced of a SealedSecret.
func conditionOf(ctx context.Context, c client.Client, ref Ref) string {
	o, err := get(ctx, c, ref)
	if err != nil {
		return ""
	}
	for _, of := range []string{"Ready", "Synced"} {
		if condition := o.condition(of); condition != nil && condition.Status == metav1.ConditionFalse {
			return sentence(condition)
		}
	}
	return ""
}

func wanted(count *int32) int32 {
	if count == nil {
		return 1
	}
	return *count
}

func counted(ctx context.Context, c client.Client, namespace string, selector *metav1.LabelSelector, available, wanted int32) string {
	said := fmt.Sprintf("%d of %d pods are available", available, wanted)
	labels, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return said
	}
	var pods corev1.PodList
	if err := c.List(ctx, &pods, client.InNamespace(namespace), client.MatchingLabelsSelector{Selector: labels}); err != nil {
		return said
	}
	for _, pod := range pods.Items {
		if reason := PodReason(&pod); reason != "" && !strings.Contains(said, reason) {
			said += "; " + reason
		}
	}
	return said
}

// PodReason says why a pod doesn't run: the scheduler's, the kubelet's or its own words. It is empty for one that does,
// and for one that is being deleted.
func PodReason(pod *corev1.Pod) string {
	if pod.DeletionTimestamp != nil {
		return ""
	}
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse {
			return condition.Reason + ": " + condition.Message
		}
	}
	for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if waiting := status.State.Waiting; waiting != nil {
			return strings.TrimSuffix("container "+status.Name+": "+waiting.Reason+": "+waiting.Message, ": ")
		}
		if ended := status.State.Terminated; ended != nil && ended.ExitCode != 0 {
			return fmt.Sprintf("container %s: %s, exit code %d", status.Name, ended.Reason, ended.ExitCode)
		}
	}
	if pod.Status.Phase == corev1.PodFailed {
		return strings.TrimSuffix("pod failed: "+pod.Status.Reason+": "+pod.Status.Message, ": ")
	}
	return ""
}
