package forge

import (
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A limit for the size of files stands for a full disk: as much is written as there is room for.
func TestAppendLine_AddsAllOfALineOrNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lines")
	require.NoError(t, appendLine(file, "one"))
	before, err := os.ReadFile(file)
	require.NoError(t, err)

	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	var usual syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &usual))
	small := usual
	small.Cur = uint64(len(before)) + 3
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small))
	err = appendLine(file, "another")
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &usual))
	require.ErrorIs(t, err, syscall.EFBIG)
	after, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, string(before), string(after))
}
