package rehearsal_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/internal/chain"
	"github.com/nullify005/manager-cluster-state/internal/charttest"
	"github.com/nullify005/manager-cluster-state/rehearsal"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// permit is what h1 requires before it can be installed.
const permit = "chain-permit"

// chainStage is a rehearsal of the chain: plain objects, a chart, plain objects, plain objects, a
// chart, each after the one before.
type chainStage struct {
	*stage

	delivery config.Delivery
	client   client.WithWatch
}

// TestChain has workloads of every kind come after each other: by flux delivery a Kustomization, a
// HelmRelease, a Kustomization, plain objects, a HelmRelease.
func TestChain(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a control plane and pulumi for minutes; leave out -short")
	}
	for _, delivery := range []config.Delivery{config.Direct, config.FluxCD} {
		t.Run(string(delivery), func(t *testing.T) { chainsLife(t, delivery) })
	}
}

func chainsLife(t *testing.T, delivery config.Delivery) {
	charts := charttest.Serve(t)
	require.NoError(t, charts.Publish(filepath.Join("testdata", "charts", "fixture"), chain.FixtureVersion))
	t.Setenv(chain.Charts, charts.URL)
	t.Setenv(chain.Greeting, "hello")
	t.Setenv(chain.Requires, permit)

	s := &chainStage{delivery: delivery, stage: newStageOf(t, rehearsal.Options{
		Project: filepath.Join("testdata", "chain"), Stack: "chain", Catalog: chain.Catalog,
		Overrides: map[string]any{"delivery": string(delivery)},
	})}
	var before []string
	s.step("an empty cluster", func(t *testing.T) {
		require.NoError(t, s.StartCluster(t.Context()))
		s.dial(t)
		var err error
		before, err = s.Objects(t.Context())
		require.NoError(t, err)
	})
	s.step("nothing comes after a chart that fails, and Flux's own words are told", s.assertBrokenLink)
	s.step("the chart is tried again by itself once the cause is gone", s.assertRecovery)
	s.step("the rest follows", func(t *testing.T) { s.up(t, rehearsal.UpOptions{}) })
	s.step("each became ready before the next was made", s.assertOrder)
	s.step("up again changes nothing", func(t *testing.T) { s.up(t, rehearsal.UpOptions{ExpectNoChanges: true}) })
	s.step("of two values the one above wins", s.assertValues)
	s.step("up waits for a changed value, which is no new generation", s.assertChangedValue)
	s.step("nothing after a link is touched while a change of it fails", s.assertBrokenChange)
	s.step("a value that is edited in the cluster rolls the release by itself", s.assertEditedValue)
	s.step("destroy goes in reverse, the uninstall hooks run", func(t *testing.T) {
		s.assertReverse(t)
		s.clearTraces(t)
		s.assertObjects(t, before)
	})
	s.step("down leaves nothing", s.assertDown)
}

// dial makes a client that knows Flux's kinds.
func (s *chainStage) dial(t *testing.T) {
	config, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig())
	require.NoError(t, err)
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, helmv2.AddToScheme, sourcev1.AddToScheme, kustomizev1.AddToScheme,
	} {
		require.NoError(t, add(scheme))
	}
	s.client, err = client.NewWithWatch(config, client.Options{Scheme: scheme})
	require.NoError(t, err)
}

func (s *chainStage) up(t *testing.T, options rehearsal.UpOptions) {
	t.Helper()
	require.NoError(t, s.Up(t.Context(), options))
	report, err := s.Status(t.Context())
	require.NoError(t, err)
	var text strings.Builder
	require.NoError(t, report.Render(&text))
	assert.True(t, report.OK(), text.String())
}

func (s *chainStage) get(t *testing.T, object client.Object, namespace, name string) {
	t.Helper()
	require.NoError(t, s.client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, object))
}

func (s *chainStage) release(t *testing.T, link string) *helmv2.HelmRelease {
	t.Helper()
	release := &helmv2.HelmRelease{}
	s.get(t, release, chain.Namespace(link), link)
	return release
}

func (s *chainStage) assertBrokenLink(t *testing.T) {
	s.said.Reset()
	require.Error(t, s.Up(t.Context(), rehearsal.UpOptions{}))
	said := s.said.String()
	for _, want := range []string{
		"HelmRelease chain-h1/h1 is not ready", "Helm install failed for release chain-h1/h1",
		"there is no ConfigMap default/" + permit + ", which this chart requires",
	} {
		assert.Contains(t, said, want)
	}
	there := s.namespaces(t)
	assert.Contains(t, there, chain.Namespace("k1"))
	for _, link := range []string{"k2", "p", "h2"} {
		assert.NotContains(t, there, chain.Namespace(link))
	}
}

