package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/semver"
)

// installed says how to tell that a machine has a tool in a version that works.
type installed struct {
	command []string // prints the version
	from    string   // the lowest version that works
	below   string   // the first one that is not known to
	beside  string   // another command that has to be there too
}

// find asks the machine's own command, passing over the ones in own, this project's folder.
func (i *installed) find(ctx context.Context, own string) (version string, ok bool) {
	if i == nil {
		return "", false
	}
	path, ok := lookPath(i.command[0], own)
	if !ok {
		return "", false
	}
	if i.beside != "" {
		if _, ok := lookPath(i.beside, own); !ok {
			return "", false
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, i.command[1:]...).Output()
	if err != nil {
		return "", false
	}
	version = strings.TrimSpace(string(out))
	return version, i.works(version)
}

func (i *installed) works(version string) bool {
	return semver.IsValid(version) && semver.Compare(version, i.from) >= 0 && semver.Compare(version, i.below) < 0
}

func lookPath(command, own string) (string, bool) {
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if dir == "" || dir == own {
			continue
		}
		path := filepath.Join(dir, command)
		if info, err := os.Stat(path); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return path, true
		}
	}
	return "", false
}
