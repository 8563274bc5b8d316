// Package plugins puts Pulumi's plugins where the engine finds them, on machines that may have
// none: the official one where there is one, else the stand-in that lies in a folder here of
// its name. It is for rehearsals and tests: a real stack has Pulumi install its plugins.
package plugins

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/semver"
)

// Plugins that have a stand-in.
const (
	GitHub  = "github"
	Command = "command"
)

// Target is where plugins are put.
type Target struct {
	// Project is the folder of go.mod, whose SDKs say which versions are wanted, and which
	// stand-ins are built from.
	Project string
	// Home is the PULUMI_HOME of who needs them.
	Home string
	// Environ is that of builds; nil is this process's own.
	Environ []string
}

// Ensure leaves a plugin where Pulumi looks for one of the SDK's version: the official one where
// this machine has it, whose path is returned, else the stand-in.
func (t Target) Ensure(ctx context.Context, name string) (official string, err error) {
	version, err := SDKVersion(t.Project, name)
	if err != nil {
		return "", err
	}
	path := Path(t.Home, name, version)
	official, err = findOfficial(name, version)
	if err != nil {
		return "", fmt.Errorf("looking for the official %s plugin: %w", name, err)
	}
	if official != "" {
		if err := Link(official, path); err != nil {
			return "", fmt.Errorf("linking the official %s plugin: %w", name, err)
		}
		return official, nil
	}
	// A build would overwrite what a link leads to.
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		if err := os.Remove(path); err != nil {
			return "", fmt.Errorf("removing the link to the official %s plugin: %w", name, err)
		}
	}
	return "", Build(ctx, t.Project, t.Environ, "./rehearsal/plugins/"+name, path, "-ldflags", "-s -w -X main.version="+version)
}

// Link makes a link, in the place of whatever is there.
func Link(target, path string) error {
	if now, err := os.Readlink(path); target == path || err == nil && now == target {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.Symlink(target, path)
}

// Path is where Pulumi looks for a plugin of a version.
func Path(home, name, version string) string {
	return filepath.Join(home, "plugins", "resource-"+name+"-"+version, program(name))
}

func program(name string) string { return "pulumi-resource-" + name }

// SDKVersion is the version of a plugin's SDK in a project's go.mod.
func SDKVersion(project, name string) (string, error) {
	data, err := os.ReadFile(filepath.Join(project, "go.mod"))
	if err != nil {
		return "", fmt.Errorf("looking up the version of the SDK for %s: %w", name, err)
	}
	module := "github.com/pulumi/pulumi-" + name + "/sdk"
	found := regexp.MustCompile(`(?m)^\s*(?:require\s+)?` + regexp.QuoteMeta(module) + `(?:/v\d+)? (v\S+)`).FindSubmatch(data)
	if found == nil {
		return "", fmt.Errorf("looking up the version of %s: go.mod does not require it", module)
	}
	return string(found[1]), nil
}

// Build builds a program of a project. Go's cache makes the second time quick.
func Build(ctx context.Context, project string, environ []string, pkg, path string, flags ...string) error {
	if environ == nil {
		environ = os.Environ()
	}
	// Nothing of the environment changes which modules it is built from.
	environ = append(slices.DeleteFunc(slices.Clone(environ), func(entry string) bool {
		return strings.HasPrefix(entry, "GOFLAGS=") || strings.HasPrefix(entry, "GOWORK=")
	}), "GOWORK=off")
	path, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("building %s: %w", pkg, err)
	}
	cmd := exec.CommandContext(ctx, "go", slices.Concat([]string{"build", "-o", path}, flags, []string{pkg})...)
	cmd.Dir, cmd.Env = project, environ
	if out, err := cmd.CombinedOutput(); err != nil {
		lines := bytes.Split(bytes.TrimRight(out, "\n"), []byte("\n"))
		return fmt.Errorf("building %s: %w\n%s", pkg, err, bytes.Join(lines[max(0, len(lines)-20):], []byte("\n")))
	}
	return nil
}

// findOfficial is the path of the official plugin, if this machine has one of the SDK's major
// version that is no older: on PATH, or among the plugins of the user's Pulumi.
func findOfficial(name, version string) (string, error) {
	if path, err := exec.LookPath(program(name)); err == nil {
		return filepath.Abs(path)
	}
	home := os.Getenv("PULUMI_HOME")
	if home == "" {
		user, err := os.UserHomeDir()
		if err != nil {
			return "", nil //nolint:nilerr // nobody's plugins
		}
		home = filepath.Join(user, ".pulumi")
	}
	entries, err := os.ReadDir(filepath.Join(home, "plugins"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	path, best := "", ""
	for _, entry := range entries {
		installed, found := strings.CutPrefix(entry.Name(), "resource-"+name+"-")
		if !found || semver.Major(installed) != semver.Major(version) || semver.Compare(installed, version) < 0 {
			continue
		}
		candidate := filepath.Join(home, "plugins", entry.Name(), program(name))
		if _, err := os.Stat(candidate); err == nil && semver.Compare(installed, best) > 0 {
			path, best = candidate, installed
		}
	}
	if path == "" {
		return "", nil
	}
	return filepath.Abs(path)
}