// assertRecovery takes away the cause, and nothing else: Flux tries again by its policy.
func (s *chainStage) assertRecovery(t *testing.T) {
	require.Positive(t, s.release(t, "h1").Status.Failures)
	require.NoError(t, s.client.Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: permit},
	}))
	// Flux writes the conditions first, and the rest of the status in a request after them.
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		status := s.release(t, "h1").Status
		assert.True(c, apimeta.IsStatusConditionTrue(status.Conditions, "Ready"))
		assert.Zero(c, status.Failures)
		if latest := status.History.Latest(); assert.NotNil(c, latest) {
			assert.Equal(c, "deployed", latest.Status)
		}
	}, time.Minute, 200*time.Millisecond)
}

// madeAndReady are when a link's first object was made, and when it became ready by its own
// conditions.
func (s *chainStage) madeAndReady(t *testing.T, link string) (made, ready time.Time) {
	t.Helper()
	var namespace corev1.Namespace
	s.get(t, &namespace, "", chain.Namespace(link))
	made = namespace.CreationTimestamp.Time
	if s.pulled(link) {
		var kustomization kustomizev1.Kustomization
		s.get(t, &kustomization, workloads.FluxNamespace, link)
		condition := apimeta.FindStatusCondition(kustomization.Status.Conditions, "Ready")
		require.NotNil(t, condition, link)
		require.Equal(t, metav1.ConditionTrue, condition.Status, link)
		return kustomization.CreationTimestamp.Time, condition.LastTransitionTime.Time
	}
	if link[0] == 'h' {
		condition := apimeta.FindStatusCondition(s.release(t, link).Status.Conditions, "Ready")
		require.NotNil(t, condition, link)
		require.Equal(t, metav1.ConditionTrue, condition.Status, link)
		return made, condition.LastTransitionTime.Time
	}
	var deployment appsv1.Deployment
	s.get(t, &deployment, chain.Namespace(link), link)
	for _, condition := range deployment.Status.Conditions {
		if condition.Type == appsv1.DeploymentAvailable && condition.Status == corev1.ConditionTrue {
			return made, condition.LastTransitionTime.Time
		}
	}
	t.Fatalf("%s is not available: %v", link, deployment.Status.Conditions)
	return made, ready
}

// pulled says whether a Kustomization brings a link.
func (s *chainStage) pulled(link string) bool { return s.delivery == config.FluxCD && link[0] == 'k' }

func (s *chainStage) assertOrder(t *testing.T) {
	var before time.Time
	for _, link := range chain.Links() {
		made, ready := s.madeAndReady(t, link)
		t.Logf("%s made %s, ready %s", link, made.Format(time.TimeOnly), ready.Format(time.TimeOnly))
		assert.False(t, made.Before(before), "%s was made %s before what it comes after was ready", link, before.Sub(made))
		assert.False(t, ready.Before(made), link)
		before = ready
	}
}

// won are the values that a link's chart was rendered with.
func (s *chainStage) won(t *testing.T, link string) map[string]string {
	t.Helper()
	var won corev1.ConfigMap
	s.get(t, &won, chain.Namespace(link), link+"-won")
	return won.Data
}

func (s *chainStage) assertValues(t *testing.T) {
	for _, link := range []string{"h1", "h2"} {
		assert.Equal(t, map[string]string{
			"chart": "chart", "file": "file", "map": "map", "secret": chain.Secret, "greeting": "hello",
		}, s.won(t, link), link)
	}
	var secret corev1.Secret
	s.get(t, &secret, chain.Namespace("h1"), "h1-values")
	assert.Contains(t, string(secret.Data["values.yaml"]), chain.Secret)
	s.assertNowhere(t, chain.Secret)
}

func (s *chainStage) assertChangedValue(t *testing.T) {
	before, pods := s.release(t, "h1"), s.pods(t, "h1")
	t.Setenv(chain.Greeting, "hullo")
	s.up(t, rehearsal.UpOptions{})
	assert.Equal(t, "hullo", s.won(t, "h1")["greeting"], "at once: up has waited")
	require.EventuallyWithT(t, func(c *assert.CollectT) { // as in assertRecovery
		after := s.release(t, "h1")
		assert.Equal(c, before.Generation, after.Generation)
		assert.Equal(c, before.Status.History.Latest().Version+1, after.Status.History.Latest().Version)
	}, time.Minute, 200*time.Millisecond)
	assert.Empty(t, common(pods, s.pods(t, "h1")), "pods of the release before")
}

// pods are the names of a link's pods that are to stay.
func (s *chainStage) pods(t *testing.T, link string) []string {
	t.Helper()
	var list corev1.PodList
	require.NoError(t, s.client.List(t.Context(), &list, client.InNamespace(chain.Namespace(link))))
	var found []string
	for _, pod := range list.Items {
		if pod.DeletionTimestamp == nil {
			found = append(found, pod.Name)
		}
	}
	require.NotEmpty(t, found)
	return found
}

func common(a, b []string) []string { return without(a, without(a, b)) }

// assertEditedValue changes a value behind Pulumi's back.
func (s *chainStage) assertEditedValue(t *testing.T) {
	var values corev1.ConfigMap
	s.get(t, &values, chain.Namespace("h2"), "h2-values")
	edited := strings.ReplaceAll(values.Data["values.yaml"], "greeting: hullo", "greeting: moin")
	require.NotEqual(t, values.Data["values.yaml"], edited)
	values.Data["values.yaml"] = edited
	require.NoError(t, s.client.Update(t.Context(), &values))
	assert.Eventually(t, func() bool { return s.won(t, "h2")["greeting"] == "moin" }, 30*time.Second, 200*time.Millisecond)
}

