package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/internal/flux"
	"github.com/nullify005/manager-cluster-state/internal/fluxtest"
	"github.com/nullify005/manager-cluster-state/rehearsal"
)

var shared = fluxtest.Cluster{Project: projectFolder}

const projectFolder = "../.."

func TestMain(m *testing.M) { os.Exit(shared.Main(m)) }

// dayTwo is a workload that real controllers of Flux deliver from a real Git host, looking for
// news once an hour.
type dayTwo struct {
	client     client.Client
	namespace  string
	repository *fluxtest.Repository
	stop       func()
}

func newDayTwo(t *testing.T) *dayTwo {
	t.Helper()
	d := &dayTwo{client: shared.Start(t), repository: fluxtest.NewRepository(t)}
	d.stop = shared.Controllers(t, "source-controller", "kustomize-controller")
	d.namespace = shared.Namespace(t)
	d.push(t, "one")
	hour := metav1.Duration{Duration: time.Hour}
	require.NoError(t, d.client.Create(t.Context(), &sourcev1.GitRepository{
		ObjectMeta: metav1.ObjectMeta{Namespace: d.namespace, Name: "source"},
		Spec:       sourcev1.GitRepositorySpec{URL: d.repository.URL, Interval: hour, Reference: &sourcev1.GitRepositoryRef{Branch: "main"}},
	}))
	require.NoError(t, d.client.Create(t.Context(), &kustomizev1.Kustomization{
		ObjectMeta: metav1.ObjectMeta{Namespace: d.namespace, Name: "app"},
		Spec: kustomizev1.KustomizationSpec{
			Interval: hour, RetryInterval: &metav1.Duration{Duration: time.Second}, Path: "./app", Prune: true, TargetNamespace: d.namespace,
			SourceRef: kustomizev1.CrossNamespaceSourceReference{Kind: sourcev1.GitRepositoryKind, Name: "source"},
		},
	}))
	return d
}

// push has Git say what the value is.
func (d *dayTwo) push(t *testing.T, value string) (revision string) {
	t.Helper()
	commit := d.repository.Push(t, "app/settings.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\ndata:\n  value: "+value+"\n")
	return "main@sha1:" + commit[:8]
}

// value is what the cluster has.
func (d *dayTwo) value(t *testing.T) string {
	t.Helper()
	var settings corev1.ConfigMap
	require.NoError(t, d.client.Get(t.Context(), client.ObjectKey{Namespace: d.namespace, Name: "settings"}, &settings))
	return settings.Data["value"]
}

// requested is when somebody last asked for the app to be reconciled.
func (d *dayTwo) requested(t *testing.T) string {
	t.Helper()
	var app kustomizev1.Kustomization
	require.NoError(t, d.client.Get(t.Context(), client.ObjectKey{Namespace: d.namespace, Name: "app"}, &app))
	return app.Annotations[meta.ReconcileRequestAnnotation]
}

func (d *dayTwo) mcs(t *testing.T, args ...string) (said string, err error) {
	t.Helper()
	return d.answer(t.Context(), t, "", append(args, "--rehearsal", "--stack", "development", "--project", projectFolder, "--dir", shared.Folder())...)
}

// answer runs a command with what a person types. What is said is what they see, log and all.
func (d *dayTwo) answer(ctx context.Context, t *testing.T, typed string, args ...string) (said string, err error) {
	t.Helper()
	var out, log bytes.Buffer
	app := &application{stdout: &out, log: slog.New(slog.NewTextHandler(&log, nil))}
	command := app.command() //nolint:contextcheck // it is executed with it
	command.SetArgs(args)
	command.SetIn(strings.NewReader(typed))
	err = command.ExecuteContext(ctx)
	t.Logf("mcs %s\n%s%s%v", strings.Join(args, " "), out.String(), log.String(), err)
	return out.String() + log.String(), err
}

