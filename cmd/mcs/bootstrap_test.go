package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBootstrap_ADryRunRunsTheOtherCommandsDry(t *testing.T) {
	s := stackOfPis(t)
	// A machine that nobody has: it is not asked for long.
	content := strings.Replace(read(t, s.File()), "    k3s: v1", "    ssh: {timeout: 1s}\n    k3s: v1", 1)
	content = strings.Replace(content, "host: one.lan", "host: 127.0.0.1, port: 1", 1)
	content = strings.Replace(content, "  manager-cluster-state:domain", "  manager-cluster-state:flux: {notifications: false}\n  manager-cluster-state:domain", 1)
	require.NoError(t, os.WriteFile(s.File(), []byte(content), 0o600))
	before := read(t, s.File())

	out, err := on(t, s, "", append([]string{"bootstrap", "--dry-run"}, k3sReleases(t)...)...)
	require.ErrorIs(t, err, errSilent)
	assert.Equal(t, before, read(t, s.File()))
	for _, want := range []string{
		"not known yet: 127.0.0.1", "would write that into " + s.File(), "would ask them, once their host keys are kept",
		"would make a sealing key", "would make a deploy key", "would seal the secrets and render",
		"a run would not get to its end",
	} {
		assert.Contains(t, out, want)
	}
	assert.NotContains(t, out, "next:", "what is next, it does itself")
	assert.Empty(t, sealedFiles(t, s))
}

func TestBootstrap_EachQuestionTakesItsOwnLine(t *testing.T) {
	answers := strings.NewReader("n\ny\n")
	var out strings.Builder
	assert.False(t, ask(t.Context(), answers, &out, "First?"))
	assert.True(t, ask(t.Context(), answers, &out, "Second?"))
	assert.False(t, ask(t.Context(), answers, &out, "Third?"))
}

func TestBootstrap_WorksOnTheFileThatGitHas(t *testing.T) {
	s := tempStack(t)
	_, err := on(t, s, "", "bootstrap", "--config-file", "elsewhere.yaml")
	require.ErrorContains(t, err, "leave out --config-file")
}
