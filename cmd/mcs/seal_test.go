package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/stack"
)

// sealedFiles are those of a stack, by path.
func sealedFiles(t *testing.T, s *stack.Stack) map[string]string {
	t.Helper()
	files := map[string]string{}
	names, err := fs.Glob(os.DirFS(s.Project), "manifests/*/*/*")
	require.NoError(t, err)
	for _, name := range names {
		files[name] = read(t, filepath.Join(s.Project, name))
	}
	return files
}

func TestSeal_ChangesOnlyFilesWhoseSecretOrKeyDid(t *testing.T) {
	s := realStack(t)
	_, err := on(t, s, "", "seal")
	require.ErrorContains(t, err, "make keys", "there is no key yet")
	succeeds(t, s, "keys")
	require.NoError(t, s.Set(t.Context(), "secrets.snmp.community", "canary-one", true))

	out := succeeds(t, s, "seal", "--dry-run")
	const snmp = "manifests/production/snmp-exporter/sealedsecret-snmp-exporter.yaml"
	assert.Contains(t, out, "would seal "+snmp+": it is new\n")
	assert.Empty(t, sealedFiles(t, s))
	_, err = on(t, s, "", "seal", "--check")
	require.ErrorContains(t, err, snmp+": the sealed file of secret exporter-snmp-v1/snmp-exporter: it is missing")

	out = succeeds(t, s, "seal")
	assert.Contains(t, out, "sealed "+snmp+": it is new\n")
	assert.Contains(t, out, "make render STACK=production")
	first := sealedFiles(t, s)
	require.Contains(t, first, snmp)
	require.Contains(t, first, "manifests/production/chat-hvac/sealedsecret-chat-hvac.yaml")
	require.Contains(t, first, "manifests/production/service-intesis/sealedsecret-service-intesis.yaml")
	for name, content := range first {
		assert.NotContains(t, content, "canary", name)
	}
	succeeds(t, s, "seal", "--check")

	longAgo := time.Now().Add(-time.Hour).Truncate(time.Second)
	require.NoError(t, os.Chtimes(filepath.Join(s.Project, snmp), longAgo, longAgo))
	assert.Equal(t, "3 sealed files of stack production stay as they are\n", succeeds(t, s, "seal"))
	assert.Equal(t, first, sealedFiles(t, s), "byte for byte")
	info, err := os.Stat(filepath.Join(s.Project, snmp))
	require.NoError(t, err)
	assert.Equal(t, longAgo, info.ModTime(), "nor was it written again")

	require.NoError(t, s.Set(t.Context(), "secrets.snmp.community", "canary-two", true))
	_, err = on(t, s, "", "seal", "--check")
	require.ErrorContains(t, err, "it holds another value than the stack's config; run: make seal STACK=…, then commit and push")
	assert.NotContains(t, err.Error(), "canary")
	out = succeeds(t, s, "seal")
	assert.Contains(t, out, "sealed "+snmp+": its secret changed")
	second := sealedFiles(t, s)
	assert.NotEqual(t, first[snmp], second[snmp])
	second[snmp] = first[snmp]
	assert.Equal(t, first, second, "no other file changed")

	before := sealedFiles(t, s)
	succeeds(t, s, "keys", "rotate", "sealing", "--yes")
	succeeds(t, s, "seal", "--check")
	out = succeeds(t, s, "seal")
	assert.Equal(t, len(before), strings.Count(out, "a newer key seals"))
	for name, content := range sealedFiles(t, s) {
		assert.NotEqual(t, before[name], content, name)
		assert.Equal(t, digestOf(before[name]), digestOf(content), "rotation changes no digest: "+name)
	}
}

// digestOf is the line of a sealed file that has its digest.
func digestOf(content string) string {
	_, rest, _ := strings.Cut(content, "manager-cluster-state/digest: ")
	digest, _, _ := strings.Cut(rest, "\n")
	return digest
}

func TestSeal_RemovesFilesOfSecretsThatAreGone(t *testing.T) {
	s := realStack(t)
	succeeds(t, s, "keys")
	succeeds(t, s, "seal")
	folder := filepath.Join(s.Project, "manifests", "production", "chat-hvac")
	stray, kept := filepath.Join(folder, "sealedsecret-gone.yaml"), filepath.Join(folder, "kustomization.yaml")
	other := filepath.Join(s.Project, "manifests", "development", "chat-hvac", "sealedsecret-gone.yaml")
	require.NoError(t, os.MkdirAll(filepath.Dir(other), 0o755))
	for _, path := range []string{stray, kept, other} {
		require.NoError(t, os.WriteFile(path, []byte("x"), 0o600))
	}
	_, err := on(t, s, "", "seal", "--check")
	require.ErrorContains(t, err, "sealedsecret-gone.yaml: no workload has that secret")
	assert.Contains(t, succeeds(t, s, "seal", "--dry-run"), "would remove manifests/production/chat-hvac/sealedsecret-gone.yaml")
	assert.FileExists(t, stray)
	assert.Contains(t, succeeds(t, s, "seal"), "removed manifests/production/chat-hvac/sealedsecret-gone.yaml")
	assert.NoFileExists(t, stray)
	assert.FileExists(t, kept, "what is not sealed is not its to remove")
	assert.FileExists(t, other, "nor what is another stack's")
}
