package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSettings_FlagsComeBeforeTheFileAndTheFileBeforeTheEnvironment(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	t.Setenv("K3S_STANDIN_LOG", log)
	t.Setenv("K3S_TOKEN", "secret-of-the-environment")
	t.Setenv("K3S_URL", "https://environment:6443")
	t.Setenv("K3S_NODE_NAME", "environment")
	file := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(file, []byte("server: https://file:6443\nnode-name: file\nnode-label: [a=1, b=2]\nunknown: true\n"), 0o600))
	read, err := readSettings([]string{"-c", file, "--node-name=flag", "--tls-san", "one", "--tls-san", "two", "--debug"})
	require.NoError(t, err)
	assert.Equal(t, settings{
		"config": {file}, "token": {"secret-of-the-environment"}, "server": {"https://file:6443"}, "node-name": {"flag"},
		"node-label": {"a=1", "b=2"}, "unknown": {"true"}, "tls-san": {"one", "two"}, "debug": {"true"},
	}, read)
	recorded, err := os.ReadFile(log)
	require.NoError(t, err)
	assert.Contains(t, string(recorded), `"unknown":["true"]`)
	assert.NotContains(t, string(recorded), "secret")
}

func TestCalls_AreRecordedWithoutTokens(t *testing.T) {
	assert.Equal(t, []string{"--token", hidden, "--agent-token=" + hidden, "-t", hidden, "--node-name", "token"},
		concealed([]string{"--token", "a", "--agent-token=b", "-t", "c", "--node-name", "token"}))
	assert.Equal(t, []string{"K3S_TOKEN", "K3S_URL"}, names([]string{"K3S_URL=https://x", "HOME=/", "K3S_TOKEN=secret"}))
}

func TestToken_IsK3sOrAPassword(t *testing.T) {
	authority := strings.Repeat("ab", 32)
	for text, wanted := range map[string]token{
		"K10" + authority + "::server:word": {authority, "word"},
		"K10" + authority + "::word":        {authority, "word"},
		"word":                              {"", "word"},
		"":                                  {},
	} {
		parsed, err := parseToken(text)
		require.NoError(t, err, text)
		assert.Equal(t, wanted, parsed, text)
	}
	for _, text := range []string{"K10" + authority, "K10abc::server:word", "K10" + strings.Repeat("zz", 32) + "::server:word"} {
		_, err := parseToken(text)
		require.Error(t, err, text)
	}
}

func TestNode_TaintsAreKubernetess(t *testing.T) {
	taint, err := parseTaint("key=value:NoSchedule")
	require.NoError(t, err)
	assert.Equal(t, "key=value:NoSchedule", taint.ToString())
	for _, text := range []string{"key=value", "key=value:Never"} {
		_, err := parseTaint(text)
		require.Error(t, err, text)
	}
}
