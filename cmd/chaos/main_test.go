package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/internal/report"
)

func TestChaos_RefusesWhatItDoesNotKnow(t *testing.T) {
	c := chaosCommand(slog.New(slog.DiscardHandler))
	c.SetArgs([]string{"--faults", "kill,flood", "--stacks", "attic", "--points", "0"})
	c.SetOut(io.Discard)
	err := c.Execute()
	require.ErrorContains(t, err, `--faults has "flood": they are kill, api, git, github, disk, two, clock`)
	require.ErrorContains(t, err, `--stacks has "attic"`)
	require.ErrorContains(t, err, "--points is 0")
}

func TestChaos_WritesNoTableOfHalfARun(t *testing.T) {
	for _, part := range [][]string{{"--faults", "kill"}, {"--stacks", "production,production"}, {"--points", "49"}} {
		c := chaosCommand(slog.New(slog.DiscardHandler))
		c.SetArgs(append(part, "--write", "--tools", "/nowhere"))
		c.SetOut(io.Discard)
		require.ErrorContains(t, c.Execute(), "--write is for a whole run: of every fault, both stacks, and 50 points at least", part)
	}
	document, err := os.ReadFile(filepath.Join("..", "..", "docs", "chaos.md"))
	require.NoError(t, err)
	_, err = report.Replace(string(document), "chaos", "")
	require.NoError(t, err, "the document has a place for it")
}

func TestFaults_HaveNamesOfTheirOwnAndAPlaceToStrike(t *testing.T) {
	names := map[string]bool{}
	for _, f := range faults() {
		assert.False(t, names[f.name], f.name)
		names[f.name] = true
		assert.NotEqual(t, f.spread, len(f.shares) > 0, f.name)
		assert.NotNil(t, f.strike, f.name)
	}
}

// The document speaks of these by their names, and a run that is gone on with finds its tries by them.
func TestFaults_AreThoseThatAreAskedFor(t *testing.T) {
	var names []string
	for _, f := range faults() {
		names = append(names, f.group+": "+f.name)
	}
	assert.Equal(t, []string{
		"kill: kill -9 of the update, with its plugins and program",
		"kill: kill -9 of pulumi alone",
		"api: API server killed, back after 5 s",
		"api: API server hangs for 15 s",
		"git: Git host and GitHub killed, back after 10 s",
		"git: Git host and GitHub hang for 15 s",
		"github: GitHub's API answers 500 for 15 s",
		"github: GitHub's API answers 500 until the update has ended",
		"github: GitHub registers the key, and the answer is lost",
		"disk: disk full, where the state is",
		"two: two pulumi up at the same moment",
		"two: another pulumi up, and another mcs rehearse up",
		"clock: the update's clock jumps a day ahead",
		"clock: the update's clock jumps a day back",
		"clock: the clock of everything jumps a day ahead",
		"clock: the clock of everything jumps a day back",
	}, names)
}

func TestJudge_NamesEachPropertyThatIsBroken(t *testing.T) {
	const locked = "error: " + isLocked + " 1 lock(s)"
	kill, two, beside := fault{ends: true}, fault{together: true}, fault{unharmed: true}
	for name, c := range map[string]struct {
		fault   fault
		outcome outcome
		rerun   bool
		broken  []string
	}{
		"nothing happened":               {kill, outcome{}, false, nil},
		"it has recovered":               {kill, outcome{failed: "killed"}, true, nil},
		"the next update failed":         {kill, outcome{failed: "killed", next: "exit status 255"}, true, []string{"converges: the next update failed: exit status 255"}},
		"something is left":              {kill, outcome{failed: "killed", differs: []string{"no orphan: a"}}, true, []string{"no orphan: a"}},
		"nobody can tell":                {kill, outcome{failed: "killed", unknown: errors.New("no answer")}, true, []string{"converges: no answer"}},
		"the second was refused":         {two, outcome{refused: true}, false, nil},
		"the first was refused":          {two, outcome{failed: locked}, true, nil},
		"neither was refused":            {two, outcome{}, false, []string{"unharmed: two updates ran at once"}},
		"it failed, but of another lock": {two, outcome{failed: "error: conflict"}, true, []string{"unharmed: two updates ran at once"}},
		"nobody was harmed":              {beside, outcome{}, false, nil},
		"the first was harmed":           {beside, outcome{failed: "error: conflict"}, false, []string{"unharmed: the update failed: error: conflict"}},
		"the other was let in":           {beside, outcome{unrefused: "the second ended with no error"}, false, []string{"unharmed: the second ended with no error"}},
		"all of it": {
			fault{together: true, unharmed: true},
			outcome{"a", false, "b", "c", []string{"d"}, errors.New("e")},
			false,
			[]string{"unharmed: two updates ran at once", "unharmed: the update failed: a", "converges: the next update failed: c", "unharmed: b", "d", "converges: e"},
		},
	} {
		assert.Equal(t, c.rerun, c.fault.rerun(&c.outcome), name)
		assert.Equal(t, c.broken, c.fault.judge(&c.outcome), name)
		r := result{broken: c.broken}
		assert.Equal(t, len(c.broken) > 0, r.lost(), name)
	}
}

func TestService_RunsAgainAsItWasStarted(t *testing.T) {
	folder := t.TempDir()
	log := filepath.Join(folder, "log")
	output, err := os.Create(log)
	require.NoError(t, err)
	defer output.Close()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `echo "$CHAOS $PWD $0 $1"; read -r never`, "name", "an argument")
	cmd.Env, cmd.Dir, cmd.Stdout = []string{"CHAOS=yes"}, folder, output
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line := "yes " + folder + " name an argument\n"
	says := func(want string) {
		t.Helper()
		require.Eventually(t, func() bool {
			text, err := os.ReadFile(log)
			return err == nil && string(text) == want
		}, 10*time.Second, 10*time.Millisecond)
	}
	says(line)
	known, err := remember(cmd.Process.Pid)
	require.NoError(t, err)
	require.NoError(t, stdin.Close())
	_ = cmd.Wait()
	known.record = filepath.Join(folder, "pid")
	require.NoError(t, known.start(context.Background()))
	says(line + line)
	recorded, err := os.ReadFile(known.record)
	require.NoError(t, err)
	assert.Regexp(t, `^\d+$`, string(recorded))
	assert.NotEqual(t, strconv.Itoa(cmd.Process.Pid), string(recorded))
}
