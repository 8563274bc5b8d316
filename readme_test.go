package main

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/workloads"
)

var update = flag.Bool("update", false, "rewrite the generated parts of the README")

func TestREADME_ItsConfigTableIsGenerated(t *testing.T) {
	rewriteREADME(t, "config", strings.TrimSpace(config.MarkdownTable())+"\n")
}

// seedMiB is what the pods of the document that this project grew from asked for: Prometheus and
// Grafana, the SNMP exporter and mDNS, three apps, and six controllers of Flux as they come.
const seedMiB = 2*256 + 2*64 + 3*32 + 6*64

func TestREADME_ItsBudgetIsProductions(t *testing.T) {
	budget := func(observability string) *workloads.MemoryBudget {
		s := stack(t, "production")
		s.ship(observability)
		cfg, _, catalog := s.catalog(t)
		made := workloads.Budget(cfg, catalog)
		require.NoError(t, made.Check())
		return made
	}
	asked := func(b *workloads.MemoryBudget) (ours, k3s int64) {
		for _, pod := range b.Pods {
			if pod.Workload == "k3s" {
				k3s += pod.Pods * pod.Request >> 20
			} else {
				ours += pod.Pods * pod.Request >> 20
			}
		}
		return ours, k3s
	}
	local, cloud := budget("local"), budget("cloud")
	localMiB, k3s := asked(local)
	cloudMiB, _ := asked(cloud)
	rewriteREADME(t, "budget", fmt.Sprintf(`| | MiB asked for | and with k3s's own |
| --- | --- | --- |
| %s | %d | %d |
| %s | %d | %d |
| the seed's set, with Flux as it comes and without sealed-secrets | %d | %d |

`+"```text\n%s\n```\n", "`observability: local`", localMiB, localMiB+k3s, "`observability: cloud`", cloudMiB, cloudMiB+k3s, seedMiB, seedMiB+k3s, local))
}

// rewriteREADME holds a generated part of the README, between two comments, against what it has to
// be; or, with -update, makes it that.
func rewriteREADME(t *testing.T, part, want string) {
	t.Helper()
	content, err := os.ReadFile("README.md")
	require.NoError(t, err)
	start, end := "<!-- "+part+" -->\n", "<!-- /"+part+" -->"
	before, rest, ok := strings.Cut(string(content), start)
	require.True(t, ok)
	_, after, ok := strings.Cut(rest, end)
	require.True(t, ok)
	whole := before + start + want + end + after
	if *update {
		require.NoError(t, os.WriteFile("README.md", []byte(whole), 0o600))
		return
	}
	assert.Equal(t, whole, string(content), "run make generate")
}

func TestREADME_EveryTargetItNamesExists(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	makefile, err := os.ReadFile("Makefile")
	require.NoError(t, err)
	named := regexp.MustCompile("(?m)(?:^|`)make ([a-z-]+(?: [a-z-]+)*)").FindAllStringSubmatch(string(readme), -1)
	assert.Greater(t, len(named), 5)
	for _, match := range named {
		for target := range strings.FieldsSeq(match[1]) {
			assert.Regexp(t, `(?m)^`+target+`:.*## `, string(makefile), "make %s", target)
		}
	}
}

// The picture has an arrow for every edge of the graph, and no other between workloads: a line
// for those that are there in either delivery, dashes for those that Flux's adds.
func TestREADME_ItsPictureHasTheGraphsEdges(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(readme), "```mermaid\n")
	require.True(t, found)
	picture, _, _ := strings.Cut(rest, "```\n")
	names, direct, pulled := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, observability := range []string{"local", "cloud"} {
		for delivery, edges := range map[config.Delivery]map[string]bool{config.Direct: direct, config.FluxCD: pulled} {
			s := stack(t, "production")
			s.ship(observability)
			s.set("delivery", string(delivery))
			_, _, catalog := s.catalog(t)
			for _, workload := range catalog {
				names[workload.Name] = true
				for _, before := range workload.After {
					edges[before+" → "+workload.Name] = true
				}
			}
		}
	}
	added := map[string]bool{}
	for edge := range pulled {
		if !direct[edge] {
			added[edge] = true
		}
	}
	drawn := readMermaid(t, picture)
	for name := range names {
		assert.Contains(t, drawn.labels, name, "it has no box")
	}
	assert.Equal(t, sorted(direct), sorted(drawn.edges("-->", names)), "lines")
	assert.Equal(t, sorted(added), sorted(drawn.edges("-.->", names)), "dashes")
}

func sorted(set map[string]bool) []string { return slices.Sorted(maps.Keys(set)) }

// mermaid is a picture: boxes in groups, and arrows.
type mermaid struct {
	labels map[string]string   // the first word of each, to its id
	ids    map[string]string   // and back
	groups map[string][]string // ids of all that a group has, also in groups of its own
	arrows []arrow
}

type arrow struct{ from, to, kind string }

var (
	mermaidBox   = regexp.MustCompile(`^(\w+)(?:\["([^"]+)"\])?$`)
	mermaidArrow = regexp.MustCompile(` (-->|-\.->) `)
)

func readMermaid(t *testing.T, picture string) *mermaid {
	t.Helper()
	m := &mermaid{labels: map[string]string{}, ids: map[string]string{}, groups: map[string][]string{}}
	var within []string
	for _, line := range strings.Split(strings.TrimSpace(picture), "\n")[1:] {
		line = strings.TrimSpace(line)
		if line == "end" {
			within = within[:len(within)-1]
			continue
		}
		if group, isGroup := strings.CutPrefix(line, "subgraph "); isGroup {
			box := mermaidBox.FindStringSubmatch(group)
			require.NotNil(t, box, line)
			within = append(within, box[1])
			m.groups[box[1]] = nil
			continue
		}
		kinds, before := mermaidArrow.FindAllStringSubmatch(line, -1), ""
		for i, text := range mermaidArrow.Split(line, -1) {
			box := mermaidBox.FindStringSubmatch(text)
			require.NotNil(t, box, line)
			if box[2] != "" {
				word, _, _ := strings.Cut(box[2], " ")
				m.labels[word], m.ids[box[1]] = box[1], word
			}
			for _, group := range within {
				m.groups[group] = append(m.groups[group], box[1])
			}
			if i > 0 {
				m.arrows = append(m.arrows, arrow{from: before, to: box[1], kind: kinds[i-1][1]})
			}
			before = box[1]
		}
	}
	return m
}

// edges are the arrows of a kind between boxes of those names; one at a group is one at each of
// its boxes.
func (m *mermaid) edges(kind string, names map[string]bool) map[string]bool {
	found := map[string]bool{}
	for _, arrow := range m.arrows {
		ends, isGroup := m.groups[arrow.to]
		if !isGroup {
			ends = []string{arrow.to}
		}
		for _, end := range ends {
			from, to := m.ids[arrow.from], m.ids[end]
			if arrow.kind == kind && names[from] && names[to] {
				found[from+" → "+to] = true
			}
		}
	}
	return found
}
