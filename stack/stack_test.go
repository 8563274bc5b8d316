package stack_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/seal"
	"github.com/nullify005/manager-cluster-state/stack"
)

const stackFile = `config:
  manager-cluster-state:cluster:
    # Comments stay.
    kind: existing
    name: home
    kubeconfig: kubeconfig.yaml
  manager-cluster-state:domain: localtest.me
  manager-cluster-state:hvac:
    device: "127934703953"
    location: r3fup88
  manager-cluster-state:sealing:
    protect: true
`

// newStack makes one in a project and a backend of its own.
func newStack(t *testing.T) *stack.Stack {
	t.Helper()
	program, err := filepath.Abs(filepath.Join("..", ".tools", "bin", "pulumi"))
	require.NoError(t, err)
	if _, err := os.Stat(program); err != nil {
		t.Skip("needs pulumi: go run ./tools/build pulumi")
	}
	project, state := t.TempDir(), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(project, "Pulumi.yaml"), []byte("name: manager-cluster-state\nruntime: go\n"), 0o600))
	s := &stack.Stack{Project: project, Name: "production", Pulumi: program, Env: append(os.Environ(),
		"PULUMI_HOME="+t.TempDir(), "PULUMI_BACKEND_URL=file://"+state, "PULUMI_CONFIG_PASSPHRASE=canary-passphrase",
		"PULUMI_CONFIG_PASSPHRASE_FILE=", "PULUMI_ACCESS_TOKEN=",
	)}
	cmd := exec.CommandContext(t.Context(), program, "stack", "init", s.Name, "--cwd", project, "--non-interactive")
	cmd.Env = s.Env
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	salt, err := os.ReadFile(s.File())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(s.File(), append([]byte(stackFile), salt...), 0o600))
	return s
}

func contentOf(t *testing.T, s *stack.Stack) string {
	t.Helper()
	content, err := os.ReadFile(s.File())
	require.NoError(t, err)
	return string(content)
}

func TestStack_ReadsWhatItWrote(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	before := contentOf(t, s)
	cfg, err := s.Config(ctx, config.SkipSecrets())
	require.NoError(t, err)
	assert.Equal(t, config.Text("127934703953"), cfg.HVAC.Device, "every digit")
	assert.Equal(t, before, contentOf(t, s), "reading writes nothing")
	_, err = s.Config(ctx)
	require.ErrorContains(t, err, "secrets.intesis.username is missing")

	private, _, err := seal.NewDeployKey("test")
	require.NoError(t, err)
	require.NoError(t, s.Set(ctx, "secrets.deployKey", private, true))
	require.NoError(t, s.Set(ctx, "secrets.intesis.password", "-canary password", true))
	require.NoError(t, s.Set(ctx, "git.branch", "-x", false))
	require.NoError(t, s.Set(ctx, "git.branch", "trial", false))
	require.NoError(t, s.Set(ctx, "handover", "true", false))
	cfg, err = s.Config(ctx, config.SkipSecrets())
	require.NoError(t, err)
	assert.Equal(t, private, cfg.Secrets.DeployKey, "with its last line break")
	assert.Equal(t, "-canary password", cfg.Secrets.Intesis.Password)
	assert.Equal(t, "trial", cfg.Git.Branch)
	assert.True(t, cfg.Handover)

	require.NoError(t, s.Remove(ctx, "handover"))
	cfg, err = s.Config(ctx, config.SkipSecrets())
	require.NoError(t, err)
	assert.False(t, cfg.Handover)

	after := contentOf(t, s)
	assert.NotContains(t, after, "canary")
	assert.NotContains(t, after, "PRIVATE KEY")
	assert.Contains(t, after, "# Comments stay.")
}

func TestStack_AppendsSealingKeys(t *testing.T) {
	s := newStack(t)
	for i := range 2 {
		key, err := seal.NewSealingKey(time.Now().Add(time.Duration(i-2) * time.Hour))
		require.NoError(t, err)
		require.NoError(t, s.AppendSealingKey(t.Context(), key))
		cfg, err := s.Config(t.Context(), config.SkipSecrets())
		require.NoError(t, err)
		require.Len(t, cfg.Sealing.Keys, i+1)
		assert.Equal(t, key, cfg.Sealing.Keys[i])
		assert.True(t, cfg.Sealing.Protect, "what stands beside them stays")
		assert.Contains(t, contentOf(t, s), "BEGIN CERTIFICATE", "the public half is readable")
		assert.NotContains(t, contentOf(t, s), "PRIVATE KEY")
	}
}

// failing is a pulumi that fails at the certificate, and else is the real one.
func failing(t *testing.T, program string) string {
	t.Helper()
	script := "#!/bin/sh\ncase \"$*\" in *.certificate*) cat >&2; exit 1;; esac\nexec '" + program + "' \"$@\"\n"
	path := filepath.Join(t.TempDir(), "pulumi")
	require.NoError(t, os.WriteFile(path, []byte(script), 0o700))
	return path
}

