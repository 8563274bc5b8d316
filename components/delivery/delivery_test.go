package delivery_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/components"
	"github.com/nullify005/manager-cluster-state/components/delivery"
	"github.com/nullify005/manager-cluster-state/internal/pulumitest"
	"github.com/nullify005/manager-cluster-state/workloads"
)

const deploymentType = "kubernetes:apps/v1:Deployment"

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

func kind(apiVersion, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: apiVersion, Kind: kind}
}

// small is a workload with an object of every phase, the last phase first.
func small(name string, after ...string) workloads.Workload {
	return workloads.Workload{
		Name: name, Namespace: name, After: after,
		Objects: []client.Object{
			&appsv1.Deployment{TypeMeta: kind("apps/v1", "Deployment"), ObjectMeta: meta(name, "app")},
			&networkingv1.Ingress{TypeMeta: kind("networking.k8s.io/v1", "Ingress"), ObjectMeta: meta(name, "app")},
			&corev1.Secret{
				TypeMeta: kind("v1", "Secret"), ObjectMeta: meta(name, "creds"),
				StringData: map[string]string{"plain": "canary"},
				Data:       map[string][]byte{"bytes": []byte("canary")},
			},
			&rbacv1.Role{TypeMeta: kind("rbac.authorization.k8s.io/v1", "Role"), ObjectMeta: meta("kube-system", "app")},
			&corev1.Service{TypeMeta: kind("v1", "Service"), ObjectMeta: meta(name, "app")},
			&corev1.Namespace{TypeMeta: kind("v1", "Namespace"), ObjectMeta: meta("", name)},
		},
	}
}

func deliver(t *testing.T, recorder *pulumitest.Recorder, catalog ...workloads.Workload) error {
	t.Helper()
	return recorder.Run(func(ctx *pulumi.Context) error {
		provider, err := kubernetes.NewProvider(ctx, "cluster", &kubernetes.ProviderArgs{})
		if err != nil {
			return err
		}
		return delivery.Deliver(ctx, &delivery.Args{Catalog: catalog, Provider: provider, ReadyTimeout: time.Minute})
	}, false)
}

func TestDirect_EveryObjectIsAResourceOfItsOwnTypeUnderItsWorkload(t *testing.T) {
	recorder := &pulumitest.Recorder{}
	require.NoError(t, deliver(t, recorder, small("one")))

	got := map[string]string{}
	for _, r := range recorder.All() {
		if r.Type == components.TokenDeliveryDirect || strings.HasPrefix(r.Type, "pulumi:") {
			continue
		}
		assert.Equal(t, "one", r.Parent(), r.Name)
		assert.Contains(t, r.RPC.GetProvider(), "cluster", "%s does not use the stack's provider", r.Name)
		got[r.Type] = r.Name
	}
	assert.Equal(t, map[string]string{
		"kubernetes:core/v1:Service":                   "one/app",
		"kubernetes:core/v1:Namespace":                 "one/one",
		"kubernetes:rbac.authorization.k8s.io/v1:Role": "one/kube-system/app",
		"kubernetes:core/v1:Secret":                    "one/creds",
		deploymentType:                                 "one/app",
		"kubernetes:networking.k8s.io/v1:Ingress":      "one/app",
	}, got)
}

func TestDirect_EachPhaseWaitsForTheOneBefore(t *testing.T) {
	recorder := &pulumitest.Recorder{}
	require.NoError(t, deliver(t, recorder, small("one")))
	assert.Empty(t, recorder.OfType("kubernetes:core/v1:Namespace")["one/one"].DependsOn())
	assert.Equal(t, []string{"Namespace:one/one"}, recorder.OfType("kubernetes:rbac.authorization.k8s.io/v1:Role")["one/kube-system/app"].DependsOn())
	assert.Equal(t, []string{"Role:one/kube-system/app"}, recorder.OfType("kubernetes:core/v1:Secret")["one/creds"].DependsOn())
	assert.Equal(t, []string{"Secret:one/creds"}, recorder.OfType(deploymentType)["one/app"].DependsOn())
}