func TestDayTwo_OfAWorkloadThatFluxDelivers(t *testing.T) {
	d := newDayTwo(t)
	_, err := d.mcs(t, "reconcile", "app")
	require.NoError(t, err, "also when it was made a moment ago")
	require.Equal(t, "one", d.value(t))

	revision, before := d.push(t, "two"), d.requested(t)
	said, err := d.mcs(t, "reconcile")
	require.NoError(t, err)
	assert.Equal(t, "two", d.value(t), "long before its interval")
	assert.Equal(t, before, d.requested(t), "a new revision is applied by itself: to be asked too would break that off")
	assert.Contains(t, said, "GitRepository "+d.namespace+"/source is ready at "+revision+"\n")
	assert.Contains(t, said, "Kustomization "+d.namespace+"/app is ready at "+revision+"\n")

	_, err = d.mcs(t, "reconcile")
	require.NoError(t, err)
	assert.NotEqual(t, before, d.requested(t), "there is no new revision")

	d.assertSuspension(t)
	d.assertFailure(t)
	d.assertTeardown(t)
}

func (d *dayTwo) assertSuspension(t *testing.T) {
	t.Helper()
	_, err := d.mcs(t, "suspend", "app")
	require.NoError(t, err)
	revision := d.push(t, "three")
	said, err := d.mcs(t, "reconcile")
	require.NoError(t, err)
	assert.Contains(t, said, "app is suspended, and left alone")
	_, err = d.mcs(t, "reconcile", "app")
	require.ErrorContains(t, err, "mcs resume app")
	assert.Equal(t, "two", d.value(t))
	said, err = d.mcs(t, "status")
	require.NoError(t, err, "it is as someone wanted it")
	assert.Regexp(t, `Kustomization +`+d.namespace+`/app +Suspended +main@sha1:`, said)

	said, err = d.mcs(t, "resume", d.namespace+"/app")
	require.NoError(t, err)
	assert.Equal(t, "three", d.value(t))
	assert.Contains(t, said, "app is ready at "+revision)
	said, err = d.mcs(t, "resume", "app")
	require.NoError(t, err)
	assert.Contains(t, said, "was not suspended")

	for _, command := range []string{"suspend", "resume", "reconcile"} {
		_, err := d.mcs(t, command, "ap")
		require.EqualError(t, err, "no workload ap is delivered by Flux; there are: app", command)
	}
}

func (d *dayTwo) assertFailure(t *testing.T) {
	t.Helper()
	d.repository.Push(t, "app/kustomization.yaml", "resources: [settings.yaml, missing.yaml]\n")
	said, err := d.mcs(t, "reconcile", "app", "--timeout", "20s")
	require.ErrorContains(t, err, "missing.yaml", "Flux's own words")
	assert.Contains(t, said, "missing.yaml", "as soon as Flux says it")
	said, err = d.mcs(t, "status")
	require.ErrorIs(t, err, errSilent)
	assert.Contains(t, said, "Not ready:\n  Kustomization "+d.namespace+"/app (false): BuildFailed: ")

	revision := d.repository.Push(t, "app/kustomization.yaml", "resources: [settings.yaml]\n")
	said, err = d.mcs(t, "reconcile", "app")
	require.NoError(t, err)
	assert.Contains(t, said, "app is ready at main@sha1:"+revision[:8])
	_, err = d.mcs(t, "status")
	require.NoError(t, err)
}

