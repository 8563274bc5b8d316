package delivery

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/internal/flux"
)

const gitRepository = "GitRepository"

var errNotResources = errors.New("waiting for Flux: no list of resources")

// waiter asks Flux how what it was given does. The Kubernetes provider could wait for a
// condition too, but not give up when Flux has, nor say why; and it doesn't look again at what
// it has recorded as made.
type waiter struct {
	kubeconfig pulumi.StringOutput
	context    string
	revision   string
	timeout    time.Duration

	once   sync.Once
	client client.Client
	err    error
}

// ready resolves to the resource when Flux says that its object is ready, in each update; a
// preview asks nobody.
func (w *waiter) ready(ctx *pulumi.Context, resource pulumi.CustomResource, ref flux.Ref) (pulumi.ResourceArrayOutput, error) {
	all := pulumi.All(resource.ID(), w.kubeconfig)
	dryRun, log := ctx.DryRun(), ctx.Log
	gate, ok := all.ApplyTWithContext(ctx.Context(), func(waiting context.Context, known []any) ([]pulumi.Resource, error) {
		if dryRun {
			return []pulumi.Resource{resource}, nil
		}
		kubeconfig, isText := known[1].(string)
		if !isText {
			return nil, errNotResources
		}
		return []pulumi.Resource{resource}, w.wait(waiting, kubeconfig, ref, func(message string) {
			// A message that can't be shown is no reason to fail.
			_ = log.Info(message, &pulumi.LogArgs{Resource: resource, Ephemeral: true})
		})
	}).(pulumi.ResourceArrayOutput)
	if !ok {
		return pulumi.ResourceArrayOutput{}, errNotResources
	}
	return gate, nil
}

func (w *waiter) wait(ctx context.Context, kubeconfig string, ref flux.Ref, progress func(string)) error {
	w.once.Do(func() { w.client, w.err = flux.NewClient([]byte(kubeconfig), w.context) })
	if w.err != nil {
		return fmt.Errorf("asking Flux how %s does: %w", ref, w.err)
	}
	options := flux.WaitOptions{Timeout: w.timeout, Progress: progress, RequestedAt: w.hurry(ctx, ref, progress)}
	if ref.Kind == gitRepository || ref.Kind == "Kustomization" {
		options.Revision = w.revision
	}
	return flux.WaitReady(ctx, w.client, ref, options)
}

// hurry has Flux try again at once what has failed, and fetch a commit that it doesn't have yet,
// rather than at its next turn. Where it can't be asked, the wait says what is wrong.
func (w *waiter) hurry(ctx context.Context, ref flux.Ref, progress func(string)) (requestedAt string) {
	state, err := flux.StateOf(ctx, w.client, ref)
	if err != nil {
		return ""
	}
	// One that has fetched nothing yet is asked too: what it fetches may be newer than the commit
	// that was looked at, and of an answer to a request that is known.
	behind := ref.Kind == gitRepository && w.revision != "" && state.Revision != w.revision
	if state.Ready != flux.False && !behind {
		return ""
	}
	if requestedAt, err = flux.Reconcile(ctx, w.client, ref); err != nil {
		progress("Flux was not asked to hurry: " + err.Error())
		return ""
	}
	return requestedAt
}

// waitsFor says whether a workload is ready only when Flux says so of an object. Of the others
// of Flux's kinds some have no condition, and that an image registry is away is no reason to
// fail an update.
func waitsFor(group, kind string) bool {
	switch group {
	case "kustomize.toolkit.fluxcd.io", "helm.toolkit.fluxcd.io":
		return true
	case "source.toolkit.fluxcd.io":
		return kind == gitRepository || kind == "OCIRepository" || kind == "HelmRepository"
	default:
		return false
	}
}
