package upkeep

import (
	"encoding/json"
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
	"golang.org/x/mod/modfile"
)

// renovate is its configuration, as far as tests ask about it.
type renovate struct {
	EnabledManagers []string  `json:"enabledManagers"`
	CustomManagers  []manager `json:"customManagers"`
	PackageRules    []rule    `json:"packageRules"`
}

type manager struct {
	CustomType          string   `json:"customType"`
	Description         string   `json:"description"`
	ManagerFilePatterns []string `json:"managerFilePatterns"`
	MatchStrings        []string `json:"matchStrings"`
	DepNameTemplate     string   `json:"depNameTemplate"`
	DatasourceTemplate  string   `json:"datasourceTemplate"`
	VersioningTemplate  string   `json:"versioningTemplate"`
}

type rule struct {
	Description        string   `json:"description"`
	MatchManagers      []string `json:"matchManagers"`
	MatchFileNames     []string `json:"matchFileNames"`
	MatchPackageNames  []string `json:"matchPackageNames"`
	MatchUpdateTypes   []string `json:"matchUpdateTypes"`
	GroupName          string   `json:"groupName"`
	Enabled            *bool    `json:"enabled"`
	RangeStrategy      string   `json:"rangeStrategy"`
	SeparateMinorPatch bool     `json:"separateMinorPatch"`
	PrBodyNotes        []string `json:"prBodyNotes"`
}

// config reads it. A key of a rule or a manager that these tests don't know is an error: they would
// not know what it matches.
func config(t *testing.T) *renovate {
	t.Helper()
	content := read(t, ".github/renovate.json")
	var parts struct {
		CustomManagers json.RawMessage `json:"customManagers"`
		PackageRules   json.RawMessage `json:"packageRules"`
	}
	require.NoError(t, json.Unmarshal([]byte(content), &parts))
	made := &renovate{}
	require.NoError(t, json.Unmarshal([]byte(content), made))
	for part, into := range map[string]any{string(parts.CustomManagers): &[]manager{}, string(parts.PackageRules): &[]rule{}} {
		decoder := json.NewDecoder(strings.NewReader(part))
		decoder.DisallowUnknownFields()
		require.NoError(t, decoder.Decode(into))
	}
	return made
}

// dependency is what Renovate finds in a file.
type dependency struct{ file, name, value, digest string }

// find is what a manager of ours finds in the project's files.
func (m *manager) find(t *testing.T) []dependency {
	t.Helper()
	var found []dependency
	for _, file := range projectFiles(t) {
		if !slices.ContainsFunc(m.ManagerFilePatterns, func(pattern string) bool { return slashed(t, pattern).MatchString(file) }) {
			continue
		}
		for _, text := range m.MatchStrings {
			expression := regexp.MustCompile(text)
			for _, match := range expression.FindAllStringSubmatch(read(t, file), -1) {
				found = append(found, dependency{
					file: file, name: m.DepNameTemplate + group(expression, match, "depName"),
					value: group(expression, match, "currentValue"), digest: group(expression, match, "currentDigest"),
				})
			}
		}
	}
	return found
}

func group(expression *regexp.Regexp, match []string, name string) string {
	if i := expression.SubexpIndex(name); i >= 0 {
		return match[i]
	}
	return ""
}

// slashed is a pattern of Renovate's that is a regular expression between slashes.
func slashed(t *testing.T, pattern string) *regexp.Regexp {
	t.Helper()
	require.Regexp(t, `^/\^.*\$/$`, pattern)
	return regexp.MustCompile(strings.TrimSuffix(strings.TrimPrefix(pattern, "/"), "/"))
}

// projectFiles are those of this project, by their paths in it, without what is hidden.
func projectFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	require.NoError(t, filepath.WalkDir(top, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && entry.Name() != ".." {
			return fs.SkipDir
		}
		if entry.Type().IsRegular() {
			relative, err := filepath.Rel(top, name)
			files = append(files, filepath.ToSlash(relative))
			return err
		}
		return nil
	}))
	return files
}