// assertTeardown deletes everything while no controller runs.
func (d *dayTwo) assertTeardown(t *testing.T) {
	t.Helper()
	said, err := d.mcs(t, "clear-finalizers", "--dry-run")
	require.NoError(t, err)
	assert.Contains(t, said, "these controllers run")
	d.stop()

	d.assertInterrupted(t)

	app, source := &kustomizev1.Kustomization{}, &sourcev1.GitRepository{}
	app.Name, app.Namespace, source.Name, source.Namespace = "app", d.namespace, "source", d.namespace
	require.NoError(t, d.client.Delete(t.Context(), app))
	require.NoError(t, d.client.Delete(t.Context(), source))
	said, err = d.mcs(t, "clear-finalizers", "--dry-run")
	require.NoError(t, err)
	all := []string{"ConfigMap " + d.namespace + "/settings, which a Kustomization applied: to be deleted\n", "Kustomization " + d.namespace + "/app, which is being deleted: to be let go\n", "GitRepository " + d.namespace + "/source, which is being deleted: to be let go\n"}
	for _, one := range all {
		assert.Contains(t, said, one)
	}
	assert.NotContains(t, said, "these controllers run")

	for _, typed := range []string{"n\n", "\n", ""} {
		said, err = d.answer(t.Context(), t, typed, "clear-finalizers", "--kubeconfig", shared.Kubeconfig())
		require.ErrorIs(t, err, errNotConfirmed)
		assert.Contains(t, said, "Remove Flux's finalizer from 2 objects, and delete 1 that were applied?")
	}
	require.NoError(t, d.client.Get(t.Context(), client.ObjectKeyFromObject(app), app), "a no is a no")
	assert.Equal(t, "three", d.value(t))
	said, err = d.answer(t.Context(), t, "y\n", "clear-finalizers", "--kubeconfig", shared.Kubeconfig())
	require.NoError(t, err)
	assert.Contains(t, said, "cleared 2\n")
	for _, object := range []client.Object{app, source} {
		err := d.client.Get(t.Context(), client.ObjectKeyFromObject(object), object)
		assert.True(t, apierrors.IsNotFound(err), "%T: %v", object, err)
	}
	d.assertGone(t, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: d.namespace, Name: "settings"}})
	said, err = d.mcs(t, "clear-finalizers", "--yes")
	require.NoError(t, err)
	assert.Contains(t, said, "no object has Flux's finalizer")
	_, err = d.mcs(t, "suspend", "app")
	require.ErrorContains(t, err, "no workload is delivered by Flux")
}

// assertInterrupted has a wait that nothing ends, as no controller runs.
func (d *dayTwo) assertInterrupted(t *testing.T) {
	t.Helper()
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	waits, ended := make(progress, 1), make(chan error, 1)
	app := &application{stdout: io.Discard, log: slog.New(slog.NewTextHandler(waits, nil))}
	command := app.command()
	command.SetArgs([]string{"reconcile", "app", "--kubeconfig", shared.Kubeconfig()})
	go func() { ended <- command.ExecuteContext(ctx) }()
	select {
	case line := <-waits:
		t.Log(line)
	case err := <-ended:
		require.NoError(t, err)
		t.Fatal("it waited for nothing")
	case <-time.After(time.Minute):
		t.Fatal("it doesn't say what it waits for")
	}
	interrupt()
	select {
	case err := <-ended:
		require.ErrorIs(t, err, context.Canceled, "Ctrl-C ends a wait at once")
	case <-time.After(30 * time.Second):
		t.Fatal("Ctrl-C didn't end the wait")
	}
}

// progress has the first line of a log that says what is waited for.
type progress chan string

func (p progress) Write(line []byte) (int, error) {
	if strings.Contains(string(line), " of=") {
		select {
		case p <- string(line):
		default:
		}
	}
	return len(line), nil
}

func TestDayTwo_AWedgedKustomizationTakesTheMendedRevision(t *testing.T) {
	d := newDayTwo(t)
	app := &kustomizev1.Kustomization{ObjectMeta: metav1.ObjectMeta{Namespace: d.namespace, Name: "app"}}
	require.NoError(t, d.client.Patch(t.Context(), app, client.RawPatch(types.MergePatchType, []byte(`{"spec": {"wait": true, "timeout": "10m"}}`))))
	deploy := func(node string) {
		d.repository.Push(t, "app/deployment.yaml", `apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      nodeSelector: {kubernetes.io/os: `+node+`}
      containers: [{name: app, image: "example.org/app:v1"}]
`)
	}
	deploy("plan9")
	_, err := d.mcs(t, "reconcile", "app", "--timeout", "10s")
	require.ErrorIs(t, err, flux.ErrTimeout)
	require.ErrorContains(t, err, "Deployment "+d.namespace+"/app: 0 of 1 pods are available; Unschedulable: ", "what Flux waits for, and why it isn't ready")

	// Its health check has ten minutes yet.
	deploy("linux")
	_, err = d.mcs(t, "reconcile", "app", "--timeout", "2m")
	require.NoError(t, err)

	for _, object := range []client.Object{app, &sourcev1.GitRepository{ObjectMeta: metav1.ObjectMeta{Namespace: d.namespace, Name: "source"}}} {
		require.NoError(t, d.client.Delete(t.Context(), object))
		d.assertGone(t, object)
	}
}

