// Package delivery brings workloads to a cluster, in the order of their graph.
package delivery

import (
	"fmt"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/nullify005/manager-cluster-state/workloads"
)

// Args say what is delivered, and to which cluster.
type Args struct {
	// Catalog lists the workloads, each after the ones it comes After.
	Catalog []workloads.Workload
	// Needs lists, by a workload's name, resources outside the catalog that must be there
	// before it starts.
	Needs map[string][]pulumi.Resource
	// Provider talks to the cluster.
	Provider pulumi.ProviderResource
	// ReadyTimeout bounds the wait for one object to become ready.
	ReadyTimeout time.Duration
}

// Deliver makes a component for each workload; a workload's first object waits for every
// object of the workloads that it comes after.
func Deliver(ctx *pulumi.Context, args *Args, opts ...pulumi.ResourceOption) error {
	// Objects, not components: the SDK lists a component's children when it is asked, and
	// those that it is still registering are not among them.
	delivered := make(map[string][]pulumi.Resource, len(args.Catalog))
	for _, workload := range args.Catalog {
		after := append([]pulumi.Resource(nil), args.Needs[workload.Name]...)
		for _, name := range workload.After {
			objects, ok := delivered[name]
			if !ok {
				return fmt.Errorf("workload %s comes after %s, which is not delivered before it", workload.Name, name)
			}
			after = append(after, objects...)
		}
		component, err := NewDirect(ctx, workload.Name, &DirectArgs{
			Workload: workload, After: after, Provider: args.Provider, ReadyTimeout: args.ReadyTimeout,
		}, opts...)
		if err != nil {
			return err
		}
		delivered[workload.Name] = component.Objects
	}
	return nil
}
