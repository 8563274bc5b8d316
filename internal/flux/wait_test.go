package flux_test

import (
	"context"
	"testing"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/internal/flux"
)

const (
	old   = "main@sha1:1111111111111111111111111111111111111111"
	new1  = "main@sha1:2222222222222222222222222222222222222222"
	newer = "main@sha1:3333333333333333333333333333333333333333"
)

// brief is long enough for a few looks.
const brief = 1200 * time.Millisecond

func newKustomization(t *testing.T, c client.Client, namespace, name string) *kustomizev1.Kustomization {
	t.Helper()
	k := &kustomizev1.Kustomization{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: kustomizev1.KustomizationSpec{
			Interval:  metav1.Duration{Duration: time.Hour},
			SourceRef: kustomizev1.CrossNamespaceSourceReference{Kind: sourcev1.GitRepositoryKind, Name: "source"},
			Path:      "./", Prune: true,
		},
	}
	require.NoError(t, c.Create(t.Context(), k))
	return k
}

func newSource(t *testing.T, c client.Client, namespace string) *sourcev1.GitRepository {
	t.Helper()
	source := &sourcev1.GitRepository{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "source"},
		Spec:       sourcev1.GitRepositorySpec{URL: "ssh://git@example.org/a/b.git", Interval: metav1.Duration{Duration: time.Hour}},
	}
	require.NoError(t, c.Create(t.Context(), source))
	return source
}

// says is what Flux would write: a condition about the object as it is now.
func says(of client.Object, kind string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: message,
		ObservedGeneration: of.GetGeneration(), LastTransitionTime: metav1.Now(),
	}
}

func setStatus(t *testing.T, c client.Client, k *kustomizev1.Kustomization, applied string, conditions ...metav1.Condition) {
	t.Helper()
	k.Status.ObservedGeneration, k.Status.LastAppliedRevision, k.Status.Conditions = k.Generation, applied, conditions
	require.NoError(t, c.Status().Update(t.Context(), k))
}

func fetched(t *testing.T, c client.Client, source *sourcev1.GitRepository, revision string) {
	t.Helper()
	source.Status.ObservedGeneration = source.Generation
	source.Status.Artifact = &meta.Artifact{
		Path: "p", URL: "http://s/p.tar.gz", Revision: revision, Digest: "sha256:00", LastUpdateTime: metav1.Now(),
	}
	source.Status.Conditions = []metav1.Condition{says(source, meta.ReadyCondition, metav1.ConditionTrue, "Succeeded", "stored artifact for revision '"+revision+"'")}
	require.NoError(t, c.Status().Update(t.Context(), source))
}

func ready(of client.Object) metav1.Condition {
	return says(of, meta.ReadyCondition, metav1.ConditionTrue, "ReconciliationSucceeded", "Applied revision: "+old)
}

func TestWaitReady_EndsWhenReadyForWhatIsThereNow(t *testing.T) {
	c, namespace := live(t)
	k := newKustomization(t, c, namespace, "app")
	ref := flux.Kustomization(namespace, "app")
	var told []string
	options := flux.WaitOptions{Timeout: brief, Progress: func(message string) { told = append(told, message) }}

	err := flux.WaitReady(t.Context(), c, ref, options)
	require.ErrorIs(t, err, flux.ErrTimeout)
	assert.ErrorContains(t, err, "no controller has looked at it yet")
	assert.Len(t, told, 1, "each thing once: %v", told)

	setStatus(t, c, k, old, ready(k))
	require.NoError(t, flux.WaitReady(t.Context(), c, ref, options))

	// A change that no controller has seen is not ready, whatever was said before.
	k.Spec.Path = "./other"
	require.NoError(t, c.Update(t.Context(), k))
	err = flux.WaitReady(t.Context(), c, ref, options)
	require.ErrorIs(t, err, flux.ErrTimeout)
	assert.ErrorContains(t, err, "the change was not taken up yet")

	done := make(chan error, 1)
	go func() { done <- flux.WaitReady(t.Context(), c, ref, flux.WaitOptions{Timeout: time.Minute}) }()
	setStatus(t, c, k, old, ready(k))
	require.NoError(t, <-done)
}

// A release whose values changed is asked to reconcile, and has no new generation.
func TestWaitReady_WaitsForAnAnswerToWhatWasAskedLast(t *testing.T) {
	c, namespace := live(t)
	k := newKustomization(t, c, namespace, "app")
	ref := flux.Kustomization(namespace, "app")
	setStatus(t, c, k, old, ready(k))
	k.Annotations = map[string]string{meta.ReconcileRequestAnnotation: "digest-of-values"}
	require.NoError(t, c.Update(t.Context(), k))
	err := flux.WaitReady(t.Context(), c, ref, flux.WaitOptions{Timeout: brief})
	require.ErrorIs(t, err, flux.ErrTimeout)
	require.ErrorContains(t, err, "the request to reconcile was not taken up yet")

	k.Status.SetLastHandledReconcileRequest("digest-of-values")
	setStatus(t, c, k, old, ready(k))
	require.NoError(t, flux.WaitReady(t.Context(), c, ref, flux.WaitOptions{Timeout: brief}))
}

func TestWaitReady_EndsAtOnceWithFluxsWordsWhenStalled(t *testing.T) {
	c, namespace := live(t)
	k := newKustomization(t, c, namespace, "app")
	setStatus(t, c, k, "",
		says(k, meta.ReadyCondition, metav1.ConditionFalse, "BuildFailed", "no such file"),
		says(k, meta.StalledCondition, metav1.ConditionTrue, "BuildFailed", "no such file: ./manifests"))
	start := time.Now()
	err := flux.WaitReady(t.Context(), c, flux.Kustomization(namespace, "app"), flux.WaitOptions{Timeout: time.Minute})
	require.ErrorIs(t, err, flux.ErrStalled)
	assert.EqualError(t, err, "Kustomization "+namespace+"/app is stalled: BuildFailed: no such file: ./manifests")
	assert.Less(t, time.Since(start), 10*time.Second)

	// What stalled before the change says nothing of the change.
	k.Spec.Path = "./mended"
	require.NoError(t, c.Update(t.Context(), k))
	err = flux.WaitReady(t.Context(), c, flux.Kustomization(namespace, "app"), flux.WaitOptions{Timeout: brief})
	require.ErrorIs(t, err, flux.ErrTimeout)
}

func TestWaitReady_EndsWhenInterrupted(t *testing.T) {
	c, namespace := live(t)
	newKustomization(t, c, namespace, "app")
	ctx, cancel := context.WithCancel(t.Context())
	err := flux.WaitReady(ctx, c, flux.Kustomization(namespace, "app"), flux.WaitOptions{
		Timeout: time.Minute, Progress: func(string) { cancel() },
	})
	require.ErrorIs(t, err, context.Canceled)
}
