package bootstrap

import (
	"bytes"
	"context"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/config"
	forge "github.com/nullify005/manager-cluster-state/rehearsal/forge/github"
	"github.com/nullify005/manager-cluster-state/seal"
	"github.com/nullify005/manager-cluster-state/stack"
)

const pis = `config:
  manager-cluster-state:cluster:
    kind: pi
    name: home
    k3s: v1.35.0+k3s1
    nodes:
      - {name: one, role: server, arch: arm64, memory: 1Gi, reserved: 896Mi, host: one.lan, user: pi, workloads: false}
      - {name: two, role: agent, arch: arm64, memory: 1Gi, reserved: 448Mi, host: two.lan, user: pi}
      - {name: three, role: agent, arch: arm64, memory: 1Gi, reserved: 448Mi, host: three.lan, user: pi, offline: true}
  manager-cluster-state:delivery: flux
  manager-cluster-state:git: {url: "ssh://git@git.example.net/OWNER/REPOSITORY.git", knownHosts: "git.example.net ` + hostKey + `"}
  manager-cluster-state:domain: localtest.me
  manager-cluster-state:hvac: {device: "127934703953", location: r3fup88}
  manager-cluster-state:flux: {notifications: false}
`

const existing = `config:
  manager-cluster-state:cluster: {kind: existing, name: home, kubeconfig: kubeconfig.yaml}
  manager-cluster-state:domain: localtest.me
  manager-cluster-state:hvac: {device: "127934703953", location: r3fup88}
`

const hostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"

// run is a bootstrap of a stack of its own, whose actions are only noted.
type run struct {
	*Bootstrap

	said   *bytes.Buffer
	called []string
	asked  []string
	answer bool
	fails  map[string]error
}

func newRun(t *testing.T, stackFile string) *run {
	t.Helper()
	tools, err := filepath.Abs(filepath.Join("..", ".tools", "bin"))
	require.NoError(t, err)
	for _, name := range []string{"pulumi", "pulumi-language-go"} {
		if _, err := os.Stat(filepath.Join(tools, name)); err != nil {
			t.Skip("needs pulumi: go run ./tools/build pulumi pulumi-language-go")
		}
	}
	r := &run{said: &bytes.Buffer{}, answer: true, fails: map[string]error{}}
	note := func(name string) func(context.Context) error {
		return func(context.Context) error {
			r.called = append(r.called, name)
			return r.fails[name]
		}
	}
	r.Bootstrap = &Bootstrap{
		Out: r.said,
		Stack: &stack.Stack{Project: t.TempDir(), Name: "home", Pulumi: filepath.Join(tools, "pulumi"), Env: append(os.Environ(),
			"PULUMI_HOME="+t.TempDir(), "PULUMI_BACKEND_URL=file://"+t.TempDir(), "PULUMI_CONFIG_PASSPHRASE=passphrase",
			"PULUMI_CONFIG_PASSPHRASE_FILE=", "PULUMI_ACCESS_TOKEN=",
		)},
		Actions: Actions{
			Trust: note("trust"), Pin: note("pin"), CheckHosts: note("check"), Keys: note("keys"), Seal: note("seal"), Render: note("render"),
			Ask: func(_ context.Context, question string) bool {
				r.asked = append(r.asked, question)
				return r.answer
			},
		},
	}
	require.NoError(t, os.WriteFile(filepath.Join(r.Stack.Project, "Pulumi.yaml"), []byte("name: manager-cluster-state\nruntime: go\n"), 0o600))
	require.NoError(t, os.WriteFile(r.Stack.File(), []byte(stackFile), 0o600))
	return r
}

func (r *run) set(t *testing.T, path, value string, secret bool) {
	t.Helper()
	require.NoError(t, r.Stack.Set(t.Context(), path, value, secret))
}

func TestRun_TakesOnlyTheStepsThatAStackHasUseFor(t *testing.T) {
	r := newRun(t, existing)
	r.DryRun = true
	require.ErrorIs(t, r.Run(t.Context()), ErrNotReady)
	assert.Empty(t, r.called)
	for _, name := range []string{"1. configuration", "2. tools", "3. stack and passphrase", "4. secrets", "5. pulumi up"} {
		assert.Contains(t, r.said.String(), name+"\n")
	}
	assert.NotContains(t, r.said.String(), "6. ")
}

func TestRun_OfPisTakesAllOfThemInTheirOrder(t *testing.T) {
	r := newRun(t, pis)
	r.DryRun = true
	r.fails["trust"] = errors.New("one.lan does not answer")
	require.ErrorIs(t, r.Run(t.Context()), ErrNotReady)
	assert.Equal(t, []string{"trust", "pin", "keys"}, r.called, "what can't be told yet is not asked")
	said := r.said.String()
	assert.Contains(t, said, "not known yet: one.lan, two.lan\n")
	assert.Contains(t, said, "one.lan does not answer")
	assert.Contains(t, said, "would ask them, once their host keys are kept")
	assert.Contains(t, said, "would seal the secrets and render everything else into manifests/home")
	assert.Empty(t, r.asked)

	r = newRun(t, pis)
	r.fails["trust"] = errors.New("one.lan does not answer")
	err := r.Run(t.Context())
	require.ErrorContains(t, err, "host keys: one.lan does not answer\nafter that, run the same command again: it goes on from there")
	assert.Equal(t, []string{"trust"}, r.called, "a run stops at the first")
}

