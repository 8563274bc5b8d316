package main

import (
	"context"
	"fmt"
	"go/version"
	"io"
	"os/exec"
	"strings"
	"syscall"
)

// coldGiB is what a cold build of every tool writes: modules, go's build cache, binaries.
const coldGiB = 12

// memoryGiB is what the compiler of the largest package takes, that of Pulumi's Kubernetes plugin.
const memoryGiB = 4

// preflight says at once what would otherwise end a long build in its middle.
func preflight(stale []*build, have string) error {
	for _, b := range stale {
		// A development version of Go is taken to be new enough.
		if version.IsValid(have) && version.Compare(have, b.needs) < 0 {
			return fmt.Errorf("%s %s needs %s or newer, and this is %s: install a newer Go", b.name, b.version, b.needs, have)
		}
	}
	return nil
}

// warnOfFullDisk looks where go writes most. What is cached already needs no room, so this
// is no reason to stop.
func warnOfFullDisk(ctx context.Context, stdout io.Writer, out string, stale int) {
	need := max(1, coldGiB*float64(stale)/float64(len(tools())))
	folders, err := exec.CommandContext(ctx, "go", "env", "GOCACHE", "GOMODCACHE").Output()
	if err != nil {
		return
	}
	for _, folder := range append(strings.Split(strings.TrimSpace(string(folders)), "\n"), out) {
		var disk syscall.Statfs_t
		if syscall.Statfs(folder, &disk) != nil {
			continue // not there yet
		}
		if free := float64(disk.Bavail) * float64(disk.Bsize) / (1 << 30); free < need {
			fmt.Fprintf(stdout, "%s has %.0f GiB left; with nothing cached this build takes about %.0f\n", folder, free, need)
			return
		}
	}
}
