package rehearsal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/internal/k3s"
)

// ensureAddons puts k3s's own pods on the cluster where the stack's real one has a k3s, so that
// the scheduler counts them too. No controller of theirs runs; a pod is all that there is.
func (r *Rehearsal) ensureAddons(ctx context.Context, release string) error {
	addons := k3s.Addons(release)
	if len(addons) == 0 {
		return nil
	}
	c, err := r.Client()
	if err != nil {
		return err
	}
	for _, addon := range addons {
		// Applied rather than created: what is there already is left as it is, and what a
		// version of this program before made is brought up to date.
		content, err := json.Marshal(addon)
		if err != nil {
			return fmt.Errorf("encoding k3s's %s: %w", addon.Name, err)
		}
		err = c.Patch(ctx, addon.DeepCopy(), client.RawPatch(types.ApplyPatchType, content), client.FieldOwner("rehearsal"), client.ForceOwnership)
		if err != nil {
			return fmt.Errorf("making k3s's %s: %w", addon.Name, err)
		}
	}
	return r.awaitAddons(ctx, c, addons, readyBound)
}

// awaitAddons has k3s's own pods on the nodes before the stack's, as on a real cluster. One
// that has no room is warned of and no error: what else is rehearsed may still be of use.
func (r *Rehearsal) awaitAddons(ctx context.Context, c client.Client, addons []*appsv1.Deployment, bound time.Duration) error {
	var waiting []readiness
	err := poll(ctx, 100*time.Millisecond, bound, func(ctx context.Context) (bool, error) {
		seen, err := observe(ctx, c)
		if err != nil {
			return false, err
		}
		waiting = slices.DeleteFunc(seen.diagnose(), func(object readiness) bool {
			return object.ready || !slices.ContainsFunc(addons, func(addon *appsv1.Deployment) bool {
				return object.object == objectID{"Deployment", addon.Namespace, addon.Name}
			})
		})
		return len(waiting) == 0, nil
	})
	if !errors.Is(err, errTimeout) {
		return err
	}
	for _, pod := range waiting {
		r.log.Warn("going on without one of k3s's own pods, which is not ready", "object", pod.object.String(), "reason", pod.reason, "after", bound)
	}
	return nil
}
