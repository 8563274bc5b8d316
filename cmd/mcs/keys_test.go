package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/seal"
	"github.com/nullify005/manager-cluster-state/stack"
)

// stackFile is a stack in flux delivery that lacks its keys.
const stackFile = `config:
  manager-cluster-state:cluster:
    # Comments stay.
    kind: existing
    name: home
    kubeconfig: kubeconfig.yaml
  manager-cluster-state:delivery: flux
  manager-cluster-state:git:
    url: ssh://git@git.example.net/OWNER/REPOSITORY.git
    knownHosts: git.example.net ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl
  manager-cluster-state:domain: localtest.me
  manager-cluster-state:hvac:
    device: "127934703953"
    location: r3fup88
    mock: true
  manager-cluster-state:sealing:
    protect: true
`

// tempStack makes a stack named production, in a project and a backend of its own; pulumi finds
// all of it by the environment.
func tempStack(t *testing.T) *stack.Stack {
	t.Helper()
	tools, err := filepath.Abs(filepath.Join("..", "..", ".tools", "bin"))
	require.NoError(t, err)
	if _, err := os.Stat(filepath.Join(tools, "pulumi")); err != nil {
		t.Skip("needs pulumi: go run ./tools/build pulumi")
	}
	for name, value := range map[string]string{
		"PATH": tools + string(os.PathListSeparator) + os.Getenv("PATH"), "PULUMI_HOME": t.TempDir(),
		"PULUMI_BACKEND_URL": "file://" + t.TempDir(), "PULUMI_CONFIG_PASSPHRASE": "passphrase",
		"PULUMI_CONFIG_PASSPHRASE_FILE": "", "PULUMI_ACCESS_TOKEN": "",
	} {
		t.Setenv(name, value)
	}
	s := &stack.Stack{Project: t.TempDir(), Name: "production"}
	require.NoError(t, os.WriteFile(filepath.Join(s.Project, "Pulumi.yaml"), []byte("name: manager-cluster-state\nruntime: go\n"), 0o600))
	out, err := exec.CommandContext(t.Context(), "pulumi", "stack", "init", s.Name, "--cwd", s.Project, "--non-interactive").CombinedOutput()
	require.NoError(t, err, string(out))
	salt := read(t, s.File())
	require.NoError(t, os.WriteFile(s.File(), []byte(stackFile+salt), 0o600))
	images := filepath.Join("manifests", "images", "kustomization.yaml")
	require.NoError(t, os.MkdirAll(filepath.Join(s.Project, filepath.Dir(images)), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(s.Project, images), []byte(read(t, filepath.Join("..", "..", images))), 0o600))
	return s
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(content)
}

// on runs a command on the stack, with an answer typed.
func on(t *testing.T, s *stack.Stack, answer string, args ...string) (string, error) {
	t.Helper()
	var out strings.Builder
	app := &application{stdout: &out, log: slog.New(slog.DiscardHandler)}
	command := app.command()
	command.SetArgs(append(args, "--stack", s.Name, "--project", s.Project))
	command.SetIn(strings.NewReader(answer))
	err := command.ExecuteContext(t.Context())
	assert.NotContains(t, out.String(), "PRIVATE", "only public halves are printed")
	return out.String(), err
}

func succeeds(t *testing.T, s *stack.Stack, args ...string) string {
	t.Helper()
	out, err := on(t, s, "", args...)
	require.NoError(t, err)
	return out
}

func loaded(t *testing.T, s *stack.Stack) *config.Config {
	t.Helper()
	cfg, err := s.Config(t.Context(), config.SkipSecrets())
	require.NoError(t, err)
	return cfg
}

