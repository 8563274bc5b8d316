package flux_test

import (
	"context"
	"os"
	"testing"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/internal/flux"
)

// fluxFinalizer is what the controllers of Flux set.
const fluxFinalizer = "finalizers.fluxcd.io"

func TestSuspend_IsTheFluxCLIsOwn(t *testing.T) {
	c, namespace := live(t)
	k := newKustomization(t, c, namespace, "app")
	ref := flux.Kustomization(namespace, "app")
	require.NoError(t, flux.Suspend(t.Context(), c, ref))
	require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(k), k))
	assert.True(t, k.Spec.Suspend)
	var managers []string
	for _, fields := range k.ManagedFields {
		managers = append(managers, fields.Manager)
	}
	assert.Contains(t, managers, "flux")

	// Who applies it with the field left out, as Pulumi does, doesn't take it back.
	applied := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": ref.GroupVersion().String(), "kind": ref.Kind,
		"metadata": map[string]any{"namespace": namespace, "name": "app"},
		"spec": map[string]any{
			"interval": "2h", "path": "./", "prune": true, "sourceRef": map[string]any{"kind": "GitRepository", "name": "source"},
		},
	}}
	require.NoError(t, c.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(applied), client.FieldOwner("pulumi"), client.ForceOwnership))
	require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(k), k))
	assert.Equal(t, 2*time.Hour, k.Spec.Interval.Duration)
	assert.True(t, k.Spec.Suspend)

	require.NoError(t, flux.Resume(t.Context(), c, ref))
	raw := &unstructured.Unstructured{}
	raw.SetGroupVersionKind(ref.GroupVersionKind)
	require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(k), raw))
	_, there, err := unstructured.NestedBool(raw.Object, "spec", "suspend")
	require.NoError(t, err)
	assert.False(t, there, "the field is left out again")

	require.ErrorIs(t, flux.Suspend(t.Context(), c, flux.Kustomization(namespace, "none")), flux.ErrNotFound)
}

func TestReset_AsksWithBothAnnotations(t *testing.T) {
	c, namespace := live(t)
	release := newRelease(t, c, namespace, "chart")
	requestedAt, err := flux.Reset(t.Context(), c, flux.HelmRelease(namespace, "chart"))
	require.NoError(t, err)
	require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(release), release))
	assert.True(t, helmv2.ShouldHandleResetRequest(release), "as helm-controller reads it")
	assert.Equal(t, requestedAt, release.Annotations[meta.ReconcileRequestAnnotation])
}

func newRelease(t *testing.T, c client.Client, namespace, name string) *helmv2.HelmRelease {
	t.Helper()
	release := &helmv2.HelmRelease{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: helmv2.HelmReleaseSpec{
			Interval: metav1.Duration{Duration: time.Hour},
			Chart: &helmv2.HelmChartTemplate{Spec: helmv2.HelmChartTemplateSpec{
				Chart: "c", SourceRef: helmv2.CrossNamespaceObjectReference{Kind: "HelmRepository", Name: "charts", Namespace: "elsewhere"},
			}},
		},
	}
	require.NoError(t, c.Create(t.Context(), release))
	return release
}

