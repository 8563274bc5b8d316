package forge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	containers "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Image is one in the registry.
type Image struct {
	Name string `json:"name"` // without the registry: nullify005/service-intesis
	Tag  string `json:"tag"`
}

// registry is go-containerregistry's, which keeps blobs on disk but manifests in memory alone:
// so what changed a manifest is kept in a journal, and done again at the start.
type registry struct {
	handler http.Handler
	journal string
	mutex   sync.Mutex
}

// manifestChange is a request that changed a manifest.
type manifestChange struct {
	Method      string `json:"method"`
	Path        string `json:"path"`
	ContentType string `json:"contentType"`
	Body        []byte `json:"body"`
}

func (c manifestChange) request(ctx context.Context) *http.Request {
	request := httptest.NewRequestWithContext(ctx, c.Method, c.Path, bytes.NewReader(c.Body))
	request.Header.Set("Content-Type", c.ContentType)
	return request
}

func newRegistry(ctx context.Context, folder string) (*registry, error) {
	blobs := filepath.Join(folder, "blobs")
	if err := os.MkdirAll(blobs, 0o700); err != nil {
		return nil, fmt.Errorf("making the registry's folder: %w", err)
	}
	r := &registry{
		handler: containers.New(
			containers.WithBlobHandler(containers.NewDiskBlobHandler(blobs)),
			containers.Logger(log.New(io.Discard, "", 0))),
		journal: filepath.Join(folder, "manifests.jsonl"),
	}
	return r, r.replay(ctx)
}

func (r *registry) replay(ctx context.Context) error {
	text, err := readLines(r.journal)
	if err != nil {
		return fmt.Errorf("reading the registry's journal: %w", err)
	}
	for decoder := json.NewDecoder(bytes.NewReader(text)); ; {
		var change manifestChange
		switch err := decoder.Decode(&change); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("reading the registry's journal %s: %w", r.journal, err)
		}
		recorder := httptest.NewRecorder()
		r.handler.ServeHTTP(recorder, change.request(ctx))
		if recorder.Code >= http.StatusMultipleChoices {
			return fmt.Errorf("doing %s %s of the registry's journal again: %s", change.Method, change.Path, recorder.Body)
		}
	}
}

func (r *registry) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	changes := request.Method == http.MethodPut || request.Method == http.MethodDelete
	if !changes || !strings.Contains(request.URL.Path, "/manifests/") {
		r.handler.ServeHTTP(w, request)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, request.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	change := manifestChange{Method: request.Method, Path: request.URL.Path, ContentType: request.Header.Get("Content-Type"), Body: body}
	r.mutex.Lock() // the journal has changes in their order
	defer r.mutex.Unlock()
	recorder := httptest.NewRecorder()
	r.handler.ServeHTTP(recorder, change.request(request.Context()))
	if recorder.Code < http.StatusMultipleChoices {
		if err := appendLine(r.journal, change); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	maps.Copy(w.Header(), recorder.Header())
	w.WriteHeader(recorder.Code)
	_, _ = w.Write(recorder.Body.Bytes()) // the client has gone: nobody is left to tell
}

// push makes an image of nothing but its own name, so that each tag has a digest of its own.
func (r *registry) push(ctx context.Context, host string, image Image) error {
	reference, err := name.NewTag(host+"/"+image.Name+":"+image.Tag, name.StrictValidation)
	if err != nil {
		return fmt.Errorf("pushing an image: %w", err)
	}
	made, err := mutate.Config(empty.Image, v1.Config{Labels: map[string]string{
		"org.opencontainers.image.title": image.Name, "org.opencontainers.image.version": image.Tag,
	}})
	if err != nil {
		return fmt.Errorf("making the image %s:%s: %w", image.Name, image.Tag, err)
	}
	if err := remote.Write(reference, made, remote.WithContext(ctx)); err != nil {
		return fmt.Errorf("pushing %s:%s: %w", image.Name, image.Tag, err)
	}
	return nil
}
