package rehearsal

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nullify005/manager-cluster-state/rehearsal/plugins"
)

// MissingToolsError names programs that a rehearsal needs and this machine lacks.
type MissingToolsError struct {
	Names  []string
	Folder string
}

func (e *MissingToolsError) Error() string {
	return fmt.Sprintf("%s not in %s: build them with `make tools`", strings.Join(e.Names, ", "), e.Folder)
}

const kubernetesPlugin = "pulumi-resource-kubernetes"

func clusterPrograms() []string {
	return []string{"kwokctl", "kwok", "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"}
}

func enginePrograms() []string {
	return []string{"pulumi", "pulumi-language-go", kubernetesPlugin}
}

// programs lists every program that a rehearsal runs.
func programs() []string {
	return slices.Concat(clusterPrograms(), enginePrograms(), controllerPrograms())
}

// CheckTools reports every program that is missing, as a MissingToolsError.
func (r *Rehearsal) CheckTools() error { return r.checkTools(programs()) }

func (r *Rehearsal) checkTools(names []string) error {
	var missing []string
	for _, name := range names {
		if _, err := r.findTool(name); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return &MissingToolsError{Names: missing, Folder: r.tools}
	}
	return nil
}

// findTool prefers the pinned program. For some the machine's own may do; `make tools` builds
// those where they don't.
func (r *Rehearsal) findTool(name string) (string, error) {
	path := filepath.Join(r.tools, name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if slices.Contains([]string{"kubectl", "pulumi", "pulumi-language-go"}, name) {
		return exec.LookPath(name)
	}
	return "", &MissingToolsError{Names: []string{name}, Folder: r.tools}
}

// tool is the path by which the rehearsal starts a program: inside its own folder.
func (r *Rehearsal) tool(name string) string { return r.folder.bin(name) }

// linkTools points the rehearsal's own paths at the programs.
func (r *Rehearsal) linkTools() error {
	for _, name := range programs() {
		target, err := r.findTool(name)
		if err != nil {
			continue // what needs it has asked for it
		}
		path := r.tool(name)
		if name == kubernetesPlugin {
			if path, err = r.pluginPath(); err != nil {
				return err
			}
		}
		if err := plugins.Link(target, path); err != nil {
			return fmt.Errorf("linking %s: %w", name, err)
		}
	}
	return nil
}

// pluginPath is where Pulumi looks for an installed plugin of the SDK's version. It would
// take one from PATH too, but with a warning at every turn.
func (r *Rehearsal) pluginPath() (string, error) {
	version, err := plugins.SDKVersion(r.source, "kubernetes")
	if err != nil {
		return "", err
	}
	return plugins.Path(r.folder.pulumiHome(), "kubernetes", version), nil
}

// environment is this process's own without the variables of those prefixes, which would
// steer the programs of the rehearsal from outside. On its PATH the rehearsal's own paths
// stand in for the folder of the programs.
func (r *Rehearsal) environment(without ...string) []string {
	kept := slices.DeleteFunc(os.Environ(), func(entry string) bool {
		return slices.ContainsFunc(append(without, "PATH=", "TMPDIR="), func(prefix string) bool { return strings.HasPrefix(entry, prefix) })
	})
	path := slices.DeleteFunc(filepath.SplitList(os.Getenv("PATH")), func(dir string) bool { return filepath.Clean(dir) == r.tools })
	path = append([]string{r.folder.join("bin")}, path...)
	return append(kept, "PATH="+strings.Join(path, string(os.PathListSeparator)), "TMPDIR="+r.folder.temp())
}
