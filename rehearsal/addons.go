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

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/internal/k3s"
)

// ensureAddons puts k3s's own pods on the cluster where the stack's real one has them, so that
// the scheduler counts them too. No controller of theirs runs; a pod is all that there is.
func (r *Rehearsal) ensureAddons(ctx context.Context, kind config.ClusterKind) error {
	if kind != config.K3d && kind != config.Pi {
		return nil
	}
	c, err := r.Client()
	if err != nil {
		return err
	}
	addons := k3s.Addons()
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
	// They are on the nodes before the stack is, as on a real cluster. One that has no room
	// is for the report to tell.
	err = poll(ctx, 100*time.Millisecond, readyBound, func(ctx context.Context) (bool, error) {
		seen, err := observe(ctx, c)
		if err != nil {
			return false, err
		}
		return !slices.ContainsFunc(seen.diagnose(), func(object readiness) bool {
			return !object.ready && slices.ContainsFunc(addons, func(addon *appsv1.Deployment) bool {
				return object.object == objectID{"Deployment", addon.Namespace, addon.Name}
			})
		}), nil
	})
	if errors.Is(err, errTimeout) {
		return nil
	}
	return err
}
