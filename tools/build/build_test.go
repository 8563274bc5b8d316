package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fixture is a tool whose build needs no module but its own.
func fixture(t *testing.T) *build {
	t.Helper()
	toolsDir, out := t.TempDir(), t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(out, ".stamps"), 0o755))
	require.NoError(t, os.Mkdir(filepath.Join(toolsDir, "hello"), 0o755))
	write(t, toolsDir, "hello/go.mod", "module example.com/hello\n\ngo 1.26\n")
	write(t, toolsDir, "hello/main.go", "package main\n\nfunc main() { println(version) }\n\nvar version string\n")
	b, err := newBuild(tool{
		name: "hello", release: "v1.2.3", main: ".", binaries: map[string]string{"hello": "greet"}, ldflags: "-X main.version={plain}",
	}, toolsDir, out)
	require.NoError(t, err)
	return b
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
}

func assertFresh(t *testing.T, b *build, want bool, why string) {
	t.Helper()
	fresh, err := b.fresh()
	require.NoError(t, err)
	assert.Equal(t, want, fresh, why)
}

func TestBuild_IsFreshUntilAnyInputChanges(t *testing.T) {
	b := fixture(t)
	assertFresh(t, b, false, "nothing was built")
	_, err := b.run(context.Background())
	require.NoError(t, err)
	assertFresh(t, b, true, "just built")

	for name, change := range map[string]func(b *build){
		"a source file": func(b *build) { write(t, b.dir, "more.go", "package main\n") },
		"a pin":         func(b *build) { write(t, b.dir, "go.sum", "\n") },
		"the version":   func(b *build) { b.version = "v1.2.4" },
		"the flags":     func(b *build) { b.ldflags = "" },
		"a lost binary": func(b *build) { require.NoError(t, os.Remove(filepath.Join(b.out, "greet"))) },
		"a lost stamp":  func(b *build) { require.NoError(t, os.Remove(b.stampPath())) },
		"a torn stamp":  func(b *build) { require.NoError(t, os.WriteFile(b.stampPath(), []byte(`{"inp`), 0o600)) },
	} {
		changed := fixture(t)
		_, err := changed.run(context.Background())
		require.NoError(t, err)
		change(changed)
		assertFresh(t, changed, false, name)
	}
}

func TestBuild_LeavesOnlyTheBinariesAndTheStamp(t *testing.T) {
	b := fixture(t)
	s, err := b.run(context.Background())
	require.NoError(t, err)
	assert.Equal(t, "v1.2.3", s.Version)
	assert.Positive(t, s.PeakMiB)
	entries, err := os.ReadDir(b.out)
	require.NoError(t, err)
	names := []string{}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	assert.Equal(t, []string{".stamps", "greet"}, names)
}

func TestBuild_OneThatFailsKeepsTheOldBinaryAndTellsTheMend(t *testing.T) {
	b := fixture(t)
	_, err := b.run(context.Background())
	require.NoError(t, err)
	before, err := os.ReadFile(filepath.Join(b.out, "greet"))
	require.NoError(t, err)

	write(t, b.dir, "main.go", "package main\n\nfunc main() { nonsense }\n")
	_, err = b.run(context.Background())
	require.ErrorContains(t, err, "building hello v1.2.3")
	require.ErrorContains(t, err, "undefined: nonsense")
	require.ErrorContains(t, err, "hello.log")
	after, err := os.ReadFile(filepath.Join(b.out, "greet"))
	require.NoError(t, err)
	assert.Equal(t, before, after)
	assertFresh(t, b, false, "what is there was built from something else")
}

func TestBuild_AnInterruptedOneLeavesNothingBehind(t *testing.T) {
	b := fixture(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := b.run(ctx)
	require.ErrorIs(t, err, context.Canceled)
	leftovers, err := filepath.Glob(filepath.Join(b.out, tempPrefix+"*"))
	require.NoError(t, err)
	assert.Empty(t, leftovers)
	assert.NoFileExists(t, filepath.Join(b.out, "greet"))
}

func TestBuild_OneInterruptedMidwayKeepsTheOldBinary(t *testing.T) {
	b := fixture(t)
	_, err := b.run(context.Background())
	require.NoError(t, err)
	before, err := os.ReadFile(filepath.Join(b.out, "greet"))
	require.NoError(t, err)

	// A build that has begun to write, and stays at it until it is stopped.
	bin := t.TempDir()
	script := "#!/bin/sh\n: >\"$GOTMPDIR/begun\"\nsleep 300 & wait\n"
	require.NoError(t, os.WriteFile(filepath.Join(bin, "go"), []byte(script), 0o700))
	t.Setenv("PATH", bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
	write(t, b.dir, "main.go", "package main\n\nfunc main() {}\n")
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error, 1)
	go func() {
		_, err := b.run(ctx)
		failed <- err
	}()
	require.Eventually(t, func() bool {
		begun, err := filepath.Glob(filepath.Join(b.out, tempPrefix+"*", "begun"))
		return err == nil && len(begun) == 1
	}, 10*time.Second, 5*time.Millisecond)
	cancel()
	select {
	case err := <-failed:
		require.Error(t, err)
	case <-time.After(10 * time.Second):
		t.Fatal("what the build started was not stopped with it")
	}

	after, err := os.ReadFile(filepath.Join(b.out, "greet"))
	require.NoError(t, err)
	assert.Equal(t, before, after)
	leftovers, err := filepath.Glob(filepath.Join(b.out, tempPrefix+"*"))
	require.NoError(t, err)
	assert.Empty(t, leftovers)
	assertFresh(t, b, false, "what is there was built from something else")
}

func TestBuildAll_ClearsWhatAKilledBuildLeft(t *testing.T) {
	b := fixture(t)
	require.NoError(t, os.MkdirAll(filepath.Join(b.out, tempPrefix+"killed", "bin"), 0o755))
	var stdout bytes.Buffer
	require.NoError(t, buildAll(context.Background(), []*build{b}, b.out, &stdout, false))
	assert.NoDirExists(t, filepath.Join(b.out, tempPrefix+"killed"))
	assert.Equal(t, 1, strings.Count(stdout.String(), "\n"), "a line per tool: %q", stdout.String())
	assert.Contains(t, stdout.String(), "[1/1] hello                v1.2.3")
}

func TestLock_KeepsASecondBuildWaiting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var stdout bytes.Buffer
	unlock, err := lock(context.Background(), path, &stdout)
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err = lock(ctx, path, &stdout)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Contains(t, stdout.String(), "waiting for it")

	unlock()
	unlock, err = lock(context.Background(), path, &stdout)
	require.NoError(t, err)
	unlock()
}

