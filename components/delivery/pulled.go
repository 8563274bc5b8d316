package delivery

import (
	"fmt"
	"path"
	"slices"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	fluxkustomize "github.com/fluxcd/pkg/apis/kustomize"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nullify005/manager-cluster-state/components"
	"github.com/nullify005/manager-cluster-state/internal/flux"
	"github.com/nullify005/manager-cluster-state/internal/objects"
	"github.com/nullify005/manager-cluster-state/render"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// retryInterval is how soon Flux tries again what failed.
const retryInterval = 2 * time.Minute

// PulledArgs are one workload, where Flux finds it in Git, and what it needs.
type PulledArgs struct {
	// Workload is what to deliver.
	Workload workloads.Workload
	// Stack names the folder of its rendered files.
	Stack string
	// DependsOn names those of the workloads that it comes after that Flux delivers too.
	DependsOn []string
	// Interval is how often Flux looks whether the workload is still as Git has it.
	Interval time.Duration
	// Suspended has Flux leave it alone.
	Suspended bool
	// Handover leaves its objects in the cluster when the component is deleted.
	Handover bool
	// After make its Kustomization wait for what it comes after.
	After []pulumi.ResourceOption
	// Provider talks to the cluster.
	Provider pulumi.ProviderResource
	// ReadyTimeout bounds the wait for it to become ready.
	ReadyTimeout time.Duration

	wait *waiter
}

// Pulled is a workload that Flux pulls from Git: a Kustomization.
type Pulled struct {
	pulumi.ResourceState
	delivered
}

// NewPulled registers the Kustomization of a workload.
func NewPulled(ctx *pulumi.Context, name string, args *PulledArgs, opts ...pulumi.ResourceOption) (*Pulled, error) {
	u, err := objects.Unstructured(args.kustomization(name))
	if err != nil {
		return nil, fmt.Errorf("workload %s: %w", name, err)
	}
	pulled := &Pulled{}
	props := pulumi.Map{"namespace": pulumi.String(args.Workload.Namespace), "after": pulumi.ToStringArray(args.Workload.After)}
	if err := ctx.RegisterComponentResourceV2(components.TokenDeliveryPulled, name, props, pulled, opts...); err != nil {
		return nil, fmt.Errorf("registering the workload %s: %w", name, err)
	}
	timeout := args.deleteTimeout()
	resource, err := register(ctx, name, workloads.FluxNamespace, u, append(slices.Clone(args.After),
		pulumi.Parent(pulled), pulumi.Provider(args.Provider),
		pulumi.Timeouts(&pulumi.CustomTimeouts{Create: timeout, Update: timeout, Delete: timeout}))...)
	if err != nil {
		return nil, err
	}
	gate, err := args.wait.ready(ctx, resource, flux.Kustomization(workloads.FluxNamespace, name))
	if err != nil {
		return nil, err
	}
	pulled.objects, pulled.ready = []pulumi.Resource{resource}, []pulumi.ResourceArrayOutput{gate}
	return pulled, ctx.RegisterResourceOutputs(pulled, pulumi.Map{
		"urls": pulumi.ToStringArray(args.Workload.URLs), "ready": allReady(pulled.ready),
	})
}

// deleteTimeout leaves Flux the time to see its objects go, and some to say so.
func (a *PulledArgs) deleteTimeout() string { return (a.ReadyTimeout + time.Minute).String() }

func (a *PulledArgs) kustomization(name string) *kustomizev1.Kustomization {
	kustomization := &kustomizev1.Kustomization{
		TypeMeta: metav1.TypeMeta{APIVersion: kustomizev1.GroupVersion.String(), Kind: kustomizev1.KustomizationKind},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: workloads.FluxNamespace, Name: name,
			Labels: map[string]string{"app.kubernetes.io/name": name, "app.kubernetes.io/managed-by": "manager-cluster-state"},
		},
		Spec: kustomizev1.KustomizationSpec{
			SourceRef:     kustomizev1.CrossNamespaceSourceReference{Kind: sourcev1.GitRepositoryKind, Name: workloads.SourceName},
			Path:          "./" + path.Join(render.Folder(a.Stack), name),
			Interval:      metav1.Duration{Duration: a.Interval},
			RetryInterval: &metav1.Duration{Duration: retryInterval},
			// Sooner than an update gives up, so that it can say what Flux waited for.
			Timeout:        &metav1.Duration{Duration: a.ReadyTimeout * 3 / 4},
			Prune:          true,
			Wait:           true,
			Suspend:        a.Suspended,
			DeletionPolicy: kustomizev1.DeletionPolicyWaitForTermination,
			HealthCheckExprs: []fluxkustomize.CustomHealthCheck{{
				// Its condition has a name that is not among those which Flux knows by itself.
				APIVersion: "bitnami.com/v1alpha1", Kind: "SealedSecret",
				HealthCheckExpressions: fluxkustomize.HealthCheckExpressions{
					Failed:  synced("False"),
					Current: synced("True"),
				},
			}},
		},
	}
	for _, before := range a.DependsOn {
		kustomization.Spec.DependsOn = append(kustomization.Spec.DependsOn, kustomizev1.DependencyReference{Name: before})
	}
	if a.Handover {
		kustomization.Spec.DeletionPolicy = kustomizev1.DeletionPolicyOrphan
	}
	return kustomization
}

func synced(status string) string {
	return "has(status.conditions) && status.conditions.exists(c, c.type == 'Synced' && c.status == '" + status + "')"
}
