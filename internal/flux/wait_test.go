package flux_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	notificationv1 "github.com/fluxcd/notification-controller/api/v1"
	notificationv1beta3 "github.com/fluxcd/notification-controller/api/v1beta3"
	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/internal/flux"
)

const (
	old   = "main@sha1:1111111111111111111111111111111111111111"
	fresh = "main@sha1:2222222222222222222222222222222222222222"
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
	require.ErrorContains(t, err, "no controller has looked at it yet")
	assert.Empty(t, told, "a controller may take a moment")

	setStatus(t, c, k, old, ready(k))
	require.NoError(t, flux.WaitReady(t.Context(), c, ref, options))

	// A change that no controller has seen is not ready, whatever was said before.
	k.Spec.Path = "./other"
	require.NoError(t, c.Update(t.Context(), k))
	err = flux.WaitReady(t.Context(), c, ref, options)
	require.ErrorIs(t, err, flux.ErrTimeout)
	require.ErrorContains(t, err, "the change was not taken up yet")

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
	require.NoError(t, flux.WaitHandled(t.Context(), c, ref, "2026-11-24T22:00:00.5Z", brief), "a request that was overwritten since")
}

func TestWaitReady_EndsAtOnceWithFluxsWordsWhenStalled(t *testing.T) {
	c, namespace := live(t)
	k := newKustomization(t, c, namespace, "app")
	setStatus(t, c, k, "",
		says(k, meta.ReadyCondition, metav1.ConditionFalse, "BuildFailed", "no such file: ./manifests"),
		says(k, meta.StalledCondition, metav1.ConditionTrue, "BuildFailed", "no such file: ./manifests"))
	start := time.Now()
	err := flux.WaitReady(t.Context(), c, flux.Kustomization(namespace, "app"), flux.WaitOptions{Timeout: time.Minute})
	require.ErrorIs(t, err, flux.ErrStalled)
	require.EqualError(t, err, "Kustomization "+namespace+"/app is stalled: BuildFailed: no such file: ./manifests")
	assert.Less(t, time.Since(start), 10*time.Second)

	// Of a release, the one condition says that it gave up, and the other why.
	setStatus(t, c, k, "",
		says(k, meta.ReadyCondition, metav1.ConditionFalse, "InstallFailed", "namespaces \"x\" not found"),
		says(k, meta.StalledCondition, metav1.ConditionTrue, "RetriesExceeded", "Failed to install after 1 attempt(s)"))
	err = flux.WaitReady(t.Context(), c, flux.Kustomization(namespace, "app"), flux.WaitOptions{Timeout: time.Minute})
	require.ErrorContains(t, err, `is stalled: RetriesExceeded: Failed to install after 1 attempt(s); InstallFailed: namespaces "x" not found`)

	// What stalled before the change says nothing of the change.
	k.Spec.Path = "./mended"
	require.NoError(t, c.Update(t.Context(), k))
	err = flux.WaitReady(t.Context(), c, flux.Kustomization(namespace, "app"), flux.WaitOptions{Timeout: brief})
	require.ErrorIs(t, err, flux.ErrTimeout)
}

func TestWaitReady_TellsEachThingOnce(t *testing.T) {
	c, namespace := live(t)
	k := newKustomization(t, c, namespace, "app")
	const message = "open /tmp/kustomization-%d/app: no such file"
	tell := func(try int) {
		setStatus(t, c, k, "", says(k, meta.ReadyCondition, metav1.ConditionFalse, "BuildFailed", fmt.Sprintf(message, try)))
	}
	tell(1)
	told := make(chan string, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- flux.WaitReady(t.Context(), c, flux.Kustomization(namespace, "app"), flux.WaitOptions{
			Timeout: time.Minute, Progress: func(message string) { told <- message },
		})
	}()
	assert.Equal(t, "BuildFailed: "+fmt.Sprintf(message, 1), <-told)
	tell(2) // another try is no news
	assert.Never(t, func() bool { return len(told) > 0 }, brief, 100*time.Millisecond)
	setStatus(t, c, k, "", says(k, meta.ReadyCondition, metav1.ConditionFalse, "HealthCheckFailed", "timeout waiting"))
	assert.Equal(t, "HealthCheckFailed: timeout waiting", <-told)
	setStatus(t, c, k, old, ready(k))
	require.NoError(t, <-ended)
	assert.Empty(t, told)
}

