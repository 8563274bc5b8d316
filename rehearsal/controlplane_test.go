package rehearsal

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDropStalePIDs_WhereThePathLooksLikeAPattern(t *testing.T) {
	r := &Rehearsal{folder: folder(filepath.Join(t.TempDir(), "a[pattern]"))}
	require.NoError(t, r.dropStalePIDs(t.Context()), "there are none yet")

	record := r.folder.join("kwok", "clusters", kwokCluster, "pids", "etcd.pid")
	require.NoError(t, os.MkdirAll(filepath.Dir(record), 0o700))
	require.NoError(t, os.WriteFile(record, []byte("1\n"), 0o600))
	require.NoError(t, r.dropStalePIDs(t.Context()))
	assert.NoFileExists(t, record, "that process is somebody else's")
}

func TestFree_IsNoPortThatSomebodyHasOnOneAddress(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", ":0"} {
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
		require.NoError(t, err)
		port := listener.Addr().(*net.TCPAddr).Port
		assert.False(t, free(t.Context(), port), address)
		require.NoError(t, listener.Close())
		assert.True(t, free(t.Context(), port), address)
	}
}