func TestRun_ADryRunLeavesNothingBehind(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	r := newRun(t, existing)
	before, err := os.ReadFile(r.Stack.File())
	require.NoError(t, err)
	file := r.Stack.File()
	r.DryRun = true
	require.ErrorIs(t, r.Run(t.Context()), ErrNotReady)
	after, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, string(before), string(after))
	left, err := filepath.Glob(filepath.Join(temporary, "mcs-*"))
	require.NoError(t, err)
	assert.Empty(t, left)
	r.Stack = newRun(t, existing).Stack
	require.ErrorIs(t, r.Stack.Look(t.Context()), stack.ErrNoStack)
}

func TestRun_ADryRunSaysThatAPassphraseIsMissing(t *testing.T) {
	const says = "export PULUMI_CONFIG_PASSPHRASE=…"
	r := newRun(t, existing)
	r.DryRun = true
	require.ErrorIs(t, r.Run(t.Context()), ErrNotReady)
	assert.NotContains(t, r.said.String(), says)

	r = newRun(t, existing)
	r.DryRun = true
	r.Stack.Env = slices.DeleteFunc(r.Stack.Env, func(variable string) bool { return strings.HasPrefix(variable, "PULUMI_CONFIG_PASSPHRASE") })
	require.ErrorIs(t, r.Run(t.Context()), ErrNotReady, "it goes on with one of its own")
	assert.Contains(t, r.said.String(), says)
}

func TestRun_EndsWithItsContext(t *testing.T) {
	r := newRun(t, pis)
	ctx, cancel := context.WithCancel(t.Context())
	r.Trust = func(context.Context) error {
		cancel()
		return ctx.Err()
	}
	require.ErrorIs(t, r.Run(ctx), context.Canceled)
	assert.Empty(t, r.called)
}

func TestConfiguration_TellsEveryProblemBeforeAnyToolIsNeeded(t *testing.T) {
	r := newRun(t, existing+"  manager-cluster-state:domian: x\n  manager-cluster-state:readyTimeout: soon\n")
	t.Setenv("PATH", t.TempDir())
	err := r.Run(t.Context())
	require.ErrorContains(t, err, "domian is unknown")
	require.ErrorContains(t, err, "readyTimeout is")
	assert.NotContains(t, r.said.String(), "2. ")

	require.NoError(t, os.Remove(r.Stack.File()))
	require.ErrorContains(t, r.Run(t.Context()), "reading the stack file")
}

func TestTools_AllThatAreMissingAreNamedWithTheirMend(t *testing.T) {
	r := newRun(t, pis)
	r.Stack.Pulumi = "pulumi"
	t.Setenv("PATH", t.TempDir())
	require.NoError(t, r.configuration(t.Context()))
	err := r.tools(t.Context())
	for _, want := range []string{
		"pulumi-language-go is not there: install Pulumi (https://www.pulumi.com/docs/install/)",
		"go is not there: install Go", "git is not there: install Git", "ssh is not there: install OpenSSH's client",
	} {
		require.ErrorContains(t, err, want)
	}
	r.cfg.Delivery, r.cfg.Cluster.Kind = config.Direct, config.K3d
	err = r.tools(t.Context())
	require.ErrorContains(t, err, "k3d is not there: install k3d")
	require.ErrorContains(t, err, "docker is not there: install Docker")
	assert.NotContains(t, err.Error(), "git is not there")
}

func TestStack_IsMadeAfterAYes(t *testing.T) {
	r := newRun(t, existing)
	require.NoError(t, r.configuration(t.Context()))
	r.answer = false
	err := r.stack(t.Context())
	require.ErrorIs(t, err, ErrStopped)
	require.ErrorContains(t, err, "pulumi stack init home")
	require.ErrorIs(t, r.Stack.Look(t.Context()), stack.ErrNoStack)
	r.answer = true
	require.NoError(t, r.stack(t.Context()))
	require.NoError(t, r.Stack.Look(t.Context()))
	require.NoError(t, r.stack(t.Context()))
	assert.Len(t, r.asked, 2, "one that is there is not asked about")
}

func TestStack_AWrongPassphraseAndAWrongSecretAreTold(t *testing.T) {
	r := newRun(t, existing)
	require.NoError(t, r.configuration(t.Context()))
	require.NoError(t, r.stack(t.Context()))
	r.set(t, "secrets.slack.appToken", "canary", true)
	err := r.stack(t.Context())
	require.ErrorContains(t, err, "secrets.slack.appToken is a secret value")
	assert.NotContains(t, err.Error(), "canary")
	assert.NotContains(t, err.Error(), "intesis", "what is missing has its own step")

	r.Stack.Env = append(r.Stack.Env, "PULUMI_CONFIG_PASSPHRASE=another")
	require.ErrorContains(t, r.stack(t.Context()), "set PULUMI_CONFIG_PASSPHRASE")
}

