package cluster

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// piSteps are the scripts, each as a shell reads it.
func piSteps() map[string]string {
	return map[string]string{
		"host": settled(nil, "host"), "k3s": settled(nil, "k3s"), "token": settled(nil, "token"),
		"kubeconfig": settled(nil, "kubeconfig"), "drain": settled(nil, "node", "drain"), "member": settled(nil, "node", "member"),
	}
}

func TestPiScripts_AreOfAPlainShell(t *testing.T) {
	for _, shell := range [][]string{{"sh"}, {"dash"}, {"busybox", "sh"}} {
		t.Run(strings.Join(shell, " "), func(t *testing.T) {
			if _, err := exec.LookPath(shell[0]); err != nil {
				t.Skipf("there is no %s; install it", shell[0])
			}
			for name, script := range piSteps() {
				cmd := exec.CommandContext(t.Context(), shell[0], append(shell[1:], "-n")...)
				cmd.Stdin = strings.NewReader(script)
				out, err := cmd.CombinedOutput()
				require.NoError(t, err, "%s: %s", name, out)
			}
		})
	}
}

func TestPiScripts_HaveNoFinding(t *testing.T) {
	if _, err := exec.LookPath("shellcheck"); err != nil {
		t.Skip("there is no shellcheck; install it: apt install shellcheck")
	}
	for name, script := range piSteps() {
		// Settings come from outside; variables of one part are of use in another.
		cmd := exec.CommandContext(t.Context(), "shellcheck", "--shell=dash", "--exclude=SC2153,SC2154,SC2034,SC2317,SC2329", "-")
		cmd.Stdin = strings.NewReader("#!/bin/sh\n" + script)
		out, err := cmd.CombinedOutput()
		assert.NoError(t, err, "%s: %s", name, out)
	}
}

func TestQuoted_IsOneWordWhateverIsInIt(t *testing.T) {
	for _, text := range []string{"", "plain", "it's", "'''", "$(id) `id` \\ \" \n line", "K10abc::server:x"} {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", "printf %s. "+quoted(text)).Output()
		require.NoError(t, err)
		assert.Equal(t, text+".", string(out))
	}
}
