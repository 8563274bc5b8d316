package review

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// repository is a Git work tree.
type repository struct{ folder string }

// commits makes a repository of files, on main.
func commits(t *testing.T, files map[string]string) *repository {
	t.Helper()
	r := &repository{folder: t.TempDir()}
	r.git(t, "init", "--quiet", "--initial-branch=main")
	r.commit(t, files)
	return r
}

// commit puts files in place, takes away those without content, and commits.
func (r *repository) commit(t *testing.T, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(r.folder, filepath.FromSlash(name))
		if content == "" {
			require.NoError(t, os.Remove(path))
			continue
		}
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o750))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	}
	r.git(t, "add", "--all")
	r.git(t, "commit", "--quiet", "--allow-empty", "--message", "a test")
}

func (r *repository) git(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = r.folder
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_SYSTEM="+os.DevNull,
		"GIT_AUTHOR_NAME=t", "GIT_AUTHOR_EMAIL=t@example.org", "GIT_COMMITTER_NAME=t", "GIT_COMMITTER_EMAIL=t@example.org")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
}

// with is a set of files with others in place of some of it.
func with(files, others map[string]string) map[string]string {
	all := map[string]string{}
	for _, some := range []map[string]string{files, others} {
		for name, content := range some {
			if all[name] = content; content == "" {
				delete(all, name)
			}
		}
	}
	return all
}

// treeOf is what a render of such files would be.
func treeOf(t *testing.T, files map[string]string) *tree {
	t.Helper()
	made := newTree()
	for name, content := range files {
		require.NoError(t, made.add(name, []byte(content)))
	}
	return made
}

const (
	deployment = `apiVersion: apps/v1
kind: Deployment
metadata: {name: app, namespace: home}
spec:
  replicas: 1
  template:
    spec:
      containers:
      - {name: app, image: example.org/app}
`
	settings = `apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: home}
data:
  README.md: |
    ` + "```" + `
    kept
    ` + "```" + `
  key: old
`
	secret = `apiVersion: bitnami.com/v1alpha1
kind: SealedSecret
metadata: {name: login, namespace: home}
spec:
  encryptedData:
    password: CIPHER-ONE
    username: CIPHER-TWO
`
	images = `apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
images:
- {name: example.org/app, newTag: v1}
`
)

func kustomization(resources ...string) string {
	return "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\ncomponents: [../../images]\nresources: [" + strings.Join(resources, ", ") + "]\n"
}

// project has two stacks of one workload, and one of those has another.
func project() map[string]string {
	return map[string]string{
		"Pulumi.yaml":                                 "name: p\n",
		"manifests/images/kustomization.yaml":         images,
		"manifests/one/app/kustomization.yaml":        kustomization("deployment.yaml", "configmap.yaml", "sealedsecret.yaml"),
		"manifests/one/app/deployment.yaml":           deployment,
		"manifests/one/app/configmap.yaml":            settings,
		"manifests/one/app/sealedsecret.yaml":         secret,
		"manifests/two/app/kustomization.yaml":        kustomization("deployment.yaml"),
		"manifests/two/app/deployment.yaml":           deployment,
		"manifests/two/other/kustomization.yaml":      kustomization("configmap.yaml"),
		"manifests/two/other/configmap.yaml":          settings,
		"manifests/flux-system/install.yaml":          "no workload's: not built",
		"manifests/sealed-secrets/deep/er/still.yaml": "nor this",
	}
}

// differences compares the commit of a repository with a change to its files.
func differences(t *testing.T, change map[string]string) []change {
	t.Helper()
	r := commits(t, project())
	base, err := fromGit(t.Context(), r.folder, "main")
	require.NoError(t, err)
	changes, err := compare(base, treeOf(t, with(project(), change)))
	require.NoError(t, err)
	return changes
}

// every has a change of each kind.
func every() map[string]string {
	return map[string]string{
		"manifests/images/kustomization.yaml":    strings.Replace(images, "v1}", "v2}", 1),
		"manifests/one/app/kustomization.yaml":   kustomization("deployment.yaml", "configmap.yaml", "sealedsecret.yaml", "service.yaml"),
		"manifests/one/app/configmap.yaml":       strings.Replace(settings, "old", "new", 1),
		"manifests/one/app/sealedsecret.yaml":    strings.Replace(secret, "CIPHER-ONE", "CIPHER-THREE", 1),
		"manifests/one/app/service.yaml":         "apiVersion: v1\nkind: Service\nmetadata: {name: app, namespace: home}\n",
		"manifests/one/fresh/kustomization.yaml": kustomization("namespace.yaml"),
		"manifests/one/fresh/namespace.yaml":     "apiVersion: v1\nkind: Namespace\nmetadata: {name: fresh}\n",
		"manifests/two/other/kustomization.yaml": "",
		"manifests/two/other/configmap.yaml":     "",
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, string(want), got, "go test ./internal/review -update rewrites it")
}

func TestMarkdown_ShowsWhatFluxWouldDeliverOtherwise(t *testing.T) {
	text, err := markdown(differences(t, every()), "origin/main", 0)
	require.NoError(t, err)
	golden(t, "every.md", text)
	assert.NotContains(t, text, "CIPHER")
}

func TestMarkdown_OfNoDifferenceSaysSo(t *testing.T) {
	changes := differences(t, nil)
	assert.Empty(t, changes)
	text, err := markdown(changes, "origin/main", 60000)
	require.NoError(t, err)
	golden(t, "none.md", text)
}

