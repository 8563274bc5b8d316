package config_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/encoding"
	"github.com/pulumi/pulumi/sdk/v3/go/common/esc"
	pulumiconfig "github.com/pulumi/pulumi/sdk/v3/go/common/resource/config"
	"github.com/pulumi/pulumi/sdk/v3/go/common/workspace"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/config"
)

const projectFile = "../Pulumi.yaml"

// Not parallel: with -update it writes what the others read.
func TestProjectFile_DeclaresEveryKey(t *testing.T) {
	data, err := os.ReadFile(projectFile)
	require.NoError(t, err)
	head, _, _ := strings.Cut(string(data), "\nconfig:\n")
	want := strings.TrimRight(head, "\n") + "\n" + string(config.Declaration())
	if *update {
		require.NoError(t, os.WriteFile(projectFile, []byte(want), 0o600))
		return
	}
	require.Equal(t, want, string(data), "run: go test ./config -update")
}

func TestProjectFile_IsValidForTheEngine(t *testing.T) {
	t.Parallel()
	p := loadProject(t)
	require.Equal(t, project, p.Name.String())
	for _, key := range config.Schema() {
		if strings.Contains(key.Path, ".") {
			continue
		}
		declared, ok := p.Config[key.Path]
		require.True(t, ok, key.Path)
		require.Equal(t, key.Type, declared.TypeName())
		require.True(t, strings.HasPrefix(declared.Description, key.Doc), key.Path)
		require.Equal(t, key.Required, declared.Default == nil, "the engine asks for %s just when it is required", key.Path)
	}
}

func TestStackFiles_HaveOnlyDeclaredKeys(t *testing.T) {
	t.Parallel()
	p := loadProject(t)
	for path, data := range stackFiles(t) {
		values, _, err := config.ReadStackFile(project, data)
		require.NoError(t, err, path)
		for key := range values {
			name, ours := strings.CutPrefix(key, project+":")
			require.True(t, ours, "%s: %s", path, key)
			require.Contains(t, p.Config, name, path)
		}
	}
}

func TestStackFiles_LoadAsTheEngineGivesThem(t *testing.T) {
	t.Parallel()
	p := loadProject(t)
	needs := map[string][]string{ // as they were set out: an owner sets more, which may need other things
		"../workloads/testdata/Pulumi.development.yaml": {},
		"../workloads/testdata/Pulumi.production.yaml": {
			"cluster.install.binary", "cluster.install.script",
			"cluster.nodes[0].hostKey", "cluster.nodes[1].hostKey", "cluster.nodes[2].hostKey",
			"sealing.keys", "secrets.deployKey", "secrets.intesis.password", "secrets.intesis.username",
			"secrets.notifications.githubToken", "secrets.slack.appToken", "secrets.slack.botToken",
		},
	}
	made := map[string]string{ // by the helper CLI, not by hand
		"sealing.keys": "keys", "secrets.deployKey": "keys", "cluster.install.binary": "pin", "cluster.install.script": "pin",
		".hostKey": "trust",
	}
	files := stackFiles(t)
	for path := range needs {
		var err error
		files[path], err = os.ReadFile(path)
		require.NoError(t, err)
	}
	for path, data := range files {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			stack, err := workspace.LoadProjectStackBytes(nil, p, data, path, encoding.YAML)
			require.NoError(t, err)
			require.NoError(t, workspace.ValidateStackConfigAndApplyProjectConfig(
				t.Context(), "test", p, esc.Value{}, stack.Config, pulumiconfig.NopEncrypter, plain{}))
			values, secretKeys := engineValues(t, stack.Config, marked{config.Encrypted})

			_, err = config.Load(project, values, secretKeys, time.Now(), config.SkipSecrets())
			require.NoError(t, err)
			// Nothing but what isn't set yet is wrong with a stack.
			var missing []string
			var problems config.Problems
			if _, err = config.Load(project, values, secretKeys, time.Now()); err != nil {
				require.ErrorAs(t, err, &problems)
			}
			for _, problem := range problems {
				require.Equal(t, "missing", problem.Value)
				if target, byHelper := made[helped(problem.Path)]; byHelper {
					require.Equal(t, "run: make "+target+" STACK=…", problem.Mend)
				} else {
					require.Equal(t, "pulumi config set --secret --path "+problem.Path, problem.Mend)
				}
				missing = append(missing, problem.Path)
			}
			if want, known := needs[path]; known {
				require.ElementsMatch(t, want, missing)
			}
		})
	}
}

// helped is a path with that of a machine cut off its host key: each machine has one.
func helped(path string) string {
	const key = ".hostKey"
	if strings.HasSuffix(path, key) {
		return key
	}
	return path
}

func TestStackFiles_SayTheSameToTheEngineAndToAReader(t *testing.T) {
	t.Parallel()
	all := slices.Concat(fixtures(t, "valid"), fixtures(t, "invalid"))
	for path, data := range stackFiles(t) {
		all = append(all, fixture{path, filepath.Base(path), data})
	}
	for _, f := range all {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			stack, err := workspace.LoadProjectStackBytes(nil, loadProject(t), f.data, f.path, encoding.YAML)
			require.NoError(t, err)
			want, wantSecret := engineValues(t, stack.Config, marked{config.Encrypted})
			got, gotSecret, err := config.ReadStackFile(project, f.data)
			require.NoError(t, err)
			require.Equal(t, want, got)
			require.ElementsMatch(t, wantSecret, gotSecret)
		})
	}
}

func stackFiles(t *testing.T) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob("../Pulumi.*.yaml")
	require.NoError(t, err)
	files := map[string][]byte{}
	for _, path := range paths {
		files[path], err = os.ReadFile(path)
		require.NoError(t, err)
	}
	require.Contains(t, files, "../Pulumi.development.yaml")
	require.Contains(t, files, "../Pulumi.production.yaml")
	return files
}

func loadProject(t *testing.T) *workspace.Project {
	t.Helper()
	p, err := workspace.LoadProject(projectFile)
	require.NoError(t, err)
	return p
}
