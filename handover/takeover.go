package handover

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/workloads"
)

const fluxLabels = "kustomize.toolkit.fluxcd.io/"

// takeOver takes Flux's marks off the objects that Pulumi delivers now: a field that two
// managers own can't be changed by one alone. SealedSecrets go, and leave their Secrets.
func takeOver(ctx context.Context, stack Stack, log *slog.Logger) error {
	cfg, err := stack.Config(ctx)
	if err != nil {
		return err
	}
	images, err := workloads.LoadImages(filepath.Join(stack.ProjectDir(), cfg.Images))
	if err != nil {
		return err
	}
	catalog, err := workloads.Catalog(cfg, images)
	if err != nil {
		return err
	}
	c, err := stack.Client(ctx)
	if err != nil {
		return err
	}
	freed := 0
	for _, workload := range catalog {
		if workload.Direct {
			continue
		}
		for _, object := range workload.Objects {
			kind := object.GetObjectKind().GroupVersionKind()
			if kind.Kind == "Secret" {
				if err := leaveSecret(ctx, c, object.GetNamespace(), object.GetName()); err != nil {
					return err
				}
			}
			changed, err := free(ctx, c, kind, client.ObjectKeyFromObject(object))
			if err != nil {
				return err
			}
			if changed {
				freed++
			}
		}
	}
	log.Info("took over", "objects", freed)
	return nil
}

// leaveSecret deletes the SealedSecret of a Secret, and not what it made.
func leaveSecret(ctx context.Context, c client.Client, namespace, name string) error {
	sealed := &unstructured.Unstructured{}
	sealed.SetGroupVersionKind(schema.GroupVersionKind{Group: "bitnami.com", Version: "v1alpha1", Kind: "SealedSecret"})
	sealed.SetNamespace(namespace)
	sealed.SetName(name)
	// A finalizer of the API server's own keeps it until the Secret has lost its owner.
	err := c.Delete(ctx, sealed, client.PropagationPolicy(metav1.DeletePropagationOrphan))
	if err == nil || apierrors.IsNotFound(err) || meta.IsNoMatchError(err) {
		return nil
	}
	return fmt.Errorf("deleting SealedSecret %s/%s: %w", namespace, name, err)
}

// free removes Flux's labels, and the marks of the managers that delivered an object before.
func free(ctx context.Context, c client.Client, kind schema.GroupVersionKind, key client.ObjectKey) (bool, error) {
	object := &metav1.PartialObjectMetadata{}
	object.SetGroupVersionKind(kind)
	if err := c.Get(ctx, key, object); err != nil {
		return false, fmt.Errorf("taking over %s %s: %w", kind.Kind, key, err)
	}
	kept := slices.DeleteFunc(slices.Clone(object.ManagedFields), func(entry metav1.ManagedFieldsEntry) bool {
		return entry.Subresource == "" && (entry.Manager == "kustomize-controller" ||
			kind.Kind == "Secret" && !strings.HasPrefix(entry.Manager, "pulumi-kubernetes"))
	})
	labels := map[string]any{}
	for label := range object.Labels {
		if strings.HasPrefix(label, fluxLabels) {
			labels[label] = nil
		}
	}
	if len(kept) == len(object.ManagedFields) && len(labels) == 0 {
		return false, nil
	}
	change, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"labels": labels, "managedFields": kept, "resourceVersion": object.ResourceVersion,
	}})
	if err != nil {
		return false, fmt.Errorf("taking over %s %s: %w", kind.Kind, key, err)
	}
	if err := c.Patch(ctx, object, client.RawPatch(types.MergePatchType, change)); err != nil {
		return false, fmt.Errorf("taking over %s %s: %w", kind.Kind, key, err)
	}
	return true, nil
}
