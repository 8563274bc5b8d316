package flux

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// ErrNotFound says that the object, or its whole kind, isn't in the cluster.
var ErrNotFound = errors.New("not in the cluster")

// errUnreadable says that an object has a form that no kind of Flux has.
var errUnreadable = errors.New("reading its status")

// requestBound is how long one question to the API server may take, so that a connection that
// hangs doesn't use up the whole of a wait.
const requestBound = 20 * time.Second

// Ref names one object of Flux.
type Ref struct {
	schema.GroupVersionKind

	Namespace, Name string
}

// Kustomization names one.
func Kustomization(namespace, name string) Ref {
	return Ref{kustomizev1.GroupVersion.WithKind(kustomizev1.KustomizationKind), namespace, name}
}

// HelmRelease names one.
func HelmRelease(namespace, name string) Ref {
	return Ref{helmv2.GroupVersion.WithKind(helmv2.HelmReleaseKind), namespace, name}
}

// GitRepository names one.
func GitRepository(namespace, name string) Ref {
	return Ref{sourcev1.GroupVersion.WithKind(sourcev1.GitRepositoryKind), namespace, name}
}

// RefOf names an object that has its apiVersion and kind set.
func RefOf(object client.Object) Ref {
	return Ref{object.GetObjectKind().GroupVersionKind(), object.GetNamespace(), object.GetName()}
}

// String is for people: Kustomization flux-system/chat-hvac.
func (r Ref) String() string { return r.Kind + " " + r.Namespace + "/" + r.Name }

func (r Ref) bare() *unstructured.Unstructured {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(r.GroupVersionKind)
	object.SetNamespace(r.Namespace)
	object.SetName(r.Name)
	return object
}

// object is what any kind of Flux says of itself, as far as we ask: its kinds have these fields
// in the same places.
type object struct {
	content

	ref Ref
}

type content struct {
	metav1.ObjectMeta `json:"metadata"`

	Spec   spec   `json:"spec"`
	Status status `json:"status"`
}

type spec struct {
	Suspend   bool                                      `json:"suspend"`
	Type      string                                    `json:"type"`      // of a HelmRepository
	SourceRef kustomizev1.CrossNamespaceSourceReference `json:"sourceRef"` // of a Kustomization
	Chart     *helmv2.HelmChartTemplate                 `json:"chart"`     // of a HelmRelease, or
	ChartRef  *helmv2.CrossNamespaceSourceReference     `json:"chartRef"`
}

type status struct {
	meta.ReconcileRequestStatus `json:",inline"`

	ObservedGeneration  int64                          `json:"observedGeneration"`
	Conditions          []metav1.Condition             `json:"conditions"`
	LastAppliedRevision string                         `json:"lastAppliedRevision"`
	LastTriedRevision   string                         `json:"lastAttemptedRevision"` // of a Kustomization, in whose build it was
	Artifact            *meta.Artifact                 `json:"artifact"`
	Inventory           *kustomizev1.ResourceInventory `json:"inventory"`
	History             []release                      `json:"history"`
}

// release is an entry of a HelmRelease's history, whose first is the newest. A Kustomization's
// history has entries of another form, which these fields are not in.
type release struct {
	ChartVersion string `json:"chartVersion"`
}

func get(ctx context.Context, c client.Client, ref Ref) (*object, error) {
	ctx, cancel := context.WithTimeout(ctx, requestBound)
	defer cancel()
	raw := ref.bare()
	if err := c.Get(ctx, client.ObjectKeyFromObject(raw), raw); err != nil {
		return nil, explain(ref, err)
	}
	return read(raw)
}

func read(raw *unstructured.Unstructured) (*object, error) {
	o := &object{ref: RefOf(raw)}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw.Object, &o.content); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", o.ref, errUnreadable, err)
	}
	return o, nil
}

func explain(ref Ref, err error) error {
	// A client that has known the kind asks for the object of a kind that is gone.
	noKind := apimeta.IsNoMatchError(err) || apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
	switch {
	case apierrors.IsNotFound(err) && !noKind:
		return fmt.Errorf("%s is %w", ref, ErrNotFound)
	case apierrors.IsNotFound(err), apimeta.IsNoMatchError(err):
		return fmt.Errorf("%s: the kind is %w: is Flux installed, with the controller of %s?", ref, ErrNotFound, ref.Group)
	default:
		return fmt.Errorf("asking the API server for %s: %w", ref, err)
	}
}

// isTransient says whether the same question may be answered a moment later. What the API
// server itself refuses is refused again.
func isTransient(err error) bool {
	var untrusted *tls.CertificateVerificationError
	return !errors.Is(err, ErrNotFound) && !errors.Is(err, errUnreadable) && !errors.As(err, &untrusted) &&
		!apierrors.IsUnauthorized(err) && !apierrors.IsForbidden(err) &&
		!apierrors.IsInvalid(err) && !apierrors.IsBadRequest(err) && !apierrors.IsMethodNotSupported(err)
}

