package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/mod/modfile"
)

// stamp records what a tool's binaries were built from. It is written last, so binaries
// with a stamp are whole.
type stamp struct {
	Inputs  string  `json:"inputs"`
	Version string  `json:"version"`
	Seconds float64 `json:"seconds"`
	// PeakMiB is the memory of the largest process of the build.
	PeakMiB int64 `json:"peakMiB"`
}

// build is one tool on its way into the binaries' folder.
type build struct {
	tool

	dir     string // the tool's module
	out     string // where binaries and stamps go
	temp    string // this build's own folder, inside out
	version string
	needs   string    // the lowest Go that the tool's module is for
	verbose io.Writer // nil unless go's own output is wanted
}

func newBuild(t tool, toolsDir, out string) (*build, error) {
	b := &build{tool: t, dir: filepath.Join(toolsDir, t.name), out: out, version: t.release}
	path := filepath.Join(b.dir, "go.mod")
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the pin of %s: %w", t.name, err)
	}
	file, err := modfile.Parse(path, content, nil)
	if err != nil {
		return nil, fmt.Errorf("reading the pin of %s: %w", t.name, err)
	}
	if file.Go != nil {
		b.needs = "go" + file.Go.Version
	}
	if b.version != "" {
		return b, nil
	}
	for _, require := range file.Require {
		if require.Mod.Path == t.module {
			b.version = require.Mod.Version
			return b, nil
		}
	}
	return nil, fmt.Errorf("tools/%s/go.mod does not require %s, which the tool's version is read from", t.name, t.module)
}

func plain(version string) string { return strings.TrimPrefix(version, "v") }

// inputs is a digest of everything that the binaries depend on.
func (b *build) inputs() (string, error) {
	hash := sha256.New()
	fmt.Fprintln(hash, runtime.Version(), runtime.GOOS, runtime.GOARCH, b.version, b.main, b.ldflags, b.binaries)
	if b.patch != nil {
		hash.Write(patchSource)
		hash.Write(b.patchSource)
	}
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return "", fmt.Errorf("reading tools/%s: %w", b.name, err)
	}
	for _, entry := range entries {
		content, err := os.ReadFile(filepath.Join(b.dir, entry.Name()))
		if err != nil {
			return "", fmt.Errorf("reading tools/%s: %w", b.name, err)
		}
		fmt.Fprintln(hash, entry.Name(), len(content))
		hash.Write(content)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

func (b *build) stampPath() string { return filepath.Join(b.out, ".stamps", b.name+".json") }

func (b *build) readStamp() (stamp, bool) {
	var s stamp
	content, err := os.ReadFile(b.stampPath())
	if err != nil || json.Unmarshal(content, &s) != nil {
		return stamp{}, false
	}
	return s, true
}

// fresh says whether the binaries are there and built from what is there now.
func (b *build) fresh() (bool, error) {
	for _, binary := range b.binaries {
		if _, err := os.Stat(filepath.Join(b.out, binary)); err != nil {
			return false, nil //nolint:nilerr // whatever is wrong with it, it has to be built
		}
	}
	s, ok := b.readStamp()
	if !ok {
		return false, nil
	}
	inputs, err := b.inputs()
	return s.Inputs == inputs, err
}

// run builds in a folder of its own and moves what it built into place. Until then a
// binary that was there before stays in use.
func (b *build) run(ctx context.Context) (stamp, error) {
	inputs, err := b.inputs()
	if err != nil {
		return stamp{}, err
	}
	if b.temp, err = os.MkdirTemp(b.out, tempPrefix); err != nil {
		return stamp{}, fmt.Errorf("making a folder to build %s in: %w", b.name, err)
	}
	defer os.RemoveAll(b.temp)
	bin := filepath.Join(b.temp, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		return stamp{}, fmt.Errorf("making a folder to build %s in: %w", b.name, err)
	}

	args := []string{
		"build", "-trimpath", "-o", bin + string(filepath.Separator),
		"-ldflags", "-s -w " + strings.NewReplacer("{version}", b.version, "{plain}", plain(b.version)).Replace(b.ldflags),
	}
	started := time.Now()
	if b.patch != nil {
		modfile, err := b.patched(ctx)
		if err != nil {
			return stamp{}, err
		}
		args = append(args, "-modfile", modfile)
	}
	cmd := b.goCommand(ctx, append(args, b.main)...)
	if err := b.execute(cmd); err != nil {
		return stamp{}, err
	}
	s := stamp{
		Inputs: inputs, Version: b.version,
		Seconds: time.Since(started).Seconds(), PeakMiB: peakMiB(cmd.ProcessState),
	}
	return s, b.install(bin, s)
}

// goCommand is go in the tool's module. Everything it needs is pinned by go.sum, so no
// checksum is looked up, and nothing may change the pins.
func (b *build) goCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(),
		"CGO_ENABLED=0", "GOFLAGS=-mod=readonly -buildvcs=false", "GOSUMDB=off", "GOTOOLCHAIN=local", "GOWORK=off",
		// A killed go leaves its own temporary folder, so it is put where ours is removed.
		"GOTMPDIR="+b.temp)
	// A compiler in the middle of a file must go with its parent.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}

