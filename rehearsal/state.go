package rehearsal

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nullify005/manager-cluster-state/components"
)

// stackState is what Pulumi's state says of a stack: its workloads and its outputs.
type stackState struct {
	workloads []workload
	urls      []string
}

// workload is one workload of the stack: a component, and what it made.
type workload struct {
	name    string
	created time.Time // when its first object was
	objects []objectID
}

// objectID names an object that a workload made and whose readiness can be asked.
type objectID struct {
	kind      string // Deployment, ...
	namespace string
	name      string
}

func (o objectID) String() string { return o.kind + " " + o.namespace + "/" + o.name }

// pulledBy is the label by which Flux marks what it delivers, with the Kustomization's name: the
// workload's.
const pulledBy = "kustomize.toolkit.fluxcd.io/name"

func (e *engine) state(ctx context.Context) (*stackState, error) {
	out, err := e.output(ctx, "stack", "export", "--stack", e.rehearsal.stack)
	if err != nil {
		return nil, fmt.Errorf("reading what the stack made: %w", err)
	}
	return parseState(out)
}

func parseState(data []byte) (*stackState, error) {
	var export struct {
		Deployment struct {
			Resources []struct {
				URN     string         `json:"urn"`
				Type    string         `json:"type"`
				ID      string         `json:"id"`
				Parent  string         `json:"parent"`
				Created time.Time      `json:"created"`
				Delete  bool           `json:"delete"`
				Outputs map[string]any `json:"outputs"`
			} `json:"resources"`
		} `json:"deployment"`
	}
	if err := json.Unmarshal(data, &export); err != nil {
		return nil, fmt.Errorf("parsing the stack's state: %w", err)
	}
	state := &stackState{}
	parents := map[string]string{}
	index := map[string]int{}
	for _, resource := range export.Deployment.Resources {
		parents[resource.URN] = resource.Parent
		switch resource.Type {
		case "pulumi:pulumi:Stack":
			state.urls = stringsIn(resource.Outputs["urls"])
		case components.TokenDeliveryDirect, components.TokenDeliveryPulled:
			index[resource.URN] = len(state.workloads)
			state.workloads = append(state.workloads, workload{name: resource.URN[strings.LastIndex(resource.URN, "::")+2:]})
		}
	}
	for _, resource := range export.Deployment.Resources {
		group, found := strings.CutPrefix(resource.Type, "kubernetes:")
		owner, owned := ownerOf(resource.URN, parents, index)
		if !found || !owned || resource.Delete {
			continue
		}
		w := &state.workloads[owner]
		if !resource.Created.IsZero() && (w.created.IsZero() || resource.Created.Before(w.created)) {
			w.created = resource.Created
		}
		kind := group[strings.LastIndex(group, ":")+1:]
		if namespace, name, namespaced := strings.Cut(resource.ID, "/"); namespaced && slices.Contains(awaitedKinds(), kind) {
			w.objects = append(w.objects, objectID{kind: kind, namespace: namespace, name: name})
		}
	}
	return state, nil
}

// addPulled gives each workload that Flux delivers what the cluster says is of it.
func (s *stackState) addPulled(seen []readiness) {
	for i := range s.workloads {
		for _, object := range seen {
			w := &s.workloads[i]
			if object.pulledBy == w.name && !slices.Contains(w.objects, object.object) {
				w.objects = append(w.objects, object.object)
			}
		}
	}
}

func ownerOf(urn string, parents map[string]string, index map[string]int) (int, bool) {
	for urn != "" {
		if i, found := index[urn]; found {
			return i, true
		}
		urn = parents[urn]
	}
	return 0, false
}

func stringsIn(value any) []string {
	list, _ := value.([]any)
	var found []string
	for _, element := range list {
		if text, ok := element.(string); ok {
			found = append(found, text)
		}
	}
	return found
}
