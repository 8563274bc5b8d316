package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/graph"
	"github.com/nullify005/manager-cluster-state/internal/report"
	"github.com/nullify005/manager-cluster-state/internal/stacktest"
	"github.com/nullify005/manager-cluster-state/workloads"
)

var update = flag.Bool("update", false, "rewrite the generated parts of the README")

func TestDocs_TheConfigTableIsGenerated(t *testing.T) {
	rewrite(t, "docs/configuration.md", "config", strings.TrimSpace(config.MarkdownTable()))
}

// The picture is of all that any stack can be; the graph's own tests say that it is the catalogs'.
func TestREADME_ItsPictureIsOfTheCatalogs(t *testing.T) {
	var views []graph.View
	for _, name := range stacktest.Names(t, ".") {
		for _, cfg := range graph.Every(stacktest.Config(t, ".", name)) {
			views = append(views, graph.View{Config: cfg, Catalog: stacktest.Catalog(t, ".", cfg)})
		}
	}
	rewrite(t, "README.md", "graph", "```mermaid\n"+graph.Mermaid(views...)+"```")
}

// seedMiB is what the pods of the document that this project grew from asked for: Prometheus and
// Grafana, the SNMP exporter and mDNS, three apps, and six controllers of Flux as they come.
const seedMiB = 2*256 + 2*64 + 3*32 + 6*64

func TestDocs_TheBudgetIsProductions(t *testing.T) {
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
	rewrite(t, "docs/services.md", "budget", fmt.Sprintf(`| | MiB asked for | and with k3s's own |
| --- | --- | --- |
| %s | %d | %d |
| %s | %d | %d |
| the seed's set, with Flux as it comes and without sealed-secrets | %d | %d |

`+"```text\n%s\n```\n", "`observability: local`", localMiB, localMiB+k3s, "`observability: cloud`", cloudMiB, cloudMiB+k3s, seedMiB, seedMiB+k3s, local))
}

// rewrite holds a generated part of a document, between two comments, against what it has to be;
// or, with -update, makes it that.
func rewrite(t *testing.T, document, part, want string) {
	t.Helper()
	if *update {
		require.NoError(t, report.ReplaceInFile(document, part, want))
		return
	}
	content, err := os.ReadFile(document)
	require.NoError(t, err)
	whole, err := report.Replace(string(content), part, want)
	require.NoError(t, err)
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
