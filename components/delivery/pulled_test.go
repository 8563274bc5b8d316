package delivery_test

import (
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	fluxmeta "github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/components"
	"github.com/nullify005/manager-cluster-state/components/delivery"
	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/internal/fluxtest"
	"github.com/nullify005/manager-cluster-state/internal/pulumitest"
	"github.com/nullify005/manager-cluster-state/workloads"
)

const kustomizationType = "kubernetes:kustomize.toolkit.fluxcd.io/v1:Kustomization"

// direct is a workload that Pulumi delivers in either delivery.
func direct(workload workloads.Workload, objects ...client.Object) workloads.Workload {
	workload.Direct = true
	workload.Objects = append(workload.Objects, objects...)
	return workload
}

// source is what a catalog that Flux delivers comes after.
func source() workloads.Workload {
	return direct(workloads.Workload{Name: "git-source", Namespace: workloads.FluxNamespace}, repository())
}

func repository() client.Object {
	return &sourcev1.GitRepository{
		TypeMeta:   kind(sourcev1.GroupVersion.String(), sourcev1.GitRepositoryKind),
		ObjectMeta: meta(workloads.FluxNamespace, workloads.SourceName),
	}
}

// release is that of the workload chart.
func release() client.Object {
	return &helmv2.HelmRelease{
		TypeMeta: kind(helmv2.GroupVersion.String(), helmv2.HelmReleaseKind), ObjectMeta: meta("chart", "chart"),
	}
}

// fixture is a delivery by Flux, of whose objects an API server tells.
type fixture struct {
	*pulumitest.Recorder

	api     *fluxtest.API
	args    delivery.Args
	preview bool
	told    progress

	mutex sync.Mutex
	says  map[string]string
}

// newFixture delivers a catalog by Flux, in an update.
func newFixture(t *testing.T, catalog ...workloads.Workload) *fixture {
	t.Helper()
	return &fixture{
		Recorder: &pulumitest.Recorder{}, api: fluxtest.NewAPI(t),
		args: delivery.Args{Catalog: catalog, Delivery: config.FluxCD, Interval: 30 * time.Minute, ReadyTimeout: time.Minute},
	}
}

func (f *fixture) deliver() error {
	f.mutex.Lock()
	f.says = map[string]string{}
	f.mutex.Unlock()
	return f.Run(func(ctx *pulumi.Context) error {
		ctx.Log = &f.told
		provider, err := kubernetes.NewProvider(ctx, "cluster", &kubernetes.ProviderArgs{})
		if err != nil {
			return err
		}
		args := f.args
		args.Provider = provider
		args.Kubeconfig = pulumi.ToSecret(pulumi.String(f.api.Kubeconfig())).(pulumi.StringOutput)
		err = delivery.Deliver(ctx, &args)
		how, _ := ctx.GetCurrentExportMap()["delivered"].(pulumi.Map)
		for name, value := range how {
			f.record(name, value)
		}
		return err
	}, f.preview)
}

// record keeps what the stack's outputs say of a workload, once they do.
func (f *fixture) record(name string, value pulumi.Input) {
	keep := func(text string) string {
		f.mutex.Lock()
		defer f.mutex.Unlock()
		f.says[name] = text
		return text
	}
	switch said := value.(type) {
	case pulumi.String:
		keep(string(said))
	case pulumi.StringOutput:
		said.ApplyT(keep)
	}
}

// left is what the stack's outputs say of its workloads.
func (f *fixture) left() map[string]string {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return maps.Clone(f.says)
}

// progress is what a program tells while it waits, and warns of.
type progress struct{ strings.Builder }

func (p *progress) Info(message string, _ *pulumi.LogArgs) error {
	_, err := p.WriteString(message + "\n")
	return err
}

func (p *progress) Warn(message string, args *pulumi.LogArgs) error { return p.Info(message, args) }

func (*progress) Debug(string, *pulumi.LogArgs) error { return nil }
func (*progress) Error(string, *pulumi.LogArgs) error { return nil }

// kustomization is the one that a workload was registered as, as Flux would read it.
func (f *fixture) kustomization(t *testing.T, name string) *kustomizev1.Kustomization {
	t.Helper()
	require.Contains(t, f.OfType(kustomizationType), name+"/"+name)
	read := &kustomizev1.Kustomization{}
	inputs := f.OfType(kustomizationType)[name+"/"+name].Inputs.Mappable()
	require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(inputs, read, true))
	return read
}

func failing(reason, message string, stalled bool) []metav1.Condition {
	conditions := []metav1.Condition{{Type: fluxmeta.ReadyCondition, Status: metav1.ConditionFalse, Reason: reason, Message: message}}
	if stalled {
		conditions = append(conditions, metav1.Condition{Type: fluxmeta.StalledCondition, Status: metav1.ConditionTrue, Reason: reason, Message: message})
	}
	return conditions
}

