package rehearsal

import (
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

	"github.com/nullify005/manager-cluster-state/config"
)

const (
	githubPlugin  = "github"
	commandPlugin = "command"
)

// pluginFile is the name of a plugin's program.
func pluginFile(name string) string { return "pulumi-resource-" + name }

func (r *Rehearsal) ensureGitHubPlugin(ctx context.Context) error {
	return r.ensurePlugin(ctx, githubPlugin, "github.com/pulumi/pulumi-github/sdk/v6")
}

// ensureCommandPlugin is for the clusters that the program makes; an existing one takes no command.
func (r *Rehearsal) ensureCommandPlugin(ctx context.Context) error {
	rehearsed, err := r.Rehearsed()
	if err != nil || rehearsed.Cluster.Kind == config.Existing {
		return err
	}
	return r.ensurePlugin(ctx, commandPlugin, "github.com/pulumi/pulumi-command/sdk")
}

// ensurePlugin leaves a plugin where Pulumi looks for one of the SDK's version: the official one
// where this machine has it, else the stand-in of rehearsal/plugins, built from the project.
func (r *Rehearsal) ensurePlugin(ctx context.Context, name, sdk string) error {
	version, err := r.sdkVersion(sdk)
	if err != nil {
		return err
	}
	path := filepath.Join(r.folder.pulumiHome(), "plugins", "resource-"+name+"-"+version, pluginFile(name))
	official, err := officialPlugin(name, version)
	if err != nil {
		return fmt.Errorf("looking for the official %s plugin: %w", name, err)
	}
	if official != "" {
		r.log.Info("using the official "+name+" plugin", "path", official)
		if err := link(official, path); err != nil {
			return fmt.Errorf("linking %s: %w", pluginFile(name), err)
		}
		return nil
	}
	r.log.Info("using the stand-in of the " + name + " plugin: the official one is not on this machine")
	// A link would have the build overwrite what it leads to.
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("removing the link to the official %s plugin: %w", name, err)
		}
	}
	return r.build(ctx, "./rehearsal/plugins/"+name, path, "-ldflags", "-s -w -X main.version="+version)
}

// build builds a program of the project. Go's cache makes the second time quick.
func (r *Rehearsal) build(ctx context.Context, pkg, path string, flags ...string) error {
	cmd := exec.CommandContext(ctx, "go", slices.Concat([]string{"build", "-o", path}, flags, []string{pkg})...)
	cmd.Dir = r.source
	// Nothing of the environment changes which modules it is built from.
	cmd.Env = append(r.environment("GOFLAGS=", "GOWORK="), "GOWORK=off")
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return fmt.Errorf("building %s: %w", pkg, ErrInterrupted)
	}
	if err != nil {
		return fmt.Errorf("building %s: %w\n%s", pkg, err, lastLines(out, 20))
	}
	return nil
}

// sdkVersion is the version of a module in the project's go.mod.
func (r *Rehearsal) sdkVersion(module string) (string, error) {
	data, err := os.ReadFile(filepath.Join(r.source, "go.mod"))
	if err != nil {
		return "", fmt.Errorf("looking up the version of %s: %w", module, err)
	}
	found := regexp.MustCompile(`(?m)^\s*(?:require\s+)?` + regexp.QuoteMeta(module) + ` (v\S+)`).FindSubmatch(data)
	if found == nil {
		return "", fmt.Errorf("looking up the version of %s: go.mod does not require it", module)
	}
	return string(found[1]), nil
}

// officialPlugin is the path of the official plugin, if this machine has one of the
// SDK's major version that is no older: on PATH, or among the plugins of the user's Pulumi.
func officialPlugin(name, version string) (string, error) {
	if path, err := exec.LookPath(pluginFile(name)); err == nil {
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
		candidate := filepath.Join(home, "plugins", entry.Name(), pluginFile(name))
		if _, err := os.Stat(candidate); err == nil && semver.Compare(installed, best) > 0 {
			path, best = candidate, installed
		}
	}
	return path, nil
}
