// Package delivery brings workloads to a cluster, in the order of their graph: direct, each
// object a resource, or by Flux, which pulls them from Git.
package delivery

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// Args say what is delivered, how, and to which cluster.
type Args struct {
	// Catalog lists the workloads, each after the ones it comes After.
	Catalog []workloads.Workload
	// Needs lists, by a workload's name, resources outside the catalog that must be there
	// before it starts.
	Needs map[string][]pulumi.Resource
	// Delivery is that of every workload that Pulumi needn't deliver itself.
	Delivery config.Delivery
	// Handover leaves what is delivered now in the cluster when its delivery changes.
	Handover bool
	// Suspend names the workloads that Flux leaves alone.
	Suspend []string
	// Interval is how often Flux looks whether a workload is still as Git has it.
	Interval time.Duration
	// Revision is the commit that Flux is to have pulled before a workload counts as ready, as
	// main@sha1:…; empty for whichever it has.
	Revision string
	// Provider talks to the cluster.
	Provider pulumi.ProviderResource
	// Kubeconfig and Context are for asking Flux how it does; the former is a secret.
	Kubeconfig pulumi.StringOutput
	Context    string
	// ReadyTimeout bounds the wait for one object to become ready.
	ReadyTimeout time.Duration
}

// delivered is a workload as what comes after it sees it.
type delivered struct {
	// objects are on the other end of a dependency.
	objects []pulumi.Resource
	// ready resolve, in an update, when Flux says that the workload is ready.
	ready []pulumi.ResourceArrayOutput
}

// options make a resource wait for workloads, and go before them on destroy.
func (d *delivered) options() []pulumi.ResourceOption {
	// Objects, not components: the SDK lists a component's children when it is asked, and
	// those that it is still registering are not among them.
	options := []pulumi.ResourceOption{pulumi.DependsOn(d.objects)}
	for _, ready := range d.ready {
		options = append(options, pulumi.DependsOnInputs(ready))
	}
	return options
}

func (d *delivered) add(other *delivered) {
	d.objects = append(d.objects, other.objects...)
	d.ready = append(d.ready, other.ready...)
}

// Deliver makes a component for each workload; its first object waits for the workloads that
// it comes after. Nothing is registered when the stack runs by another delivery than Args
// says: what isn't handed over would be deleted.
func Deliver(ctx *pulumi.Context, args *Args, opts ...pulumi.ResourceOption) error {
	if err := checkHandover(ctx, args); err != nil {
		return err
	}
	if err := warn(ctx, args); err != nil {
		return err
	}
	w := &waiter{
		kubeconfig: args.Kubeconfig, context: args.Context, revision: args.Revision, timeout: args.ReadyTimeout,
	}
	done := make(map[string]*delivered, len(args.Catalog))
	for _, workload := range args.Catalog {
		after := &delivered{objects: append([]pulumi.Resource(nil), args.Needs[workload.Name]...)}
		for _, name := range workload.After {
			before, ok := done[name]
			if !ok {
				return fmt.Errorf("workload %s comes after %s, which is not delivered before it", workload.Name, name)
			}
			after.add(before)
		}
		made, err := deliver(ctx, args, workload, after, w, opts)
		if err != nil {
			return err
		}
		done[workload.Name] = made
	}
	ctx.Export(deliveredOutput, deliveries(args, done))
	return nil
}

// warn tells what a destroy would leave in the cluster: it doesn't run the program, and can't say so.
func warn(ctx *pulumi.Context, args *Args) error {
	var problems []error
	if args.Handover {
		problems = append(problems, ctx.Log.Warn(halfway, nil))
	}
	if len(args.Suspend) > 0 {
		problems = append(problems, ctx.Log.Warn("suspended: "+strings.Join(args.Suspend, ", ")+
			"; Flux leaves them alone also when it is told to delete them: before pulumi destroy, take them off the list suspend", nil))
	}
	return errors.Join(problems...)
}

func deliver(
	ctx *pulumi.Context, args *Args, workload workloads.Workload, after *delivered, w *waiter, opts []pulumi.ResourceOption,
) (*delivered, error) {
	if byFlux(args, workload) {
		pulled, err := NewPulled(ctx, workload.Name, &PulledArgs{
			Workload: workload, Stack: ctx.Stack(), DependsOn: dependsOn(args, workload), Interval: args.Interval,
			Suspended: slices.Contains(args.Suspend, workload.Name), Handover: args.Handover, After: after.options(),
			Provider: args.Provider, ReadyTimeout: args.ReadyTimeout, wait: w,
		}, opts...)
		if err != nil {
			return nil, err
		}
		return &pulled.delivered, nil
	}
	direct, err := NewDirect(ctx, workload.Name, &DirectArgs{
		Workload: workload, Handover: args.Handover && !workload.Direct, After: after.options(),
		Provider: args.Provider, ReadyTimeout: args.ReadyTimeout, wait: w,
	}, opts...)
	if err != nil {
		return nil, err
	}
	return &direct.delivered, nil
}

func byFlux(args *Args, workload workloads.Workload) bool {
	return args.Delivery == config.FluxCD && !workload.Direct
}

// dependsOn are the workloads that one comes after, so far as Flux delivers them too.
func dependsOn(args *Args, workload workloads.Workload) []string {
	var names []string
	for _, other := range args.Catalog {
		if byFlux(args, other) && slices.Contains(workload.After, other.Name) {
			names = append(names, other.Name)
		}
	}
	return names
}