func TestInstalled_IsUsedAtAVersionThatWorks(t *testing.T) {
	i := &installed{command: []string{"pulumi", "version"}, from: "v3.250.0", below: "v4.0.0", beside: "pulumi-language-go"}
	for version, want := range map[string]bool{
		"v3.250.0": true, "v3.251.1": true, "v3.249.9": false, "v4.0.0": false, "3.250.0": false, "": false,
	} {
		assert.Equal(t, want, i.works(version), version)
	}

	machine := t.TempDir()
	t.Setenv("PATH", machine)
	script := func(name, version string) {
		write(t, machine, name, "#!/bin/sh\necho "+version+"\n")
		require.NoError(t, os.Chmod(filepath.Join(machine, name), 0o755))
	}
	script("pulumi", "v3.251.0")
	_, ok := i.find(context.Background(), "/elsewhere")
	assert.False(t, ok, "its language host is missing")
	script("pulumi-language-go", "")
	version, ok := i.find(context.Background(), "/elsewhere")
	assert.True(t, ok)
	assert.Equal(t, "v3.251.0", version)
	_, ok = i.find(context.Background(), machine)
	assert.False(t, ok, "that is this project's own")
}

func TestTools_EachHasItsPinAndItsVersion(t *testing.T) {
	builds, err := selected(nil, "..", t.TempDir())
	require.NoError(t, err)
	for _, b := range builds {
		assert.NotEmpty(t, b.version, b.name)
		assert.NotEmpty(t, b.binaries, b.name)
		assert.NotEmpty(t, b.needs, b.name)
		assert.FileExists(t, filepath.Join(b.dir, "go.sum"))
		if b.name == "kubernetes" { // which is stamped with a part of its version too
			minor := strings.Split(b.version, ".")[1]
			assert.Contains(t, b.ldflags, "version.gitMinor="+minor+" ", "tools.go, after an update of %s", b.module)
		}
	}
	entries, err := os.ReadDir("..")
	require.NoError(t, err)
	for _, entry := range entries {
		// Those without a module of their own are programs of ours.
		if _, err := os.Stat(filepath.Join("..", entry.Name(), "go.mod")); err == nil {
			_, err := selected([]string{entry.Name()}, "..", t.TempDir())
			require.NoError(t, err, "a folder with no entry in the table")
		}
	}
	_, err = selected([]string{"nonsense"}, "..", t.TempDir())
	assert.ErrorContains(t, err, `no tool is called "nonsense"; there are kwok, etcd`)
}

func TestPreflight_RefusesAGoThatIsTooOldBeforeAnythingIsBuilt(t *testing.T) {
	b := fixture(t)
	b.needs = "go1.26.8"
	require.NoError(t, preflight([]*build{b}, "go1.26.8"))
	require.NoError(t, preflight([]*build{b}, "go1.27.0"))
	require.NoError(t, preflight([]*build{b}, "devel go1.27-abcdef"))
	require.ErrorContains(t, preflight([]*build{b}, "go1.26.7"), "hello v1.2.3 needs go1.26.8 or newer, and this is go1.26.7")
}

func TestGoCommand_IsKilledWithEverythingItStarted(t *testing.T) {
	b := fixture(t)
	cmd := b.goCommand(context.Background(), "version")
	assert.True(t, cmd.SysProcAttr.Setpgid)
	require.NoError(t, cmd.Start())
	group, err := syscall.Getpgid(cmd.Process.Pid)
	require.NoError(t, err)
	assert.Equal(t, cmd.Process.Pid, group)
	require.NoError(t, cmd.Wait())
}