func TestStack_LeavesNoHalfOfASealingKey(t *testing.T) {
	s := newStack(t)
	s.Pulumi = failing(t, s.Pulumi)
	err := s.AppendSealingKey(t.Context(), config.SealingKey{Certificate: "canary-certificate\n", PrivateKey: "canary-key\n"})
	require.ErrorContains(t, err, "setting sealing.keys[0].certificate of stack production")
	assert.NotContains(t, err.Error(), "canary", "what pulumi was given is not repeated")
	cfg, err := s.Config(t.Context(), config.SkipSecrets())
	require.NoError(t, err)
	assert.Empty(t, cfg.Sealing.Keys)
}

func TestStack_SecretsAreOnNoCommandLine(t *testing.T) {
	log := filepath.Join(t.TempDir(), "arguments")
	program := filepath.Join(t.TempDir(), "pulumi")
	require.NoError(t, os.WriteFile(program, []byte("#!/bin/sh\necho \"$@\" >>'"+log+"'\ncat >>'"+log+".stdin'\n"), 0o700))
	project := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(project, "Pulumi.yaml"), []byte("name: p\n"), 0o600))
	s := &stack.Stack{Project: project, Name: "dev", Pulumi: program, ConfigFile: "other.yaml"}
	require.NoError(t, s.Set(t.Context(), "secrets.cloud.token", "canary", true))
	arguments, err := os.ReadFile(log)
	require.NoError(t, err)
	assert.NotContains(t, string(arguments), "canary")
	assert.Contains(t, string(arguments), "config set --raw --secret --path p:secrets.cloud.token --stack dev ")
	assert.Contains(t, string(arguments), " --cwd "+project+" ")
	assert.Contains(t, string(arguments), "--config-file /")
	stdin, err := os.ReadFile(log + ".stdin")
	require.NoError(t, err)
	assert.Equal(t, "canary", string(stdin))
}

