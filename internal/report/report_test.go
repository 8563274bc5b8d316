package report

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestReplace_TouchesItsPartAlone(t *testing.T) {
	document := "a\n<!-- one -->\nold\n<!-- /one -->\nb\n<!-- two -->\nkept\n<!-- /two -->\n"
	got, err := Replace(document, "one", "new")
	require.NoError(t, err)
	assert.Equal(t, "a\n<!-- one -->\nnew\n<!-- /one -->\nb\n<!-- two -->\nkept\n<!-- /two -->\n", got)
	again, err := Replace(got, "one", "new\n")
	require.NoError(t, err)
	assert.Equal(t, got, again)
	_, err = Replace(document, "three", "")
	require.ErrorContains(t, err, "no line <!-- three -->")
	_, err = Replace("<!-- one -->\n", "one", "")
	require.ErrorContains(t, err, "no line <!-- /one --> after <!-- one -->")
}

func TestReplaceInFile_LeavesTheFileWholeWhenItCant(t *testing.T) {
	path := filepath.Join(t.TempDir(), "page.md")
	require.NoError(t, os.WriteFile(path, []byte("<!-- one -->\n<!-- /one -->\n"), 0o600))
	require.ErrorContains(t, ReplaceInFile(path, "two", "x"), path)
	require.NoError(t, ReplaceInFile(path, "one", "x"))
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "<!-- one -->\nx\n<!-- /one -->\n", string(content))
	left, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	assert.Len(t, left, 1)
}

func TestTable_EscapesWhatWouldBreakARow(t *testing.T) {
	assert.Equal(t, "| a | b |\n| --- | --- |\n| 1\\|2 | x y |\n| 3 |  |\n", Table([]string{"a", "b"}, [][]string{{"1|2", "x\ny"}, {"3"}}))
}

func TestMedian(t *testing.T) {
	assert.Equal(t, time.Duration(0), Median[time.Duration](nil))
	assert.Equal(t, 3*time.Second, Median([]time.Duration{9 * time.Second, time.Second, 3 * time.Second}))
	assert.InDelta(t, 2.5, Median([]float64{4, 1, 2, 3}), 1e-9)
}

func TestMachine_TellsCoresSystemAndGo(t *testing.T) {
	machine := Machine()
	for _, part := range []string{strconv.Itoa(runtime.NumCPU()) + " cores", runtime.GOOS + "/" + runtime.GOARCH, runtime.Version()} {
		assert.Contains(t, machine, part)
	}
}
