package main

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The second Ctrl-C is for the pulumi of whichever command runs one.
func TestInterrupt_ReachesTheUpdateThatRuns(t *testing.T) {
	app := &application{stdout: io.Discard}
	command := app.command()
	require.NotEmpty(t, command.Commands())
	require.NotEmpty(t, app.stacks)
	assert.False(t, app.interrupt(), "none runs")

	folder := t.TempDir()
	begun, program := filepath.Join(folder, "begun"), filepath.Join(folder, "pulumi")
	require.NoError(t, os.WriteFile(program, []byte("#!/bin/sh\ntrap 'exit 1' INT\ntouch "+begun+"\nwhile :; do sleep 0.05; done\n"), 0o700))
	on := app.stacks[len(app.stacks)-1]
	on.Project, on.Name, on.Pulumi = folder, "production", program
	ended := make(chan error, 1)
	go func() { ended <- on.Up(t.Context(), io.Discard) }()
	require.Eventually(t, func() bool { _, err := os.Stat(begun); return err == nil }, 10*time.Second, 10*time.Millisecond)
	assert.True(t, app.interrupt())
	require.ErrorContains(t, <-ended, "exit status 1")
	assert.False(t, app.interrupt(), "it has ended")
}
