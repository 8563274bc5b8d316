package rehearsal_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	imagev1 "github.com/fluxcd/image-automation-controller/api/v1"
	reflectorv1 "github.com/fluxcd/image-reflector-controller/api/v1"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	gogit "github.com/go-git/go-git/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/internal/flux"
	"github.com/nullify005/manager-cluster-state/internal/git"
	"github.com/nullify005/manager-cluster-state/rehearsal"
	"github.com/nullify005/manager-cluster-state/rehearsal/forge"
	"github.com/nullify005/manager-cluster-state/seal"
)

const (
	fluxNamespace = "flux-system"
	sourceName    = "manager-cluster-state"
	// soon bounds what Flux was asked to do at once.
	soon = 90 * time.Second
)

// TestFlux is the life of production as Flux delivers it: real Flux, a Git host over SSH, sealed
// secrets, a registry; what is not of this house is a stand-in.
func TestFlux(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a control plane, Flux and pulumi for minutes; leave out -short")
	}
	s := newStage(t, "production")
	s.Set("sealing.protect", false) // so that destroy may take the keys
	var before []string
	s.step("an empty cluster", func(t *testing.T) {
		require.NoError(t, s.StartCluster(t.Context()))
		var err error
		before, err = s.Objects(t.Context())
		require.NoError(t, err)
	})
	seen := watchCommandLines(t)
	s.step("up has everything pulled and opened", func(t *testing.T) {
		require.NoError(t, s.Up(t.Context(), rehearsal.UpOptions{}))
		s.assertReady(t)
		s.assertPulled(t)
	})
	s.step("no secret is in the clear anywhere", func(t *testing.T) {
		s.assertNothingInTheClear(t, seen())
		s.assertSealedInGit(t)
	})
	s.step("up again changes nothing", func(t *testing.T) {
		require.NoError(t, s.Up(t.Context(), rehearsal.UpOptions{ExpectNoChanges: true}))
	})
	s.step("what the branch lacks is told at preview, and refused by up", s.assertBranchIsChecked)
	s.step("a pushed value is rolled out", s.assertPush)
	s.step("a new image is committed and rolled out, and the preview stays clean", s.assertImageAutomation)
	s.step("a workload that doesn't get ready fails the update in Flux's words, and Slack has them", s.assertUnready)
	s.step("a suspended workload stays as it is", s.assertSuspended)
	s.step("the sealing key is rotated: all is sealed again, and opens", s.assertSealedAgain)
	s.step("the deploy key is rotated with no moment without one", s.assertRotation)
	s.step("without its key Flux can't pull", s.assertKeyIsNeeded)
	s.step("destroy leaves the cluster as it was", func(t *testing.T) {
		require.NoError(t, s.Destroy(t.Context()))
		s.assertObjects(t, before)
		keys, err := s.forge(t).DeployKeys(t.Context())
		require.NoError(t, err)
		assert.Empty(t, keys, "registered at GitHub")
	})
	s.step("what was sealed in Git opens in the next cluster", func(t *testing.T) {
		head := s.head(t)
		require.NoError(t, s.Up(t.Context(), rehearsal.UpOptions{}))
		s.assertPulled(t)
		assert.Equal(t, head, s.head(t), "nothing is sealed again")
	})
	s.step("with the controllers dead, a command reaches the same end", func(t *testing.T) { s.assertTeardown(t, before) })
}

func (s *stage) forge(t *testing.T) *forge.Client {
	t.Helper()
	c, err := s.Forge()
	require.NoError(t, err)
	return c
}

// flux is a client that knows Flux's kinds.
func (s *stage) flux(t *testing.T) client.Client {
	t.Helper()
	kubeconfig, err := os.ReadFile(s.Kubeconfig())
	require.NoError(t, err)
	c, err := flux.NewClient(kubeconfig, "")
	require.NoError(t, err)
	return c
}

// head is the newest commit of the branch, as the Git host has it.
func (s *stage) head(t *testing.T) string {
	t.Helper()
	require.NoError(t, s.Pull(t.Context()))
	repository, err := gogit.PlainOpen(s.WorkTree())
	require.NoError(t, err)
	head, err := repository.Head()
	require.NoError(t, err)
	return head.Hash().String()
}