func TestSteps_OfAStackThatIsCompleteChangeNothing(t *testing.T) {
	r := newRun(t, pis)
	require.NoError(t, r.configuration(t.Context()))
	require.NoError(t, r.stack(t.Context()))
	for _, path := range []string{"cluster.nodes[0].hostKey", "cluster.nodes[1].hostKey"} {
		r.set(t, path, hostKey, false)
	}
	sum := "ab" + string(bytes.Repeat([]byte("0"), 62))
	require.NoError(t, r.Stack.SetAll(t.Context(), map[string]string{"cluster.install.binary": sum, "cluster.install.script": sum}))
	require.NoError(t, r.reload(t.Context()))
	require.NoError(t, r.hostKeys(t.Context()))
	require.NoError(t, r.release(t.Context()))
	assert.Empty(t, r.called)
	require.NoError(t, r.hosts(t.Context()))
	assert.Equal(t, []string{"check"}, r.called, "machines change by themselves")
}

func TestSecrets_AreListedWithTheirCommands(t *testing.T) {
	r := newRun(t, existing)
	require.NoError(t, r.configuration(t.Context()))
	require.NoError(t, r.stack(t.Context()))
	err := r.secrets(t.Context())
	require.ErrorIs(t, err, ErrStopped)
	require.ErrorContains(t, err, "4 are to be set")
	require.ErrorContains(t, err, "run: pulumi config set --secret --path secrets.intesis.password --stack home")
	require.ErrorAs(t, r.files(t.Context()), new(config.Problems), "nothing is sealed without them")
	require.ErrorAs(t, r.up(t.Context()), new(config.Problems))

	for path, value := range map[string]string{
		"secrets.intesis.username": "somebody", "secrets.intesis.password": "canary", "secrets.slack.appToken": "xapp-canary", "secrets.slack.botToken": "xoxb-canary",
	} {
		r.set(t, path, value, true)
	}
	require.NoError(t, r.secrets(t.Context()))
	require.NoError(t, r.files(t.Context()))
	assert.Equal(t, []string{"seal", "render"}, r.called)
	r.fails["seal"] = errors.New("no")
	require.Error(t, r.files(t.Context()))
	assert.NotContains(t, r.said.String(), "canary")
}

func TestGitHub_TheTokenIsTriedBeforeItIsNeeded(t *testing.T) {
	const token = "ghp_canary"
	server, err := forge.New(forge.Options{Token: token, Repositories: []string{"OWNER/REPOSITORY"}})
	require.NoError(t, err)
	listener := httptest.NewServer(server)
	t.Cleanup(listener.Close)
	r := newRun(t, pis)
	require.NoError(t, r.configuration(t.Context()))
	require.NoError(t, r.stack(t.Context()))
	r.cfg.Git.GitHubURL = listener.URL

	t.Setenv("GITHUB_TOKEN", "")
	require.ErrorContains(t, r.github(t.Context()), "there is no token to register the deploy key of OWNER/REPOSITORY with: run export GITHUB_TOKEN=…")
	t.Setenv("GITHUB_TOKEN", "ghp_wrong")
	err = r.github(t.Context())
	require.ErrorContains(t, err, "has expired or was revoked")
	assert.NotContains(t, err.Error(), "ghp_wrong")
	t.Setenv("GITHUB_TOKEN", token)
	require.NoError(t, r.github(t.Context()))
	assert.Empty(t, server.DeployKeys("OWNER/REPOSITORY"), "it only asks")
	assert.NotContains(t, r.said.String(), token)
}

func TestMendedLater_KnowsWhatTheStepsMake(t *testing.T) {
	deployKey, _, err := seal.NewDeployKey("test")
	require.NoError(t, err)
	r := newRun(t, pis)
	require.NoError(t, r.configuration(t.Context()))
	require.NoError(t, r.stack(t.Context()))
	problems, err := r.problems(t.Context())
	require.NoError(t, err)
	var mended []string
	for _, problem := range problems {
		if mendedLater(problem) {
			mended = append(mended, problem.Path)
		} else {
			assert.True(t, isSecret(problem), problem.String())
		}
	}
	assert.Equal(t, []string{
		"cluster.install.binary", "cluster.install.script", "cluster.nodes[0].hostKey", "cluster.nodes[1].hostKey",
		"sealing.keys", "secrets.deployKey",
	}, mended)
	r.set(t, "secrets.deployKey", deployKey, true)
	problems, err = r.problems(t.Context())
	require.NoError(t, err)
	for _, problem := range problems {
		assert.NotEqual(t, "secrets.deployKey", problem.Path)
	}
}