func TestKeys_MakesWhatIsMissingAndKeepsTheRest(t *testing.T) {
	s := tempStack(t)
	before := read(t, s.File())
	out := succeeds(t, s, "keys", "--dry-run")
	assert.Contains(t, out, "would make a sealing key")
	assert.Contains(t, out, "would make a deploy key")
	assert.Equal(t, before, read(t, s.File()), "a dry run changes nothing")

	out = succeeds(t, s, "keys")
	cfg := loaded(t, s)
	require.Len(t, cfg.Sealing.Keys, 1)
	public, err := seal.AuthorizedKey(cfg.Secrets.DeployKey)
	require.NoError(t, err)
	assert.Contains(t, out, "  "+public+" flux-production\n")
	name, err := seal.Fingerprint(cfg.Sealing.Keys[0].Certificate)
	require.NoError(t, err)
	assert.Regexp(t, name+` from \d{4}-\d\d-\d\d until \d{4}-\d\d-\d\d, seals`, out)
	assert.Contains(t, out, "make seal STACK=production")
	assert.Contains(t, out, "by hand: no API is known")
	_, err = s.Config(t.Context())
	require.NoError(t, err, "what was missing is there")

	after := read(t, s.File())
	assert.NotContains(t, after, "PRIVATE KEY")
	assert.Contains(t, after, "BEGIN CERTIFICATE")
	assert.Contains(t, after, "# Comments stay.")
	again := succeeds(t, s, "keys")
	assert.Contains(t, again, "nothing to make")
	assert.Contains(t, again, public)
	assert.Equal(t, after, read(t, s.File()))

	require.NoError(t, s.Remove(t.Context(), "secrets.deployKey"))
	require.NoError(t, s.Set(t.Context(), "git.githubURL", "https://git.example.net/api/v3", false))
	out = succeeds(t, s, "keys")
	assert.NotContains(t, out, "sealing key:")
	assert.Contains(t, out, "pulumi up registers it at https://git.example.net/api/v3/")
	assert.Equal(t, cfg.Sealing.Keys, loaded(t, s).Sealing.Keys)
	assert.NotEqual(t, cfg.Secrets.DeployKey, loaded(t, s).Secrets.DeployKey)
}

func TestKeys_ABrokenOneIsNotReplacedBehindOnesBack(t *testing.T) {
	s := tempStack(t)
	require.NoError(t, s.Set(t.Context(), "secrets.deployKey", "canary", true))
	out, err := on(t, s, "", "keys")
	require.ErrorContains(t, err, "make rotate-deploy-key STACK=production")
	assert.Empty(t, out)
	assert.Empty(t, loaded(t, s).Sealing.Keys)

	require.NoError(t, s.Set(t.Context(), "sealing.keys[0].privateKey", "canary", true))
	_, err = on(t, s, "", "keys")
	require.ErrorContains(t, err, "sealing.keys[0]: the certificate is not PEM")
	assert.NotContains(t, err.Error(), "canary")
}

func TestKeys_ADirectStackIsToldThatItsPodsWillRoll(t *testing.T) {
	s := tempStack(t)
	assert.NotContains(t, succeeds(t, s, "keys"), "rolls each pod", "of flux delivery nothing ran without a key")
	require.NoError(t, s.Remove(t.Context(), "sealing.keys"))
	require.NoError(t, s.Set(t.Context(), "delivery", "direct", false))
	assert.Contains(t, succeeds(t, s, "keys"), "rolls each pod")
}

func TestKeysList_ShowsPublicHalves(t *testing.T) {
	s := tempStack(t)
	assert.Equal(t, "sealing keys: none\ndeploy key: none\n", succeeds(t, s, "keys", "list"))
	succeeds(t, s, "keys")
	out := succeeds(t, s, "keys", "list")
	assert.Regexp(t, `^sealing keys:\n  [0-9a-f]{16} from \S+ until \S+, seals\ndeploy key:\n  ssh-ed25519 \S+\n$`, out)
}

func TestKeysRotate_AsksFirst(t *testing.T) {
	s := tempStack(t)
	_, err := on(t, s, "", "keys", "rotate", "sealing")
	require.ErrorContains(t, err, "make keys STACK=production")
	_, err = on(t, s, "", "keys", "rotate", "deploy")
	require.ErrorContains(t, err, "make keys STACK=production")
	succeeds(t, s, "keys")
	before := read(t, s.File())
	for _, key := range []string{"sealing", "deploy"} {
		assert.Contains(t, succeeds(t, s, "keys", "rotate", key, "--dry-run"), "would ")
		for _, answer := range []string{"", "\n", "n\n", "yea\n"} {
			out, err := on(t, s, answer, "keys", "rotate", key)
			require.ErrorIs(t, err, errDeclined)
			assert.Contains(t, out, "stack production")
		}
	}
	assert.Equal(t, before, read(t, s.File()))
}

