package upkeep

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// workflow is what the rules ask of one.
type workflow struct {
	On          yaml.Node            `yaml:"on"`
	Permissions map[string]string    `yaml:"permissions"`
	Concurrency *concurrency         `yaml:"concurrency"`
	Jobs        map[string]yaml.Node `yaml:"jobs"`
}

type concurrency struct {
	Group  string `yaml:"group"`
	Cancel string `yaml:"cancel-in-progress"`
}

type job struct {
	If          string            `yaml:"if"`
	Uses        string            `yaml:"uses"`
	Environment string            `yaml:"environment"`
	Permissions map[string]string `yaml:"permissions"`
	Timeout     int               `yaml:"timeout-minutes"`
	Container   yaml.Node         `yaml:"container"`
	Services    yaml.Node         `yaml:"services"`
	Steps       []step            `yaml:"steps"`
}

type step struct {
	Uses string         `yaml:"uses"`
	With map[string]any `yaml:"with"`
	Run  string         `yaml:"run"`
}

const (
	sameRepository = "github.event.pull_request.head.repo.full_name == github.repository"
	checkout       = "actions/checkout@"
	production     = "production"
)

var (
	usesLine = regexp.MustCompile(`(?m)^[ -]*uses: *(.*)$`)
	pinned   = regexp.MustCompile(`^([\w.-]+/[\w./-]+)@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)$`)
	makeLine = regexp.MustCompile(`^make((?: --silent)?(?: [a-z-]+)+)((?: [A-Z]\w*=\S+)*)( \| tee [\w.]+)?( >> "\$GITHUB_(?:STEP_SUMMARY|PATH)")?$`)
	trigger  = regexp.MustCompile(`^(pull_request|push|workflow_dispatch|schedule)$`)
)