// assertPulled holds what is in the cluster against what should be: a Kustomization for each
// workload that Flux delivers, every SealedSecret opened, the key that Flux pulls with registered.
func (s *stage) assertPulled(t *testing.T) {
	t.Helper()
	c := s.flux(t)
	wanted := map[string]bool{}
	for _, workload := range s.catalog(t) {
		if !workload.Direct {
			wanted[workload.Name] = true
		}
	}
	var kustomizations kustomizev1.KustomizationList
	require.NoError(t, c.List(t.Context(), &kustomizations))
	for _, kustomization := range kustomizations.Items {
		assert.True(t, wanted[kustomization.Name], kustomization.Name)
		delete(wanted, kustomization.Name)
		require.NoError(t, flux.WaitReady(t.Context(), c, flux.RefOf(typed(&kustomization)), flux.WaitOptions{Timeout: soon}))
	}
	assert.Empty(t, wanted)

	sealed := &unstructured.UnstructuredList{}
	sealed.SetGroupVersionKind(schema.GroupVersionKind{Group: "bitnami.com", Version: "v1alpha1", Kind: "SealedSecretList"})
	require.NoError(t, c.List(t.Context(), sealed))
	require.Len(t, sealed.Items, 4)
	for _, item := range sealed.Items {
		conditions, _, err := unstructured.NestedSlice(item.Object, "status", "conditions")
		require.NoError(t, err)
		require.Len(t, conditions, 1, item.GetName())
		assert.Equal(t, "True", conditions[0].(map[string]any)["status"], item.GetName())
	}

	keys, err := s.forge(t).DeployKeys(t.Context())
	require.NoError(t, err)
	require.Len(t, keys, 1)
	assert.Equal(t, strings.TrimSpace(string(s.deployKey(t).Data["identity.pub"])), keys[0].Key)
	assert.False(t, keys[0].ReadOnly, "image automation pushes")
	assert.NotNil(t, keys[0].LastUsed, "Flux pulled with it")
}

func typed(kustomization *kustomizev1.Kustomization) client.Object {
	kustomization.SetGroupVersionKind(kustomizev1.GroupVersion.WithKind(kustomizev1.KustomizationKind))
	return kustomization
}

func (s *stage) deployKey(t *testing.T) *corev1.Secret {
	t.Helper()
	c, err := s.Client()
	require.NoError(t, err)
	var secret corev1.Secret
	require.NoError(t, c.Get(t.Context(), client.ObjectKey{Namespace: fluxNamespace, Name: "deploy-key"}, &secret))
	return &secret
}

func (s *stage) assertSealedInGit(t *testing.T) {
	var text strings.Builder
	require.NoError(t, filepath.WalkDir(filepath.Join(s.WorkTree(), "manifests"), func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		text.Write(content)
		return err
	}))
	assert.Contains(t, text.String(), "kind: SealedSecret")
	assert.NotContains(t, text.String(), "kind: Secret\n")
}

func (s *stage) assertBranchIsChecked(t *testing.T) {
	const stale = "service-intesis/deployment-service-intesis.yaml is stale"
	s.Set("hvac.interval", unusual)
	s.said.Reset()
	require.NoError(t, s.ShowPreview(t.Context()), "a preview only warns")
	assert.Contains(t, s.said.String(), stale)
	assert.Contains(t, s.said.String(), "make seal render STACK=production, commit and push")

	s.said.Reset()
	require.Error(t, s.Up(t.Context(), rehearsal.UpOptions{KeepBranch: true}))
	assert.Contains(t, s.said.String(), stale)
	assert.NotContains(t, s.said.String(), "updated", "nothing is changed")
	s.Unset("hvac.interval")
}