func TestCompare_AnImagesTagIsAChangeOfEachWorkloadThatRunsIt(t *testing.T) {
	changes := differences(t, map[string]string{"manifests/images/kustomization.yaml": strings.Replace(images, "v1}", "v2}", 1)})
	require.Len(t, changes, 2)
	for _, c := range changes {
		assert.Equal(t, "app", c.workload)
		assert.Contains(t, c.diff, "-      - image: example.org/app:v1\n+      - image: example.org/app:v2\n")
	}
}

func TestCompare_ResealingIsToldAndNoCiphertextShown(t *testing.T) {
	changes := differences(t, map[string]string{"manifests/one/app/sealedsecret.yaml": strings.ReplaceAll(secret, "CIPHER", "OTHER")})
	require.Len(t, changes, 1)
	assert.Contains(t, changes[0].diff, "-    password: (sealed)\n-    username: (sealed)\n+    password: (re-sealed)\n+    username: (re-sealed)\n")
	for _, ciphertext := range []string{"CIPHER", "OTHER"} {
		assert.NotContains(t, changes[0].diff, ciphertext)
	}
}

func TestCompare_ASecretThatIsNewOrGoneShowsItsKeysAlone(t *testing.T) {
	r := commits(t, project())
	base, err := fromGit(t.Context(), r.folder, "main")
	require.NoError(t, err)
	without := treeOf(t, with(project(), map[string]string{"manifests/one/app/kustomization.yaml": kustomization("deployment.yaml", "configmap.yaml")}))
	for sign, trees := range map[string][2]*tree{"-": {base, without}, "+": {without, base}} {
		changes, err := compare(trees[0], trees[1])
		require.NoError(t, err)
		require.Len(t, changes, 1)
		assert.Contains(t, changes[0].diff, sign+"    password: (sealed)\n")
		assert.NotContains(t, changes[0].diff, "CIPHER")
	}
}

func TestFromGit_IsWhereTheBranchLeftTheBase(t *testing.T) {
	r := commits(t, project())
	r.git(t, "checkout", "--quiet", "-b", "branch")
	r.git(t, "checkout", "--quiet", "main")
	r.commit(t, map[string]string{"manifests/one/app/configmap.yaml": strings.Replace(settings, "old", "of main since", 1)})
	r.git(t, "checkout", "--quiet", "branch")
	base, err := fromGit(t.Context(), r.folder, "main")
	require.NoError(t, err)
	changes, err := compare(base, treeOf(t, project()))
	require.NoError(t, err)
	assert.Empty(t, changes, "what main got since is not this branch's")
}

func TestFromGit_OfNoCommitSaysHowToGetIt(t *testing.T) {
	r := commits(t, project())
	_, err := fromGit(t.Context(), r.folder, "origin/main")
	require.ErrorContains(t, err, "git fetch --unshallow origin")
	_, err = fromGit(t.Context(), r.folder, "--output=x")
	require.ErrorContains(t, err, "no commit")
}

func TestCompare_OfWhatCantBeBuiltNamesIt(t *testing.T) {
	good := treeOf(t, project())
	bad := treeOf(t, with(project(), map[string]string{"manifests/two/app/deployment.yaml": ""}))
	_, err := compare(bad, good)
	require.ErrorContains(t, err, "the base's manifests of two/app can't be built")
	_, err = compare(good, bad)
	require.ErrorContains(t, err, "manifests of two/app can't be built")
	assert.NotContains(t, err.Error(), "base")
}

// lines is a diff of so many bytes, some of more than one.
func lines(bytes int) string { return strings.Repeat("+é2345678\n", bytes/11) }

func TestMarkdown_IsCutToTheLimitAndSaysWhatIsMissing(t *testing.T) {
	changes := []change{
		{stack: "one", workload: "huge", changed: 1, diff: lines(900000)},
		{stack: "one", workload: "large", changed: 1, diff: lines(90000)},
		{stack: "two", workload: "small", changed: 1, diff: lines(1100)},
	}
	const limit = 60000
	text, err := markdown(changes, "origin/main", limit)
	require.NoError(t, err)
	assert.LessOrEqual(t, len(text), limit)
	assert.Greater(t, len(text), limit-200, "the room is used")
	assert.Contains(t, text, lines(1100)+"```\n</details>", "what is short is whole")
	assert.Equal(t, 2, strings.Count(text, " more lines. `make manifests-diff BASE=origin/main` shows it whole.\n"))
	shown := strings.Count(text, "+é2345678\n")
	told := 0
	for line := range strings.SplitSeq(text, "\n") {
		if left, _, is := strings.Cut(line, " more lines."); is {
			told += number(t, left)
		}
	}
	assert.Equal(t, (900000/11)+(90000/11)+(1100/11), shown+told)

	whole, err := markdown(changes, "origin/main", 0)
	require.NoError(t, err)
	assert.Greater(t, len(whole), 900000)
	assert.NotContains(t, whole, "more lines")
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}

func TestMarkdown_OfAThousandWorkloadsFitsAComment(t *testing.T) {
	changes := make([]change, 1000)
	for i := range changes {
		changes[i] = change{stack: "production", workload: "workload-" + strconv.Itoa(i), changed: 3, diff: lines(2000)}
	}
	text, err := markdown(changes, "origin/main", 60000)
	require.NoError(t, err)
	assert.LessOrEqual(t, len(text), 60000)
	assert.Contains(t, text, "900 more workloads differ. `make manifests-diff BASE=origin/main` shows it whole.")

	_, err = markdown(changes, "origin/main", 1000)
	require.ErrorContains(t, err, "1000 bytes are not enough")
}

func TestSection_NothingInADiffEndsItsFence(t *testing.T) {
	text := section(change{stack: "s", workload: "w", diff: " ````\n"}, " ````\n", "")
	assert.Contains(t, text, "`````diff\n ````\n`````\n")
}
