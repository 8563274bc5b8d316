package charttest_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/nullify005/manager-cluster-state/internal/charttest"
)

func fixture() string { return filepath.Join("..", "..", "rehearsal", "testdata", "charts", "fixture") }

func TestPackage_HasEveryFileUnderTheChartsNameAndIsTheSameEachTime(t *testing.T) {
	content, err := charttest.Package(fixture(), "1.2.3")
	require.NoError(t, err)
	again, err := charttest.Package(fixture(), "1.2.3")
	require.NoError(t, err)
	assert.Equal(t, content, again)

	compressed, err := gzip.NewReader(bytes.NewReader(content))
	require.NoError(t, err)
	files := map[string][]byte{}
	for archive := tar.NewReader(compressed); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		files[header.Name], err = io.ReadAll(archive)
		require.NoError(t, err)
	}
	for _, name := range []string{"values.yaml", "templates/deployment.yaml", "templates/configmap.yaml"} {
		assert.NotEmpty(t, files["fixture/"+name], name)
	}
	assert.Contains(t, string(files["fixture/Chart.yaml"]), "version: 1.2.3")
}

func TestRepository_ListsWhatWasPublishedWithItsDigest(t *testing.T) {
	repository := charttest.Serve(t)
	for _, version := range []string{"0.1.0", "0.1.1", "0.1.1"} {
		require.NoError(t, repository.Publish(fixture(), version))
	}
	var index struct {
		Entries map[string][]struct {
			Version string   `json:"version"`
			Digest  string   `json:"digest"`
			URLs    []string `json:"urls"`
		} `json:"entries"`
	}
	require.NoError(t, yaml.Unmarshal(get(t, repository.URL+"/index.yaml"), &index))
	require.Len(t, index.Entries["fixture"], 2)
	for i, version := range []string{"0.1.0", "0.1.1"} {
		entry := index.Entries["fixture"][i]
		assert.Equal(t, version, entry.Version)
		sum := sha256.Sum256(get(t, repository.URL+"/"+entry.URLs[0]))
		assert.Equal(t, hex.EncodeToString(sum[:]), entry.Digest)
	}
}

func TestRepository_HasNothingElse(t *testing.T) {
	repository := charttest.Serve(t)
	require.NoError(t, yaml.Unmarshal(get(t, repository.URL+"/index.yaml"), &struct{}{}))
	require.Error(t, repository.Publish(t.TempDir(), "0.1.0"), "no chart is there")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, repository.URL+"/fixture-0.1.0.tgz", nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	assert.Equal(t, http.StatusNotFound, response.StatusCode)
}

func get(t *testing.T, url string) []byte {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode)
	content, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return content
}