// assertPush is what a person does day by day: edit, commit, push, from the clone that the
// rehearsal made for them.
func (s *stage) assertPush(t *testing.T) {
	const file = "manifests/production/exporter-weather/deployment-exporter-weather.yaml"
	interval := regexp.MustCompile(`(- --interval\n +- )(\S+)\n`)
	push := func(to string) (from string) {
		s.git(t, "pull", "--quiet")
		path := filepath.Join(s.Checkout(), filepath.FromSlash(file))
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		found := interval.FindStringSubmatch(string(content))
		require.NotNil(t, found, string(content))
		require.NoError(t, os.WriteFile(path, interval.ReplaceAll(content, []byte("${1}"+to+"\n")), 0o600))
		s.git(t, "commit", "--quiet", "--all", "--message", "Ask for the weather every "+to)
		s.git(t, "push", "--quiet")
		return found[2]
	}
	start := time.Now()
	before := push(unusual)
	pushed := time.Now()
	s.reconcile(t, flux.GitRepository(fluxNamespace, sourceName))
	s.eventually(t, "the pod's new spec", func(ctx context.Context, c client.Client) (bool, error) {
		return s.runs(ctx, c, "exporter-weather-v1", func(pod *corev1.Pod) bool {
			return strings.Contains(strings.Join(pod.Spec.Containers[0].Args, " "), "--interval "+unusual)
		})
	})
	t.Logf("commit and git push took %s, from there to the pod's new spec, Flux asked at once: %s",
		pushed.Sub(start).Round(10*time.Millisecond), time.Since(pushed).Round(10*time.Millisecond))
	push(before)
	s.reconcile(t, flux.GitRepository(fluxNamespace, sourceName))
}

// git runs the system's own in the clone for people.
func (s *stage) git(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", s.Checkout()}, args...)...).CombinedOutput()
	require.NoError(t, err, string(out))
}

// runs says whether a namespace has a running pod that is as it should be.
func (s *stage) runs(ctx context.Context, c client.Client, namespace string, is func(*corev1.Pod) bool) (bool, error) {
	var pods corev1.PodList
	if err := c.List(ctx, &pods, client.InNamespace(namespace)); err != nil {
		return false, err
	}
	for _, pod := range pods.Items {
		if pod.DeletionTimestamp == nil && pod.Status.Phase == corev1.PodRunning && is(&pod) {
			return true, nil
		}
	}
	return false, nil
}

func (s *stage) reconcile(t *testing.T, ref flux.Ref) {
	t.Helper()
	c := s.flux(t)
	requestedAt, err := flux.Reconcile(t.Context(), c, ref)
	require.NoError(t, err)
	require.NoError(t, flux.WaitHandled(t.Context(), c, ref, requestedAt, soon))
}

func (s *stage) eventually(t *testing.T, what string, is func(context.Context, client.Client) (bool, error)) {
	t.Helper()
	c := s.flux(t)
	var last error
	came := assert.Eventually(t, func() bool {
		ok, err := is(t.Context(), c)
		last = err
		return ok && err == nil
	}, soon, 200*time.Millisecond, what)
	require.True(t, came, "%s: %v", what, last)
}

var errOther = errors.New("it has another")

func (s *stage) assertImageAutomation(t *testing.T) {
	const tag = "v9.9.9"
	before := s.head(t)
	require.NoError(t, s.forge(t).PushImage(t.Context(), forge.Image{Name: "nullify005/exporter-weather", Tag: tag}))
	scan := flux.Ref{GroupVersionKind: reflectorv1.GroupVersion.WithKind(reflectorv1.ImageRepositoryKind), Namespace: fluxNamespace, Name: "exporter-weather"}
	s.reconcile(t, scan)
	s.eventually(t, "the policy's choice", func(ctx context.Context, c client.Client) (bool, error) {
		var policy reflectorv1.ImagePolicy
		if err := c.Get(ctx, client.ObjectKey{Namespace: fluxNamespace, Name: "exporter-weather"}, &policy); err != nil {
			return false, err
		}
		if latest := policy.Status.LatestRef; latest == nil || latest.Tag != tag {
			return false, fmt.Errorf("%w: %+v", errOther, policy.Status)
		}
		return true, nil
	})
	s.reconcile(t, flux.Ref{
		GroupVersionKind: imagev1.GroupVersion.WithKind(imagev1.ImageUpdateAutomationKind), Namespace: fluxNamespace, Name: "image-automation",
	})
	require.Eventually(t, func() bool { return s.head(t) != before }, soon, time.Second, "the commit appears in the Git host")
	s.assertFluxbotsCommit(t)
	s.reconcile(t, flux.GitRepository(fluxNamespace, sourceName))
	s.eventually(t, "the new image", func(ctx context.Context, c client.Client) (bool, error) {
		return s.runs(ctx, c, "exporter-weather-v1", func(pod *corev1.Pod) bool {
			return pod.Spec.Containers[0].Image == "ghcr.io/nullify005/exporter-weather:"+tag
		})
	})
	changes, err := s.Preview(t.Context())
	require.NoError(t, err)
	assert.Empty(t, changes)
	require.NoError(t, s.Up(t.Context(), rehearsal.UpOptions{ExpectNoChanges: true}))
}