// assertBrokenChange has an upgrade in the middle of the chain fail by what is missing in the
// cluster, and brings that back.
func (s *chainStage) assertBrokenChange(t *testing.T) {
	cause := func() *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: permit}}
	}
	var before, after corev1.ConfigMap
	s.get(t, &before, chain.Namespace("h2"), "h2-values")
	require.NoError(t, s.client.Delete(t.Context(), cause()))
	t.Setenv(chain.Greeting, "servus")
	s.said.Reset()
	require.Error(t, s.Up(t.Context(), rehearsal.UpOptions{}))
	said := s.said.String()
	assert.Contains(t, said, "Helm upgrade failed for release chain-h1/h1")
	assert.Contains(t, said, "there is no ConfigMap default/"+permit)
	assert.Equal(t, "hullo", s.won(t, "h1")["greeting"], "what ran goes on running")
	s.get(t, &after, chain.Namespace("h2"), "h2-values")
	assert.Equal(t, before.ResourceVersion, after.ResourceVersion, "what comes after is not touched")

	require.NoError(t, s.client.Create(t.Context(), cause()))
	require.Eventually(t, func() bool {
		return apimeta.IsStatusConditionTrue(s.release(t, "h1").Status.Conditions, "Ready")
	}, time.Minute, 200*time.Millisecond)
	assert.Equal(t, "servus", s.won(t, "h1")["greeting"], "tried again by itself")
}

// events are what happened to objects, each with the revision of the cluster's store at which
// it did: that is one counter for all of them.
type events struct {
	mutex sync.Mutex
	at    map[string]int64
}

func (e *events) add(kind string, event watch.Event) {
	object, ok := event.Object.(client.Object)
	if !ok || event.Type != watch.Added && event.Type != watch.Deleted {
		return
	}
	revision, err := strconv.ParseInt(object.GetResourceVersion(), 10, 64)
	if err != nil {
		return
	}
	e.mutex.Lock()
	defer e.mutex.Unlock()
	key := strings.TrimPrefix(client.ObjectKeyFromObject(object).String(), "/")
	e.at[fmt.Sprintf("%s %s %s", event.Type, kind, key)] = revision
}

func (e *events) when(what string) int64 {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	return e.at[what]
}

// watch records what happens until the test is done.
func (s *chainStage) watch(t *testing.T) *events {
	t.Helper()
	seen := &events{at: map[string]int64{}}
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	t.Cleanup(func() { cancel(); watching.Wait() })
	for kind, list := range map[string]client.ObjectList{
		"Namespace": &corev1.NamespaceList{}, "ConfigMap": &corev1.ConfigMapList{}, "Deployment": &appsv1.DeploymentList{},
		"HelmRelease": &helmv2.HelmReleaseList{}, "HelmRepository": &sourcev1.HelmRepositoryList{},
		"Kustomization": &kustomizev1.KustomizationList{},
	} {
		watcher, err := s.client.Watch(ctx, list)
		require.NoError(t, err)
		watching.Go(func() {
			defer watcher.Stop()
			for event := range watcher.ResultChan() {
				seen.add(kind, event)
			}
		})
	}
	return seen
}

func (s *chainStage) assertReverse(t *testing.T) {
	seen := s.watch(t)
	require.NoError(t, s.Destroy(t.Context()))

	var order []string
	for _, link := range slices.Backward(chain.Links()) {
		in := chain.Namespace(link) + "/" + link
		if link[0] == 'h' {
			order = append(order,
				"ADDED ConfigMap default/"+link+"-uninstalled", "DELETED Deployment "+in, "DELETED HelmRelease "+in,
				"DELETED HelmRepository "+in, "DELETED ConfigMap "+in+"-values")
		} else {
			order = append(order, "DELETED Deployment "+in)
		}
		order = append(order, "DELETED Namespace "+chain.Namespace(link))
		if s.pulled(link) {
			order = append(order, "DELETED Kustomization "+workloads.FluxNamespace+"/"+link)
		}
	}
	order = append(order, "DELETED Deployment flux-system/helm-controller")
	var before int64
	for i, what := range order {
		require.Eventually(t, func() bool { return seen.when(what) > 0 }, 10*time.Second, 50*time.Millisecond, "never seen: %s", what)
		assert.Greater(t, seen.when(what), before, "%s came before %s", what, order[max(i-1, 0)])
		before = seen.when(what)
	}
}

// clearTraces removes what the hooks left, and what the test made.
func (s *chainStage) clearTraces(t *testing.T) {
	for _, name := range []string{"h1-uninstalled", "h2-uninstalled", permit} {
		trace := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name}}
		s.get(t, trace, trace.Namespace, trace.Name)
		require.NoError(t, s.client.Delete(t.Context(), trace))
	}
}
