package graph_test

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/graph"
	"github.com/nullify005/manager-cluster-state/internal/stacktest"
	"github.com/nullify005/manager-cluster-state/workloads"
)

const projectDir = ".."

// stackView is of a stack as it was set out, whatever an owner has set in the real one.
func stackView(t *testing.T, stack string) graph.View {
	t.Helper()
	cfg := stacktest.Config(t, "../workloads/testdata", stack)
	return graph.View{Config: cfg, Catalog: stacktest.Catalog(t, projectDir, cfg)}
}

func every(t *testing.T) []graph.View {
	t.Helper()
	var views []graph.View
	for _, stack := range stacktest.Names(t, projectDir) {
		for _, cfg := range graph.Every(stacktest.Config(t, projectDir, stack)) {
			views = append(views, graph.View{Config: cfg, Catalog: stacktest.Catalog(t, projectDir, cfg)})
		}
	}
	return views
}

// view is one of made-up workloads, each with what it comes after.
func view(delivery config.Delivery, after map[string][]string) graph.View {
	cfg := &config.Config{Delivery: delivery, Observability: config.Local, Cluster: config.Cluster{Kind: config.K3d}}
	var catalog []workloads.Workload
	for _, name := range slices.Sorted(maps.Keys(after)) {
		catalog = append(catalog, workloads.Workload{Name: name, After: after[name]})
	}
	return graph.View{Config: cfg, Catalog: catalog}
}

// drawn is a picture read back: its boxes, and its arrows of each kind from box to box, those at
// a frame one by one.
type drawn struct {
	boxes  map[string]string // their labels
	arrows map[string][]string
}

func read(t *testing.T, picture string) drawn {
	t.Helper()
	box := regexp.MustCompile(`^\s*(subgraph )?([\w-]+)\["(.+)"\]$`)
	arrow := regexp.MustCompile(`^  ([\w-]+) (-->|-\.->) ([\w-]+)$`)
	lines := strings.Split(strings.TrimSuffix(picture, "\n"), "\n")
	require.Equal(t, "graph LR", lines[0])
	d, frames, within := drawn{boxes: map[string]string{}, arrows: map[string][]string{}}, map[string][]string{}, []string{}
	for _, line := range lines[1:] {
		if strings.TrimSpace(line) == "end" {
			within = within[:len(within)-1]
			continue
		}
		if found := box.FindStringSubmatch(line); found != nil {
			if found[1] != "" {
				within = append(within, found[2])
				continue
			}
			require.NotContains(t, d.boxes, found[2], "it is drawn twice")
			d.boxes[found[2]] = found[3]
			for _, frame := range within {
				frames[frame] = append(frames[frame], found[2])
			}
			continue
		}
		found := arrow.FindStringSubmatch(line)
		require.NotNil(t, found, line)
		ends, isFrame := frames[found[3]]
		if !isFrame {
			ends = []string{found[3]}
		}
		for _, end := range ends {
			require.Contains(t, d.boxes, found[1])
			require.Contains(t, d.boxes, end)
			d.arrows[found[2]] = append(d.arrows[found[2]], found[1]+" → "+end)
		}
	}
	require.Empty(t, within)
	return d
}

// between keeps the arrows from workload to workload.
func (d drawn) between(kind string) []string {
	return slices.DeleteFunc(slices.Clone(d.arrows[kind]), func(arrow string) bool { return strings.Contains(arrow, "_") })
}

