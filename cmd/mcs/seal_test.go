package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/render"
	"github.com/nullify005/manager-cluster-state/seal"
	"github.com/nullify005/manager-cluster-state/stack"
	"github.com/nullify005/manager-cluster-state/workloads"
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
	s := tempStack(t)
	_, err := on(t, s, "", "seal")
	require.ErrorContains(t, err, "make keys", "there is no key yet")
	succeeds(t, s, "keys")
	require.NoError(t, s.Set(t.Context(), "secrets.snmp.community", "canary-one", true))

	out := succeeds(t, s, "seal", "--dry-run")
	const snmp = "manifests/production/snmp-exporter/sealedsecret-snmp-exporter.yaml"
	assert.Contains(t, out, "would seal "+snmp+": it is new\n")
	assert.Empty(t, sealedFiles(t, s))
	out, err = on(t, s, "", "seal", "--check")
	require.ErrorIs(t, err, errUnsealed)
	assert.Contains(t, out, snmp+": the sealed file of secret exporter-snmp-v1/snmp-exporter: it is missing")

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
	assert.Equal(t, fmt.Sprintf("%d sealed files of stack production stay as they are\n", len(first)), succeeds(t, s, "seal"))
	assert.Equal(t, first, sealedFiles(t, s), "byte for byte")
	info, err := os.Stat(filepath.Join(s.Project, snmp))
	require.NoError(t, err)
	assert.Equal(t, longAgo, info.ModTime(), "nor was it written again")

	require.NoError(t, s.Set(t.Context(), "secrets.snmp.community", "canary-two", true))
	out, err = on(t, s, "", "seal", "--check")
	require.ErrorIs(t, err, errUnsealed)
	assert.Contains(t, out, "it holds another value than the stack's config; run: make seal STACK=…, then commit and push")
	assert.NotContains(t, out, "canary")
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
		require.NotEmpty(t, digestOf(content), name)
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
	s := tempStack(t)
	succeeds(t, s, "keys")
	succeeds(t, s, "seal")
	folder := filepath.Join(s.Project, "manifests", "production", "chat-hvac")
	stray, kept := filepath.Join(folder, "sealedsecret-gone.yaml"), filepath.Join(folder, "kustomization.yaml")
	other := filepath.Join(s.Project, "manifests", "development", "chat-hvac", "sealedsecret-gone.yaml")
	require.NoError(t, os.MkdirAll(filepath.Dir(other), 0o755))
	for _, path := range []string{stray, kept, other} {
		require.NoError(t, os.WriteFile(path, []byte("x"), 0o600))
	}
	out, err := on(t, s, "", "seal", "--check")
	require.ErrorIs(t, err, errUnsealed)
	assert.Contains(t, out, "manifests/production/chat-hvac/sealedsecret-gone.yaml: no workload has that secret")
	assert.Contains(t, succeeds(t, s, "seal", "--dry-run"), "would remove manifests/production/chat-hvac/sealedsecret-gone.yaml")
	assert.FileExists(t, stray)
	assert.Contains(t, succeeds(t, s, "seal"), "removed manifests/production/chat-hvac/sealedsecret-gone.yaml")
	assert.NoFileExists(t, stray)
	assert.FileExists(t, kept, "what is not sealed is not its to remove")
	assert.FileExists(t, other, "nor what is another stack's")
}

func TestSeal_WhatIsRenderedAfterItIsWhatTheProgramWouldRun(t *testing.T) {
	s := tempStack(t)
	succeeds(t, s, "keys")
	succeeds(t, s, "seal")
	succeeds(t, s, "render")
	succeeds(t, s, "seal", "--check")
	succeeds(t, s, "render", "--check")

	cfg, err := s.Config(t.Context())
	require.NoError(t, err)
	images, err := workloads.LoadImages(filepath.Join(s.Project, cfg.Images))
	require.NoError(t, err)
	catalog, err := workloads.Catalog(cfg, images)
	require.NoError(t, err)
	have, err := render.Read(filepath.Join(s.Project, render.Folder(s.Name)))
	require.NoError(t, err)
	want, err := render.Render(&render.Args{Catalog: catalog, Images: images, ImagesFile: cfg.Images, Sealed: have})
	require.NoError(t, err)
	assert.Empty(t, render.Compare(want, have), "digests from the sealed files are those of the plaintext")
}

func TestWhy_NamesWhatChanged(t *testing.T) {
	older, err := seal.NewSealingKey(time.Now())
	require.NoError(t, err)
	newer, err := seal.NewSealingKey(time.Now().Add(time.Hour))
	require.NoError(t, err)
	keys := []config.SealingKey{older}
	digestKey, err := seal.DigestKey(keys)
	require.NoError(t, err)
	secret := &corev1.Secret{Data: map[string][]byte{"a": []byte("b")}}
	secret.Namespace, secret.Name = "app", "creds"
	content, err := seal.Seal(secret, keys, digestKey)
	require.NoError(t, err)
	labelled, other := secret.DeepCopy(), secret.DeepCopy()
	labelled.Labels = map[string]string{"a": "b"}
	other.Data["a"] = []byte("c")

	assert.Equal(t, "it is new", why(nil, secret, keys, digestKey))
	assert.Equal(t, "its labels or annotations changed", why(content, labelled, keys, digestKey))
	assert.Equal(t, "a newer key seals", why(content, secret, append(keys, newer), digestKey))
	assert.Contains(t, why(content, other, keys, digestKey), "its secret changed")
	assert.Contains(t, why(content[1:], secret, keys, digestKey), "or it was damaged")
}