// assertFluxbotsCommit: one file, by fluxbot.
func (s *stage) assertFluxbotsCommit(t *testing.T) {
	t.Helper()
	repository, err := gogit.PlainOpen(s.WorkTree())
	require.NoError(t, err)
	head, err := repository.Head()
	require.NoError(t, err)
	commit, err := repository.CommitObject(head.Hash())
	require.NoError(t, err)
	assert.Equal(t, "fluxbot", commit.Author.Name)
	assert.Equal(t, "fluxbot@users.noreply.github.com", commit.Author.Email)
	stats, err := commit.Stats()
	require.NoError(t, err)
	require.Len(t, stats, 1)
	assert.Equal(t, "manifests/images/kustomization.yaml", stats[0].Name)
}

// assertUnready closes every node to new pods and rolls one.
func (s *stage) assertUnready(t *testing.T) {
	s.cordon(t, true)
	s.Set("hvac.weatherInterval", unusual)
	s.said.Reset()
	require.Error(t, s.Up(t.Context(), rehearsal.UpOptions{}))
	assert.Contains(t, s.said.String(), "Kustomization flux-system/exporter-weather")
	assert.Contains(t, s.said.String(), "timeout waiting for: [Deployment/exporter-weather-v1/exporter-weather status: 'InProgress']", "Flux's own words")
	require.Eventually(t, func() bool { return s.slackHas(t, "exporter-weather", "danger", "cluster production") },
		soon, time.Second, "Slack has the failure")
	require.Eventually(t, func() bool {
		statuses, err := s.forge(t).Statuses(t.Context())
		require.NoError(t, err)
		for _, status := range statuses {
			if status.State == "failure" && strings.Contains(status.Context, "exporter-weather") {
				return true
			}
		}
		return false
	}, soon, time.Second, "GitHub has the failure")

	s.cordon(t, false)
	require.NoError(t, s.Up(t.Context(), rehearsal.UpOptions{}))
	s.assertReady(t)
}

// slackHas says whether there is a message with all of these in it.
func (s *stage) slackHas(t *testing.T, parts ...string) bool {
	t.Helper()
	messages, err := s.forge(t).SlackMessages(t.Context())
	require.NoError(t, err)
	return slices.ContainsFunc(messages, func(message forge.Message) bool {
		return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(string(message.Body), part) })
	})
}

func (s *stage) assertSuspended(t *testing.T) {
	replicas := func() (count int32) {
		c, err := s.Client()
		require.NoError(t, err)
		var deployment appsv1.Deployment
		require.NoError(t, c.Get(t.Context(), client.ObjectKey{Namespace: "exporter-weather-v1", Name: "exporter-weather"}, &deployment))
		return *deployment.Spec.Replicas
	}
	s.Set("suspend", []string{"exporter-weather"})
	require.NoError(t, s.Up(t.Context(), rehearsal.UpOptions{}))
	s.assertReady(t)
	require.NoError(t, s.Edit(t.Context(), "None", map[string]func(string) string{
		"manifests/production/exporter-weather/deployment-exporter-weather.yaml": func(before string) string {
			return strings.Replace(before, "replicas: 1\n", "replicas: 0\n", 1)
		},
	}))
	s.reconcile(t, flux.GitRepository(fluxNamespace, sourceName))
	// Another workload at the new commit says that Flux has been through with it.
	require.NoError(t, flux.WaitReady(t.Context(), s.flux(t), flux.Kustomization(fluxNamespace, "external-mdns"),
		flux.WaitOptions{Timeout: soon, Revision: "main@sha1:" + s.head(t)}))
	assert.Equal(t, int32(1), replicas())

	s.Set("suspend", []string{})
	require.NoError(t, s.Up(t.Context(), rehearsal.UpOptions{}), "renders the one replica again")
	s.assertReady(t)
	assert.Equal(t, int32(1), replicas())
}

// assertSealedAgain: the running controller takes up the new key, and the pods notice nothing.
func (s *stage) assertSealedAgain(t *testing.T) {
	pods, before := s.pods(t), s.sealedWith(t)
	require.Len(t, before, 1)
	require.NoError(t, s.RotateSealingKey(t.Context()))
	require.NoError(t, s.Up(t.Context(), rehearsal.UpOptions{}))
	s.assertPulled(t)
	after := s.sealedWith(t)
	require.Len(t, after, 1)
	assert.NotEqual(t, before, after)
	assert.Equal(t, pods, s.pods(t), "restarts")
}