func TestMermaid_HasEveryArrowOfEveryStackAndNoOther(t *testing.T) {
	direct, pulled, names := map[string]bool{}, map[string]bool{}, map[string]bool{}
	views := every(t)
	for _, view := range views {
		edges := direct
		if view.Config.Delivery == config.FluxCD {
			edges = pulled
		}
		for _, workload := range view.Catalog {
			names[workload.Name] = true
			for _, before := range workload.After {
				edges[before+" → "+workload.Name] = true
			}
		}
	}
	maps.DeleteFunc(pulled, func(edge string, _ bool) bool { return direct[edge] })
	require.NotEmpty(t, direct)
	require.NotEmpty(t, pulled)

	picture := read(t, graph.Mermaid(views...))
	for name := range names {
		assert.Contains(t, picture.boxes, name)
	}
	assert.ElementsMatch(t, slices.Collect(maps.Keys(direct)), picture.between("-->"), "lines")
	assert.ElementsMatch(t, slices.Collect(maps.Keys(pulled)), picture.between("-.->"), "dashes: what Flux's delivery adds")
	assert.Equal(t, "alloy<br>observability: cloud", picture.boxes["alloy"])
	assert.Equal(t, "grafana<br>observability: local", picture.boxes["grafana"])
	assert.Equal(t, "chat-hvac", picture.boxes["chat-hvac"])
}

func TestMermaid_EverythingStartsAtTheCluster(t *testing.T) {
	for name, views := range map[string][]graph.View{
		"everything": every(t), "production": {stackView(t, "production")}, "development": {stackView(t, "development")},
	} {
		t.Run(name, func(t *testing.T) {
			picture := read(t, graph.Mermaid(views...))
			reached := map[string]bool{"the_cluster": true}
			arrows := slices.Concat(picture.arrows["-->"], picture.arrows["-.->"])
			for range arrows {
				for _, arrow := range arrows {
					if from, to, _ := strings.Cut(arrow, " → "); reached[from] {
						reached[to] = true
					}
				}
			}
			for box := range picture.boxes {
				if box != "deploy_key" {
					assert.True(t, reached[box], "no arrow leads to %s", box)
				}
			}
		})
	}
}

func TestMermaid_OfAStackIsWhatItsFileSays(t *testing.T) {
	pulls := graph.Mermaid(stackView(t, "production"))
	assert.NotContains(t, pulls, "alloy")
	assert.NotContains(t, pulls, "observability", "it has no other")
	assert.NotContains(t, pulls, "-.->", "nothing is to be told apart")
	assert.Contains(t, pulls, "git-source --> pulled_by_flux\n")
	assert.Contains(t, pulls, "deploy_key --> git-source\n")
	assert.Contains(t, pulls, "cluster: pi\"")

	direct := graph.Mermaid(stackView(t, "development"))
	assert.NotContains(t, direct, "subgraph", "Flux pulls nothing")
	assert.NotContains(t, direct, "git-source")
	assert.Contains(t, direct, "snmp-exporter --> prometheus\n")
}

func TestMermaid_AFrameTakesArrowsOnlyWhenEachBoxHasOneOfAKind(t *testing.T) {
	all := map[string][]string{"source": nil, "a": {"source"}, "b": {"source", "a"}}
	direct := func(view graph.View, name string) graph.View {
		for i := range view.Catalog {
			view.Catalog[i].Direct = view.Catalog[i].Direct || view.Catalog[i].Name == name
		}
		return view
	}
	pulled := direct(view(config.FluxCD, all), "source")
	assert.Contains(t, graph.Mermaid(pulled), "  source --> pulled_by_flux\n")
	assert.NotContains(t, graph.Mermaid(pulled), "source --> a")

	some := direct(view(config.FluxCD, map[string][]string{"source": nil, "a": {"source"}, "b": {"a"}}), "source")
	assert.Contains(t, graph.Mermaid(some), "  source --> a\n")
	assert.NotContains(t, graph.Mermaid(some), "source --> pulled_by_flux", "b doesn't wait for it")

	twoKinds := graph.Mermaid(view(config.Direct, map[string][]string{"source": nil, "a": {"source"}, "b": {"a"}}), pulled)
	assert.Contains(t, twoKinds, "  source --> a\n")
	assert.Contains(t, twoKinds, "  source -.-> b\n")

	inside := view(config.FluxCD, all)
	assert.Contains(t, graph.Mermaid(inside), "  source --> a\n", "a box in a frame has no arrow at the frame itself")
}
