package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/rehearsal"
)

const root = "../.."

func TestSections_HaveTheirCommandsInOrder(t *testing.T) {
	page := strings.ReplaceAll(`Run 'make first' now.
## Second
'''sh
make second   # a remark

make third A=b && git push
'''
Then 'pulumi up
-s x', not 'config.alloy', 'make' or 'pulumi.com/waitFor'.
'''yaml
- name: x
'''
<!-- 'make nothing' -->
`, "'", "`")
	assert.Equal(t, []section{
		{page: "p", commands: []command{{text: "make first"}}},
		{page: "p", heading: "Second", commands: []command{
			{text: "make second", inBlock: true}, {text: "make third A=b && git push", inBlock: true}, {text: "pulumi up -s x"},
		}, blocks: []string{"- name: x\n"}},
	}, sections("p", page))
}

func TestTrials_AreOfEveryCommandAndNoOther(t *testing.T) {
	all, err := readAll(root)
	require.NoError(t, err)
	var onPages, tried []string
	for _, section := range all {
		for _, command := range section.commands {
			onPages = append(onPages, command.text)
			_, listed := find(command.text)
			assert.True(t, listed, "%s, %q has the command %q: say in docs/try/trials.go how it is tried", section.page, section.heading, command.text)
		}
	}
	assert.Greater(t, len(onPages), 50)
	for _, trial := range trials {
		assert.Contains(t, onPages, trial.command, "no page has it any more")
		assert.NotContains(t, tried, trial.command, "it is listed twice")
		assert.NotEqual(t, trial.as == "", trial.why == "", "%s is run, or says why not", trial.command)
		tried = append(tried, trial.command)
	}
}

func TestTrials_NameTestsThatThereAre(t *testing.T) {
	function := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	there := map[string]bool{}
	require.NoError(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() && slices.Contains([]string{".git", ".tools", ".rehearsal"}, entry.Name()) {
			return skip(err)
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		content, err := os.ReadFile(path)
		for _, found := range function.FindAllSubmatch(content, -1) {
			there[string(found[1])] = true
		}
		return err
	}))
	named := 0
	for _, trial := range trials {
		for _, test := range trial.tests {
			named++
			assert.True(t, there[test], "%s is tried by %s, which there is not", trial.command, test)
		}
	}
	assert.Greater(t, named, 10)
}

func TestREADME_HasWhatAnOwnerLooksFor(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)
	for _, heading := range []string{
		"Two commands", "On a laptop with Docker", "On the Pis", "From Git", "Day by day", "Add an app", "Add a device", "Add a stack",
		"Pull requests and updates", "Leave", "When something breaks", "Where things are",
	} {
		assert.Contains(t, string(content), "\n## "+heading+"\n")
	}
}

func TestStages_AreOfSectionsOfTheREADME(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)
	for heading, stage := range stages {
		assert.Contains(t, string(content), "\n## "+heading+"\n")
		for command := range stage.says {
			assert.Contains(t, string(content), command, heading)
		}
	}
}

func skip(err error) error {
	if err != nil {
		return err
	}
	return filepath.SkipDir
}

func TestRehearsalsIn_FindsThoseOfBenchAndChaosTooAndNoOtherFolder(t *testing.T) {
	folder := t.TempDir()
	for _, file := range []string{"development/" + rehearsal.Mark, "development/logs/up.log", "chaos/production/" + rehearsal.Mark, "chaos/production-tries.json", "chaos/losses/account"} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(folder, file)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(folder, file), nil, 0o600))
	}
	found, err := rehearsalsIn(folder)
	require.NoError(t, err)
	assert.Equal(t, []string{filepath.Join(folder, "chaos", "production"), filepath.Join(folder, "development")}, found)
	found, err = rehearsalsIn(filepath.Join(folder, "nothing"))
	require.NoError(t, err)
	assert.Empty(t, found)
}
