//go:build linux

package pitest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// entry is what a file is, but for its times.
type entry struct {
	mode    fs.FileMode
	owner   uint32
	content string // its digest, or where it leads
}

// Left are the paths that differ from when the Pi was made: "+" before what is new, "-" before what
// is gone, "~" before what is another. Logs are left out.
func (p *Pi) Left(t *testing.T) []string {
	t.Helper()
	p.mutex.Lock()
	before := p.original
	p.mutex.Unlock()
	after := p.disk(t)
	var found []string
	for path, is := range after {
		was, there := before[path]
		if there && was == is {
			continue
		}
		if !there && !underHidden(path) {
			// What was changed and put back is on the Pi's own layer now, and as on the one below.
			was, there = look(path)
			if is.isGone() == !there && (is.isGone() || was == is) {
				continue
			}
		}
		switch {
		case is.isGone():
			found = append(found, "-"+path)
		case there && !was.isGone():
			found = append(found, "~"+path)
		default:
			found = append(found, "+"+path)
		}
	}
	for path, was := range before {
		if _, there := after[path]; !there && !was.isGone() {
			found = append(found, "-"+path)
		}
	}
	slices.SortFunc(found, func(a, b string) int { return strings.Compare(a[1:], b[1:]) })
	return found
}

func underHidden(path string) bool {
	return slices.ContainsFunc(hiddenFolders(), func(folder string) bool { return strings.HasPrefix(path, folder+"/") })
}

func (e entry) isGone() bool { return e.mode&fs.ModeCharDevice != 0 }

// disk is what is on the Pi's own layer.
func (p *Pi) disk(t *testing.T) map[string]entry {
	t.Helper()
	upper := p.held("disk", "upper")
	found := map[string]entry{}
	err := filepath.WalkDir(upper, func(path string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, upper)
		if name == "" || isLog(name) {
			return nil
		}
		if is, there := look(path); there {
			found[name] = is
		}
		return nil
	})
	require.NoError(t, err)
	return found
}

func look(path string) (is entry, there bool) {
	info, err := os.Lstat(path)
	if err != nil {
		return entry{}, false
	}
	is.mode = info.Mode()
	if system, known := info.Sys().(*syscall.Stat_t); known {
		is.owner = system.Uid
	}
	switch {
	case is.mode&fs.ModeSymlink != 0:
		is.content, _ = os.Readlink(path)
	case is.mode.IsRegular():
		content, err := os.ReadFile(path)
		if err != nil {
			return entry{}, false
		}
		is.content = checksum(content)
	}
	return is, true
}

func isLog(path string) bool { return strings.HasPrefix(path, "/var/log/") }
