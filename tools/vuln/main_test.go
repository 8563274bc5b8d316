package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	known  = "GO-2026-9001" // testdata/called calls what it is about
	unused = "GO-2026-9002"
)

func today() time.Time { return time.Date(2026, time.July, 1, 12, 0, 0, 0, time.UTC) }

// A real govulncheck, on a module that calls something of the standard library, with a database in
// which that is vulnerable.
func TestVuln_FailsUnlessExcusedByName(t *testing.T) {
	onPath(t)
	database := writeDatabase(t)
	for name, c := range map[string]struct{ excuses, says string }{
		"nothing is excused":        {"[]", known + ": reading archives\n  https://pkg.go.dev/vuln/" + known + "\n  main.go:10: example.net/called.main calls archive/zip.OpenReader of stdlib"},
		"it is excused":             {entry(known, "2026-07-01"), ""},
		"the excuse has ended":      {entry(known, "2026-06-30"), known + " was excused until 2026-06-30 (none of ours is read): mend it"},
		"the excuse is for another": {entry(unused, "2026-08-01"), known + ": reading archives"},
		"an excuse excuses nothing": {entry(known, "2026-08-01") + entry(unused, "2026-08-01"), unused + " is excused, and nothing calls it any more"},
	} {
		t.Run(name, func(t *testing.T) {
			excused := filepath.Join(t.TempDir(), "excused.yaml")
			require.NoError(t, os.WriteFile(excused, []byte(c.excuses), 0o600))
			t.Chdir("testdata/called")
			var out bytes.Buffer
			err := run(t.Context(), excused, "file://"+database, []string{"./..."}, today(), &out)
			if c.says == "" {
				require.NoError(t, err, out.String())
				assert.Equal(t, known+" is excused until", strings.Join(strings.Fields(out.String())[:4], " "))
				return
			}
			require.ErrorIs(t, err, errFound)
			assert.Contains(t, out.String(), c.says)
		})
	}
}

func TestVuln_WithoutADatabaseOnlyTheCalendarIsAsked(t *testing.T) {
	onPath(t)
	excused := filepath.Join(t.TempDir(), "excused.yaml")
	t.Chdir("testdata/called")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1") // where nobody listens
	for until, want := range map[string]error{"2026-07-01": errNoDatabase, "2026-06-30": errFound} {
		require.NoError(t, os.WriteFile(excused, []byte(entry(known, until)), 0o600))
		var out bytes.Buffer
		require.ErrorIs(t, run(t.Context(), excused, "https://vuln.go.dev", []string{"./..."}, today(), &out), want, until)
	}
}

func TestExcuses_NeedAReasonAndADay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "excused.yaml")
	for _, text := range []string{
		"- {id: GO-1, until: 2026-07-01}", "- {id: GO-1, reason: x}", "- {id: GO-1, reason: x, until: soon}", "- {reason: x, until: 2026-07-01}",
		"- {id: GO-1, reason: ' ', until: 2026-07-01}", entry(known, "2026-07-01") + entry(known, "2026-08-01"), "- {id: GO-1, reason: x, until: 2026-07-01, why: x}",
	} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		_, err := readExcuses(path)
		require.Error(t, err, text)
	}
	_, err := readExcuses("excused.yaml")
	require.NoError(t, err, "our own")
}

func entry(id, until string) string {
	return "- {id: " + id + ", reason: none of ours is read, until: " + until + "}\n"
}

func onPath(t *testing.T) {
	t.Helper()
	built, err := filepath.Abs(filepath.Join("..", "..", ".tools", "bin"))
	require.NoError(t, err)
	t.Setenv("PATH", built+string(filepath.ListSeparator)+os.Getenv("PATH"))
	if _, err := exec.LookPath("govulncheck"); err != nil {
		t.Skip("needs govulncheck: go run ./tools/build govulncheck")
	}
}

// writeDatabase writes what https://go.dev/security/vuln/database describes.
func writeDatabase(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	const modified = "2026-01-01T00:00:00Z"
	vulnerable := func(id, summary, pkg, symbol string) map[string]any {
		return map[string]any{
			"schema_version": "1.3.1", "id": id, "modified": modified, "published": modified, "summary": summary, "details": summary,
			"affected": []any{map[string]any{
				"package":            map[string]string{"name": "stdlib", "ecosystem": "Go"},
				"ranges":             []any{map[string]any{"type": "SEMVER", "events": []any{map[string]string{"introduced": "0"}}}},
				"ecosystem_specific": map[string]any{"imports": []any{map[string]any{"path": pkg, "symbols": []string{symbol}}}},
			}},
		}
	}
	index := func(id string) map[string]string { return map[string]string{"id": id, "modified": modified} }
	for path, content := range map[string]any{
		"index/db.json":          map[string]string{"modified": modified},
		"index/modules.json":     []any{map[string]any{"path": "stdlib", "vulns": []any{index(known), index(unused)}}},
		"ID/" + known + ".json":  vulnerable(known, "reading archives", "archive/zip", "OpenReader"),
		"ID/" + unused + ".json": vulnerable(unused, "writing archives", "archive/zip", "Writer.Create"),
	} {
		data, err := json.Marshal(content)
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(folder, path)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(folder, path), data, 0o600))
	}
	return folder
}
