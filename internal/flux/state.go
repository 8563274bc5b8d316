package flux

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Readiness is how an object stands, in a word.
type Readiness string

// How an object may stand. Unknown is one that Flux works on, or hasn't seen yet.
const (
	True      Readiness = "True"
	False     Readiness = "False"
	Unknown   Readiness = "Unknown"
	Suspended Readiness = "Suspended"
	Stalled   Readiness = "Stalled"
)

// State is Flux's view of one object.
type State struct {
	Ref

	Ready Readiness
	// Message is what Flux last said: a reason and a sentence.
	Message string
	// Revision is what was fetched, applied or, of a chart, installed; in full.
	Revision string
	// Since is when the readiness last changed.
	Since time.Time
	// Source is what it is made from; no name where there is none.
	Source Ref
}

// OK says whether nothing is wrong: it is ready, or suspended by someone's will.
func (s State) OK() bool { return s.Ready == True || s.Ready == Suspended }

// ShortRevision cuts a commit as people do: main@sha1:1f99694c.
func (s State) ShortRevision() string {
	const digits = 8
	before, commit, found := strings.Cut(s.Revision, ":")
	if !found || len(commit) <= digits {
		return s.Revision
	}
	return before + ":" + commit[:digits]
}

// StateOf is Flux's view of one object.
func StateOf(ctx context.Context, c client.Client, ref Ref) (State, error) {
	o, err := get(ctx, c, ref)
	if err != nil {
		return State{}, err
	}
	return o.state(), nil
}

// Workloads is Flux's view of what delivers workloads: every GitRepository, Kustomization and
// HelmRelease, in this order and then by name. A kind that isn't installed has none.
func Workloads(ctx context.Context, c client.Client) ([]State, error) {
	var all []State
	for _, kind := range []Ref{GitRepository("", ""), Kustomization("", ""), HelmRelease("", "")} {
		found, err := list(ctx, c, kind)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

func list(ctx context.Context, c client.Client, kind Ref) ([]State, error) {
	ctx, cancel := context.WithTimeout(ctx, requestBound)
	defer cancel()
	var raw unstructured.UnstructuredList
	raw.SetGroupVersionKind(kind.GroupVersionKind)
	if err := c.List(ctx, &raw); gone(err) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("asking the API server for each %s: %w", kind.Kind, err)
	}
	var all []State
	for i := range raw.Items {
		o, err := read(&raw.Items[i])
		if err != nil {
			return nil, err
		}
		all = append(all, o.state())
	}
	slices.SortFunc(all, func(a, b State) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Namespace, b.Namespace))
	})
	return all, nil
}

func (o *object) state() State {
	s := State{Ref: o.ref, Message: o.says(), Revision: o.revision(), Source: o.source(), Since: o.CreationTimestamp.Time}
	ready := o.condition(meta.ReadyCondition)
	if ready != nil {
		s.Since = ready.LastTransitionTime.Time
	}
	stalled := o.stalled()
	switch {
	case o.Spec.Suspend:
		s.Ready = Suspended
	case o.DeletionTimestamp != nil:
		s.Ready, s.Since = Unknown, o.DeletionTimestamp.Time
		s.Message = strings.TrimSuffix("it is being deleted; Flux last said: "+s.Message, "; Flux last said: ")
	case stalled != "":
		s.Ready, s.Message = Stalled, stalled
	case o.ready():
		s.Ready = True
	case ready != nil && ready.Status == metav1.ConditionFalse && o.current(ready):
		s.Ready = False
	default:
		s.Ready = Unknown
	}
	if s.Message == "" && !o.static() {
		s.Message = "no controller has looked at it yet"
	}
	return s
}