// violations lists, a line each, the rules that a workflow breaks.
func violations(content string, targets map[string]bool) []string {
	var broken []string
	breaks := func(format string, args ...any) { broken = append(broken, fmt.Sprintf(format, args...)) }
	var flow workflow
	if err := yaml.Unmarshal([]byte(content), &flow); err != nil {
		return []string{err.Error()}
	}
	for _, match := range usesLine.FindAllStringSubmatch(content, -1) {
		if !pinned.MatchString(match[1]) {
			breaks("%s: not pinned by a commit, with its version as a comment", match[1])
		}
	}
	if flow.Permissions == nil || len(flow.Permissions) > 0 {
		breaks("permissions at the top are not {}")
	}
	if flow.Concurrency == nil || flow.Concurrency.Group == "" {
		breaks("no concurrency group")
	}
	triggers := triggersOf(&flow.On)
	for _, name := range triggers {
		if !trigger.MatchString(name) {
			breaks("on %s: may run what a fork wrote with this repository's own token", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(flow.Jobs)) {
		node := flow.Jobs[name]
		var one job
		text, err := yaml.Marshal(&node)
		if err = errors.Join(err, node.Decode(&one)); err != nil {
			breaks("job %s: %v", name, err)
		}
		for _, rule := range one.violations(string(text), slices.Contains(triggers, "pull_request"), targets) {
			breaks("job %s: %s", name, rule)
		}
		if one.Environment != production {
			continue
		}
		if !slices.Equal(triggers, []string{"workflow_dispatch"}) {
			breaks("job %s: of production, and not by hand alone", name)
		}
		if flow.Concurrency == nil || flow.Concurrency.Cancel != "false" || strings.Contains(flow.Concurrency.Group, "${{") {
			breaks("job %s: of production, and two may run at once, or one cut another short", name)
		}
	}
	return broken
}

func triggersOf(on *yaml.Node) []string {
	switch on.Kind {
	case yaml.ScalarNode:
		return []string{on.Value}
	case yaml.SequenceNode:
		var names []string
		for _, node := range on.Content {
			names = append(names, node.Value)
		}
		return names
	case yaml.MappingNode:
		var names []string
		for i := 0; i < len(on.Content); i += 2 {
			names = append(names, on.Content[i].Value)
		}
		return names
	case yaml.DocumentNode, yaml.AliasNode:
	}
	return []string{""}
}

func (j *job) violations(text string, onPullRequest bool, targets map[string]bool) []string {
	var broken []string
	breaks := func(format string, args ...any) { broken = append(broken, fmt.Sprintf(format, args...)) }
	if j.Timeout == 0 {
		breaks("no timeout-minutes")
	}
	if j.Permissions == nil {
		breaks("no permissions of its own")
	}
	if !j.Container.IsZero() || !j.Services.IsZero() || j.Uses != "" {
		breaks("runs in what no laptop has: a container, a service, another workflow")
	}
	writes := false
	for scope, access := range j.Permissions {
		if writes = writes || access == "write"; access == "write" && scope != "pull-requests" {
			breaks("may write %s", scope)
		}
	}
	ofThisRepository := strings.Contains(j.If, sameRepository)
	if writes && !ofThisRepository {
		breaks("may write, and is not for branches of this repository alone")
	}
	if strings.Contains(text, "secrets.") {
		if j.Environment == "" {
			breaks("has a secret, and no environment that guards it")
		}
		if onPullRequest && !ofThisRepository {
			breaks("has a secret, and is not for branches of this repository alone")
		}
	}
	checksOut := slices.ContainsFunc(j.Steps, func(s step) bool { return strings.HasPrefix(s.Uses, checkout) })
	for _, s := range j.Steps {
		if strings.HasPrefix(s.Uses, checkout) && s.With["persist-credentials"] != false {
			breaks("a checkout leaves its token in the work tree")
		}
		if strings.Contains(s.Run, "${{") {
			breaks("a value goes into a script as text; hand it over in env")
		}
		if checksOut && s.Run != "" {
			broken = append(broken, notMake(s.Run, targets)...)
		}
	}
	return broken
}

// notMake lists the lines of a script that are not a make target that there is.
func notMake(script string, targets map[string]bool) []string {
	var broken []string
	for line := range strings.Lines(script) {
		match := makeLine.FindStringSubmatch(strings.TrimSpace(line))
		if match == nil {
			broken = append(broken, "not a make target: "+strings.TrimSpace(line))
			continue
		}
		for target := range strings.FieldsSeq(match[1]) {
			if target != "--silent" && !targets[target] {
				broken = append(broken, "make "+target+" is no target")
			}
		}
	}
	return broken
}

// makeTargets are those of the Makefile.
func makeTargets(t *testing.T) map[string]bool {
	t.Helper()
	targets := map[string]bool{}
	for _, match := range regexp.MustCompile(`(?m)^([a-z-]+):(?:[^=]|$)`).FindAllStringSubmatch(read(t, "Makefile"), -1) {
		targets[match[1]] = true
	}
	return targets
}

const top = "../.."

// read reads a file of this project.
func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(top, filepath.FromSlash(name)))
	require.NoError(t, err)
	return string(content)
}

