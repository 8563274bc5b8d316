//go:build linux

package pitest

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/internal/k3stest"
)

const internetHost = "internet.test"

// InstallScript is the stand-in of k3s's install.sh.
//
//go:embed install.sh
var InstallScript string

// internet serves files by HTTP to a house.
type internet struct {
	mutex sync.Mutex
	files map[string][]byte
	asked []string
	// cut is after how many bytes the next answers break off.
	cut []int
}

func (h *House) startInternet(t *testing.T) {
	t.Helper()
	h.internet = &internet{files: map[string][]byte{}}
	var config net.ListenConfig
	listener, err := config.Listen(context.Background(), "tcp", h.subnet+".1:80")
	require.NoError(t, err)
	server := &http.Server{Handler: h.internet, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	h.URL = "http://" + internetHost
}

// Publish has the house's internet serve a file at URL/path; nil takes it away.
func (h *House) Publish(path string, content []byte) {
	h.internet.mutex.Lock()
	defer h.internet.mutex.Unlock()
	h.internet.files["/"+strings.TrimPrefix(path, "/")] = content
	if content == nil {
		delete(h.internet.files, "/"+strings.TrimPrefix(path, "/"))
	}
}

// Release is what is published of a release of k3s.
type Release struct {
	// URL is the folder of k3s-arm64 and install.sh.
	URL string
	// Binary and Script are their checksums, SHA-256 in hex.
	Binary, Script string
}

// PublishK3s has the house's internet serve the stand-ins of a release, as "v1.35.0+k3s1", in a
// folder of that name.
func (h *House) PublishK3s(t *testing.T, release string) Release {
	t.Helper()
	binary, err := os.ReadFile(k3stest.Build(t, release))
	require.NoError(t, err)
	h.Publish(release+"/k3s-arm64", binary)
	h.Publish(release+"/install.sh", []byte(InstallScript))
	return Release{URL: h.URL + "/" + release, Binary: checksum(binary), Script: checksum([]byte(InstallScript))}
}

func checksum(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// CutDownloads breaks the next downloads off, each after so many bytes of what it asked for.
func (h *House) CutDownloads(bytes ...int) {
	h.internet.mutex.Lock()
	defer h.internet.mutex.Unlock()
	h.internet.cut = append(h.internet.cut, bytes...)
}

// Downloads are the paths that were asked for.
func (h *House) Downloads() []string {
	h.internet.mutex.Lock()
	defer h.internet.mutex.Unlock()
	return append([]string(nil), h.internet.asked...)
}

func (i *internet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mutex.Lock()
	i.asked = append(i.asked, r.URL.Path)
	content, found := i.files[r.URL.Path]
	cut := -1
	if found && len(i.cut) > 0 {
		cut, i.cut = i.cut[0], i.cut[1:]
	}
	i.mutex.Unlock()
	if !found {
		http.NotFound(w, r)
		return
	}
	if cut >= 0 {
		w = &breaking{w, cut}
	}
	http.ServeContent(w, r, r.URL.Path, time.Time{}, strings.NewReader(string(content)))
}

// breaking is an answer that breaks off.
type breaking struct {
	http.ResponseWriter

	left int
}

func (b *breaking) Write(content []byte) (int, error) {
	if len(content) > b.left {
		_, _ = b.ResponseWriter.Write(content[:b.left])
		_ = http.NewResponseController(b.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	b.left -= len(content)
	return b.ResponseWriter.Write(content)
}
