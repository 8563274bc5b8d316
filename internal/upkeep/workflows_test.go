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
	On          yaml.Node         `yaml:"on"`
	Env         yaml.Node         `yaml:"env"`
	Permissions map[string]string `yaml:"permissions"`
	Concurrency *concurrency      `yaml:"concurrency"`
	Defaults    struct {
		Run struct {
			Shell string `yaml:"shell"`
		} `yaml:"run"`
	} `yaml:"defaults"`
	Jobs map[string]yaml.Node `yaml:"jobs"`
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
	RunsOn      yaml.Node         `yaml:"runs-on"`
	Container   yaml.Node         `yaml:"container"`
	Services    yaml.Node         `yaml:"services"`
	Steps       []step            `yaml:"steps"`
	Strategy    struct {
		Matrix matrix `yaml:"matrix"`
	} `yaml:"strategy"`
}

type matrix struct {
	Stack   []string `yaml:"stack"`
	Include []struct {
		Stack string `yaml:"stack"`
	} `yaml:"include"`
}

// stacks are those that the job runs for.
func (m *matrix) stacks() []string {
	stacks := slices.Clone(m.Stack)
	for _, each := range m.Include {
		stacks = append(stacks, each.Stack)
	}
	return stacks
}

type step struct {
	Uses string         `yaml:"uses"`
	With map[string]any `yaml:"with"`
	Run  string         `yaml:"run"`
}

const (
	sameRepository = "github.event.pull_request.head.repo.full_name == github.repository"
	ofMain         = "github.ref == 'refs/heads/main'"
	checkout       = "actions/checkout@"
	cache          = "actions/cache"
	setUpGo        = "actions/setup-go@"
	pulumiActions  = "pulumi/actions@"
	production     = "production"
)