func (b *build) execute(cmd *exec.Cmd) error {
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if b.verbose != nil {
		cmd.Stdout = io.MultiWriter(&log, b.verbose)
		cmd.Stderr = cmd.Stdout
	}
	err := cmd.Run()
	if err == nil {
		return nil
	}
	path := filepath.Join(b.out, ".stamps", b.name+".log")
	if writeErr := os.WriteFile(path, log.Bytes(), 0o600); writeErr != nil {
		return errors.Join(fmt.Errorf("building %s: %w", b.name, err), writeErr)
	}
	mend := "Modules come from the Go module proxy: check that it is reached, that the disk has room"
	if strings.Contains(log.String(), "signal: killed") {
		mend = fmt.Sprintf("The compiler was killed, as Linux does where memory runs out: the largest takes %d GiB. Close something, or add swap", memoryGiB)
	}
	return fmt.Errorf("building %s %s: %w\n%s\nThe whole of it is in %s. %s, and run the same command again",
		b.name, b.version, err, tail(log.String(), 15), path, mend)
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// patched makes a copy of the tool's module, patches it, and writes a go.mod that builds
// the copy in the module's place.
func (b *build) patched(ctx context.Context) (modfilePath string, err error) {
	if err := b.execute(b.goCommand(ctx, "mod", "download", b.module)); err != nil {
		return "", err
	}
	out, err := b.goCommand(ctx, "mod", "download", "-json", b.module).Output()
	if err != nil {
		return "", fmt.Errorf("finding %s: %w", b.module, err)
	}
	var module struct {
		Dir string `json:"Dir"`
	}
	if err := json.Unmarshal(out, &module); err != nil {
		return "", fmt.Errorf("finding %s: %w", b.module, err)
	}
	folder := filepath.Join(b.temp, "module")
	if err := os.CopyFS(folder, os.DirFS(module.Dir)); err != nil {
		return "", fmt.Errorf("copying %s: %w", b.module, err)
	}
	if err := b.patch(folder, b.version); err != nil {
		return "", err
	}
	pins, err := os.ReadFile(filepath.Join(b.dir, "go.mod"))
	if err != nil {
		return "", fmt.Errorf("reading the pin of %s: %w", b.name, err)
	}
	sums, err := os.ReadFile(filepath.Join(b.dir, "go.sum"))
	if err != nil {
		return "", fmt.Errorf("reading the pin of %s: %w", b.name, err)
	}
	pins = append(pins, []byte("\nreplace "+b.module+" => "+strconv.Quote(folder)+"\n")...)
	modfilePath = filepath.Join(b.temp, "go.mod")
	return modfilePath, errors.Join(os.WriteFile(modfilePath, pins, 0o600), os.WriteFile(filepath.Join(b.temp, "go.sum"), sums, 0o600))
}

// install moves the binaries into place, each in one step, and writes the stamp last.
func (b *build) install(bin string, s stamp) error {
	if err := os.Remove(b.stampPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing the old stamp of %s: %w", b.name, err)
	}
	built := make([]string, 0, len(b.binaries))
	for name := range b.binaries {
		built = append(built, name)
	}
	sort.Strings(built)
	for _, name := range built {
		if err := os.Rename(filepath.Join(bin, name), filepath.Join(b.out, b.binaries[name])); err != nil {
			return fmt.Errorf("installing %s: %w", b.binaries[name], err)
		}
	}
	content, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("writing the stamp of %s: %w", b.name, err)
	}
	written := filepath.Join(b.temp, "stamp")
	if err := os.WriteFile(written, content, 0o600); err != nil {
		return fmt.Errorf("writing the stamp of %s: %w", b.name, err)
	}
	return os.Rename(written, b.stampPath())
}

// peakMiB is the peak memory of the largest process that a finished command waited for.
func peakMiB(state *os.ProcessState) int64 {
	usage, ok := state.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0
	}
	if runtime.GOOS == "darwin" {
		return usage.Maxrss >> 20 // bytes there, KiB on Linux
	}
	return usage.Maxrss >> 10
}
