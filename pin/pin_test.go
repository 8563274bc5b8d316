package pin_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/internal/k3s"
	"github.com/nullify005/manager-cluster-state/pin"
)

const release = "v1.35.1+k3s1"

// github is where k3s's releases are, for tests.
type github struct {
	*httptest.Server

	binary, script []byte
	mutex          sync.Mutex
	ranges         []string
	broken         bool // the binary ends in its middle
}

func newGitHub(t *testing.T) *github {
	t.Helper()
	g := &github{binary: bytes.Repeat([]byte("k3s "), 1<<20), script: []byte("#!/bin/sh\n")}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /releases/{release}/sha256sum-arm64.txt", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("release") != release {
			http.NotFound(w, r)
			return
		}
		fmt.Fprintf(w, "%s  k3s-airgap-images-arm64.tar\n%s  k3s-arm64\n", sum([]byte("images")), sum(g.binary))
	})
	mux.HandleFunc("GET /releases/{release}/k3s-arm64", g.serve)
	mux.HandleFunc("GET /k3s-arm64", g.serve)
	script := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(g.script) }
	mux.HandleFunc("GET /source/{release}/install.sh", script)
	mux.HandleFunc("GET /install.sh", script)
	g.Server = httptest.NewServer(mux)
	t.Cleanup(g.Close)
	return g
}

func (g *github) serve(w http.ResponseWriter, r *http.Request) {
	g.mutex.Lock()
	g.ranges = append(g.ranges, r.Header.Get("Range"))
	broken := g.broken
	g.mutex.Unlock()
	if broken {
		w.Header().Set("Content-Length", strconv.Itoa(len(g.binary)))
		_, _ = w.Write(g.binary[:len(g.binary)/2])
		panic(http.ErrAbortHandler)
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(g.binary))
}

func (g *github) breaks(really bool) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.broken = really
}

func (g *github) asked() []string {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	return g.ranges
}

func (g *github) source(said *[]string) *pin.Source {
	return &pin.Source{Releases: g.URL + "/releases", Scripts: g.URL + "/source/", Progress: func(line string) { *said = append(*said, line) }}
}

func (g *github) pins() *pin.Pins { return &pin.Pins{Binary: sum(g.binary), Script: sum(g.script)} }

func sum(content []byte) string {
	hash := sha256.Sum256(content)
	return hex.EncodeToString(hash[:])
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(content)
}

func TestPins_OfAReleaseAreWhatItSays(t *testing.T) {
	g := newGitHub(t)
	pins, err := g.source(&[]string{}).Pins(t.Context(), release)
	require.NoError(t, err)
	assert.Equal(t, g.pins(), pins)
	assert.Empty(t, g.asked(), "the binary itself is not fetched for it")

	_, err = g.source(&[]string{}).Pins(t.Context(), "v1.0.0+k3s1")
	require.ErrorContains(t, err, "asking for the checksum of k3s v1.0.0+k3s1")
	require.ErrorContains(t, err, "v1.0.0%2Bk3s1/sha256sum-arm64.txt is not there; k3s's releases are listed at")
}

func TestPins_OfAFolderAndOfAMirrorAreComputed(t *testing.T) {
	g := newGitHub(t)
	pins, err := (&pin.Source{From: g.URL + "/"}).Pins(t.Context(), release)
	require.NoError(t, err)
	assert.Equal(t, g.pins(), pins)

	folder := filepath.Join(t.TempDir(), "with a space")
	_, err = (&pin.Source{From: folder}).Pins(t.Context(), release)
	require.ErrorContains(t, err, k3s.BinaryFile)
	require.ErrorContains(t, err, k3s.ScriptFile)
	require.NoError(t, os.Mkdir(folder, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(folder, k3s.BinaryFile), g.binary, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(folder, k3s.ScriptFile), g.script, 0o600))
	pins, err = (&pin.Source{From: folder}).Pins(t.Context(), release)
	require.NoError(t, err)
	assert.Equal(t, g.pins(), pins)
}

func TestDownload_LeavesWholeFilesThatGitDoesNotSee(t *testing.T) {
	g := newGitHub(t)
	var said []string
	folder := filepath.Join(t.TempDir(), "a", "b c")
	source := g.source(&said)
	require.NoError(t, source.Download(t.Context(), release, g.pins(), folder))
	require.NoError(t, g.pins().Verify(folder))
	assert.Equal(t, "*\n", read(t, filepath.Join(folder, ".gitignore")))
	assert.Contains(t, said, "k3s-arm64: 4 of 4 MB")
	assert.LessOrEqual(t, len(said), 11)

	said = nil
	require.NoError(t, source.Download(t.Context(), release, g.pins(), folder))
	assert.Equal(t, []string{"install.sh is there", "k3s-arm64 is there"}, said)
	assert.Len(t, g.asked(), 1)

	require.NoError(t, os.WriteFile(filepath.Join(folder, k3s.BinaryFile), []byte("of another release"), 0o600))
	require.ErrorContains(t, g.pins().Verify(folder), "it should be "+g.pins().Binary)
	require.NoError(t, source.Download(t.Context(), release, g.pins(), folder))
	require.NoError(t, g.pins().Verify(folder))
}

func TestDownload_GoesOnWhereItWasCutShort(t *testing.T) {
	g := newGitHub(t)
	folder := t.TempDir()
	g.breaks(true)
	require.Error(t, g.source(&[]string{}).Download(t.Context(), release, g.pins(), folder))
	assert.NoFileExists(t, filepath.Join(folder, k3s.BinaryFile), "half a file has not its name")
	g.breaks(false)
	require.NoError(t, g.source(&[]string{}).Download(t.Context(), release, g.pins(), folder))
	require.NoError(t, g.pins().Verify(folder))
	assert.Equal(t, []string{"", fmt.Sprintf("bytes=%d-", len(g.binary)/2)}, g.asked())
	left, err := filepath.Glob(filepath.Join(folder, "*.part"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestDownload_WhatIsNotWhatItShouldBeIsThrownAway(t *testing.T) {
	g := newGitHub(t)
	folder := t.TempDir()
	pins := g.pins()
	pins.Binary = strings.Repeat("0", 64)
	for range 2 { // the second time it begins anew
		err := g.source(&[]string{}).Download(t.Context(), release, pins, folder)
		require.ErrorContains(t, err, "has another checksum than 000")
	}
	assert.Equal(t, []string{"", ""}, g.asked())
	assert.NoFileExists(t, filepath.Join(folder, k3s.BinaryFile))
}

func TestDownload_EndsWithItsContext(t *testing.T) {
	began := make(chan bool)
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
	}))
	t.Cleanup(silent.Close)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-began
		cancel()
	}()
	err := (&pin.Source{From: silent.URL}).Download(ctx, release, &pin.Pins{Binary: strings.Repeat("0", 64), Script: strings.Repeat("0", 64)}, t.TempDir())
	require.ErrorIs(t, err, context.Canceled)
}