func TestPulled_AWorkloadIsOneKustomizationAndNothingElse(t *testing.T) {
	f := newFixture(t, source(), small("one", "git-source"), small("two", "git-source", "one"))
	f.args.ReadyTimeout = 20 * time.Minute
	require.NoError(t, f.deliver())

	assert.Len(t, f.OfType(components.TokenDeliveryPulled), 2)
	under := map[string]int{}
	for _, r := range f.All() {
		under[r.Parent()]++
	}
	assert.Equal(t, 1, under["one"])
	assert.Equal(t, 1, under["two"])

	registered := f.OfType(kustomizationType)["two/two"]
	assert.Contains(t, registered.RPC.GetProvider(), "cluster")
	timeouts := registered.RPC.GetCustomTimeouts()
	assert.Equal(t, []string{"21m0s", "21m0s", "21m0s"}, []string{timeouts.GetCreate(), timeouts.GetUpdate(), timeouts.GetDelete()})

	two := f.kustomization(t, "two")
	assert.Equal(t, client.ObjectKey{Namespace: "flux-system", Name: "two"}, client.ObjectKeyFromObject(two))
	spec := two.Spec
	assert.Equal(t, kustomizev1.CrossNamespaceSourceReference{Kind: "GitRepository", Name: "manager-cluster-state"}, spec.SourceRef)
	assert.Equal(t, "./manifests/"+pulumitest.Stack+"/two", spec.Path)
	assert.Equal(t, 30*time.Minute, spec.Interval.Duration)
	assert.Equal(t, 2*time.Minute, spec.RetryInterval.Duration)
	assert.True(t, spec.Prune)
	assert.True(t, spec.Wait)
	assert.False(t, spec.Suspend)
	assert.Equal(t, kustomizev1.DeletionPolicyWaitForTermination, spec.DeletionPolicy)
	assert.Less(t, spec.Timeout.Duration, f.args.ReadyTimeout, "an update ends before Flux says what it waited for")
	require.Len(t, spec.HealthCheckExprs, 1)
	sealed := spec.HealthCheckExprs[0]
	assert.Equal(t, "bitnami.com/v1alpha1 SealedSecret", sealed.APIVersion+" "+sealed.Kind)
	assert.Contains(t, sealed.Current, "c.type == 'Synced' && c.status == 'True'")
	assert.Contains(t, sealed.Failed, "c.type == 'Synced' && c.status == 'False'")
}

func TestPulled_DependsOnWhatFluxDeliversTooAndPulumiWaitsForTheRest(t *testing.T) {
	f := newFixture(t, source(), direct(small("chart", "git-source")), small("one", "git-source"), small("two", "one", "chart", "git-source"))
	require.NoError(t, f.deliver())
	assert.Empty(t, f.kustomization(t, "one").Spec.DependsOn)
	assert.Equal(t, []kustomizev1.DependencyReference{{Name: "one"}}, f.kustomization(t, "two").Spec.DependsOn)
	after := f.OfType(kustomizationType)["two/two"].DependsOn()
	for _, want := range []string{"Kustomization:one/one", "Deployment:chart/app", "GitRepository:git-source/manager-cluster-state"} {
		assert.Contains(t, after, want)
	}
}

func TestPulled_WhatComesAfterWaitsForItsKustomization(t *testing.T) {
	f := newFixture(t, source(), small("one", "git-source"), direct(small("chart", "one")))
	require.NoError(t, f.deliver())
	assert.Equal(t, []string{"Kustomization:one/one"}, f.OfType("kubernetes:core/v1:Namespace")["chart/chart"].DependsOn())
}

func TestPulled_IsSuspendedExactlyWhenItIsListed(t *testing.T) {
	f := newFixture(t, source(), small("one"), small("two"))
	f.args.Suspend = []string{"two"}
	require.NoError(t, f.deliver())
	assert.False(t, f.kustomization(t, "one").Spec.Suspend)
	assert.True(t, f.kustomization(t, "two").Spec.Suspend)
	// Else Pulumi would take back what `flux suspend` did.
	spec := f.OfType(kustomizationType)["one/one"].Inputs["spec"].ObjectValue()
	assert.NotContains(t, spec, resource.PropertyKey("suspend"))
}

func TestDeliver_TheProviderAwaitsAllButIngressesServicesAndWhatFluxIsAskedOf(t *testing.T) {
	chart := direct(small("chart"), release(),
		&sourcev1.HelmRepository{TypeMeta: kind(sourcev1.GroupVersion.String(), "HelmRepository"), ObjectMeta: meta("chart", "charts")},
		&sourcev1.OCIRepository{TypeMeta: kind(sourcev1.GroupVersion.String(), "OCIRepository"), ObjectMeta: meta("chart", "charts")})
	f := newFixture(t, source(), chart, small("one"))
	f.preview = true
	require.NoError(t, f.deliver())
	skipped := map[string]bool{}
	for _, r := range f.All() {
		if strings.HasPrefix(r.Type, "kubernetes:") {
			annotations := r.Inputs["metadata"].ObjectValue()["annotations"]
			skipped[r.Type[strings.LastIndex(r.Type, ":")+1:]] = annotations.IsObject() && annotations.ObjectValue().HasValue("pulumi.com/skipAwait")
		}
	}
	assert.Equal(t, map[string]bool{
		"Ingress": true, "Service": true,
		"GitRepository": true, "HelmRepository": true, "OCIRepository": true, "HelmRelease": true, "Kustomization": true,
		"Namespace": false, "Role": false, "Secret": false, "Deployment": false,
	}, skipped)
}
