package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/internal/pulumitest"
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
		info := stack(t, "production")
		ship(info, observability)
		cfg, err := config.Load(info.Project, info.Config, info.ConfigSecretKeys, time.Now())
		require.NoError(t, err)
		images, err := workloads.LoadImages(cfg.Images)
		require.NoError(t, err)
		catalog, err := workloads.Catalog(cfg, images)
		require.NoError(t, err)
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

// The picture has an arrow for every edge of the graph, and no other between workloads.
func TestREADME_ItsPictureHasTheGraphsEdges(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	recorder, info := &pulumitest.Recorder{}, stack(t, "production")
	require.NoError(t, recorder.Run(program(info), true))
	for name, after := range edges(recorder) {
		assert.Contains(t, string(readme), `["`+name+`"]`)
		for _, before := range after {
			assert.Regexp(t, `\["`+before+`"\] --> \w+\["`+name+`"\]`, string(readme))
		}
	}
}