func TestWaitReady_AtTheEndSaysWhatWentWrongAlsoWhileItIsTriedAgain(t *testing.T) {
	c, namespace := live(t)
	k := newKustomization(t, c, namespace, "app")
	setStatus(t, c, k, "", says(k, meta.ReadyCondition, metav1.ConditionFalse, "BuildFailed", "no such file"))
	err := flux.WaitReady(t.Context(), c, flux.Kustomization(namespace, "app"), flux.WaitOptions{
		Timeout: brief, Progress: func(message string) {
			if strings.HasPrefix(message, "BuildFailed") {
				setStatus(t, c, k, "", says(k, meta.ReadyCondition, metav1.ConditionUnknown, "Progressing", "Building manifests"))
			}
		},
	})
	require.ErrorIs(t, err, flux.ErrTimeout)
	assert.ErrorContains(t, err, "is not ready after 1.2s: Progressing: Building manifests; before that: BuildFailed: no such file")
}

func TestWaitReady_EndsWhenInterrupted(t *testing.T) {
	c, namespace := live(t)
	k := newKustomization(t, c, namespace, "app")
	setStatus(t, c, k, "", says(k, meta.ReadyCondition, metav1.ConditionFalse, "BuildFailed", "no such file"))
	ctx, cancel := context.WithCancel(t.Context())
	err := flux.WaitReady(ctx, c, flux.Kustomization(namespace, "app"), flux.WaitOptions{
		Timeout: time.Minute, Progress: func(string) { cancel() },
	})
	require.ErrorIs(t, err, context.Canceled)
}

func TestWaitReady_OfWhatIsNotThereSaysSoAtOnce(t *testing.T) {
	c, namespace := live(t)
	err := flux.WaitReady(t.Context(), c, flux.Kustomization(namespace, "none"), flux.WaitOptions{Timeout: time.Minute})
	require.ErrorIs(t, err, flux.ErrNotFound)
	require.EqualError(t, err, "Kustomization "+namespace+"/none is not in the cluster")

	unknown := flux.Kustomization(namespace, "none")
	unknown.Group = "absent.toolkit.fluxcd.io"
	err = flux.WaitReady(t.Context(), c, unknown, flux.WaitOptions{Timeout: time.Minute})
	require.ErrorIs(t, err, flux.ErrNotFound)
	assert.ErrorContains(t, err, "is Flux installed")
}

func TestWaitReady_OfASuspendedOneDoesNotWait(t *testing.T) {
	c, namespace := live(t)
	newKustomization(t, c, namespace, "app")
	ref := flux.Kustomization(namespace, "app")
	require.NoError(t, flux.Suspend(t.Context(), c, ref))
	var told []string
	require.NoError(t, flux.WaitReady(t.Context(), c, ref, flux.WaitOptions{
		Timeout: time.Minute, Progress: func(message string) { told = append(told, message) },
	}))
	assert.Equal(t, []string{ref.String() + " is suspended, so it is not waited for"}, told)
}

func TestWaitReady_OfARevisionWaitsUntilThatOrANewerOneIsApplied(t *testing.T) {
	c, namespace := live(t)
	k, source := newKustomization(t, c, namespace, "app"), newSource(t, c, namespace)
	ref, from := flux.Kustomization(namespace, "app"), flux.GitRepository(namespace, "source")
	at := flux.WaitOptions{Timeout: brief, Revision: fresh}

	fetched(t, c, source, old)
	err := flux.WaitReady(t.Context(), c, from, at)
	require.ErrorIs(t, err, flux.ErrTimeout)
	require.ErrorContains(t, err, "it has fetched "+old+", not yet "+fresh)

	fetched(t, c, source, fresh)
	require.NoError(t, flux.WaitReady(t.Context(), c, from, at))
	setStatus(t, c, k, old, ready(k))
	err = flux.WaitReady(t.Context(), c, ref, at)
	require.ErrorIs(t, err, flux.ErrTimeout)
	require.ErrorContains(t, err, fresh+" was not taken up yet: does the controller of kustomize.toolkit.fluxcd.io run? It has applied "+old)

	setStatus(t, c, k, fresh, ready(k))
	require.NoError(t, flux.WaitReady(t.Context(), c, ref, at))
	at.Revision = "22222222"
	require.NoError(t, flux.WaitReady(t.Context(), c, ref, at), "a commit alone will do")

	// Image automation may push meanwhile: what the source has then is newer.
	fetched(t, c, source, newer)
	setStatus(t, c, k, newer, ready(k))
	require.NoError(t, flux.WaitReady(t.Context(), c, ref, at))
	require.ErrorIs(t, flux.WaitReady(t.Context(), c, from, at), flux.ErrTimeout, "who knows which came first")
	at.RequestedAt, err = flux.Reconcile(t.Context(), c, from)
	require.NoError(t, err)
	source.ResourceVersion = ""
	require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(source), source))
	source.Status.SetLastHandledReconcileRequest(at.RequestedAt)
	fetched(t, c, source, newer)
	require.NoError(t, flux.WaitReady(t.Context(), c, from, at), "it was fetched after we asked")
}