// managerOf is the one that a description begins with.
func managerOf(t *testing.T, c *renovate, description string) *manager {
	t.Helper()
	i := slices.IndexFunc(c.CustomManagers, func(m manager) bool { return strings.HasPrefix(m.Description, description) })
	require.GreaterOrEqual(t, i, 0, description)
	return &c.CustomManagers[i]
}

func TestRenovate_FindsEveryImageWithItsTagAndDigest(t *testing.T) {
	const file = "manifests/images/kustomization.yaml"
	var listed struct {
		Images []struct {
			Name   string `yaml:"name"`
			NewTag string `yaml:"newTag"`
			Digest string `yaml:"digest"`
		} `yaml:"images"`
	}
	require.NoError(t, yaml.Unmarshal([]byte(read(t, file)), &listed))
	var want []dependency
	digests := 0
	for _, image := range listed.Images {
		want = append(want, dependency{file: file, name: image.Name, value: image.NewTag, digest: image.Digest})
		if image.Digest != "" {
			digests++
		}
	}
	m := managerOf(t, config(t), "The one list of images")
	assert.Equal(t, want, m.find(t))
	assert.Positive(t, digests)
	assert.Equal(t, "docker", m.DatasourceTemplate)
}

func TestRenovate_FindsTheK3sOfEveryStack(t *testing.T) {
	m := managerOf(t, config(t), "k3s")
	stacks, err := filepath.Glob(filepath.Join(top, "Pulumi.*.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, stacks)
	var want []dependency
	versioning := regexp.MustCompile(strings.TrimPrefix(m.VersioningTemplate, "regex:"))
	for _, stack := range stacks {
		name := filepath.Base(stack)
		var file struct {
			Config struct {
				Cluster struct {
					K3s string `yaml:"k3s"`
				} `yaml:"manager-cluster-state:cluster"`
			} `yaml:"config"`
		}
		require.NoError(t, yaml.Unmarshal([]byte(read(t, name)), &file))
		release := file.Config.Cluster.K3s
		if release == "" {
			continue // a cluster that exists names none
		}
		want = append(want, dependency{file: name, name: "k3s-io/k3s", value: release})
		assert.Regexp(t, versioning, release)
	}
	assert.ElementsMatch(t, want, m.find(t))
	assert.Equal(t, "github-releases", m.DatasourceTemplate)
	assert.NotRegexp(t, versioning, "v1.36.0-rc1+k3s1", "candidates are not for the Pis")
}

func TestRenovate_FindsWhatGoFilesAndTheREADMEName(t *testing.T) {
	c := config(t)
	goVersion := mod(t, "go.mod").Go.Version
	for _, want := range []struct{ description, file, name, line string }{
		{"The release of Flux", "manifests/generate/main.go", "fluxcd/flux2", `const fluxRelease = "VALUE"`},
		{"The release of Pulumi's", "tools/build/tools.go", "pulumi/pulumi-kubernetes", `release: "VALUE", main: "tool"`},
		{"The Go that the README", "README.md", "go", "Go VALUE or newer"},
	} {
		found := managerOf(t, c, want.description).find(t)
		require.Len(t, found, 1, want.description)
		assert.Equal(t, want.file, found[0].file)
		assert.Equal(t, want.name, found[0].name)
		assert.Contains(t, read(t, want.file), strings.Replace(want.line, "VALUE", found[0].value, 1))
		if want.name == "go" {
			assert.Equal(t, goVersion, found[0].value, "go.mod and the README name another Go")
		}
	}
	assert.Len(t, c.CustomManagers, 5, "each of them has its test here")
}

// JavaScript's regular expressions and Go's have these in common; what these tests find, Renovate does.
func TestRenovate_ItsExpressionsMeanTheSameInGo(t *testing.T) {
	for _, m := range config(t).CustomManagers {
		for _, text := range append(append(m.MatchStrings, m.ManagerFilePatterns...), strings.TrimPrefix(m.VersioningTemplate, "regex:")) {
			_, err := regexp.Compile(text)
			require.NoError(t, err, text)
			rest := regexp.MustCompile(`\(\?(?:<\w+>|:)`).ReplaceAllString(text, "(")
			assert.NotContains(t, rest, "(?", "flags and looks are not the same")
			assert.NotRegexp(t, `\\[^dSsn.+/]`, rest, "escapes that are not the same, or not known to be")
		}
	}
}

// groupOf is the group that a dependency ends up in, and whether it is updated at all.
func (c *renovate) groupOf(t *testing.T, manager string, d dependency) (name string, enabled bool) {
	t.Helper()
	enabled = true
	for _, r := range c.PackageRules {
		fits := matches(r.MatchManagers, manager) && matches(r.MatchFileNames, d.file) && matches(r.MatchPackageNames, d.name) &&
			len(r.MatchUpdateTypes) == 0 // of a digest, which isn't asked about here
		if !fits {
			continue
		}
		if r.GroupName != "" {
			name = r.GroupName
		}
		if r.Enabled != nil {
			enabled = *r.Enabled
		}
	}
	return name, enabled
}

// matches has Renovate's globs, of which only two are used: a whole name, and all below one.
func matches(patterns []string, text string) bool {
	return len(patterns) == 0 || slices.ContainsFunc(patterns, func(pattern string) bool {
		below, isGlob := strings.CutSuffix(pattern, "**")
		return isGlob && strings.HasPrefix(text, below) || pattern == text
	})
}

func mod(t *testing.T, name string) *modfile.File {
	t.Helper()
	file, err := modfile.Parse(name, []byte(read(t, name)), nil)
	require.NoError(t, err)
	return file
}

// modules are those that each go.mod asks for itself, or replaces, or has a tool of.
func modules(t *testing.T) []dependency {
	t.Helper()
	var all []dependency
	for _, name := range projectFiles(t) {
		if path.Base(name) != "go.mod" {
			continue
		}
		file := mod(t, name)
		for _, needed := range file.Require {
			isTool := slices.ContainsFunc(file.Tool, func(tool *modfile.Tool) bool { return strings.HasPrefix(tool.Path+"/", needed.Mod.Path+"/") })
			if !needed.Indirect || isTool {
				all = append(all, dependency{file: name, name: needed.Mod.Path, value: needed.Mod.Version})
			}
		}
		for _, replaced := range file.Replace {
			all = append(all, dependency{file: name, name: replaced.New.Path, value: replaced.New.Version})
		}
	}
	return all
}

// together are images, and the modules whose code goes with them.
var together = []struct{ image, module, group string }{
	{"docker.io/bitnami/sealed-secrets-controller", "github.com/bitnami/sealed-secrets", "sealed-secrets"},
	{"docker.io/prom/prometheus", "github.com/prometheus/prometheus", "prometheus"},
	{"docker.io/prom/snmp-exporter", "github.com/prometheus/snmp_exporter", "snmp-exporter"},
	{"docker.io/grafana/alloy", "github.com/grafana/alloy/syntax", "alloy"},
}

const (
	// languageHost is the one tool that no update raises: its module's newest version is what there is.
	languageHost = "tools/pulumi-language-go/go.mod"
	ourselves    = "github.com/nullify005/manager-cluster-state"
)

// wantedGroup is the group that a module belongs to; "" is none.
func wantedGroup(d dependency) string {
	for _, pair := range together {
		if d.name == pair.module {
			return pair.group
		}
	}
	switch {
	case strings.HasPrefix(d.file, "tools/flux"), strings.HasPrefix(d.name, "github.com/fluxcd/"):
		return "flux"
	case strings.HasPrefix(d.name, "github.com/pulumi/"):
		return "pulumi"
	case strings.HasPrefix(d.file, "tools/kubernetes/"):
		return "kubernetes"
	case strings.HasPrefix(d.name, "k8s.io/"), d.name == "sigs.k8s.io/controller-runtime":
		return "kubernetes libraries"
	case strings.HasPrefix(d.file, "tools/"):
		return "tools"
	}
	return ""
}

func TestRenovate_WhatBelongsTogetherIsOneGroup(t *testing.T) {
	c := config(t)
	counts := map[string]int{}
	for _, d := range modules(t) {
		name, enabled := c.groupOf(t, "gomod", d)
		want := wantedGroup(d)
		counts[want]++
		assert.Equal(t, want, name, "%s in %s", d.name, d.file)
		isOurs := d.name == ourselves || d.name == "../"
		assert.Equal(t, d.file != languageHost && !isOurs, enabled, "%s in %s", d.name, d.file)
	}
	images := map[string]dependency{}
	for _, d := range managerOf(t, c, "The one list of images").find(t) {
		images[d.name] = d
	}
	for _, pair := range together {
		require.Contains(t, images, pair.image)
		name, enabled := c.groupOf(t, "custom.regex", images[pair.image])
		assert.Equal(t, pair.group, name, pair.image)
		assert.True(t, enabled, pair.image)
		assert.Positive(t, counts[pair.group], "no go.mod names %s", pair.module)
		delete(images, pair.image)
	}
	for _, d := range images {
		name, _ := c.groupOf(t, "custom.regex", d)
		assert.Empty(t, name, "%s goes with no module", d.name)
	}
	for _, m := range []struct{ description, want string }{
		{"The release of Flux", "flux"},
		{"The release of Pulumi's", "pulumi"},
		{"k3s", "kubernetes"},
		{"The Go that the README", "go"},
	} {
		for _, d := range managerOf(t, c, m.description).find(t) {
			name, enabled := c.groupOf(t, "custom.regex", d)
			assert.Equal(t, m.want, name)
			assert.True(t, enabled)
		}
	}
	for _, few := range []string{"flux", "pulumi", "kubernetes", "kubernetes libraries", "tools"} {
		assert.Positive(t, counts[few], few)
	}
}

func TestRenovate_EveryToolHasAModuleThatItRaises(t *testing.T) {
	c := config(t)
	require.Contains(t, c.EnabledManagers, "gomod")
	raised := map[string]bool{}
	for _, d := range modules(t) {
		if _, enabled := c.groupOf(t, "gomod", d); enabled {
			raised[d.file] = true
		}
	}
	files, err := filepath.Glob(filepath.Join(top, "tools", "*", "go.mod"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		name := path.Join("tools", filepath.Base(filepath.Dir(file)), "go.mod")
		assert.Equal(t, name != languageHost, raised[name], name)
	}
}

func TestRenovate_LeavesToFluxWhatFluxRaises(t *testing.T) {
	c := config(t)
	policies := regexp.MustCompile(`(?m)name: (\S+)\n +newTag: \S+ # \{"\$imagepolicy"`)
	byFlux := policies.FindAllStringSubmatch(read(t, "manifests/images/kustomization.yaml"), -1)
	require.NotEmpty(t, byFlux)
	disabled := 0
	for _, d := range managerOf(t, c, "The one list of images").find(t) {
		_, enabled := c.groupOf(t, "custom.regex", d)
		flux := slices.ContainsFunc(byFlux, func(match []string) bool { return match[1] == d.name })
		assert.Equal(t, flux, !enabled, d.name)
		if !enabled {
			disabled++
		}
	}
	assert.Len(t, byFlux, disabled)
}

func TestUpdates_NoTwoBotsRaiseTheSame(t *testing.T) {
	var dependabot struct {
		Updates []struct {
			Ecosystem string `yaml:"package-ecosystem"`
		} `yaml:"updates"`
	}
	require.NoError(t, yaml.Unmarshal([]byte(read(t, ".github/dependabot.yml")), &dependabot))
	// What Renovate's managers are called at Dependabot.
	renovates := map[string]string{"gomod": "gomod", "custom.regex": "", "kustomize": "docker", "github-actions": "github-actions"}
	require.Len(t, dependabot.Updates, 1)
	for _, managed := range config(t).EnabledManagers {
		called, known := renovates[managed]
		require.True(t, known, managed)
		assert.NotEqual(t, dependabot.Updates[0].Ecosystem, called)
	}
	assert.Equal(t, "github-actions", dependabot.Updates[0].Ecosystem)
}
