package flux

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/fluxcd/pkg/apis/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Reconcile asks Flux to work on the object now, as `flux reconcile` does. It returns at once,
// with what WaitHandled and WaitReady know the request by.
func Reconcile(ctx context.Context, c client.Client, ref Ref) (requestedAt string, err error) {
	return request(ctx, c, ref)
}

// Reset asks as Reconcile does, and has Flux forget how often a HelmRelease has failed, so that
// one that has used up its retries tries again.
func Reset(ctx context.Context, c client.Client, ref Ref) (requestedAt string, err error) {
	return request(ctx, c, ref, helmv2.ResetRequestAnnotation)
}

func request(ctx context.Context, c client.Client, ref Ref, also ...string) (requestedAt string, err error) {
	requestedAt = time.Now().UTC().Format(time.RFC3339Nano)
	annotations := map[string]any{}
	for _, name := range append(also, meta.ReconcileRequestAnnotation) {
		annotations[name] = requestedAt
	}
	if err := patch(ctx, c, ref, map[string]any{"metadata": map[string]any{"annotations": annotations}}); err != nil {
		return "", fmt.Errorf("asking for a reconciliation: %w", err)
	}
	return requestedAt, nil
}

// Suspend has Flux leave the object alone, as `flux suspend` does: what it has applied stays as it
// is. While the workload isn't on the stack's `suspend` list, Pulumi leaves the field out of what
// it applies, so that it stays ours.
func Suspend(ctx context.Context, c client.Client, ref Ref) error {
	if err := patch(ctx, c, ref, map[string]any{"spec": map[string]any{"suspend": true}}); err != nil {
		return fmt.Errorf("suspending: %w", err)
	}
	return nil
}

// Resume ends a suspension, as `flux resume` does: by removing the field.
func Resume(ctx context.Context, c client.Client, ref Ref) error {
	if err := patch(ctx, c, ref, map[string]any{"spec": map[string]any{"suspend": nil}}); err != nil {
		return fmt.Errorf("resuming: %w", err)
	}
	return nil
}

// patch merges a change into an object that is there.
func patch(ctx context.Context, c client.Client, ref Ref, change map[string]any) error {
	data, err := json.Marshal(change)
	if err != nil {
		return fmt.Errorf("encoding the change to %s: %w", ref, err)
	}
	ctx, cancel := context.WithTimeout(ctx, requestBound)
	defer cancel()
	if err := c.Patch(ctx, ref.bare(), client.RawPatch(types.MergePatchType, data), manager); err != nil {
		return explain(ref, err)
	}
	return nil
}
