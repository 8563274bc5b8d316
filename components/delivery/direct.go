package delivery

import (
	"fmt"
	"strings"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/nullify005/manager-cluster-state/components"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// skipAwait tells the Kubernetes provider not to wait for an object.
const skipAwait = "pulumi.com/skipAwait"

// DirectArgs are one workload and what it needs.
type DirectArgs struct {
	// Workload is what to deliver.
	Workload workloads.Workload
	// After are the resources that must be ready before its first object is made.
	After []pulumi.Resource
	// Provider talks to the cluster.
	Provider pulumi.ProviderResource
	// ReadyTimeout bounds the wait for one object to become ready.
	ReadyTimeout time.Duration
}

// Direct is a workload whose every object is a Pulumi resource of its own type.
type Direct struct {
	pulumi.ResourceState

	// Objects are what to wait for, to wait for the workload.
	Objects []pulumi.Resource
}

type object struct{ pulumi.CustomResourceState }

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
	before := args.After
	for _, phase := range phases {
		made := make([]pulumi.Resource, 0, len(phase))
		for _, u := range phase {
			resource, err := direct.register(ctx, name, args, u, before)
			if err != nil {
				return nil, err
			}
			made = append(made, resource)
		}
		direct.Objects = append(direct.Objects, made...)
		before = made
	}
	return direct, ctx.RegisterResourceOutputs(direct, pulumi.Map{"urls": pulumi.ToStringArray(args.Workload.URLs)})
}

func (d *Direct) register(
	ctx *pulumi.Context, name string, args *DirectArgs, u *unstructured.Unstructured, before []pulumi.Resource,
) (pulumi.Resource, error) {
	if !awaited(u.GetKind()) {
		annotations := u.GetAnnotations()
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations[skipAwait] = "true"
		u.SetAnnotations(annotations)
	}
	props, err := inputs(u)
	if err != nil {
		return nil, err
	}
	timeout := args.ReadyTimeout.String()
	opts := []pulumi.ResourceOption{
		pulumi.Parent(d),
		pulumi.Provider(args.Provider),
		pulumi.DependsOn(before),
		pulumi.Timeouts(&pulumi.CustomTimeouts{Create: timeout, Update: timeout, Delete: timeout}),
	}
	if u.GetKind() == "Secret" {
		opts = append(opts, pulumi.AdditionalSecretOutputs([]string{"data"}))
	}
	resource := &object{}
	if err := ctx.RegisterResource(typeToken(u), resourceName(name, args.Workload.Namespace, u), props, resource, opts...); err != nil {
		return nil, fmt.Errorf("registering %s %s of the workload %s: %w", u.GetKind(), u.GetName(), name, err)
	}
	return resource, nil
}

// awaited says whether an update waits until an object of a kind is ready. An Ingress waits
// for the address of a load balancer, which not every cluster has. A Service waits for its
// pods to be ready, as the Deployment beside it does anyway, and then for ten seconds more.
func awaited(kind string) bool { return kind != "Ingress" && kind != "Service" }

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
