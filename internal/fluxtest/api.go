package fluxtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/nullify005/manager-cluster-state/internal/flux"
)

// API stands in for an API server where a program is run whose objects nobody makes. It has
// every object of Flux's that it is asked for. Each is ready, but for what Say is told.
type API struct {
	// Pulled is the revision that Flux has.
	Pulled string
	// OnRequest is the one that it has once somebody asked it to reconcile; empty for the same.
	OnRequest string

	url string

	mu        sync.Mutex
	said      map[string][]metav1.Condition
	asked     []string
	requested map[string]string
}

// NewAPI answers until the test ends.
func NewAPI(t *testing.T) *API {
	t.Helper()
	a := &API{said: map[string][]metav1.Condition{}, requested: map[string]string{}}
	mux := http.NewServeMux()
	groups := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "APIGroupList"}}
	for _, kind := range []struct {
		schema.GroupVersionKind

		plural string
	}{
		{kustomizev1.GroupVersion.WithKind(kustomizev1.KustomizationKind), "kustomizations"},
		{helmv2.GroupVersion.WithKind(helmv2.HelmReleaseKind), "helmreleases"},
		{sourcev1.GroupVersion.WithKind(sourcev1.GitRepositoryKind), "gitrepositories"},
	} {
		version := metav1.GroupVersionForDiscovery{GroupVersion: kind.GroupVersion().String(), Version: kind.Version}
		groups.Groups = append(groups.Groups, metav1.APIGroup{
			Name: kind.Group, Versions: []metav1.GroupVersionForDiscovery{version}, PreferredVersion: version,
		})
		path := "/apis/" + kind.GroupVersion().String()
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			answer(w, metav1.APIResourceList{
				TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "APIResourceList"}, GroupVersion: kind.GroupVersion().String(),
				APIResources: []metav1.APIResource{{
					Name: kind.plural, SingularName: strings.ToLower(kind.Kind), Kind: kind.Kind, Namespaced: true, Verbs: metav1.Verbs{"get", "patch"},
				}},
			})
		})
		path += "/namespaces/{namespace}/" + kind.plural + "/{name}"
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			a.object(w, r, flux.Ref{GroupVersionKind: kind.GroupVersionKind, Namespace: r.PathValue("namespace"), Name: r.PathValue("name")})
		})
	}
	mux.HandleFunc("GET /apis", func(w http.ResponseWriter, _ *http.Request) { answer(w, groups) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	a.url = server.URL
	return a
}

// Kubeconfig points at it; in it is the canary of a secret.
func (a *API) Kubeconfig() string {
	return fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: home
contexts: [{name: home, context: {cluster: home, user: admin}}]
clusters: [{name: home, cluster: {server: %q}}]
users: [{name: admin, user: {token: canary-kubeconfig}}]
`, a.url)
}

// Say gives an object other conditions than that it is ready.
func (a *API) Say(ref flux.Ref, conditions ...metav1.Condition) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.said[ref.String()] = conditions
}

// Asked names the objects that somebody asked for, sorted: Kustomization flux-system/chat-hvac.
func (a *API) Asked() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Compact(slices.Sorted(slices.Values(a.asked)))
}

// Requested names the objects that somebody had Flux reconcile, sorted.
func (a *API) Requested() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var names []string
	for name := range a.requested {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (a *API) object(w http.ResponseWriter, r *http.Request, ref flux.Ref) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, ref.String())
	if r.Method == http.MethodPatch {
		var change metav1.PartialObjectMetadata
		if err := json.NewDecoder(r.Body).Decode(&change); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		a.requested[ref.String()] = change.Annotations[meta.ReconcileRequestAnnotation]
		if a.OnRequest != "" {
			a.Pulled = a.OnRequest
		}
	}
	conditions, told := a.said[ref.String()]
	if !told {
		conditions = []metav1.Condition{{Type: meta.ReadyCondition, Status: metav1.ConditionTrue, Reason: meta.ReconciliationSucceededReason}}
	}
	apiVersion, kind := ref.ToAPIVersionAndKind()
	answer(w, map[string]any{
		"apiVersion": apiVersion, "kind": kind,
		"metadata": map[string]any{
			"namespace": ref.Namespace, "name": ref.Name, "generation": 1,
			"annotations": map[string]string{meta.ReconcileRequestAnnotation: a.requested[ref.String()]},
		},
		"status": a.status(ref, conditions),
	})
}

func (a *API) status(ref flux.Ref, conditions []metav1.Condition) map[string]any {
	status := map[string]any{
		"observedGeneration": 1, "conditions": conditions, "lastHandledReconcileAt": a.requested[ref.String()],
	}
	if ref.Kind == sourcev1.GitRepositoryKind {
		status["artifact"] = map[string]any{"revision": a.Pulled}
	} else {
		status["lastAppliedRevision"] = a.Pulled
	}
	return status
}

func answer(w http.ResponseWriter, value any) {
	text, err := json.Marshal(value)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text) // the client has gone: nobody is left to tell
}
