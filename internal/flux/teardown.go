package flux

import (
	"context"
	"errors"
	"fmt"
	"slices"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Applied lists what the Kustomizations of a cluster have applied and would take away when they
// are deleted: what they would leave, and what a suspended one would, is not in it.
func Applied(ctx context.Context, c client.Client) ([]Ref, error) {
	var kustomizations kustomizev1.KustomizationList
	if err := c.List(ctx, &kustomizations); gone(err) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("asking the API server for the Kustomizations: %w", err)
	}
	var applied []Ref
	for _, kustomization := range kustomizations.Items {
		leaves := !kustomization.Spec.Prune || kustomization.Spec.DeletionPolicy == kustomizev1.DeletionPolicyOrphan
		if leaves || kustomization.Spec.Suspend || kustomization.Status.Inventory == nil {
			continue
		}
		for _, entry := range kustomization.Status.Inventory.Entries {
			ref, ok := inventoried(entry)
			if !ok {
				return nil, fmt.Errorf("%w: %s of Kustomization %s", errInventory, entry.ID, kustomization.Name)
			}
			owned, err := owns(ctx, c, &kustomization, ref)
			if err != nil {
				return nil, err
			}
			if owned {
				applied = append(applied, ref)
			}
		}
	}
	// Namespaces and definitions last, so that what is in them is asked for before it is gone.
	slices.SortStableFunc(applied, func(a, b Ref) int { return containers(a) - containers(b) })
	return applied, nil
}

// owns says whether a Kustomization would take an object away: it is there and its own, and isn't
// marked to stay.
func owns(ctx context.Context, c client.Client, kustomization *kustomizev1.Kustomization, ref Ref) (bool, error) {
	group := kustomizev1.GroupVersion.Group
	var object metav1.PartialObjectMetadata
	object.SetGroupVersionKind(ref.GroupVersionKind)
	if err := c.Get(ctx, client.ObjectKey{Namespace: ref.Namespace, Name: ref.Name}, &object); gone(err) {
		return false, nil
	} else if err != nil {
		return false, explain(ref, err)
	}
	for _, marks := range []map[string]string{object.Labels, object.Annotations} {
		if marks[group+"/prune"] == kustomizev1.DisabledValue || marks[group+"/reconcile"] == kustomizev1.DisabledValue ||
			marks[group+"/ssa"] == kustomizev1.IgnoreValue {
			return false, nil
		}
	}
	return object.Labels[group+"/name"] == kustomization.Name && object.Labels[group+"/namespace"] == kustomization.Namespace, nil
}

var errInventory = errors.New("an entry of an inventory can't be read")

func containers(ref Ref) int {
	if ref.Kind == "Namespace" || ref.Kind == "CustomResourceDefinition" {
		return 1
	}
	return 0
}

// Prune deletes what the Kustomizations have applied, as their controller would. It returns what
// it asked the API server to delete.
func Prune(ctx context.Context, c client.Client) ([]Ref, error) {
	applied, err := Applied(ctx, c)
	if err != nil {
		return nil, err
	}
	var pruned []Ref
	var problems []error
	for _, ref := range applied {
		object := ref.bare()
		switch err := c.Delete(ctx, object, client.PropagationPolicy(metav1.DeletePropagationBackground)); {
		case err == nil:
			pruned = append(pruned, ref)
		case !gone(err):
			problems = append(problems, fmt.Errorf("deleting %s: %w", ref, err))
		}
	}
	return pruned, errors.Join(problems...)
}