func TestWorkloads_SaysHowEachStands(t *testing.T) {
	c, namespace := live(t)
	source := newSource(t, c, namespace)
	fetched(t, c, source, fresh)
	good := newKustomization(t, c, namespace, "good")
	setStatus(t, c, good, fresh, ready(good))
	bad := newKustomization(t, c, namespace, "bad")
	setStatus(t, c, bad, old, says(bad, meta.ReadyCondition, metav1.ConditionFalse, "HealthCheckFailed", "timeout waiting"))
	stuck := newKustomization(t, c, namespace, "stuck")
	setStatus(t, c, stuck, "", says(stuck, meta.ReadyCondition, metav1.ConditionFalse, "BuildFailed", "no such file"),
		says(stuck, meta.StalledCondition, metav1.ConditionTrue, "BuildFailed", "no such file"))
	off := newKustomization(t, c, namespace, "off")
	setStatus(t, c, off, old, ready(off))
	require.NoError(t, flux.Suspend(t.Context(), c, flux.Kustomization(namespace, "off")))
	newKustomization(t, c, namespace, "unseen")
	busy := newKustomization(t, c, namespace, "busy")
	setStatus(t, c, busy, old, says(busy, meta.ReadyCondition, metav1.ConditionUnknown, "Progressing", "Reconciliation in progress"),
		says(busy, meta.ReconcilingCondition, metav1.ConditionTrue, "Progressing", "Running health checks"))
	chart := newRelease(t, c, namespace, "chart")
	chart.Status.ObservedGeneration = chart.Generation
	chart.Status.History = helmv2.Snapshots{{
		Digest: "sha256:1", Name: "chart", Namespace: namespace, Version: 1, Status: "deployed",
		ChartName: "c", ChartVersion: "6.5.4", ConfigDigest: "sha256:2", FirstDeployed: metav1.Now(), LastDeployed: metav1.Now(),
	}}
	chart.Status.Conditions = []metav1.Condition{says(chart, meta.ReadyCondition, metav1.ConditionTrue, "InstallSucceeded", "Helm install succeeded")}
	require.NoError(t, c.Status().Update(t.Context(), chart))

	all, err := flux.Workloads(t.Context(), c)
	require.NoError(t, err)
	var rows [][]string
	for _, s := range all {
		if s.Namespace != namespace {
			continue // of another test
		}
		rows = append(rows, []string{s.Kind, s.Name, string(s.Ready), s.ShortRevision(), s.Message})
		assert.Less(t, time.Since(s.Since), time.Minute, s.Name)
		assert.Equal(t, s.Name == "good" || s.Name == "off" || s.Name == "chart" || s.Name == "source", s.OK(), s.Name)
	}
	assert.Equal(t, [][]string{
		{"GitRepository", "source", "True", "main@sha1:22222222", "Succeeded: stored artifact for revision '" + fresh + "'"},
		{"Kustomization", "bad", "False", "main@sha1:11111111", "HealthCheckFailed: timeout waiting"},
		{"Kustomization", "busy", "Unknown", "main@sha1:11111111", "Progressing: Running health checks"},
		{"Kustomization", "good", "True", "main@sha1:22222222", "ReconciliationSucceeded: Applied revision: " + old},
		{"Kustomization", "off", "Suspended", "main@sha1:11111111", "ReconciliationSucceeded: Applied revision: " + old},
		{"Kustomization", "stuck", "Stalled", "", "BuildFailed: no such file"},
		{"Kustomization", "unseen", "Unknown", "", "no controller has looked at it yet"},
		{"HelmRelease", "chart", "True", "6.5.4", "InstallSucceeded: Helm install succeeded"},
	}, rows)

	state, err := flux.StateOf(t.Context(), c, flux.HelmRelease(namespace, "chart"))
	require.NoError(t, err)
	assert.Equal(t, "HelmRepository elsewhere/charts", state.Source.String())
	state, err = flux.StateOf(t.Context(), c, flux.Kustomization(namespace, "good"))
	require.NoError(t, err)
	assert.Equal(t, flux.GitRepository(namespace, "source"), state.Source)
}

func TestWorkloads_OfAKindThatIsNotInstalledAreNone(t *testing.T) {
	c, _ := live(t)
	var definition apiextensionsv1.CustomResourceDefinition
	require.NoError(t, c.Get(t.Context(), client.ObjectKey{Name: "helmreleases.helm.toolkit.fluxcd.io"}, &definition))
	_, err := flux.Workloads(t.Context(), c)
	require.NoError(t, err, "this client knows the kind now")
	require.NoError(t, c.Delete(t.Context(), &definition))
	t.Cleanup(func() {
		definition.ObjectMeta = metav1.ObjectMeta{Name: definition.Name, Annotations: definition.Annotations, Labels: definition.Labels}
		require.EventuallyWithT(t, func(t *assert.CollectT) {
			require.NoError(t, client.IgnoreAlreadyExists(c.Create(context.Background(), definition.DeepCopy())))
			require.NoError(t, c.List(context.Background(), &helmv2.HelmReleaseList{}))
		}, 30*time.Second, 200*time.Millisecond, "served again")
	})
	kubeconfig, err := os.ReadFile(shared.Kubeconfig())
	require.NoError(t, err)
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		// One that has known the kind, and one that never has.
		fresh, err := flux.NewClient(kubeconfig, "")
		require.NoError(t, err)
		for _, asks := range []client.Client{c, fresh} {
			_, err = flux.StateOf(context.Background(), asks, flux.HelmRelease("default", "none"))
			require.ErrorContains(t, err, "is Flux installed", "it is gone by now")
			all, err := flux.Workloads(context.Background(), asks)
			require.NoError(t, err)
			for _, state := range all {
				assert.NotEqual(t, "HelmRelease", state.Kind)
			}
		}
	}, 30*time.Second, 200*time.Millisecond)
}

