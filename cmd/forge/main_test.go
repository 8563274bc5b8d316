package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/rehearsal/forge"
)

const canary = "canary-of-a-token"

func TestForge_WantsItsTokenFromTheEnvironment(t *testing.T) {
	t.Setenv(tokenVariable, "")
	c := command()
	c.SetArgs([]string{"--folder", t.TempDir()})
	require.ErrorContains(t, c.ExecuteContext(t.Context()), "FORGE_GITHUB_TOKEN is not set")
	c = command()
	c.SetArgs([]string{"--token", canary})
	require.ErrorContains(t, c.ExecuteContext(t.Context()), "unknown flag")
}

func TestForge_EndsInGoodOrderAndTellsNoToken(t *testing.T) {
	work := t.TempDir()
	program, folder := filepath.Join(work, "forge"), filepath.Join(work, "folder")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, string(out))

	// The addresses of a forge that has just ended, as nothing else says them beforehand.
	free, err := forge.New(t.Context(), forge.Options{
		Folder: filepath.Join(work, "other"), SSHAddress: "127.0.0.1:0", HTTPAddress: "127.0.0.1:0", GitHubToken: "x",
	})
	require.NoError(t, err)
	ended, end := context.WithCancel(t.Context())
	end()
	require.NoError(t, free.Run(ended))

	var said bytes.Buffer
	process := exec.CommandContext(t.Context(), program, "--folder", folder, "--repository", "nullify005/manager-cluster-state",
		"--ssh-address", free.SSHAddress(), "--http-address", free.Registry())
	process.Env = append(os.Environ(), tokenVariable+"="+canary)
	process.Stdout, process.Stderr = &said, &said
	require.NoError(t, process.Start())
	waiting, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	health, err := forge.NewClient(free.URL()).Wait(waiting)
	require.NoError(t, err)
	assert.Equal(t, free.SSHAddress(), health.SSHAddress)
	assert.FileExists(t, filepath.Join(folder, "git", "nullify005", "manager-cluster-state.git", "HEAD"))

	require.NoError(t, process.Process.Signal(syscall.SIGTERM))
	require.NoError(t, process.Wait())
	assert.Contains(t, said.String(), "the forge stops")
	assert.NotContains(t, said.String(), canary)
	require.NoError(t, filepath.WalkDir(folder, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		assert.NotContains(t, string(text), canary, path)
		return err
	}))
}
