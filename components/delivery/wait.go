package delivery

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/internal/flux"
)

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
	options := flux.WaitOptions{Timeout: w.timeout, Progress: progress}
	switch ref.Kind {
	case "GitRepository":
		requestedAt, err := w.pullNow(ctx, ref)
		if err != nil {
			return err
		}
		options.Revision, options.RequestedAt = w.revision, requestedAt
	case "Kustomization":
		options.Revision = w.revision
	}
	return flux.WaitReady(ctx, w.client, ref, options)
}

// pullNow has Flux fetch a commit that it doesn't have yet, rather than at its next turn.
func (w *waiter) pullNow(ctx context.Context, ref flux.Ref) (requestedAt string, err error) {
	if w.revision == "" {
		return "", nil
	}
	var repository sourcev1.GitRepository
	if err := w.client.Get(ctx, client.ObjectKey{Namespace: ref.Namespace, Name: ref.Name}, &repository); err != nil {
		return "", nil //nolint:nilerr // the wait asks again, and says so
	}
	if artifact := repository.Status.Artifact; artifact == nil || artifact.Revision == w.revision {
		return "", nil
	}
	return flux.Reconcile(ctx, w.client, ref)
}

// waitsFor says whether a workload is ready only when Flux says so of an object. Of the others
// of Flux's kinds some have no condition, and that an image registry is away is no reason to
// fail an update.
func waitsFor(group, kind string) bool {
	switch group {
	case "kustomize.toolkit.fluxcd.io", "helm.toolkit.fluxcd.io":
		return true
	case "source.toolkit.fluxcd.io":
		return kind == "GitRepository" || kind == "OCIRepository" || kind == "HelmRepository"
	default:
		return false
	}
}
