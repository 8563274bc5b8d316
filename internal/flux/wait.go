package flux

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

var (
	// ErrStalled says that Flux has given up until the object changes.
	ErrStalled = errors.New("is stalled")
	// ErrTimeout says that the wait was over before the object was ready.
	ErrTimeout = errors.New("is not ready")
)

// DefaultTimeout bounds a wait that names no bound.
const DefaultTimeout = 10 * time.Minute

const (
	pollInterval = 500 * time.Millisecond
	// patience is how long a controller may be silent before that is worth telling.
	patience = 5 * time.Second
)

// buildFolder is where kustomize-controller builds, a new one at each try.
var buildFolder = regexp.MustCompile(`/kustomization-\d+`)

// WaitOptions say what is waited for, beside being ready.
type WaitOptions struct {
	// Timeout bounds the wait; DefaultTimeout if zero.
	Timeout time.Duration
	// Revision is what a GitRepository must have fetched, or a Kustomization applied:
	// main@sha1:1f99694…, or a commit alone. A Kustomization may also have applied what its
	// source has by now, which is newer to whoever has waited for the source first; and a source
	// may have fetched what was there when it took up RequestedAt.
	Revision string
	// RequestedAt is what Reconcile returned: only what Flux says after it has taken up that
	// request counts, be it good or bad.
	RequestedAt string
	// Progress takes each thing that Flux says, once.
	Progress func(message string)
}

// WaitReady waits until Flux says that the object, as it is now, is ready. It ends at once with
// ErrStalled and Flux's own words when Flux has given up on it, with ErrNotFound when there is no
// such object, and with ErrTimeout and the last words of Flux when the time is over. An API server
// that doesn't answer is asked again until then. What is suspended isn't waited for.
func WaitReady(ctx context.Context, c client.Client, ref Ref, options WaitOptions) error {
	w := newWait(c, ref, options)
	return w.until(ctx, w.isReady)
}

// WaitHandled waits until a controller has taken up a request of Reconcile, or a later one.
func WaitHandled(ctx context.Context, c client.Client, ref Ref, requestedAt string, timeout time.Duration) error {
	w := newWait(c, ref, WaitOptions{Timeout: timeout, RequestedAt: requestedAt})
	return w.until(ctx, func(_ context.Context, o *object) (bool, string, error) {
		done, why := w.isHandled(o)
		return done || o.Spec.Suspend || o.static(), why, nil
	})
}

// wait is one wait for one object.
type wait struct {
	client  client.Client
	ref     Ref
	options WaitOptions
	start   time.Time
	silent  bool   // at the last look, no controller had answered
	failed  string // what Flux last said that went wrong
	told    map[string]bool
}

func newWait(c client.Client, ref Ref, options WaitOptions) *wait {
	return &wait{client: c, ref: ref, options: options, start: time.Now(), told: map[string]bool{}}
}

// until asks for the object until it will do, and says at the end why it wouldn't.
func (w *wait) until(ctx context.Context, will func(context.Context, *object) (done bool, why string, err error)) error {
	timeout := cmp.Or(w.options.Timeout, DefaultTimeout)
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		last, done, why, err := w.ask(ctx, will)
		if ctx.Err() != nil {
			return fmt.Errorf("waiting for %s: %w", w.ref, context.Cause(ctx))
		}
		if done || err != nil {
			return err
		}
		if !w.silent || time.Since(w.start) > patience {
			w.tell(why)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", w.ref, context.Cause(ctx))
		case <-timer.C:
			// It may be trying again just now.
			if !strings.Contains(why, w.failed) {
				why += "; before that: " + w.failed
			}
			return fmt.Errorf("%s %w after %s: %s", w.ref, ErrTimeout, timeout, why+unready(ctx, w.client, last))
		case <-time.After(pollInterval):
		}
	}
}

func (w *wait) ask(ctx context.Context, will func(context.Context, *object) (bool, string, error)) (o *object, done bool, why string, err error) {
	w.silent = false
	o, err = get(ctx, w.client, w.ref)
	if err == nil {
		if ready := o.condition(meta.ReadyCondition); ready != nil && ready.Status != metav1.ConditionUnknown {
			w.failed = ""
			if ready.Status == metav1.ConditionFalse && o.current(ready) {
				w.failed = sentence(ready)
			}
		}
		done, why, err = will(ctx, o)
	}
	if err != nil && isTransient(err) && !errors.Is(err, ErrStalled) {
		return nil, false, err.Error(), nil
	}
	return o, done, why, err
}

