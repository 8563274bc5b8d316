package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// State is what Pulumi's file backend has of one stack. Each step of an update replaces the file as a
// whole, but where the disk is full meanwhile, with as much of it as there was room for: of that, Pulumi
// can read nothing any more, and the stack's copies are what is left.
type State struct {
	// Backend is the folder that has .pulumi in it.
	Backend string
	// Project and Stack are the names, without an owner.
	Project, Stack string
}

// Copy is a whole state of some time ago.
type Copy struct {
	File    string
	Written time.Time
	// Resources is how many it has.
	Resources int
}

var (
	// ErrCutOff says that a state can't be read.
	ErrCutOff = errors.New("the state is cut off")
	// ErrNoCopy says that nothing whole is left of a state.
	ErrNoCopy = errors.New("there is no whole copy of the state")
)

func (s State) folder(kind string) string {
	return filepath.Join(s.Backend, ".pulumi", kind, s.Project)
}

// File is the state itself.
func (s State) File() string { return filepath.Join(s.folder("stacks"), s.Stack+".json") }

func (s State) backups() string { return filepath.Join(s.folder("backups"), s.Stack) }

// Resources counts what the state has. The error is an ErrCutOff where there is no making sense of it,
// and an fs.ErrNotExist where there is none.
func (s State) Resources() (int, error) { return resources(s.File()) }

// resources counts those of a checkpoint, as the file backend writes it.
func resources(file string) (int, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("reading the state: %w", err)
	}
	var state struct {
		Checkpoint *struct {
			Latest struct {
				Resources []json.RawMessage `json:"resources"`
			} `json:"latest"`
		} `json:"checkpoint"`
	}
	if err := json.Unmarshal(content, &state); err != nil {
		return 0, fmt.Errorf("%w: %s: %w", ErrCutOff, file, err)
	}
	if state.Checkpoint == nil {
		return 0, fmt.Errorf("%w: %s has no checkpoint", ErrCutOff, file)
	}
	return len(state.Checkpoint.Latest.Resources), nil
}

// Keep has one copy more among Pulumi's own, and in place of older ones: for a backend that was told to
// keep none. It is written in one go, or not at all.
func (s State) Keep() error {
	old, err := filesIn(s.backups(), "")
	if err != nil {
		return fmt.Errorf("listing the copies of the state: %w", err)
	}
	if err := os.MkdirAll(s.backups(), 0o700); err != nil {
		return fmt.Errorf("copying the state: %w", err)
	}
	copied := filepath.Join(s.backups(), s.Stack+"."+strconv.FormatInt(time.Now().UnixNano(), 10)+".json")
	if err := replace(copied, s.File()); err != nil {
		return fmt.Errorf("copying the state: %w", err)
	}
	for _, file := range old {
		if file == copied {
			continue
		}
		if err := os.Remove(file); err != nil {
			return fmt.Errorf("removing an older copy of the state: %w", err)
		}
	}
	return nil
}

// Newest is the newest whole copy that Pulumi has: it keeps one of each state, in backups, and one
// beside the state itself. Without one, the error is an ErrNoCopy.
func (s State) Newest() (Copy, error) {
	files, err := filesIn(s.backups(), ".json")
	if err != nil {
		return Copy{}, fmt.Errorf("listing the copies of the state: %w", err)
	}
	var copies []Copy
	for _, file := range append(files, s.File()+".bak") {
		about, err := os.Stat(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Copy{}, fmt.Errorf("looking at a copy of the state: %w", err)
		}
		copies = append(copies, Copy{File: file, Written: about.ModTime()})
	}
	slices.SortFunc(copies, func(a, b Copy) int { return b.Written.Compare(a.Written) })
	for _, c := range copies {
		if c.Resources, err = resources(c.File); err == nil {
			return c, nil
		}
	}
	return Copy{}, fmt.Errorf("%w: of %d in %s and beside %s", ErrNoCopy, len(copies), s.backups(), s.File())
}

// Locks are the files by which updates that run, or were killed, hold the stack.
func (s State) Locks() ([]string, error) {
	locks, err := filesIn(filepath.Join(s.Backend, ".pulumi", "locks", "organization", s.Project, s.Stack), ".json")
	if err != nil {
		return nil, fmt.Errorf("listing the locks of the state: %w", err)
	}
	return locks, nil
}

// filesIn lists the files of that ending in a folder that may be missing. Its path is no pattern: it may have
// brackets in it.
func filesIn(folder, ending string) (files []string, err error) {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), ending) {
			files = append(files, filepath.Join(folder, entry.Name()))
		}
	}
	return files, err
}

// Restore puts a copy where the state is. What was there is beside it from then on, as .broken.
func (s State) Restore(c Copy) error {
	err := replace(s.File()+".broken", s.File())
	if err == nil {
		err = replace(s.File(), c.File)
	}
	if err != nil {
		return fmt.Errorf("restoring the state: %w", err)
	}
	return nil
}

// replace makes a file the copy of another, in one go.
func replace(file, from string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	fresh, err := os.CreateTemp(filepath.Dir(file), ".state-*")
	if err != nil {
		return err
	}
	_, err = fresh.Write(content)
	if err == nil {
		err = fresh.Sync()
	}
	err = errors.Join(err, fresh.Close())
	if err == nil {
		err = os.Rename(fresh.Name(), file)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(fresh.Name()))
	}
	return err
}

// State finds the stack's state, where the backend is a folder.
func (s *Stack) State(ctx context.Context) (State, error) {
	project, err := s.project()
	if err != nil {
		return State{}, err
	}
	out, err := s.exec(ctx, "", "whoami", "--json")
	if err != nil {
		return State{}, fmt.Errorf("asking for the backend: %w", err)
	}
	var who struct {
		URL string `json:"url"`
	}
	if err := json.Unmarshal(out, &who); err != nil {
		return State{}, fmt.Errorf("asking for the backend: %w", err)
	}
	folder, err := backendFolder(who.URL, s.Project)
	return State{Backend: folder, Project: project, Stack: s.Short()}, err
}

// backendFolder is where a file backend is: ~ is a home, and what is relative is so to the project.
func backendFolder(from, project string) (string, error) {
	folder, isFile := strings.CutPrefix(from, "file://")
	if !isFile {
		return "", fmt.Errorf("the backend is %s: only the state of a file backend is a file that can be cut off", from)
	}
	folder, _, _ = strings.Cut(folder, "?")
	folder, err := url.PathUnescape(folder)
	if err != nil {
		return "", fmt.Errorf("reading the backend's URL: %w", err)
	}
	if rest, home := strings.CutPrefix(folder, "~"); home {
		somebody, err := user.Current() // as Pulumi does, whatever HOME is
		if err != nil {
			return "", fmt.Errorf("finding the backend: %w", err)
		}
		folder = filepath.Join(somebody.HomeDir, rest)
	}
	if !filepath.IsAbs(folder) {
		folder = filepath.Join(project, folder)
	}
	return folder, nil
}
