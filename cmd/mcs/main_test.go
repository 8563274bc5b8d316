package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/rehearsal"
)

func project(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "Pulumi.yaml"), []byte("name: p\nruntime: go\n"), 0o600))
	return folder
}

func execute(t *testing.T, args ...string) (stdout string, err error) {
	t.Helper()
	var out strings.Builder
	app := &application{stdout: &out, log: slog.New(slog.DiscardHandler)}
	command := app.command()
	command.SetArgs(args)
	command.SetOut(&out)
	err = command.ExecuteContext(t.Context())
	return out.String(), err
}

func TestStatus_OfNothingSaysSoAndHowToStart(t *testing.T) {
	_, err := execute(t, "rehearse", "status", "--stack", "production", "--project", project(t))
	require.ErrorIs(t, err, rehearsal.ErrNothing)
	assert.ErrorContains(t, err, "mcs rehearse up --stack production")
}

func TestDown_OfNothingSucceeds(t *testing.T) {
	out, err := execute(t, "rehearse", "down", "--project", project(t))
	require.NoError(t, err)
	assert.Equal(t, "nothing to stop\n", out)
}

func TestRehearse_OutsideOfTheProjectSaysWhereToRun(t *testing.T) {
	_, err := execute(t, "rehearse", "up", "--project", t.TempDir())
	assert.ErrorContains(t, err, "--project")
}

func TestRehearse_AStackIsANameNotAPath(t *testing.T) {
	_, err := execute(t, "rehearse", "down", "--stack", "../other", "--project", project(t))
	assert.ErrorContains(t, err, "name a stack")
}

func TestHelp_OfEveryCommandHasExamples(t *testing.T) {
	for _, command := range []string{"up", "status", "down"} {
		out, err := execute(t, "rehearse", command, "--help")
		require.NoError(t, err)
		assert.Contains(t, out, "Examples:", command)
		assert.Contains(t, out, "--stack", command)
	}
}