var (
	secrets  = regexp.MustCompile(`(?i)\bsecrets\b`)
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
	for _, action := range actions(content) {
		if !pinned.MatchString(action) {
			breaks("%s: not pinned by a commit, with its version as a comment", action)
		}
	}
	if text, err := yaml.Marshal(&flow.Env); err != nil || secrets.Match(text) {
		breaks("env at the top gives a secret to every job")
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
		if flow.Defaults.Run.Shell != "bash" && slices.ContainsFunc(one.Steps, func(s step) bool { return strings.Contains(s.Run, "|") }) {
			breaks("job %s: a pipe, and no bash that tells when what is before it fails", name)
		}
		ofProduction := strings.EqualFold(one.Environment, production) // GitHub knows no difference
		if !ofProduction && slices.ContainsFunc(one.Steps, func(s step) bool { return s.updates() }) {
			breaks("job %s: updates a stack, without the environment %s, which asks somebody", name, production)
			ofProduction = true
		}
		if !ofProduction {
			continue
		}
		if !one.onlyIf(ofMain) {
			breaks("job %s: of production, and not of main alone", name)
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

// actions are what a workflow uses, each with its comment, wherever and however it is written.
func actions(content string) []string {
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(content), &document); err != nil {
		return []string{err.Error()}
	}
	var found []string
	var walk func(node *yaml.Node)
	walk = func(node *yaml.Node) {
		for i, child := range node.Content {
			if node.Kind == yaml.MappingNode && i%2 == 1 && strings.EqualFold(node.Content[i-1].Value, "uses") {
				found = append(found, strings.TrimSpace(child.Value+" "+child.LineComment))
			}
			walk(child)
		}
	}
	walk(&document)
	return found
}

// onlyIf says whether a job runs on no other condition's strength.
func (j *job) onlyIf(condition string) bool {
	if strings.Contains(j.If, "||") {
		return false
	}
	for term := range strings.SplitSeq(j.If, "&&") {
		if strings.TrimSpace(term) == condition {
			return true
		}
	}
	return false
}

// is says whether the step uses an action; GitHub minds no case.
func (s *step) is(action string) bool { return strings.HasPrefix(strings.ToLower(s.Uses), action) }

// updates says whether the step changes a stack.
func (s *step) updates() bool {
	command, commanded := s.With["command"]
	return s.is(pulumiActions) && commanded && command != "preview" ||
		slices.ContainsFunc(strings.Fields(s.Run), func(word string) bool { return slices.Contains([]string{"deploy", "bootstrap", "switch"}, word) })
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
	ofThisRepository := j.onlyIf(sameRepository)
	if writes && !ofThisRepository {
		breaks("may write, and is not for branches of this repository alone")
	}
	if text, err := yaml.Marshal(&j.RunsOn); onPullRequest && (err != nil || strings.Contains(string(text), "self-hosted")) {
		breaks("runs what a pull request wrote inside of the house")
	}
	secret := secrets.MatchString(text)
	if secret {
		if j.Environment == "" {
			breaks("has a secret, and no environment that guards it")
		}
		if onPullRequest && !ofThisRepository {
			breaks("has a secret, and is not for branches of this repository alone")
		}
	}
	checksOut := slices.ContainsFunc(j.Steps, func(s step) bool { return s.is(checkout) })
	for _, s := range j.Steps {
		if s.is(checkout) && s.With["persist-credentials"] != false {
			breaks("a checkout leaves its token in the work tree")
		}
		if secret && (s.is(cache) || s.is(setUpGo) && s.With["cache"] != false) {
			breaks("has a secret, and runs what another run has left in a cache")
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

// recipe are the commands of a target of the Makefile.
func recipe(t *testing.T, target string) string {
	t.Helper()
	found := regexp.MustCompile(`(?m)^` + target + `:.*\n((?:\t.*\n)+)`).FindStringSubmatch(read(t, "Makefile"))
	require.NotNil(t, found, target)
	return found[1]
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
		for _, action := range actions(content) {
			parts := pinned.FindStringSubmatch(action)
			require.NotNil(t, parts, action)
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
defaults: {run: {shell: bash}}
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
      - uses: actions/setup-go@0123456789012345678901234567890123456789 # v1.2.3
        with:
          cache: false
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
    if: github.ref == 'refs/heads/main'
    timeout-minutes: 5
    permissions: {}
    steps:
      - run: make deploy STACK=production
`

func TestWorkflows_EachRuleIsHeld(t *testing.T) {
	targets := map[string]bool{"lint": true}
	require.Empty(t, violations(lawful, targets))
	require.Empty(t, violations(byHand, targets))
	for _, c := range []struct{ workflow, old, with, want string }{
		{lawful, "0123456789012345678901234567890123456789 # v1.2.3", "v1.2.3", "not pinned by a commit"},
		{lawful, " # v1.2.3", "", "not pinned by a commit"},
		{lawful, "      - run", "      - {uses: evil/x@main}\n      - run", "evil/x@main: not pinned by a commit"},
		{lawful, "      - run", "      - \"uses\": evil/x@main\n      - run", "evil/x@main: not pinned by a commit"},
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
		{lawful, "== github.repository", "== github.repository || true", "has a secret, and is not for branches of this repository"},
		{lawful, "    environment: preview\n", "", "no environment that guards it"},
		{strings.Replace(lawful, "    environment: preview\n", "", 1), "secrets.A", "toJSON(secrets)", "no environment that guards it"},
		{strings.Replace(lawful, "    environment: preview\n", "", 1), "secrets.A", "Secrets['A']", "no environment that guards it"},
		{lawful, "jobs:", "env: {A: '${{ secrets.A }}'}\njobs:", "gives a secret to every job"},
		{lawful, "          cache: false\n", "          go-version: 1\n", "left in a cache"},
		{lawful, "      - run", "      - uses: actions/cache/restore@0123456789012345678901234567890123456789 # v1.2.3\n      - run", "left in a cache"},
		{lawful, "ubuntu-24.04", "[self-hosted, home]", "inside of the house"},
		{lawful, "        with:\n          persist-credentials: false\n", "", "leaves its token"},
		{strings.Replace(lawful, "          persist-credentials: false\n", "          a: b\n", 1), "actions/checkout", "Actions/Checkout", "leaves its token"},
		{lawful, "make --silent lint A=b", "make lint A=${{ github.head_ref }}", "goes into a script as text"},
		{lawful, "make --silent lint", "make --silent tests", "make tests is no target"},
		{lawful, "run: make --silent lint", "run: curl x | make lint", "not a make target: curl"},
		{lawful, "A=b", "A=b; curl x", "not a make target: make"},
		{lawful, "defaults: {run: {shell: bash}}\n", "", "a pipe"},
		{byHand, "    if: github.ref == 'refs/heads/main'\n", "", "not of main alone"},
		{byHand, "    if: github.ref == 'refs/heads/main'\n", "    needs: another\n", "not of main alone"},
		{byHand, "    environment: production\n", "    environment: preview\n", "without the environment production"},
		{byHand, "    environment: production\n", "", "without the environment production"},
		{strings.Replace(byHand, "on: workflow_dispatch", "on: push", 1), "    environment: production\n", "", "not by hand alone"},
		{
			strings.Replace(byHand, "    environment: production\n", "", 1), "run: make deploy STACK=production",
			"{uses: Pulumi/Actions@0123456789012345678901234567890123456789, with: {command: up}}", "without the environment production",
		},
		{strings.Replace(byHand, "on: workflow_dispatch", "on: push", 1), "environment: production", "environment: Production", "not by hand alone"},
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

// What a pull request and a deploy are: the lines of make and of pulumi/actions, by workflow and job.
func TestWorkflows_DoWhatAChangeNeeds(t *testing.T) {
	did := map[string][]string{}
	for file, content := range workflows(t) {
		var flow workflow
		require.NoError(t, yaml.Unmarshal([]byte(content), &flow))
		for name, node := range flow.Jobs {
			var one job
			require.NoError(t, node.Decode(&one))
			job := strings.TrimSuffix(filepath.Base(file), ".yml") + "/" + name
			for _, s := range one.Steps {
				for line := range strings.Lines(s.Run) {
					if strings.HasPrefix(line, "make") {
						did[job] = append(did[job], strings.TrimSpace(line))
					}
				}
				if s.is(pulumiActions) {
					did[job] = append(did[job], fmt.Sprintf("pulumi %s of %s, commented: %v", s.With["command"], s.With["stack-name"], s.With["comment-on-pr"]))
				}
			}
			if stacks := one.Strategy.Matrix.stacks(); len(stacks) > 0 {
				did[job] = append(did[job], fmt.Sprint(stacks))
			}
		}
	}
	tools := []string{"make tools-bootstrap", `make --silent path >> "$GITHUB_PATH"`}
	both := "[development production]"
	assert.Equal(t, map[string][]string{
		"check/tools":     {"make tools"},
		"check/lint":      {"make lint"},
		"check/test":      {"make test-root"},
		"check/rehearsal": {"make rehearsal", both},
		"check/manifests": {`make --silent manifests-diff BASE=origin/main MAX=60000 | tee manifests.md >> "$GITHUB_STEP_SUMMARY"`},
		"preview/preview": slices.Concat(tools, []string{"pulumi preview of ${{ matrix.stack }}, commented: true", both}),
		"deploy/preview":  slices.Concat(tools, []string{"pulumi preview of production, commented: <nil>"}),
		"deploy/up":       {"make deploy STACK=production YES=1"},
	}, did)
	for _, linter := range []string{"gofumpt", "go mod tidy", "go vet", "golangci-lint", "workflows", "vuln"} {
		assert.Contains(t, recipe(t, "lint"), linter)
	}
	assert.Contains(t, recipe(t, "workflows"), "actionlint")
	assert.Contains(t, recipe(t, "vuln"), "./tools/vuln")
}
