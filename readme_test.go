package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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

var update = flag.Bool("update", false, "rewrite the generated parts of the documents")

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

// The stack is as it was set out, so that what an owner sets in the real one changes no page.
func TestDocs_TheBudgetIsProductions(t *testing.T) {
	budget := func(observability string) *workloads.MemoryBudget {
		s := stack(t, asSetOut, "production")
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

func TestDocs_EveryTargetTheyNameExists(t *testing.T) {
	makefile, err := os.ReadFile("Makefile")
	require.NoError(t, err)
	count := 0
	for _, page := range append(documents(t, "docs/*.md"), "README.md") {
		for _, match := range regexp.MustCompile("(?m)(?:^|`)make ([a-z-]+(?: [a-z-]+)*)").FindAllStringSubmatch(read(t, page), -1) {
			for target := range strings.FieldsSeq(match[1]) {
				count++
				assert.Regexp(t, `(?m)^`+target+`:.*## `, string(makefile), "%s: make %s", page, target)
			}
		}
	}
	assert.Greater(t, count, 20)
}

func TestDocs_EveryPageIsListedAndEveryLinkLeadsSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	linked := map[string]bool{}
	for _, page := range slices.Concat([]string{"README.md", "tools/README.md"}, documents(t, "docs/*.md"), documents(t, "docs/*/*.md")) {
		for _, found := range link.FindAllStringSubmatch(read(t, page), -1) {
			target, anchor, hasAnchor := strings.Cut(found[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			path := page
			if target != "" {
				path = filepath.ToSlash(filepath.Join(filepath.Dir(page), target))
			}
			_, err := os.Stat(path)
			require.NoError(t, err, "%s: %s", page, found[0])
			if hasAnchor {
				assert.Contains(t, anchors(t, path), anchor, "%s: %s", page, found[0])
			}
			if page == "docs/README.md" || path == "docs/README.md" {
				linked[path] = true
			}
		}
	}
	for _, page := range append(documents(t, "docs/*.md"), documents(t, "docs/*/*.md")...) {
		assert.True(t, linked[page], "docs/README.md doesn't list %s", page)
	}
}

// A page about a decision that takes longer to read than this says too much.
func TestDecisions_AreShortAndSayWhatWasNotTaken(t *testing.T) {
	pages := documents(t, "docs/adr/*.md")
	require.NotEmpty(t, pages)
	for i, page := range pages {
		assert.Regexp(t, fmt.Sprintf(`^docs/adr/%04d-[a-z0-9-]+\.md$`, i+1), page, "the next number is free")
		content := read(t, page)
		assert.LessOrEqual(t, strings.Count(content, "\n"), 25, page)
		for _, part := range []string{fmt.Sprintf("# %d. ", i+1), "**Context.**", "**Decision.**", "**Consequences.**", "**Rejected.**"} {
			assert.Contains(t, content, part, page)
		}
	}
}

func documents(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.FromSlash(pattern))
	require.NoError(t, err)
	for i := range found {
		found[i] = filepath.ToSlash(found[i])
	}
	return found
}

// read is a page without what is commented out.
func read(t *testing.T, page string) string {
	t.Helper()
	content, err := os.ReadFile(page)
	require.NoError(t, err)
	return regexp.MustCompile(`(?s)<!--.*?-->`).ReplaceAllString(string(content), "")
}

// anchors are what GitHub calls a page's headings.
func anchors(t *testing.T, page string) []string {
	t.Helper()
	var all []string
	for _, found := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(read(t, page), -1) {
		words := regexp.MustCompile(`[^\w\s-]`).ReplaceAllString(strings.ToLower(found[1]), "")
		all = append(all, strings.ReplaceAll(words, " ", "-"))
	}
	return all
}
