package main

import (
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/internal/pulumitest"
)

var update = flag.Bool("update", false, "rewrite the generated parts of the README")

func TestREADME_ItsConfigTableIsGenerated(t *testing.T) {
	content, err := os.ReadFile("README.md")
	require.NoError(t, err)
	const start, end = "<!-- config -->\n", "<!-- /config -->"
	before, rest, ok := strings.Cut(string(content), start)
	require.True(t, ok)
	_, after, ok := strings.Cut(rest, end)
	require.True(t, ok)
	want := before + start + strings.TrimSpace(config.MarkdownTable()) + "\n" + end + after
	if *update {
		require.NoError(t, os.WriteFile("README.md", []byte(want), 0o600))
		return
	}
	assert.Equal(t, want, string(content), "run make generate")
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