func (o *object) condition(of string) *metav1.Condition {
	return apimeta.FindStatusCondition(o.Status.Conditions, of)
}

// current says whether a condition is about the object as it is now. A condition that doesn't
// say is as old as the status.
func (o *object) current(condition *metav1.Condition) bool {
	if condition == nil {
		return false
	}
	if condition.ObservedGeneration != 0 {
		return condition.ObservedGeneration == o.Generation
	}
	return o.Status.ObservedGeneration == o.Generation
}

// stalled is why Flux has given up until the object changes, and "" if it hasn't.
func (o *object) stalled() string {
	stalled, ready := o.condition(meta.StalledCondition), o.condition(meta.ReadyCondition)
	if stalled == nil || stalled.Status != metav1.ConditionTrue || !o.current(stalled) {
		return ""
	}
	// Of a HelmRelease this says how often it was tried, and the other what went wrong.
	if ready != nil && ready.Status == metav1.ConditionFalse && ready.Message != stalled.Message {
		return sentence(stalled) + "; " + sentence(ready)
	}
	return sentence(stalled)
}

// static says whether no controller ever writes a status, so that being there is all.
func (o *object) static() bool {
	switch o.ref.Kind {
	case "Alert", "Provider":
		return true
	case sourcev1.HelmRepositoryKind:
		return o.Spec.Type == sourcev1.HelmRepositoryTypeOCI
	default:
		return false
	}
}

// ready says whether Flux is done with the object as it is now, and did well.
func (o *object) ready() bool {
	if o.static() {
		return true
	}
	ready := o.condition(meta.ReadyCondition)
	return ready != nil && ready.Status == metav1.ConditionTrue && o.current(ready) &&
		o.Status.ObservedGeneration == o.Generation &&
		!apimeta.IsStatusConditionTrue(o.Status.Conditions, meta.ReconcilingCondition)
}

// says is what Flux last said, and "" when it said nothing.
func (o *object) says() string {
	said := o.condition(meta.ReadyCondition)
	// While it works, what it works on tells more than that nothing is known yet.
	if working := o.condition(meta.ReconcilingCondition); working != nil && (said == nil || said.Status == metav1.ConditionUnknown) {
		said = working
	}
	if said == nil {
		return ""
	}
	return sentence(said)
}

func sentence(c *metav1.Condition) string {
	return strings.TrimSuffix(c.Reason+": "+strings.TrimSpace(c.Message), ": ")
}

// failed says whether a Kustomization's last try came to a build of its revision, and failed in that or later. What it
// waits for before, its artifact or its dependencies, it says of whatever its source has now.
func (o *object) failed() bool {
	ready := o.condition(meta.ReadyCondition)
	return ready != nil && ready.Status == metav1.ConditionFalse && slices.Contains([]string{
		meta.BuildFailedReason, meta.ReconciliationFailedReason, meta.PruneFailedReason, meta.HealthCheckFailedReason,
	}, ready.Reason)
}

// handled says whether a request to reconcile was taken up, or one made after it.
func (o *object) handled(requestedAt string) bool {
	at := o.Status.GetLastHandledReconcileRequest()
	if at == requestedAt {
		return true
	}
	took, err := time.Parse(time.RFC3339Nano, at)
	if err != nil {
		return false
	}
	asked, err := time.Parse(time.RFC3339Nano, requestedAt)
	return err == nil && !took.Before(asked)
}

// revision is what a source has fetched, what of it was applied, or the version of a chart that
// was installed.
func (o *object) revision() string {
	switch {
	case o.Status.Artifact != nil:
		return o.Status.Artifact.Revision
	case len(o.Status.History) > 0 && o.Status.History[0].ChartVersion != "":
		return o.Status.History[0].ChartVersion
	default:
		return o.Status.LastAppliedRevision
	}
}

// source names what a Kustomization or a HelmRelease is made from.
func (o *object) source() Ref {
	kind, namespace, name := o.Spec.SourceRef.Kind, o.Spec.SourceRef.Namespace, o.Spec.SourceRef.Name
	switch {
	case o.Spec.Chart != nil:
		from := o.Spec.Chart.Spec.SourceRef
		kind, namespace, name = from.Kind, from.Namespace, from.Name
	case o.Spec.ChartRef != nil:
		from := o.Spec.ChartRef
		kind, namespace, name = from.Kind, from.Namespace, from.Name
	}
	if name == "" {
		return Ref{}
	}
	return Ref{sourcev1.GroupVersion.WithKind(kind), cmp.Or(namespace, o.Namespace), name}
}

// isAt says whether a revision, main@sha1:1f99694…, is the wanted one, which may be a commit alone.
func isAt(revision, wanted string) bool {
	if revision == wanted {
		return true
	}
	_, commit, found := strings.Cut(revision, ":")
	return found && wanted != "" && !strings.ContainsAny(wanted, "@:") && strings.HasPrefix(commit, wanted)
}
