package rehearsal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// stopLeftovers ends a pulumi that an earlier run left behind, giving it time to save.
func (e *engine) stopLeftovers(ctx context.Context) error {
	left, err := e.processes(ctx)
	if err != nil || len(left) == 0 {
		return err
	}
	e.rehearsal.log.Info("stopping the pulumi of an earlier run", "process", left[0].PID)
	pulumi := slices.IndexFunc(left, func(p Process) bool { return p.Name() != "pulumi" })
	if pulumi < 0 {
		pulumi = len(left)
	}
	if err := stopProcesses(ctx, string(e.rehearsal.folder), left[:pulumi], syscall.SIGINT, engineGrace); err != nil {
		return err
	}
	return stopProcesses(ctx, string(e.rehearsal.folder), left[pulumi:], syscall.SIGTERM, processGrace)
}

// unlock releases the lock that an engine which was cut short left on its state.
func (e *engine) unlock(ctx context.Context) error {
	r := e.rehearsal
	locks, err := e.saved().Locks()
	if err != nil {
		return err
	}
	// Nobody else has this folder, and who calls has ended what ran in it, or knows that it is dead.
	if len(locks) > 0 {
		r.log.Info("an earlier run was cut short: releasing its lock on the stack")
		if err := e.quietly(ctx, "cancel", "--yes", "--stack", r.stack); err != nil {
			return fmt.Errorf("releasing the stack's lock: %w", err)
		}
	}
	return nil
}

// settle handles operations of which nobody knows how they ended: what may have been made is removed, and the
// rest a refresh finds out.
func (e *engine) settle(ctx context.Context) error {
	r := e.rehearsal
	pending, err := e.pendingOperations()
	if err != nil || len(pending) == 0 {
		return err
	}
	r.log.Info("an earlier run was cut short: comparing its state with the cluster", "unfinished operations", len(pending))
	c, err := r.Client()
	if err != nil {
		return err
	}
	if err := r.removeUnknown(ctx, c, pending); err != nil {
		return err
	}
	if err := e.quietly(ctx, e.stackArgs("refresh", "--yes", "--skip-preview", "--clear-pending-creates")...); err != nil {
		return fmt.Errorf("refreshing the state of an interrupted run: %w", err)
	}
	return nil
}

// removeUnknown removes each object from the cluster that may or may not have been made: an update makes it anew,
// and a destroy would know nothing of it. While a stack changes hands, Pulumi "makes" what is there and runs: that
// stays, and the next update takes it over.
func (r *Rehearsal) removeUnknown(ctx context.Context, c client.Client, pending []pendingOperation) error {
	if record, err := r.switchedTo(); err != nil || record != nil {
		return err
	}
	for _, operation := range pending {
		if operation.kind != "creating" || !strings.HasPrefix(operation.token, "kubernetes:") || operation.object.GetName() == "" {
			continue
		}
		if pulled, err := isPulled(ctx, c, &operation.object); err != nil {
			return err
		} else if pulled {
			continue
		}
		if err := deleteObject(ctx, c, &operation.object); err != nil {
			return err
		}
	}
	return nil
}

// isPulled says whether Flux delivers an object that is in the cluster.
func isPulled(ctx context.Context, c client.Client, object *unstructured.Unstructured) (bool, error) {
	there := object.DeepCopy()
	err := c.Get(ctx, client.ObjectKeyFromObject(object), there)
	if isGone(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking for %s %s, of which the state knows nothing: %w", object.GetKind(), client.ObjectKeyFromObject(object), err)
	}
	return there.GetLabels()[pulledBy] != "", nil
}

func isGone(err error) bool { return apierrors.IsNotFound(err) || meta.IsNoMatchError(err) }

// deleteObject removes an object, if it is there, and waits until it is gone.
func deleteObject(ctx context.Context, c client.Client, object *unstructured.Unstructured) error {
	name := fmt.Sprintf("%s %s", object.GetKind(), client.ObjectKeyFromObject(object))
	if err := c.Delete(ctx, object); err != nil && !isGone(err) {
		return fmt.Errorf("removing %s, of which the state knows nothing: %w", name, err)
	}
	err := poll(ctx, 200*time.Millisecond, readyBound, func(ctx context.Context) (bool, error) {
		now := object.DeepCopy()
		err := c.Get(ctx, client.ObjectKeyFromObject(object), now)
		if isGone(err) {
			return true, nil
		}
		return false, err
	})
	if err != nil {
		return fmt.Errorf("removing %s, of which the state knows nothing: %w", name, err)
	}
	return nil
}

// pendingOperation is one that Pulumi began and did not see the end of.
type pendingOperation struct {
	kind   string // creating, updating, deleting, reading
	token  string // the resource's type
	object unstructured.Unstructured
}

func (e *engine) pendingOperations() ([]pendingOperation, error) {
	data, err := os.ReadFile(e.checkpoint())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the stack's state: %w", err)
	}
	return parsePending(data)
}

func parsePending(data []byte) ([]pendingOperation, error) {
	var state struct {
		Checkpoint struct {
			Latest struct {
				Pending []struct {
					Type     string `json:"type"`
					Resource struct {
						Type   string         `json:"type"`
						Inputs map[string]any `json:"inputs"`
					} `json:"resource"`
				} `json:"pending_operations"`
			} `json:"latest"`
		} `json:"checkpoint"`
	}
	if err := json.Unmarshal(data, &state); err != nil {
		return nil, fmt.Errorf("parsing the stack's state: %w", err)
	}
	var pending []pendingOperation
	for _, p := range state.Checkpoint.Latest.Pending {
		pending = append(pending, pendingOperation{
			kind: p.Type, token: p.Resource.Type, object: unstructured.Unstructured{Object: p.Resource.Inputs},
		})
	}
	return pending, nil
}