// workflows are the contents of this project's, by their paths.
func workflows(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(top, ".github", "workflows", "*"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	contents := map[string]string{}
	for _, file := range files {
		contents[file] = read(t, ".github/workflows/"+filepath.Base(file))
	}
	return contents
}

func TestWorkflows_KeepToTheRules(t *testing.T) {
	targets := makeTargets(t)
	for file, content := range workflows(t) {
		assert.Empty(t, violations(content, targets), file)
	}
}

// Two commits that pass for one version: one of the two comments is wrong.
func TestWorkflows_AnActionIsOneCommitEverywhere(t *testing.T) {
	commits := map[string]string{}
	for file, content := range workflows(t) {
		for _, match := range usesLine.FindAllStringSubmatch(content, -1) {
			parts := pinned.FindStringSubmatch(match[1])
			require.NotNil(t, parts, match[1])
			repository := strings.Join(strings.Split(parts[1], "/")[:2], "/")
			pin := parts[2] + " " + parts[3]
			if was, seen := commits[repository]; seen {
				assert.Equal(t, was, pin, "%s in %s", repository, file)
			}
			commits[repository] = pin
		}
	}
	assert.Greater(t, len(commits), 4)
}

const lawful = `on:
  pull_request:
    branches: [main]
permissions: {}
concurrency: {group: a}
jobs:
  one:
    if: github.event.pull_request.head.repo.full_name == github.repository
    runs-on: ubuntu-24.04
    timeout-minutes: 5
    environment: preview
    permissions:
      contents: read
      pull-requests: write
    steps:
      - uses: actions/checkout@0123456789012345678901234567890123456789 # v1.2.3
        with:
          persist-credentials: false
      - run: make --silent lint A=b | tee x.md >> "$GITHUB_STEP_SUMMARY"
        env:
          A: ${{ secrets.A }}
`

const byHand = `on: workflow_dispatch
permissions: {}
concurrency: {group: production, cancel-in-progress: false}
jobs:
  up:
    environment: production
    timeout-minutes: 5
    permissions: {}
    steps: []
`

func TestWorkflows_EachRuleIsHeld(t *testing.T) {
	targets := map[string]bool{"lint": true}
	require.Empty(t, violations(lawful, targets))
	require.Empty(t, violations(byHand, targets))
	for _, c := range []struct{ workflow, old, with, want string }{
		{lawful, "0123456789012345678901234567890123456789 # v1.2.3", "v1.2.3", "not pinned by a commit"},
		{lawful, " # v1.2.3", "", "not pinned by a commit"},
		{lawful, "permissions: {}\n", "", "permissions at the top are not {}"},
		{lawful, "permissions: {}\n", "permissions: {contents: read}\n", "permissions at the top are not {}"},
		{lawful, "concurrency: {group: a}\n", "", "no concurrency group"},
		{lawful, "pull_request:", "pull_request_target:", "on pull_request_target"},
		{lawful, "pull_request:", "workflow_run:", "on workflow_run"},
		{lawful, "    timeout-minutes: 5\n", "", "no timeout-minutes"},
		{lawful, "    permissions:\n      contents: read\n      pull-requests: write\n", "", "no permissions of its own"},
		{lawful, "contents: read", "contents: write", "may write contents"},
		{lawful, "    runs-on", "    container: debian\n    runs-on", "in what no laptop has"},
		{lawful, "    if: github.event.pull_request.head.repo.full_name == github.repository\n", "", "may write, and is not for branches of this repository"},
		{lawful, "    if: github.event.pull_request.head.repo.full_name == github.repository\n", "", "has a secret, and is not for branches of this repository"},
		{lawful, "    environment: preview\n", "", "no environment that guards it"},
		{lawful, "        with:\n          persist-credentials: false\n", "", "leaves its token"},
		{lawful, "make --silent lint A=b", "make lint A=${{ github.head_ref }}", "goes into a script as text"},
		{lawful, "make --silent lint", "make --silent tests", "make tests is no target"},
		{lawful, "run: make --silent lint", "run: curl x | make lint", "not a make target: curl"},
		{lawful, "A=b", "A=b; curl x", "not a make target: make"},
		{byHand, "on: workflow_dispatch", "on: [workflow_dispatch, push]", "not by hand alone"},
		{byHand, "cancel-in-progress: false", "cancel-in-progress: true", "cut another short"},
		{byHand, "group: production", "group: 'a-${{ github.ref }}'", "two may run at once"},
	} {
		require.Contains(t, c.workflow, c.old)
		found := violations(strings.Replace(c.workflow, c.old, c.with, 1), targets)
		assert.True(t, slices.ContainsFunc(found, func(line string) bool { return strings.Contains(line, c.want) }),
			"%q in place of %q: want %q, found %q", c.with, c.old, c.want, found)
	}
}
