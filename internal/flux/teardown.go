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
		if leaves || kustomization.Status.Inventory == nil {
			continue
		}
		for _, entry := range kustomization.Status.Inventory.Entries {
			ref, ok := inventoried(entry)
			if !ok {
				return nil, fmt.Errorf("%w: %s of Kustomization %s", errInventory, entry.ID, kustomization.Name)
			}
			applied = append(applied, ref)
		}
	}
	// Namespaces and definitions last, so that what is in them is asked for before it is gone.
	slices.SortStableFunc(applied, func(a, b Ref) int { return containers(a) - containers(b) })
	return applied, nil
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