// assertGone waits until the controllers have let go of objects.
func (d *dayTwo) assertGone(t *testing.T, objects ...client.Object) {
	t.Helper()
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		for _, object := range objects {
			err := d.client.Get(context.Background(), client.ObjectKeyFromObject(object), object)
			assert.True(t, apierrors.IsNotFound(err), "%T: %v", object, err)
		}
	}, time.Minute, 200*time.Millisecond)
}

func TestDayTwo_AStuckReleaseIsTriedAgainOnceItsCauseIsGone(t *testing.T) {
	d := &dayTwo{client: shared.Start(t), repository: fluxtest.NewRepository(t)}
	shared.Controllers(t, "source-controller", "helm-controller")
	d.namespace = shared.Namespace(t)
	lacking := d.namespace + "-lacking"
	d.repository.Push(t, "chart/Chart.yaml", "apiVersion: v2\nname: chart\nversion: 1.2.3\n")
	d.repository.Push(t, "chart/templates/settings.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\n  namespace: "+lacking+"\n")
	hour := metav1.Duration{Duration: time.Hour}
	source := &sourcev1.GitRepository{
		ObjectMeta: metav1.ObjectMeta{Namespace: d.namespace, Name: "source"},
		Spec:       sourcev1.GitRepositorySpec{URL: d.repository.URL, Interval: hour, Reference: &sourcev1.GitRepositoryRef{Branch: "main"}},
	}
	release := &helmv2.HelmRelease{
		ObjectMeta: metav1.ObjectMeta{Namespace: d.namespace, Name: "release"},
		// Flux's default: no retry, and so it gives up.
		Spec: helmv2.HelmReleaseSpec{Interval: hour, Chart: &helmv2.HelmChartTemplate{Spec: helmv2.HelmChartTemplateSpec{
			Chart: "./chart", SourceRef: helmv2.CrossNamespaceObjectReference{Kind: sourcev1.GitRepositoryKind, Name: "source"},
		}}},
	}
	for _, object := range []client.Object{source, release} {
		require.NoError(t, d.client.Create(t.Context(), object))
	}
	_, err := d.mcs(t, "reconcile", "release", "--timeout", "8m")
	require.ErrorIs(t, err, flux.ErrStalled, "as soon as Flux gives up, and not when the time is over")
	require.ErrorContains(t, err, lacking, "Flux's own words")

	require.NoError(t, d.client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: lacking}}))
	_, err = d.mcs(t, "reconcile", "release", "--timeout", "8m")
	require.ErrorIs(t, err, flux.ErrStalled, "to ask is not enough")
	said, err := d.mcs(t, "reconcile", "release", "--timeout", "8m", "--reset")
	require.NoError(t, err)
	assert.Contains(t, said, "HelmRelease "+d.namespace+"/release is ready at 1.2.3\n")
	said, err = d.mcs(t, "status")
	require.NoError(t, err)
	assert.Regexp(t, `HelmRelease +`+d.namespace+`/release +True +1\.2\.3 `, said)

	require.NoError(t, d.client.Delete(t.Context(), release))
	require.NoError(t, d.client.Delete(t.Context(), source))
	d.assertGone(t, source, release)
}