func (w *wait) tell(message string) {
	key := buildFolder.ReplaceAllLiteralString(message, "")
	if w.options.Progress != nil && message != "" && !w.told[key] {
		w.told[key] = true
		w.options.Progress(message)
	}
}

// isHandled says whether the object's controller has taken up our request, and what it was asked
// for last by whomever: values that changed, of which a release has no generation, come with such
// a request.
func (w *wait) isHandled(o *object) (done bool, why string) {
	last, asked := meta.ReconcileAnnotationValue(o.Annotations)
	answered := !asked || o.handled(last)
	if ours := w.options.RequestedAt; ours != "" && !o.handled(ours) {
		// A request that was overwritten is answered with the one that did.
		answered = answered && asked && last != ours
	}
	if answered {
		return true, ""
	}
	w.silent = true
	said := o.says()
	switch {
	case apimeta.IsStatusConditionTrue(o.Status.Conditions, meta.ReconcilingCondition):
		return false, "the request to reconcile waits until Flux is done with what it does now: " + said
	case said == "":
		return false, "the request to reconcile was not taken up yet: does the controller of " + w.ref.Group + " run?"
	default:
		return false, "the request to reconcile was not taken up yet: does the controller of " + w.ref.Group + " run? " +
			"Of what was before it, it says: " + said
	}
}

func (w *wait) isReady(ctx context.Context, o *object) (done bool, why string, err error) {
	if o.Spec.Suspend {
		w.tell(w.ref.String() + " is suspended, so it is not waited for")
		return true, "", nil
	}
	if o.static() {
		return true, "", nil
	}
	if done, why := w.isHandled(o); !done {
		return false, why, nil
	}
	if stalled := o.stalled(); stalled != "" {
		return false, "", fmt.Errorf("%s %w: %s", w.ref, ErrStalled, stalled)
	}
	if o.DeletionTimestamp != nil {
		return false, "it is being deleted", nil
	}
	said := o.says()
	switch {
	case said == "":
		w.silent = true
		return false, "no controller has looked at it yet: does that of " + w.ref.Group + " run?", nil
	case o.ready():
		return w.isAtRevision(ctx, o)
	case o.Status.ObservedGeneration != o.Generation:
		w.silent = true
		return false, "the change was not taken up yet; of what was before it, Flux says: " + said, nil
	case o.failed():
		tried, err := w.hasTried(ctx, o)
		if tried || err != nil {
			return false, said, err
		}
		return false, w.untried() + " Of what was before it, it says: " + said, nil
	default:
		return false, said, nil
	}
}

// hasTried says whether a Kustomization's controller has begun with the revision that is waited for, or with a newer one.
func (w *wait) hasTried(ctx context.Context, o *object) (bool, error) {
	if w.options.Revision == "" || w.ref.Kind != kustomizev1.KustomizationKind {
		return true, nil
	}
	return w.reaches(ctx, o, o.Status.LastTriedRevision)
}

// reaches says whether a revision of a Kustomization is the one that is waited for, or what its source has by now.
func (w *wait) reaches(ctx context.Context, o *object, revision string) (bool, error) {
	if isAt(revision, w.options.Revision) {
		return true, nil
	}
	source, err := get(ctx, w.client, o.source())
	if err != nil {
		return false, err
	}
	return revision != "" && revision == source.revision(), nil
}

// untried says that nobody has begun with the revision that is waited for, which takes a controller no time.
func (w *wait) untried() string {
	w.silent = true
	return w.options.Revision + " was not taken up yet: does the controller of " + w.ref.Group + " run?"
}

func (w *wait) isAtRevision(ctx context.Context, o *object) (done bool, why string, err error) {
	wanted, has := w.options.Revision, o.revision()
	if wanted == "" || isAt(has, wanted) {
		return true, "", nil
	}
	switch w.ref.Kind {
	case kustomizev1.KustomizationKind:
		if newer, err := w.reaches(ctx, o, has); newer || err != nil {
			return newer, "", err
		}
		return false, w.untried() + " It has applied " + cmp.Or(has, "nothing") + ".", nil
	case sourcev1.GitRepositoryKind:
		if has != "" && w.options.RequestedAt != "" {
			return true, "", nil
		}
		return false, fmt.Sprintf("it has fetched %s, not yet %s", cmp.Or(has, "nothing"), wanted), nil
	default:
		return true, "", nil
	}
}