func TestDeliver_AWorkloadWaitsForEveryObjectOfWhatItComesAfter(t *testing.T) {
	recorder := &pulumitest.Recorder{}
	require.NoError(t, deliver(t, recorder, small("one"), small("two", "one")))
	first := recorder.OfType("kubernetes:core/v1:Namespace")["two/two"].DependsOn()
	for _, want := range []string{
		"Namespace:one/one", "Role:one/kube-system/app", "Secret:one/creds", "Deployment:one/app", "Ingress:one/app",
	} {
		assert.Contains(t, first, want)
	}
}

func TestDeliver_RefusesAWorkloadBeforeWhatItComesAfter(t *testing.T) {
	err := deliver(t, &pulumitest.Recorder{}, small("two", "one"), small("one"))
	assert.ErrorContains(t, err, "workload two comes after one, which is not delivered before it")
}

func TestDirect_ASecretsDataAreSecret(t *testing.T) {
	recorder := &pulumitest.Recorder{}
	require.NoError(t, deliver(t, recorder, small("one")))
	secret := recorder.OfType("kubernetes:core/v1:Secret")["one/creds"]
	require.True(t, secret.Inputs["data"].IsSecret(), "data are not secret: %v", secret.Inputs)
	data := secret.Inputs["data"].SecretValue().Element.ObjectValue()
	canary := base64.StdEncoding.EncodeToString([]byte("canary"))
	assert.Equal(t, canary, data["plain"].StringValue())
	assert.Equal(t, canary, data["bytes"].StringValue())
	assert.NotContains(t, secret.Inputs, "stringData")
	assert.Equal(t, []string{"data"}, secret.RPC.GetAdditionalSecretOutputs())
}

func TestDirect_AllButIngressesAndServicesAreAwaited(t *testing.T) {
	recorder := &pulumitest.Recorder{}
	require.NoError(t, deliver(t, recorder, small("one")))
	for _, r := range recorder.All() {
		if !strings.HasPrefix(r.Type, "kubernetes:") {
			continue
		}
		annotations := r.Inputs["metadata"].ObjectValue()["annotations"]
		skipped := annotations.IsObject() && annotations.ObjectValue().HasValue("pulumi.com/skipAwait")
		assert.Equal(t, strings.HasSuffix(r.Type, ":Ingress") || strings.HasSuffix(r.Type, ":Service"), skipped, r.Type)
		assert.Equal(t, "1m0s", r.RPC.GetCustomTimeouts().GetCreate(), r.Type)
	}
}

func TestDirect_LeavesTheCatalogAsItWas(t *testing.T) {
	workload := small("one")
	before := make([]runtime.Object, len(workload.Objects))
	for i, o := range workload.Objects {
		before[i] = o.DeepCopyObject()
	}
	require.NoError(t, deliver(t, &pulumitest.Recorder{}, workload))
	for i, o := range workload.Objects {
		assert.Equal(t, before[i], o.(runtime.Object))
	}
}

func TestDirect_AnObjectWithNoNameIsRefusedBeforeAnythingIsRegistered(t *testing.T) {
	workload := small("one")
	workload.Objects = append(workload.Objects, &corev1.ConfigMap{TypeMeta: kind("v1", "ConfigMap")})
	recorder := &pulumitest.Recorder{}
	require.ErrorContains(t, deliver(t, recorder, workload), `workload one: an object lacks its apiVersion, kind or name`)
	assert.Empty(t, recorder.OfType(components.TokenDeliveryDirect))
}

func TestDirect_AFailedObjectStopsWhatComesAfter(t *testing.T) {
	recorder := &pulumitest.Recorder{FailOn: func(typeToken, name string) error {
		if typeToken == deploymentType && name == "one/app" {
			return errors.New("refused by the test")
		}
		return nil
	}}
	require.ErrorContains(t, deliver(t, recorder, small("one"), small("two", "one")), "refused by the test")
	assert.NotContains(t, recorder.OfType("kubernetes:core/v1:Namespace"), "two/two")
}