func TestStack_SaysWhatPulumiSaidAndWhatToDo(t *testing.T) {
	made := newStack(t)
	require.NoError(t, made.Set(t.Context(), "secrets.intesis.password", "canary-password", true))
	for name, c := range map[string]struct {
		change func(*stack.Stack)
		want   []string
	}{
		"no such stack": {
			func(s *stack.Stack) { s.Name = "other" }, []string{"no stack named 'other' found", "pulumi stack init other"},
		},
		"not logged in": {
			func(s *stack.Stack) { s.Env = append(s.Env, "PULUMI_BACKEND_URL=", "PULUMI_HOME="+t.TempDir()) },
			[]string{"PULUMI_ACCESS_TOKEN must be set", "pulumi login"},
		},
		"the wrong passphrase": {
			func(s *stack.Stack) { s.Env = append(s.Env, "PULUMI_CONFIG_PASSPHRASE=other") },
			[]string{"incorrect passphrase", "PULUMI_CONFIG_PASSPHRASE_FILE"},
		},
		"no passphrase": {
			func(s *stack.Stack) { s.Env = withoutPassphrase(s.Env) }, []string{"passphrase must be set", "PULUMI_CONFIG_PASSPHRASE_FILE"},
		},
		"no pulumi":      {func(s *stack.Stack) { s.Pulumi = "no-such-pulumi" }, []string{"pulumi is not there", "make tools"}},
		"another folder": {func(s *stack.Stack) { s.Project = t.TempDir() }, []string{"run it in the folder of Pulumi.yaml"}},
		"no name":        {func(s *stack.Stack) { s.Name = "" }, []string{`"" is no name of a stack`, "--stack"}},
		"an option":      {func(s *stack.Stack) { s.Name = "--help" }, []string{`"--help" is no name of a stack`}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &stack.Stack{Project: made.Project, Name: made.Name, Pulumi: made.Pulumi, Env: slices.Clone(made.Env), ConfigFile: made.ConfigFile}
			c.change(s)
			_, err := s.Config(t.Context(), config.SkipSecrets())
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
			assert.NotContains(t, err.Error(), "canary")
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := made.Config(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

func withoutPassphrase(env []string) []string {
	var kept []string
	for _, variable := range env {
		if !strings.HasPrefix(variable, "PULUMI_CONFIG_PASSPHRASE=") {
			kept = append(kept, variable)
		}
	}
	return kept
}

// The terminal sends Ctrl-C to each process of its foreground group; we send it on, and two of them
// would have pulumi drop what it has begun.
func TestStack_PulumiIsInterruptedOnceAndMayFinish(t *testing.T) {
	s, record := stubborn(t)
	ended := interrupted(t, s, record)
	require.ErrorIs(t, <-ended, context.Canceled)
	lines := record()
	assert.NotEqual(t, strconv.Itoa(syscall.Getpgrp()), lines[0], "a group of its own")
	assert.Equal(t, []string{"interrupted", "finished"}, lines[1:])
	assert.False(t, s.Interrupt(), "it has ended")
}

// Whoever can't wait for that says so.
func TestStack_PulumiIsInterruptedTwiceIfItIsAskedFor(t *testing.T) {
	s, record := stubborn(t)
	ended := interrupted(t, s, record)
	require.Eventually(t, func() bool { return len(record()) > 1 }, 10*time.Second, 10*time.Millisecond)
	assert.True(t, s.Interrupt())
	require.ErrorIs(t, <-ended, context.Canceled)
	assert.Equal(t, []string{"interrupted", "interrupted", "dropped"}, record()[1:])
}

// interrupted begins an update, has it interrupted, and gives what it ends with.
func interrupted(t *testing.T, s *stack.Stack, record func() []string) <-chan error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Up(ctx, io.Discard) }()
	require.Eventually(t, func() bool { return len(record()) > 0 }, 10*time.Second, 10*time.Millisecond)
	cancel()
	return ended
}

// stubborn is a stack whose pulumi takes its time after an interrupt, and what that has written: its
// group, and what became of it.
func stubborn(t *testing.T) (s *stack.Stack, record func() []string) {
	t.Helper()
	folder := t.TempDir()
	program, path := filepath.Join(folder, "pulumi"), filepath.Join(folder, "record")
	require.NoError(t, os.WriteFile(program, []byte(`#!/bin/sh
times=0
trap 'echo interrupted >> "$RECORD"; times=$((times + 1))' INT
ps -o pgid= -p $$ > "$RECORD.new" && mv "$RECORD.new" "$RECORD"
while [ $times = 0 ]; do sleep 0.05; done
for i in 1 2 3 4 5 6 7 8 9 10; do
	sleep 0.1
	[ $times = 1 ] || { echo dropped >> "$RECORD"; exit 1; }
done
echo finished >> "$RECORD"
exit 1
`), 0o700))
	s = &stack.Stack{Project: folder, Name: "production", Pulumi: program, Env: append(os.Environ(), "RECORD="+path)}
	return s, func() []string {
		content, err := os.ReadFile(path)
		if !errors.Is(err, fs.ErrNotExist) {
			require.NoError(t, err)
		}
		return strings.Fields(string(content))
	}
}

func TestPending_SaysWhyAPreviewFails(t *testing.T) {
	folder := t.TempDir()
	program := filepath.Join(folder, "pulumi")
	require.NoError(t, os.WriteFile(program, []byte(`#!/bin/sh
cat <<'END'
{"steps": [{"op": "create"}], "diagnostics": [
  {"message": "warning: of no interest", "severity": "warning"},
  {"message": "error: hvac.device is missing\n", "severity": "error"}]}
END
exit 1
`), 0o700))
	s := &stack.Stack{Project: folder, Name: "production", Pulumi: program}
	_, err := s.Pending(t.Context())
	require.ErrorContains(t, err, "previewing stack production: ")
	require.ErrorContains(t, err, "error: hvac.device is missing")
	assert.NotContains(t, err.Error(), "no interest")
}

func TestStack_SetsSeveralValuesAtOnce(t *testing.T) {
	s := newStack(t)
	sum := strings.Repeat("0", 63) + "a"
	require.NoError(t, s.SetAll(t.Context(), map[string]string{"cluster.install.from": "a folder/k3s", "cluster.k3s": "v1.35.1+k3s1"}))
	cfg, err := s.Config(t.Context(), config.SkipSecrets())
	require.NoError(t, err)
	assert.Equal(t, "a folder/k3s", cfg.Cluster.Install.From)
	assert.Equal(t, "v1.35.1+k3s1", cfg.Cluster.K3s)
	assert.Contains(t, contentOf(t, s), "# Comments stay.")

	before := contentOf(t, s)
	require.Error(t, s.SetAll(t.Context(), map[string]string{"cluster.install.binary": sum, "cluster.nodes[": "x"}))
	assert.Equal(t, before, contentOf(t, s), "all or none")
}

func TestStack_SaysWhetherItIsThere(t *testing.T) {
	s := newStack(t)
	require.NoError(t, s.Look(t.Context()))
	s.Name = "other"
	require.ErrorIs(t, s.Look(t.Context()), stack.ErrNoStack)
	require.NoError(t, s.Init(t.Context()))
	require.NoError(t, s.Look(t.Context()))
	require.ErrorContains(t, s.Init(t.Context()), "making stack other")

	require.NoError(t, s.Set(t.Context(), "secrets.snmp.community", "canary", true))
	s.Env = append(s.Env, "PULUMI_CONFIG_PASSPHRASE=another")
	err := s.Look(t.Context())
	require.ErrorContains(t, err, "set PULUMI_CONFIG_PASSPHRASE")
	require.NotErrorIs(t, err, stack.ErrNoStack)
}

func TestStack_ReadsTheConfigOfPluginsToo(t *testing.T) {
	s := newStack(t)
	token, err := s.Value(t.Context(), "github:token")
	require.NoError(t, err)
	assert.Empty(t, token)
	cmd := exec.CommandContext(t.Context(), s.Pulumi, "config", "set", "--secret", "github:token", "canary", "--stack", s.Name, "--cwd", s.Project)
	cmd.Env = s.Env
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	token, err = s.Value(t.Context(), "github:token")
	require.NoError(t, err)
	assert.Equal(t, "canary", token)
}