func TestStatus_AsksPulumiForTheStacksKubeconfig(t *testing.T) {
	c := shared.Start(t)
	tools, err := filepath.Abs(filepath.Join(projectFolder, ".tools", "bin"))
	require.NoError(t, err)
	if _, err := os.Stat(filepath.Join(tools, "pulumi")); err != nil {
		t.Skip("pulumi is not built: build it with make tools")
	}
	folder, home := t.TempDir(), t.TempDir()
	for _, file := range []string{"Pulumi.yaml", "Pulumi.development.yaml"} {
		content, err := os.ReadFile(filepath.Join(projectFolder, file))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(folder, file), content, 0o600))
	}
	t.Setenv("PULUMI_BACKEND_URL", "file://"+t.TempDir())
	t.Setenv("PULUMI_HOME", home)
	t.Setenv("PULUMI_CONFIG_PASSPHRASE", "x")
	args := []string{"status", "--stack", "development", "--project", folder, "--tools", tools}

	_, err = execute(t, args...)
	require.ErrorContains(t, err, "asking pulumi for the kubeconfig of stack development", "there is no such stack yet")

	pulumi := func(typed string, args ...string) {
		cmd := exec.CommandContext(t.Context(), filepath.Join(tools, "pulumi"), append(args, "--non-interactive")...)
		cmd.Dir, cmd.Stdin = folder, strings.NewReader(typed)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	kubeconfig, err := os.ReadFile(shared.Kubeconfig())
	require.NoError(t, err)
	quoted, err := json.Marshal(string(kubeconfig))
	require.NoError(t, err)
	pulumi("", "stack", "init", "development")
	const stack = "pulumi:pulumi:Stack"
	pulumi(fmt.Sprintf(`{"version": 3, "deployment": {"manifest": {}, "resources": [{
		"urn": "urn:pulumi:development::manager-cluster-state::%s::manager-cluster-state-development",
		"type": %q, "custom": false, "outputs": {"kubeconfig": %s}}]}}`, stack, stack, quoted), "stack", "import")

	namespace := shared.Namespace(t)
	unseen := &sourcev1.GitRepository{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "unseen"},
		Spec:       sourcev1.GitRepositorySpec{URL: "https://example.org/a", Interval: metav1.Duration{Duration: time.Hour}},
	}
	require.NoError(t, c.Create(t.Context(), unseen))
	for _, name := range []string{"development", "organization/manager-cluster-state/development"} {
		args[2] = name
		out, err := execute(t, args...)
		require.ErrorIs(t, err, errSilent, "no controller runs")
		assert.Contains(t, out, "GitRepository "+namespace+"/unseen (unknown): no controller has looked at it yet")
	}
	require.NoError(t, c.Delete(t.Context(), unseen))
}

func TestDayTwo_NeedsAClusterThatIsNamed(t *testing.T) {
	for _, command := range [][]string{{"suspend", "x"}, {"resume", "x"}, {"reconcile"}, {"status"}, {"clear-finalizers"}} {
		with := func(args ...string) error {
			_, err := execute(t, append(append(command, "--project", project(t)), args...)...)
			return err
		}
		require.ErrorContains(t, with(), "--stack", "%s", command[0])
		err := with("--rehearsal", "--stack", "production")
		require.ErrorIs(t, err, rehearsal.ErrNothing, "%s", command[0])
		require.ErrorContains(t, err, "mcs rehearse up --stack production")
		require.ErrorIs(t, with("--kubeconfig", filepath.Join(t.TempDir(), "none")), os.ErrNotExist)
		require.Error(t, with("--rehearsal", "--kubeconfig", "x"))
	}
}

func TestDayTwo_HelpHasExamples(t *testing.T) {
	for _, command := range []string{"suspend", "resume", "reconcile", "status", "clear-finalizers"} {
		out, err := execute(t, command, "--help")
		require.NoError(t, err)
		for _, expected := range []string{"Examples:", "--rehearsal", "--kubeconfig", "--stack"} {
			assert.Contains(t, out, expected, command)
		}
	}
	for _, command := range []string{"suspend", "resume"} {
		out, err := execute(t, command, "--help")
		require.NoError(t, err)
		assert.Contains(t, out, "the list `suspend` of", "how it relates to the config key")
		_, err = execute(t, command)
		require.ErrorContains(t, err, "name one workload")
	}
}
