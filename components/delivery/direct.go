package delivery

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/nullify005/manager-cluster-state/components"
	"github.com/nullify005/manager-cluster-state/internal/flux"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// skipAwait tells the Kubernetes provider not to wait for an object.
const skipAwait = "pulumi.com/skipAwait"

// managed lets the sealed-secrets controller take over a Secret that it didn't make.
const managed = "sealedsecrets.bitnami.com/managed"

// DirectArgs are one workload and what it needs.
type DirectArgs struct {
	// Workload is what to deliver.
	Workload workloads.Workload
	// Handover leaves its objects in the cluster when they are deleted from the program.
	Handover bool
	// After make its first object wait for what it comes after.
	After []pulumi.ResourceOption
	// Provider talks to the cluster.
	Provider pulumi.ProviderResource
	// ReadyTimeout bounds the wait for one object to become ready.
	ReadyTimeout time.Duration

	wait *waiter
}

// Direct is a workload whose every object is a Pulumi resource of its own type.
type Direct struct {
	pulumi.ResourceState
	delivered
}

// NewDirect registers every object of a workload, phase by phase: namespaces, then custom
// resource definitions, accounts and roles, configuration, and the rest. Each phase waits
// for the one before it, on destroy in reverse.
func NewDirect(ctx *pulumi.Context, name string, args *DirectArgs, opts ...pulumi.ResourceOption) (*Direct, error) {
	phases, err := inPhases(args.Workload)
	if err != nil {
		return nil, err
	}
	direct := &Direct{}
	inputs := pulumi.Map{"namespace": pulumi.String(args.Workload.Namespace), "after": pulumi.ToStringArray(args.Workload.After)}
	if err := ctx.RegisterComponentResourceV2(components.TokenDeliveryDirect, name, inputs, direct, opts...); err != nil {
		return nil, fmt.Errorf("registering the workload %s: %w", name, err)
	}
	after := args.After
	for _, phase := range phases {
		made := make([]pulumi.Resource, 0, len(phase))
		for _, u := range phase {
			resource, err := direct.object(ctx, name, args, u, after)
			if err != nil {
				return nil, err
			}
			made = append(made, resource)
		}
		direct.objects = append(direct.objects, made...)
		after = []pulumi.ResourceOption{pulumi.DependsOn(made)}
	}
	outputs := pulumi.Map{"urls": pulumi.ToStringArray(args.Workload.URLs)}
	if len(direct.ready) > 0 {
		outputs["ready"] = allReady(direct.ready)
	}
	return direct, ctx.RegisterResourceOutputs(direct, outputs)
}

func (d *Direct) object(
	ctx *pulumi.Context, name string, args *DirectArgs, u *unstructured.Unstructured, after []pulumi.ResourceOption,
) (pulumi.Resource, error) {
	if args.Handover && u.GetKind() == "Secret" {
		annotate(u, managed, "true")
	}
	timeout := args.ReadyTimeout.String()
	opts := append(slices.Clone(after),
		pulumi.Parent(d),
		pulumi.Provider(args.Provider),
		pulumi.RetainOnDelete(args.Handover),
		pulumi.Timeouts(&pulumi.CustomTimeouts{Create: timeout, Update: timeout, Delete: timeout}))
	resource, err := register(ctx, name, args.Workload.Namespace, u, opts...)
	if err != nil || !waitsFor(u.GroupVersionKind().Group, u.GetKind()) {
		return resource, err
	}
	gate, err := args.wait.ready(ctx, resource, flux.RefOf(u))
	d.ready = append(d.ready, gate)
	return resource, err
}

// allReady is true once all are; it has the errors of those that can't become so.
func allReady(gates []pulumi.ResourceArrayOutput) pulumi.Output {
	all := make([]any, len(gates))
	for i, gate := range gates {
		all[i] = gate
	}
	return pulumi.All(all...).ApplyT(func([]any) bool { return true })
}

// register makes an object a resource of the workload called name, whose pods run in home.
func register(
	ctx *pulumi.Context, name, home string, u *unstructured.Unstructured, opts ...pulumi.ResourceOption,
) (pulumi.CustomResource, error) {
	if !awaited(u) {
		annotate(u, skipAwait, "true")
	}
	for annotation, value := range components.FieldManagement(u.GetKind()) {
		annotate(u, annotation, value)
	}
	props, err := inputs(u)
	if err != nil {
		return nil, err
	}
	if u.GetKind() == "Secret" {
		opts = append(opts, pulumi.AdditionalSecretOutputs([]string{"data"}))
	}
	resource := &object{}
	if err := ctx.RegisterResource(typeToken(u), resourceName(name, home, u), props, resource, opts...); err != nil {
		return nil, fmt.Errorf("registering %s %s of the workload %s: %w", u.GetKind(), u.GetName(), name, err)
	}
	return resource, nil
}

func annotate(u *unstructured.Unstructured, annotation, value string) {
	annotations := u.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[annotation] = value
	u.SetAnnotations(annotations)
}

type object struct{ pulumi.CustomResourceState }

// awaited says whether the Kubernetes provider waits until an object is ready. An Ingress waits
// for the address of a load balancer, which not every cluster has. A Service waits for its
// pods to be ready, as the Deployment beside it does anyway, and then for ten seconds more. Of
// Flux's kinds Flux itself is asked.
func awaited(u *unstructured.Unstructured) bool {
	return u.GetKind() != "Ingress" && u.GetKind() != "Service" && !waitsFor(u.GroupVersionKind().Group, u.GetKind())
}

// resourceName is unique among the objects of one type: the workload's name, the object's
// namespace where that is not the workload's, and its name.
func resourceName(component, namespace string, u *unstructured.Unstructured) string {
	parts := []string{component}
	if own := u.GetNamespace(); own != "" && own != namespace {
		parts = append(parts, own)
	}
	return strings.Join(append(parts, u.GetName()), "/")
}

// typeToken is the Kubernetes provider's name for an object's type:
// kubernetes:apps/v1:Deployment, and kubernetes:core/v1:Secret for the group with no name.
func typeToken(u *unstructured.Unstructured) string {
	apiVersion := u.GetAPIVersion()
	if !strings.Contains(apiVersion, "/") {
		apiVersion = "core/" + apiVersion
	}
	return "kubernetes:" + apiVersion + ":" + u.GetKind()
}