// sealedWith are the fingerprints of the certificates that the SealedSecrets were sealed with.
func (s *stage) sealedWith(t *testing.T) map[string]bool {
	t.Helper()
	sealed := &unstructured.UnstructuredList{}
	sealed.SetGroupVersionKind(schema.GroupVersionKind{Group: "bitnami.com", Version: "v1alpha1", Kind: "SealedSecretList"})
	require.NoError(t, s.flux(t).List(t.Context(), sealed))
	found := map[string]bool{}
	for _, item := range sealed.Items {
		found[item.GetAnnotations()[seal.SealedWithAnnotation]] = true
	}
	return found
}

// assertRotation asks all the while whether whoever has the key that is in the cluster may pull.
func (s *stage) assertRotation(t *testing.T) {
	before := s.deployKey(t).Data["identity"]
	require.NoError(t, s.RotateDeployKey(t.Context()))
	watching, stop := context.WithCancel(t.Context())
	pulls, refused := 0, []error{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for watching.Err() == nil {
			if err := s.pullAsFlux(watching); err != nil && watching.Err() == nil {
				refused = append(refused, err)
			}
			pulls++
		}
	}()
	err := s.Up(t.Context(), rehearsal.UpOptions{})
	stop()
	<-done
	require.NoError(t, err)
	assert.Empty(t, refused)
	assert.Greater(t, pulls, 10)
	assert.NotEqual(t, before, s.deployKey(t).Data["identity"])
	s.reconcile(t, flux.GitRepository(fluxNamespace, sourceName))
	s.assertPulled(t)
}

func (s *stage) pullAsFlux(ctx context.Context) error {
	c, err := s.Client()
	if err != nil {
		return err
	}
	var secret corev1.Secret
	if err := c.Get(ctx, client.ObjectKey{Namespace: fluxNamespace, Name: "deploy-key"}, &secret); err != nil {
		return err
	}
	var repository unstructured.Unstructured
	repository.SetGroupVersionKind(flux.GitRepository("", "").GroupVersionKind)
	if err := c.Get(ctx, client.ObjectKey{Namespace: fluxNamespace, Name: sourceName}, &repository); err != nil {
		return err
	}
	url, _, err := unstructured.NestedString(repository.Object, "spec", "url")
	if err != nil {
		return err
	}
	_, err = git.Fetch(ctx, git.Remote{
		URL: url, Branch: "main", PrivateKey: string(secret.Data["identity"]), HostKeys: string(secret.Data["known_hosts"]),
	})
	return err
}

// assertKeyIsNeeded removes the key at GitHub by hand; a refresh finds out, and registers it again.
func (s *stage) assertKeyIsNeeded(t *testing.T) {
	keys, err := s.forge(t).DeployKeys(t.Context())
	require.NoError(t, err)
	require.Len(t, keys, 1)
	require.NoError(t, s.forge(t).DeleteDeployKey(t.Context(), keys[0].Repository, keys[0].ID))
	ref := flux.GitRepository(fluxNamespace, sourceName)
	requestedAt, err := flux.Reconcile(t.Context(), s.flux(t), ref)
	require.NoError(t, err)
	err = flux.WaitReady(t.Context(), s.flux(t), ref, flux.WaitOptions{Timeout: 10 * time.Second, RequestedAt: requestedAt})
	require.ErrorIs(t, err, flux.ErrTimeout)
	require.ErrorContains(t, err, "unable to authenticate")

	require.NoError(t, s.RotateDeployKey(t.Context()), "a new key is the mend")
	require.NoError(t, s.Up(t.Context(), rehearsal.UpOptions{}))
	s.assertPulled(t)
}

func (s *stage) assertTeardown(t *testing.T, before []string) {
	require.NoError(t, s.StopControllers(t.Context()))
	c := s.flux(t)
	_, err := flux.Prune(t.Context(), c)
	require.NoError(t, err)
	_, err = flux.ClearFinalizers(t.Context(), c, false)
	require.NoError(t, err)
	require.NoError(t, s.Destroy(t.Context()))
	s.assertObjects(t, before)
}

