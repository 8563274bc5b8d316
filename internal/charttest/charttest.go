// Package charttest packages Helm charts and serves them as a chart repository, for tests.
package charttest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

const (
	chartFile = "Chart.yaml"
	archive   = ".tgz"
)

// Package makes the archive of the chart in a folder, as that version of it. The same files
// make the same bytes.
func Package(folder, version string) ([]byte, error) {
	chart, err := readChart(folder, version)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	compressed := gzip.NewWriter(&out)
	files := tar.NewWriter(compressed)
	// The order of names is the walk's own.
	err = fs.WalkDir(os.DirFS(folder), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(os.DirFS(folder), name)
		if err != nil {
			return err
		}
		if name == chartFile {
			if content, err = yaml.Marshal(chart); err != nil {
				return err
			}
		}
		header := &tar.Header{Name: path.Join(chart.name(), name), Mode: 0o644, Size: int64(len(content))}
		if err := files.WriteHeader(header); err != nil {
			return err
		}
		_, err = files.Write(content)
		return err
	})
	for _, end := range []func() error{files.Close, compressed.Close} {
		if err == nil {
			err = end()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("packaging the chart %s: %w", folder, err)
	}
	return out.Bytes(), nil
}

// metadata is what Chart.yaml has.
type metadata map[string]any

func (m metadata) name() string { return fmt.Sprint(m["name"]) }

func readChart(folder, version string) (metadata, error) {
	content, err := fs.ReadFile(os.DirFS(folder), chartFile)
	if err != nil {
		return nil, fmt.Errorf("reading the chart %s: %w", folder, err)
	}
	chart := metadata{}
	if err := yaml.UnmarshalStrict(content, &chart); err != nil {
		return nil, fmt.Errorf("reading the chart %s: %w", folder, err)
	}
	chart["version"] = version
	return chart, nil
}

// Repository is a chart repository over HTTP on this machine's loopback.
type Repository struct {
	// URL is its address.
	URL string

	mutex sync.Mutex
	files map[string][]byte // by their paths, the index among them
	index map[string][]metadata
}

// Serve starts an empty repository that ends with the test.
func Serve(t testing.TB) *Repository {
	t.Helper()
	repository := &Repository{files: map[string][]byte{}, index: map[string][]metadata{}}
	if err := repository.writeIndex(); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(repository)
	t.Cleanup(server.Close)
	repository.URL = server.URL
	return repository
}

// ServeHTTP answers with a file of the repository.
func (r *Repository) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	r.mutex.Lock()
	content, found := r.files[request.URL.Path]
	r.mutex.Unlock()
	if !found {
		http.NotFound(w, request)
		return
	}
	_, _ = w.Write(content) // who doesn't stay for the answer needs none
}

// Publish adds the chart in a folder to the repository, as that version of it.
func (r *Repository) Publish(folder, version string) error {
	chart, err := readChart(folder, version)
	if err != nil {
		return err
	}
	content, err := Package(folder, version)
	if err != nil {
		return err
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	sum := sha256.Sum256(content)
	entry := maps.Clone(chart)
	file := strings.Join([]string{chart.name(), version}, "-") + archive
	entry["digest"], entry["urls"], entry["created"] = hex.EncodeToString(sum[:]), []string{file}, time.Unix(0, 0).UTC()
	others := slices.DeleteFunc(r.index[chart.name()], func(other metadata) bool { return other["version"] == version })
	r.index[chart.name()] = append(others, entry)
	r.files["/"+file] = content
	return r.writeIndex()
}

func (r *Repository) writeIndex() error {
	index, err := yaml.Marshal(map[string]any{"apiVersion": "v1", "entries": r.index, "generated": time.Unix(0, 0).UTC()})
	if err != nil {
		return fmt.Errorf("writing the index of charts: %w", err)
	}
	r.files["/index.yaml"] = index
	return nil
}