// Nobody asks for a revision that the source brought: the controller takes it up by itself, where it runs.
func TestWaitReady_OfARevisionDoesNotTakeAnOldFailureForAnAnswer(t *testing.T) {
	c, namespace := live(t)
	k, source := newKustomization(t, c, namespace, "app"), newSource(t, c, namespace)
	fetched(t, c, source, fresh)
	wait := func() string {
		var told []string
		err := flux.WaitReady(t.Context(), c, flux.Kustomization(namespace, "app"), flux.WaitOptions{
			Timeout: brief, Revision: fresh, Progress: func(message string) { told = append(told, message) },
		})
		require.ErrorIs(t, err, flux.ErrTimeout)
		return strings.Join(append(told, err.Error()), "\n")
	}
	const silence = fresh + " was not taken up yet: does the controller of kustomize.toolkit.fluxcd.io run? Of what was before it, it says: BuildFailed: no such file"
	failed := says(k, meta.ReadyCondition, metav1.ConditionFalse, "BuildFailed", "no such file")
	k.Status.LastAttemptedRevision = old
	setStatus(t, c, k, "", failed)
	said := wait()
	assert.Contains(t, said, silence)
	assert.Equal(t, 1, strings.Count(said, "BuildFailed"), "it is not told while it may only be late: %s", said)

	for _, reason := range []string{"DependencyNotReady", "ArtifactFailed"} { // which it says before it begins
		setStatus(t, c, k, "", says(k, meta.ReadyCondition, metav1.ConditionFalse, reason, "of now"))
		assert.NotContains(t, wait(), "was not taken up yet")
	}
	for _, tried := range []string{fresh, newer} {
		fetched(t, c, source, tried)
		k.Status.LastAttemptedRevision = tried
		setStatus(t, c, k, "", failed)
		said = wait()
		assert.NotContains(t, said, "was not taken up yet")
		assert.Equal(t, 2, strings.Count(said, "BuildFailed"), "it is told at once: %s", said)
	}
}

func TestWaitReady_AtTheEndSaysWhatFluxLastSaidAndWhichObjectsAreNotReady(t *testing.T) {
	c, namespace := live(t)
	app := deployment(namespace, "app")
	require.NoError(t, c.Create(t.Context(), app))
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "app-1", Labels: map[string]string{"app": "app"}}, Spec: app.Spec.Template.Spec}
	pod.Spec.NodeSelector = map[string]string{"nowhere": "at-all"}
	require.NoError(t, c.Create(t.Context(), pod))
	k := newKustomization(t, c, namespace, "app")
	k.Status.Inventory = &kustomizev1.ResourceInventory{Entries: []kustomizev1.ResourceRef{
		{ID: "_" + namespace + "__Namespace", Version: "v1"},
		{ID: namespace + "_app_apps_Deployment", Version: "v1"},
		{ID: namespace + "_other_kustomize.toolkit.fluxcd.io_Kustomization", Version: "v1"},
		{ID: namespace + "_gone_apps_StatefulSet", Version: "v1"},
	}}
	setStatus(t, c, k, old, says(k, meta.ReadyCondition, metav1.ConditionFalse, "HealthCheckFailed", "timeout waiting for: [Deployment/"+namespace+"/app]"))
	other := newKustomization(t, c, namespace, "other")
	setStatus(t, c, other, "", says(other, meta.ReadyCondition, metav1.ConditionFalse, "BuildFailed", "no such file"))

	require.EventuallyWithT(t, func(t *assert.CollectT) {
		err := flux.WaitReady(context.Background(), c, flux.Kustomization(namespace, "app"), flux.WaitOptions{Timeout: brief})
		require.ErrorIs(t, err, flux.ErrTimeout)
		lines := strings.Split(err.Error(), "\n  ")
		require.Len(t, lines, 3, "%s", err)
		assert.Contains(t, lines[0], "is not ready after 1.2s: HealthCheckFailed: timeout waiting for: [Deployment/"+namespace+"/app]")
		assert.Contains(t, lines[1], "Deployment "+namespace+"/app: 0 of 2 pods are available")
		assert.Contains(t, lines[1], "Unschedulable", "the scheduler's own words")
		assert.Equal(t, "Kustomization "+namespace+"/other: BuildFailed: no such file", lines[2])
	}, 30*time.Second, 100*time.Millisecond)
}