// TestSwitch hands a running stack over to Flux and back, and counts the pods that were touched.
func TestSwitch(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a control plane, Flux and pulumi for minutes; leave out -short")
	}
	s := newStage(t, "development")
	var before []string
	s.step("up, direct", func(t *testing.T) {
		require.NoError(t, s.StartCluster(t.Context()))
		var err error
		before, err = s.Objects(t.Context())
		require.NoError(t, err)
		require.NoError(t, s.Up(t.Context(), rehearsal.UpOptions{}))
		s.assertReady(t)
	})
	pods := s.pods(t)
	s.step("to change the key by hand is refused at preview", func(t *testing.T) { s.assertFlipRefused(t, "flux") })
	s.step("switch to flux", func(t *testing.T) {
		require.NoError(t, s.Switch(t.Context(), config.FluxCD))
		assert.Equal(t, pods, s.pods(t), "restarts")
		require.NoError(t, s.Up(t.Context(), rehearsal.UpOptions{ExpectNoChanges: true}))
		s.assertOneOwner(t, "kustomize-controller")
		require.Eventually(t, func() bool { return s.slackHas(t, "kustomization/", "cluster development") }, soon, time.Second)
	})
	s.step("to change it back by hand is refused too", func(t *testing.T) { s.assertFlipRefused(t, "direct") })
	s.step("switch to direct", func(t *testing.T) {
		require.NoError(t, s.Switch(t.Context(), config.Direct))
		assert.Equal(t, pods, s.pods(t), "restarts")
		require.NoError(t, s.Up(t.Context(), rehearsal.UpOptions{ExpectNoChanges: true}))
		s.assertOneOwner(t, "pulumi-kubernetes")
	})
	s.step("then a changed value and a changed secret are Pulumi's alone", func(t *testing.T) {
		s.Set("hvac.weatherInterval", unusual)
		s.Set("hvac.slackChannel", "other") // in a file of a Secret
		require.NoError(t, s.Up(t.Context(), rehearsal.UpOptions{}))
		s.assertReady(t)
	})
	s.step("destroy leaves the cluster as it was", func(t *testing.T) {
		require.NoError(t, s.Destroy(t.Context()))
		s.assertObjects(t, before)
	})
}

// pods are the stack's, by their UIDs and the restarts of their containers.
func (s *stage) pods(t *testing.T) map[string]int32 {
	t.Helper()
	c, err := s.Client()
	require.NoError(t, err)
	var list corev1.PodList
	require.NoError(t, c.List(t.Context(), &list))
	found := map[string]int32{}
	for _, pod := range list.Items {
		restarts := int32(0)
		for _, container := range pod.Status.ContainerStatuses {
			restarts += container.RestartCount
		}
		found[pod.Namespace+"/"+pod.Name+"/"+string(pod.UID)] = restarts
	}
	require.NotEmpty(t, found)
	return found
}

func (s *stage) assertFlipRefused(t *testing.T, to string) {
	t.Helper()
	pods := s.pods(t)
	s.Set("delivery", to)
	defer s.Unset("delivery")
	_, err := s.Preview(t.Context())
	require.Error(t, err)
	require.NotErrorIs(t, err, rehearsal.ErrInterrupted)
	require.ErrorContains(t, err, "make switch STACK=development DELIVERY="+to)
	require.ErrorContains(t, err, "service-intesis")
	assert.Equal(t, pods, s.pods(t))
}

// assertOneOwner: but for Kubernetes's own controllers, one manager has an object's fields.
func (s *stage) assertOneOwner(t *testing.T, prefix string) {
	t.Helper()
	c, err := s.Client()
	require.NoError(t, err)
	var deployments appsv1.DeploymentList
	require.NoError(t, c.List(t.Context(), &deployments, client.MatchingLabels{"app.kubernetes.io/part-of": "hvac"}))
	require.NotEmpty(t, deployments.Items)
	for _, deployment := range deployments.Items {
		var owners []string
		for _, entry := range deployment.ManagedFields {
			if entry.Subresource == "" && entry.Manager != "kube-controller-manager" {
				owners = append(owners, entry.Manager)
			}
		}
		text, err := json.Marshal(owners)
		require.NoError(t, err)
		require.Len(t, owners, 1, "%s: %s", deployment.Name, text)
		assert.True(t, strings.HasPrefix(owners[0], prefix), string(text))
	}
}
