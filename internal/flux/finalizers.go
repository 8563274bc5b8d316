package flux

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	imagev1 "github.com/fluxcd/image-reflector-controller/api/v1"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	notificationv1 "github.com/fluxcd/notification-controller/api/v1"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// finalizer is the one that every controller of Flux sets.
const finalizer = kustomizev1.KustomizationFinalizer

// groups are the API groups of Flux's own kinds. No other is ever cleared.
func groups() []string {
	return []string{
		sourcev1.GroupVersion.Group, kustomizev1.GroupVersion.Group, helmv2.GroupVersion.Group,
		notificationv1.GroupVersion.Group, imagev1.GroupVersion.Group,
	}
}

// Held is an object that Flux's finalizer holds.
type Held struct {
	Ref

	// Deleted says that it is being deleted, and waits for a controller to let it go.
	Deleted bool
}

// ClearFinalizers removes Flux's finalizer from every object of Flux's own kinds, for a teardown
// when no controller is left to answer it: what those objects had applied stays in the cluster.
// Other kinds and other finalizers are left alone. It returns what it cleared; with dryRun, what
// it would.
func ClearFinalizers(ctx context.Context, c client.Client, dryRun bool) ([]Held, error) {
	kinds, err := definedKinds(ctx, c)
	if err != nil {
		return nil, err
	}
	var held []Held
	var problems []error
	for _, kind := range kinds {
		var all metav1.PartialObjectMetadataList
		all.SetGroupVersionKind(kind)
		if err := c.List(ctx, &all); gone(err) {
			continue
		} else if err != nil {
			problems = append(problems, fmt.Errorf("asking the API server for each %s: %w", kind.Kind, err))
			continue
		}
		for _, item := range all.Items {
			if !slices.Contains(item.Finalizers, finalizer) {
				continue
			}
			one := Held{Ref{kind, item.Namespace, item.Name}, item.DeletionTimestamp != nil}
			if !dryRun {
				if err := clearOne(ctx, c, one.Ref); err != nil {
					problems = append(problems, err)
					continue
				}
			}
			held = append(held, one)
		}
	}
	return held, errors.Join(problems...)
}

// definedKinds lists Flux's own kinds that the cluster has, also those of which the definition
// itself is being deleted.
func definedKinds(ctx context.Context, c client.Client) ([]schema.GroupVersionKind, error) {
	var definitions apiextensionsv1.CustomResourceDefinitionList
	if err := c.List(ctx, &definitions); err != nil {
		return nil, fmt.Errorf("asking the API server for the definitions of Flux's kinds: %w", err)
	}
	var kinds []schema.GroupVersionKind
	for _, definition := range definitions.Items {
		if !slices.Contains(groups(), definition.Spec.Group) {
			continue
		}
		for _, version := range definition.Spec.Versions {
			if version.Storage && version.Served {
				kinds = append(kinds, schema.GroupVersionKind{
					Group: definition.Spec.Group, Version: version.Name, Kind: definition.Spec.Names.Kind,
				})
			}
		}
	}
	return kinds, nil
}

func clearOne(ctx context.Context, c client.Client, ref Ref) error {
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		var item metav1.PartialObjectMetadata
		item.SetGroupVersionKind(ref.GroupVersionKind)
		if err := c.Get(ctx, client.ObjectKey{Namespace: ref.Namespace, Name: ref.Name}, &item); err != nil {
			return err
		}
		// Locked to what was read: a finalizer that someone else adds meanwhile is theirs.
		change := client.MergeFromWithOptions(item.DeepCopy(), client.MergeFromWithOptimisticLock{})
		item.Finalizers = slices.DeleteFunc(item.Finalizers, func(f string) bool { return f == finalizer })
		return c.Patch(ctx, &item, change, manager)
	})
	if err != nil && !gone(err) {
		return fmt.Errorf("removing the finalizer of %s: %w", ref, err)
	}
	return nil
}

func gone(err error) bool { return apierrors.IsNotFound(err) || apimeta.IsNoMatchError(err) }

// Alive names the controllers of Flux that hold their lease in a cluster: those that run, and
// would answer a finalizer themselves.
func Alive(ctx context.Context, c client.Client) ([]string, error) {
	var leases coordinationv1.LeaseList
	if err := c.List(ctx, &leases); err != nil {
		return nil, fmt.Errorf("asking the API server which controllers hold a lease: %w", err)
	}
	var alive []string
	for _, lease := range leases.Items {
		name, isController := strings.CutSuffix(lease.Name, "-leader-election")
		if isController && slices.Contains(Controllers(), name) && held(&lease.Spec) {
			alive = append(alive, name)
		}
	}
	return alive, nil
}

func held(lease *coordinationv1.LeaseSpec) bool {
	return lease.HolderIdentity != nil && *lease.HolderIdentity != "" && lease.RenewTime != nil && lease.LeaseDurationSeconds != nil &&
		time.Since(lease.RenewTime.Time) < time.Duration(*lease.LeaseDurationSeconds)*time.Second
}

// Controllers names the controllers of Flux.
func Controllers() []string {
	return []string{
		"source-controller", "kustomize-controller", "helm-controller",
		"notification-controller", "image-reflector-controller", "image-automation-controller",
	}
}
