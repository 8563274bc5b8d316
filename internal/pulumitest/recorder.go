// Package pulumitest runs a Pulumi program with no engine and remembers what it registered.
package pulumitest

import (
	"fmt"
	"maps"
	"sync"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

// The project and stack that recorded programs run as.
const (
	Project = "manager-cluster-state"
	Stack   = "test"
)

// Registration is one resource as the program registered it.
type Registration struct {
	Type, Name string
	Inputs     resource.PropertyMap
	RPC        *pulumirpc.RegisterResourceRequest
}

// Recorder answers a program's registrations and keeps them.
type Recorder struct {
	// FailOn, if set, may refuse a resource.
	FailOn func(typeToken, name string) error
	// Outputs has what resources of a type have besides their inputs.
	Outputs map[string]resource.PropertyMap
	// Before are the stack's outputs as an update before this one left them.
	Before resource.PropertyMap

	mu            sync.Mutex
	registrations []Registration
}

// Run runs program as an update, or as a preview.
func (r *Recorder) Run(program pulumi.RunFunc, preview bool, opts ...pulumi.RunOption) error {
	opts = append([]pulumi.RunOption{
		pulumi.WithMocks(Project, Stack, r),
		func(info *pulumi.RunInfo) { info.DryRun = preview },
	}, opts...)
	return pulumi.RunErr(program, opts...)
}

// NewResource records one registration; its outputs are its inputs, and those of its type.
func (r *Recorder) NewResource(args pulumi.MockResourceArgs) (string, resource.PropertyMap, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.FailOn != nil {
		if err := r.FailOn(args.TypeToken, args.Name); err != nil {
			return "", nil, err
		}
	}
	r.registrations = append(r.registrations, Registration{
		Type: args.TypeToken, Name: args.Name, Inputs: args.Inputs, RPC: args.RegisterRPC,
	})
	id := ""
	if args.Custom {
		id = args.Name + "-id"
	}
	outputs := args.Inputs.Copy()
	maps.Copy(outputs, r.Outputs[args.TypeToken])
	return id, outputs, nil
}

// Call answers what a stack asks about itself, and refuses every other function.
func (r *Recorder) Call(args pulumi.MockCallArgs) (resource.PropertyMap, error) {
	if args.Token != "pulumi:pulumi:readStackOutputs" {
		return nil, fmt.Errorf("the program called %s", args.Token)
	}
	before := r.Before
	if before == nil {
		before = resource.PropertyMap{}
	}
	return resource.PropertyMap{"outputs": resource.NewProperty(before)}, nil
}

// All returns every registration.
func (r *Recorder) All() []Registration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Registration(nil), r.registrations...)
}

// OfType returns the registrations of one type, by name.
func (r *Recorder) OfType(typeToken string) map[string]Registration {
	found := map[string]Registration{}
	for _, registration := range r.All() {
		if registration.Type == typeToken {
			found[registration.Name] = registration
		}
	}
	return found
}

// Parent is the name of the resource's parent; the stack's own is empty.
func (r Registration) Parent() string {
	urn := resource.URN(r.RPC.GetParent())
	if urn == "" || urn.QualifiedType() == resource.RootStackType {
		return ""
	}
	return urn.Name()
}

// DependsOn lists the names of the resources that it waits for.
func (r Registration) DependsOn() []string {
	names := make([]string, 0, len(r.RPC.GetDependencies()))
	for _, urn := range r.RPC.GetDependencies() {
		names = append(names, string(resource.URN(urn).Type().Name())+":"+resource.URN(urn).Name())
	}
	return names
}
