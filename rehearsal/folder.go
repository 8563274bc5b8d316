package rehearsal

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Mark is the name of the file by which a folder is known to be a rehearsal's.
const Mark = "made-by-mcs-rehearse"

// folder is where one rehearsal keeps everything it has.
type folder string

func (f folder) join(parts ...string) string {
	return filepath.Join(append([]string{string(f)}, parts...)...)
}

func (f folder) bin(name string) string  { return f.join("bin", name) }
func (f folder) log(name string) string  { return f.join("logs", name+".log") }
func (f folder) lockFile() string        { return f.join("lock") }
func (f folder) mark() string            { return f.join(Mark) }
func (f folder) kubeconfig() string      { return f.join("kubeconfig") }
func (f folder) kwok() string            { return f.join("kwok") }
func (f folder) clusterID() string       { return f.join("cluster-id") }
func (f folder) state() string           { return f.join("state") }
func (f folder) pulumiHome() string      { return f.join("pulumi-home") }
func (f folder) passphrase() string      { return f.join("passphrase") }
func (f folder) temp() string            { return f.join("tmp") }
func (f folder) programs() string        { return f.join("tmp", "programs") }
func (f folder) controllers() string     { return f.join("controllers") }
func (f folder) complete() string        { return f.join("complete") }
func (f folder) config(st string) string { return f.join("Pulumi." + st + ".yaml") }

func (f folder) exists() bool {
	_, err := os.Stat(string(f))
	return err == nil
}

// ours is nil where the folder is a rehearsal's, or can become one's: all of it is removed by and by, and
// what runs from it is ended.
func (f folder) ours() error {
	entries, err := os.ReadDir(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the rehearsal's folder: %w", err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	has := func(path string) bool { return slices.Contains(names, filepath.Base(path)) }
	switch {
	case len(names) == 0, has(f.mark()):
		return nil
	case len(names) == 1 && has(f.lockFile()): // a run was killed as it began or ended
		return nil
	case has(f.lockFile()) && has(f.bin("")) && has(f.pulumiHome()): // of a version that made no mark, or cmd/chaos empties it
		return nil
	}
	return fmt.Errorf("%s is no rehearsal's folder, and has files in it, which down would remove: "+
		"choose a new or empty one with --dir; if a rehearsal of an older version was cut short there, remove it by hand", f)
}

// create makes the folder and what is in every one of them.
func (f folder) create() error {
	for _, dir := range []string{"", "bin", "logs", "kwok", "state", "pulumi-home", "tmp", filepath.Join("tmp", "programs"), "controllers"} {
		if err := os.MkdirAll(f.join(dir), 0o700); err != nil {
			return fmt.Errorf("making the rehearsal's folder: %w", err)
		}
	}
	if _, err := os.Stat(f.passphrase()); errors.Is(err, fs.ErrNotExist) {
		if err := writePrivate(f.passphrase(), []byte(rand.Text())); err != nil {
			return fmt.Errorf("writing the passphrase of the rehearsal's secrets: %w", err)
		}
	}
	return nil
}

// BusyError says that another run works in the same folder.
type BusyError struct {
	Folder string
	PID    int
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("another mcs rehearse (process %d) works in %s: wait for it, or stop it with Ctrl-C", e.PID, e.Folder)
}

// lock makes this process the only one that changes the folder. The kernel frees the lock
// when the process ends, however it ends. Who has the lock marks the folder as a rehearsal's.
func (f folder) lock(ctx context.Context) (unlock func(), err error) {
	if err := f.ours(); err != nil {
		return nil, err
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(string(f), 0o700); err != nil {
			return nil, fmt.Errorf("making the rehearsal's folder: %w", err)
		}
		file, err := os.OpenFile(f.lockFile(), os.O_CREATE|os.O_RDWR, 0o600)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed by a `down` just now
		}
		if err != nil {
			return nil, fmt.Errorf("opening the rehearsal's lock: %w", err)
		}
		if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			_ = file.Close()
			return nil, f.unlockable(err)
		}
		// A `down` may have removed the folder between our open and our lock: then the file
		// that we hold is not the one that others will see.
		if !sameFile(file, f.lockFile()) {
			_ = file.Close()
			continue
		}
		if err := errors.Join(file.Truncate(0), writeAt(file, strconv.Itoa(os.Getpid()))); err != nil {
			_ = file.Close()
			return nil, fmt.Errorf("writing the rehearsal's lock: %w", err)
		}
		if err := os.WriteFile(f.mark(), nil, 0o600); err != nil {
			_ = file.Close()
			return nil, fmt.Errorf("marking the rehearsal's folder: %w", err)
		}
		return func() { _ = file.Close() }, nil
	}
}

// unlockable says why the lock can't be had: another run has it, or the file system has no locks.
func (f folder) unlockable(err error) error {
	if !errors.Is(err, syscall.EWOULDBLOCK) {
		return fmt.Errorf("locking %s: %w", f.lockFile(), err)
	}
	holder, _ := os.ReadFile(f.lockFile())
	pid, _ := strconv.Atoi(strings.TrimSpace(string(holder)))
	return &BusyError{Folder: string(f), PID: pid}
}

func writeAt(file *os.File, text string) error {
	_, err := file.WriteAt([]byte(text), 0)
	return err
}

func sameFile(file *os.File, path string) bool {
	held, err := file.Stat()
	if err != nil {
		return false
	}
	seen, err := os.Stat(path)
	return err == nil && os.SameFile(held, seen)
}

// remove deletes the folder, the lock last, so that nobody enters while it goes; and the mark before
// it, so that one of which a part is left is still known as a rehearsal's.
func (f folder) remove() error {
	entries, err := os.ReadDir(string(f))
	if err != nil {
		return fmt.Errorf("reading the rehearsal's folder: %w", err)
	}
	var paths []string
	for _, entry := range entries {
		if path := f.join(entry.Name()); path != f.lockFile() && path != f.mark() {
			paths = append(paths, path)
		}
	}
	for _, path := range append(paths, f.mark(), string(f)) {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("removing the rehearsal's folder: %w", err)
		}
	}
	// .rehearsal itself goes with its last stack; it stays, silently, while it holds another.
	_ = os.Remove(filepath.Dir(string(f)))
	return nil
}

// writePrivate replaces a file as a whole, readable by its owner alone.
func writePrivate(path string, data []byte) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = temporary.Write(data)
	if err = errors.Join(err, temporary.Close()); err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		_ = os.Remove(temporary.Name())
	}
	return err
}

// stopwatch times the phases of a run, for the line at its end.
type stopwatch struct {
	start  time.Time
	phases []phase
}

type phase struct {
	name string
	took time.Duration
}

func (s *stopwatch) run(name string, do func() error) error {
	start := time.Now()
	err := do()
	s.phases = append(s.phases, phase{name, time.Since(start)})
	return err
}

func (s *stopwatch) String() string {
	var parts []string
	for _, p := range s.phases {
		parts = append(parts, fmt.Sprintf("%s %.1fs", p.name, p.took.Seconds()))
	}
	return strings.Join(append(parts, fmt.Sprintf("in all %.1fs", time.Since(s.start).Seconds())), ", ")
}
