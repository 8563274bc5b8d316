package handover

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/workloads"
)

const (
	fluxLabels = "kustomize.toolkit.fluxcd.io/"

	pollInterval = 100 * time.Millisecond
	leaveBound   = time.Minute
)

// takeOver takes the marks of the delivery before off the objects: a field that two managers own
// can't be changed by one alone. What Pulumi delivers now needs no SealedSecret; those go, and
// leave their Secrets.
func takeOver(ctx context.Context, stack Stack, to config.Delivery, log *slog.Logger) error {
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
			if to == config.Direct && kind.Kind == "Secret" {
				if err := leaveSecret(ctx, c, object.GetNamespace(), object.GetName()); err != nil {
					return err
				}
			}
			changed := false
			err := retry.RetryOnConflict(retry.DefaultBackoff, func() (err error) {
				changed, err = free(ctx, c, to, kind, client.ObjectKeyFromObject(object))
				return err
			})
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
	err := c.Delete(ctx, sealed, client.PropagationPolicy(metav1.DeletePropagationOrphan))
	if apierrors.IsNotFound(err) || meta.IsNoMatchError(err) {
		return nil
	}
	if err == nil {
		// A finalizer of the API server's own keeps it until the Secret has lost its owner.
		err = wait.PollUntilContextTimeout(ctx, pollInterval, leaveBound, true, func(ctx context.Context) (bool, error) {
			err := c.Get(ctx, client.ObjectKeyFromObject(sealed), sealed)
			return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
		})
	}
	if err != nil {
		return fmt.Errorf("deleting SealedSecret %s/%s, and leaving its Secret: %w", namespace, name, err)
	}
	return nil
}

// free removes the labels and the field managers of the delivery before.
func free(ctx context.Context, c client.Client, to config.Delivery, kind schema.GroupVersionKind, key client.ObjectKey) (bool, error) {
	object := &metav1.PartialObjectMetadata{}
	object.SetGroupVersionKind(kind)
	if err := c.Get(ctx, key, object); err != nil {
		// One that isn't there has no marks: of a suspended workload, or deleted by hand.
		if err = client.IgnoreNotFound(err); err != nil {
			err = fmt.Errorf("taking over %s %s: %w", kind.Kind, key, err)
		}
		return false, err
	}
	kept := without(object.ManagedFields, to, kind.Kind == "Secret")
	labels := map[string]any{}
	for label := range object.Labels {
		if to == config.Direct && strings.HasPrefix(label, fluxLabels) {
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

// without leaves out the marks of those who delivered the object before.
func without(fields []metav1.ManagedFieldsEntry, to config.Delivery, isSecret bool) []metav1.ManagedFieldsEntry {
	return slices.DeleteFunc(slices.Clone(fields), func(entry metav1.ManagedFieldsEntry) bool {
		pulumis := strings.HasPrefix(entry.Manager, "pulumi-kubernetes")
		switch {
		case entry.Subresource != "":
			return false
		case to == config.FluxCD:
			return pulumis
		case isSecret: // one that was sealed: nobody but Pulumi has a say in it now
			return !pulumis
		default:
			return entry.Manager == "kustomize-controller"
		}
	})
}