func TestClearFinalizers_ClearsFluxsOwnKindsOfFluxsOwnFinalizerOnly(t *testing.T) {
	const others = "example.org/keep"
	c, namespace := live(t)
	k := newKustomization(t, c, namespace, "app")
	k.Finalizers = []string{others, fluxFinalizer}
	require.NoError(t, c.Update(t.Context(), k))
	source := newSource(t, c, namespace)
	source.Finalizers = []string{fluxFinalizer}
	require.NoError(t, c.Update(t.Context(), source))
	require.NoError(t, c.Delete(t.Context(), source))
	untouched := newRelease(t, c, namespace, "no-finalizer")
	// Of another kind, though with the same finalizer.
	thing := newThing(t, c, namespace)

	clearing := func(dryRun bool) []flux.Held {
		held, err := flux.ClearFinalizers(t.Context(), c, dryRun)
		require.NoError(t, err)
		return held
	}
	expected := []flux.Held{
		{Ref: flux.Kustomization(namespace, "app")},
		{Ref: flux.GitRepository(namespace, "source"), Deleted: true},
	}
	assert.ElementsMatch(t, expected, clearing(true))
	assert.ElementsMatch(t, expected, clearing(true), "a dry run changes nothing")
	assert.ElementsMatch(t, expected, clearing(false))
	assert.Empty(t, clearing(true))

	require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(k), k))
	assert.Equal(t, []string{others}, k.Finalizers, "the finalizer of another stays")
	err := c.Get(t.Context(), client.ObjectKeyFromObject(source), source)
	assert.True(t, apierrors.IsNotFound(err), "what was being deleted is gone: %v", err)
	require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(untouched), untouched))
	require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(thing), thing))
	assert.Equal(t, []string{fluxFinalizer}, thing.GetFinalizers())
}

// newThing is of a custom kind that isn't Flux's.
func newThing(t *testing.T, c client.Client, namespace string) client.Object {
	t.Helper()
	definition := &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "things.toolkit.example.org"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "toolkit.example.org", Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "things", Kind: "Thing"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: "v1", Served: true, Storage: true,
				Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object"}},
			}},
		},
	}
	require.NoError(t, c.Create(t.Context(), definition))
	thing := &unstructured.Unstructured{}
	thing.SetAPIVersion("toolkit.example.org/v1")
	thing.SetKind("Thing")
	thing.SetNamespace(namespace)
	thing.SetName("thing")
	thing.SetFinalizers([]string{fluxFinalizer})
	ctx := t.Context()
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		require.NoError(t, c.Create(ctx, thing.DeepCopy()), "once the definition is served")
	}, 30*time.Second, 100*time.Millisecond)
	return thing
}

func TestAlive_NamesTheControllersThatRenewTheirLease(t *testing.T) {
	c, namespace := live(t)
	lease := func(name string, renewed time.Time) {
		require.NoError(t, c.Create(t.Context(), &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
			Spec: coordinationv1.LeaseSpec{
				HolderIdentity: new("pod"), LeaseDurationSeconds: new(int32(60)), RenewTime: new(metav1.NewMicroTime(renewed)),
			},
		}))
	}
	lease("helm-controller-leader-election", time.Now())
	lease("source-controller-leader-election", time.Now().Add(-2*time.Minute))
	lease("other-leader-election", time.Now())
	alive, err := flux.Alive(t.Context(), c)
	require.NoError(t, err)
	assert.Equal(t, []string{"helm-controller"}, alive)
}

func TestApplied_IsWhatTheControllerWouldTakeAway(t *testing.T) {
	c, namespace := live(t)
	settings := func(name string, labels, annotations map[string]string) kustomizev1.ResourceRef {
		require.NoError(t, c.Create(t.Context(), &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels, Annotations: annotations},
		}))
		return kustomizev1.ResourceRef{ID: namespace + "_" + name + "__ConfigMap", Version: "v1"}
	}
	const group = "kustomize.toolkit.fluxcd.io"
	own := func(by string) map[string]string {
		return map[string]string{group + "/name": by, group + "/namespace": namespace}
	}
	k := newKustomization(t, c, namespace, "app")
	k.Status.Inventory = &kustomizev1.ResourceInventory{Entries: []kustomizev1.ResourceRef{
		settings("own", own("app"), nil),
		settings("other", own("other"), nil),
		settings("kept", own("app"), map[string]string{group + "/prune": "disabled"}),
		{ID: namespace + "_gone__ConfigMap", Version: "v1"},
	}}
	setStatus(t, c, k, old, ready(k))
	applied := func() (names []string) {
		all, err := flux.Applied(t.Context(), c)
		require.NoError(t, err)
		for _, ref := range all {
			if ref.Namespace == namespace {
				names = append(names, ref.Name)
			}
		}
		return names
	}
	assert.Equal(t, []string{"own"}, applied())
	require.NoError(t, flux.Suspend(t.Context(), c, flux.Kustomization(namespace, "app")))
	assert.Empty(t, applied(), "what is suspended takes nothing away")
}
