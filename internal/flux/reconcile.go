package flux

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Reconcile asks Flux to work on the object now, as `flux reconcile` does. It returns at once,
// with what WaitHandled and WaitReady know the request by.
func Reconcile(ctx context.Context, c client.Client, ref Ref) (requestedAt string, err error) {
	requestedAt = time.Now().UTC().Format(time.RFC3339Nano)
	annotations := map[string]any{meta.ReconcileRequestAnnotation: requestedAt}
	if err := patch(ctx, c, ref, map[string]any{"metadata": map[string]any{"annotations": annotations}}); err != nil {
		return "", fmt.Errorf("asking for a reconciliation: %w", err)
	}
	return requestedAt, nil
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