func deployment(namespace, name string) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(2)),
			Paused:   true, // no pods but the test's own
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "example.org/c:v1"}}},
			},
		},
	}
}

func TestWaitReady_AfterARequestCountsOnlyWhatIsSaidAfterIt(t *testing.T) {
	c, namespace := live(t)
	k := newKustomization(t, c, namespace, "app")
	ref := flux.Kustomization(namespace, "app")
	setStatus(t, c, k, "", says(k, meta.StalledCondition, metav1.ConditionTrue, "BuildFailed", "no such file"))
	requestedAt, err := flux.Reconcile(t.Context(), c, ref)
	require.NoError(t, err)

	require.ErrorIs(t, flux.WaitHandled(t.Context(), c, ref, requestedAt, brief), flux.ErrTimeout)
	err = flux.WaitReady(t.Context(), c, ref, flux.WaitOptions{Timeout: brief, RequestedAt: requestedAt})
	require.ErrorIs(t, err, flux.ErrTimeout, "that it was stalled before is no answer")
	require.ErrorContains(t, err, "does the controller of kustomize.toolkit.fluxcd.io run?")

	require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(k), k))
	assert.Equal(t, requestedAt, k.Annotations[meta.ReconcileRequestAnnotation])
	_, err = time.Parse(time.RFC3339Nano, requestedAt)
	require.NoError(t, err, "as the flux CLI writes it")
	// Someone else has asked since: that answers us too.
	k.Status.SetLastHandledReconcileRequest(time.Now().Add(time.Second).Format(time.RFC3339Nano))
	setStatus(t, c, k, old, ready(k))
	require.NoError(t, flux.WaitHandled(t.Context(), c, ref, requestedAt, time.Minute))
	require.NoError(t, flux.WaitReady(t.Context(), c, ref, flux.WaitOptions{Timeout: time.Minute, RequestedAt: requestedAt}))
}

func TestWaitReady_OfAKindWithoutStatusIsDoneWhenItIsThere(t *testing.T) {
	c, namespace := live(t)
	alert := &notificationv1beta3.Alert{
		TypeMeta:   metav1.TypeMeta{APIVersion: notificationv1beta3.GroupVersion.String(), Kind: "Alert"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "alert"},
		Spec: notificationv1beta3.AlertSpec{
			ProviderRef:  meta.LocalObjectReference{Name: "slack"},
			EventSources: []notificationv1.CrossNamespaceObjectReference{{Kind: "Kustomization", Name: "*"}},
		},
	}
	ref := flux.RefOf(alert)
	require.NoError(t, c.Create(t.Context(), alert))
	require.NoError(t, flux.WaitReady(t.Context(), c, ref, flux.WaitOptions{Timeout: brief}))
	ref.Name = "none"
	require.ErrorIs(t, flux.WaitReady(t.Context(), c, ref, flux.WaitOptions{Timeout: brief}), flux.ErrNotFound)
}

func TestReconcile_OfWhatIsNotThereSaysSo(t *testing.T) {
	c, namespace := live(t)
	_, err := flux.Reconcile(t.Context(), c, flux.Kustomization(namespace, "none"))
	require.ErrorIs(t, err, flux.ErrNotFound)
}
