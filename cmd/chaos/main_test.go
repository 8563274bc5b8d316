package main

import (
	"context"
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