func TestKeysRotate_ANewSealingKeySealsAndTheOldOneStays(t *testing.T) {
	s := tempStack(t)
	succeeds(t, s, "keys")
	first := loaded(t, s).Sealing.Keys
	out, err := on(t, s, "yes\n", "keys", "rotate", "sealing")
	require.NoError(t, err)
	assert.Contains(t, out, "make seal STACK=production, commit and push")
	succeeds(t, s, "keys", "rotate", "sealing", "--yes")

	keys := loaded(t, s).Sealing.Keys
	require.Len(t, keys, 3)
	assert.Equal(t, first, keys[:1])
	newest, err := seal.Newest(keys)
	require.NoError(t, err)
	assert.Equal(t, 2, newest, "however soon after another")
	_, err = s.Config(t.Context())
	require.NoError(t, err, "each is valid by now")
	assert.Equal(t, 2, strings.Count(succeeds(t, s, "keys", "list"), "opens what it sealed"))
}

func TestBeginOf_ANewKeyIsTheLastToBegin(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	begin, err := beginOf(nil, now)
	require.NoError(t, err)
	assert.Equal(t, now.Add(-time.Minute), begin, "valid by a clock that is slow")
	key, err := seal.NewSealingKey(begin)
	require.NoError(t, err)
	next, err := beginOf([]config.SealingKey{key}, now)
	require.NoError(t, err)
	assert.Equal(t, begin.Add(time.Second), next)
	later, err := beginOf([]config.SealingKey{key}, now.Add(time.Hour))
	require.NoError(t, err)
	assert.Equal(t, now.Add(59*time.Minute), later)
}

func TestKeysRotate_TheDeployKeyIsReplaced(t *testing.T) {
	s := tempStack(t)
	succeeds(t, s, "keys")
	before := loaded(t, s)
	out, err := on(t, s, "y\n", "keys", "rotate", "deploy")
	require.NoError(t, err)
	after := loaded(t, s)
	assert.NotEqual(t, before.Secrets.DeployKey, after.Secrets.DeployKey)
	assert.Equal(t, before.Sealing, after.Sealing)
	public, err := seal.AuthorizedKey(after.Secrets.DeployKey)
	require.NoError(t, err)
	assert.Contains(t, out, public)
	assert.Contains(t, out, "pulumi up")

	require.NoError(t, s.Set(t.Context(), "secrets.deployKey", "broken", true))
	succeeds(t, s, "keys", "rotate", "deploy", "--yes")
	_, err = seal.AuthorizedKey(loaded(t, s).Secrets.DeployKey)
	require.NoError(t, err, "a broken one can be replaced")
}

func TestHelp_OfEveryKeyCommandHasExamples(t *testing.T) {
	for _, command := range []string{"keys", "keys list", "keys rotate", "keys rotate sealing", "keys rotate deploy", "seal"} {
		out, err := execute(t, append(strings.Fields(command), "--help")...)
		require.NoError(t, err)
		assert.Contains(t, out, "Examples:", command)
		assert.Contains(t, out, "--stack", command)
	}
}

func TestAsk_CtrlCIsANo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	silent, _ := io.Pipe() // nobody ever answers
	cancel()
	answered := make(chan bool, 1)
	go func() { answered <- ask(ctx, silent, io.Discard, "Really?") }()
	select {
	case yes := <-answered:
		assert.False(t, yes)
	case <-time.After(10 * time.Second):
		t.Fatal("it still waits for an answer")
	}
}

func TestSwitch_OfARehearsalHasNoDryRun(t *testing.T) {
	_, err := execute(t, "switch", "flux", "--rehearsal", "--dry-run", "--project", project(t))
	require.ErrorContains(t, err, "none of the others can be")
}
