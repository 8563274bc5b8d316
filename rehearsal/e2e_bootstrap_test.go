package rehearsal_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/internal/flux"
	"github.com/nullify005/manager-cluster-state/stack"
)

// TestBootstrap goes from a clone with nothing made to a running stack, by the command that a person
// types, and is cut short on the way. The cluster is a rehearsal's; everything else is the stack's own:
// clone, backend, keys, secrets.
func TestBootstrap(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a control plane, Flux and pulumi for minutes; leave out -short")
	}
	b := newHome(t)
	seen := watchCommandLines(t)
	b.step("a dry run changes nothing, and says what a run would stop at", b.assertDryRun)
	b.step("it makes stack and keys, and stops at what only a person has", b.assertStopsAtSecrets)
	b.step("cut short after the files are sealed and rendered", func(t *testing.T) {
		b.setSecrets(t)
		b.killedAt(t, ". commit and push")
		assert.NotEmpty(t, b.git(t, "status", "--porcelain", "--", "manifests/production"))
	})
	b.step("a dry run of what is sealed changes nothing", func(t *testing.T) {
		before := b.everything(t)
		said, err := b.mcs(t, "--dry-run")
		require.NoError(t, err)
		assert.Contains(t, said, "would ask whether to commit and push these")
		assert.Contains(t, said, "would run pulumi up")
		assert.Equal(t, before, b.everything(t))
	})
	b.step("a no to the push is a no", func(t *testing.T) {
		before := b.everything(t)
		said, err := b.answered(t, "n\n")
		require.Error(t, err)
		assert.Contains(t, said, "git push origin HEAD:refs/heads/main")
		assert.Equal(t, before, b.everything(t))
	})
	b.step("cut short after the push", func(t *testing.T) {
		b.killedAt(t, ". pulumi up")
		assert.Empty(t, b.git(t, "status", "--porcelain"))
		assert.Equal(t, b.git(t, "rev-parse", "HEAD"), b.pushed(t))
	})
	b.step("interrupted in the middle of pulumi up", func(t *testing.T) {
		said := b.interruptedAt(t, "Deployment flux-system/source-controller creating")
		assert.Contains(t, said, "run the same command again to go on")
	})
	b.step("run to its end, everything is ready", func(t *testing.T) {
		said, err := b.mcs(t, "--yes")
		require.NoError(t, err)
		assert.Contains(t, said, "stack production is ready")
		assert.Contains(t, said, "  http://prometheus.local\n")
		assert.Contains(t, said, "from now on git push is enough")
		b.assertRuns(t)
	})
	b.step("no secret is in the clear anywhere", func(t *testing.T) { b.assertNothingInTheClear(t, seen()) })
	b.step("again, it changes nothing", func(t *testing.T) {
		files, pods := b.files(t, b.folder), b.pods(t)
		said, err := b.mcs(t, "--yes")
		require.NoError(t, err)
		assert.NotRegexp(t, `[1-9][0-9]* (created|updated|deleted|replaced)`, said)
		assert.Equal(t, files, b.files(t, b.folder))
		assert.Equal(t, pods, b.pods(t))
		said, err = b.mcs(t, "--dry-run")
		require.NoError(t, err)
		assert.Contains(t, said, "has all that is there")
	})
}

// home is a clone of this repository, as a person has it.
type home struct {
	*stage

	folder, backend, program string
	env                      []string
	heard                    bytes.Buffer // what all its commands have said
}

func newHome(t *testing.T) *home {
	t.Helper()
	b := &home{stage: newStage(t, "production")}
	b.start(t)
	return b
}

// start starts what a stack finds outside of it, and makes the clone.
func (b *home) start(t *testing.T) {
	t.Helper()
	b.Set("sealing.protect", false)
	require.NoError(t, b.StartCluster(t.Context()))
	require.NoError(t, b.Surroundings(t.Context()))

	b.control(t)
	b.program = filepath.Join(t.TempDir(), "mcs")
	require.NoError(t, b.Build(t.Context(), "./cmd/mcs", b.program))
	b.folder, b.backend = filepath.Join(t.TempDir(), "a home"), t.TempDir()
	passphrase := filepath.Join(t.TempDir(), "passphrase")
	require.NoError(t, os.WriteFile(passphrase, []byte("of a test"), 0o600))
	b.env = append(b.Environment(),
		"PULUMI_BACKEND_URL=file://"+b.backend+"?metadata=skip", "PULUMI_CONFIG_PASSPHRASE_FILE="+passphrase,
		"GIT_AUTHOR_NAME=somebody", "GIT_AUTHOR_EMAIL=somebody@localhost",
		"GIT_COMMITTER_NAME=somebody", "GIT_COMMITTER_EMAIL=somebody@localhost")
	b.clone(t)
}

// control runs the controllers of Flux and of sealed-secrets until the test ends.
func (s *stage) control(t *testing.T) {
	t.Helper()
	ended, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- s.Controllers(t.Context(), ended) }()
	t.Cleanup(func() {
		close(ended)
		<-done
	})
}

// clone copies what Git has of this project, or would have, and pushes it to the rehearsal's Git host.
func (b *home) clone(t *testing.T) {
	t.Helper()
	listed, err := exec.CommandContext(t.Context(), "git", "-C", projectFolder, "ls-files", "-co", "--exclude-standard", "-z").Output()
	require.NoError(t, err)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(listed), "\x00"), "\x00") {
		b.copy(t, name)
	}
	file, err := b.StackFile()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(b.folder, "Pulumi.production.yaml"), file, 0o600))
	cfg, err := b.Rehearsed()
	require.NoError(t, err)
	b.git(t, "init", "--quiet", "--initial-branch=main")
	b.git(t, "remote", "add", "origin", cfg.Git.URL)
	b.git(t, "add", "--all")
	b.git(t, "commit", "--quiet", "--message", "A home")
	b.git(t, "push", "--quiet", "origin", "main")
}

func (b *home) copy(t *testing.T, name string) {
	t.Helper()
	from, to := filepath.Join(projectFolder, name), filepath.Join(b.folder, name)
	info, err := os.Lstat(from)
	if os.IsNotExist(err) {
		return // removed, and not committed yet
	}
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Dir(to), 0o755))
	if info.Mode()&fs.ModeSymlink != 0 {
		target, err := os.Readlink(from)
		require.NoError(t, err)
		require.NoError(t, os.Symlink(target, to))
		return
	}
	content, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(to, content, info.Mode().Perm()))
}

func (b *home) git(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", append([]string{"-C", b.folder}, args...)...)
	cmd.Env = b.env
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	return string(out)
}

// pushed is the newest commit that the Git host has.
func (b *home) pushed(t *testing.T) string {
	t.Helper()
	line, _, _ := strings.Cut(b.git(t, "ls-remote", "origin", "refs/heads/main"), "\t")
	return line + "\n"
}

func (b *home) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), b.program, append([]string{"bootstrap", "--stack", "production"}, args...)...)
	cmd.Dir, cmd.Env = b.folder, b.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

func (b *home) mcs(t *testing.T, args ...string) (said string, err error) {
	t.Helper()
	return b.answered(t, "", args...)
}

// answered is a run with what a person types.
func (b *home) answered(t *testing.T, typed string, args ...string) (said string, err error) {
	t.Helper()
	var out bytes.Buffer
	cmd := b.command(t, args...)
	cmd.Stdin, cmd.Stdout = strings.NewReader(typed), io.MultiWriter(&out, &b.heard, t.Output())
	cmd.Stderr = cmd.Stdout
	err = cmd.Run()
	return out.String(), err
}

// until runs it until it says something, and sends a signal then.
func (b *home) until(t *testing.T, says string, then func(*exec.Cmd)) (said string, err error) {
	t.Helper()
	cmd := b.command(t, "--yes")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = cmd.Stdout
	require.NoError(t, cmd.Start())
	var text strings.Builder
	met := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		text.WriteString(lines.Text() + "\n")
		b.heard.WriteString(lines.Text() + "\n")
		t.Log(lines.Text())
		if !met && strings.Contains(lines.Text(), says) {
			met = true
			then(cmd)
		}
	}
	err = cmd.Wait()
	require.True(t, met, "it never said %q", says)
	return text.String(), err
}

func (b *home) killedAt(t *testing.T, says string) {
	t.Helper()
	_, err := b.until(t, says, func(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	require.Error(t, err)
}

func (b *home) interruptedAt(t *testing.T, says string) string {
	t.Helper()
	said, err := b.until(t, says, func(cmd *exec.Cmd) { _ = cmd.Process.Signal(os.Interrupt) })
	require.Error(t, err)
	return said
}

func (b *home) stack() *stack.Stack {
	return &stack.Stack{Project: b.folder, Name: "production", Pulumi: filepath.Join(projectFolder, ".tools", "bin", "pulumi"), Env: b.env}
}

// everything is what a dry run may not change: the clone, Pulumi's state, the Git host, GitHub.
func (b *home) everything(t *testing.T) map[string]string {
	t.Helper()
	all := b.files(t, b.folder)
	for name, digest := range b.files(t, b.backend) {
		if strings.Contains(name, "stacks/") {
			all["state:"+name] = digest
		}
	}
	keys, err := b.forge(t).DeployKeys(t.Context())
	require.NoError(t, err)
	all["Git host"], all["GitHub"] = b.pushed(t), strings.Repeat("key ", len(keys))
	return all
}

// files are the digests of a folder's files. Git's index knows when it was looked at.
func (b *home) files(t *testing.T, folder string) map[string]string {
	t.Helper()
	found := map[string]string{}
	require.NoError(t, filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || path == filepath.Join(folder, ".git", "index") {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		name, err := filepath.Rel(folder, path)
		found[filepath.ToSlash(name)] = hex.EncodeToString(sum[:])
		return err
	}))
	return found
}

func (b *home) assertDryRun(t *testing.T) {
	before := b.everything(t)
	said, err := b.mcs(t, "--dry-run")
	require.Error(t, err)
	for _, want := range []string{
		"would make it, with pulumi stack init production",
		"would make a sealing key", "would make a deploy key", "would store it in Pulumi.production.yaml",
		"the token may administer nullify005/manager-cluster-state",
		"secrets.intesis.password is missing", "run: pulumi config set --secret --path secrets.slack.botToken --stack production",
		"would seal the secrets and render everything else into manifests/production",
		"would run pulumi up; what it would change can't be told before the rest is there",
		"a run would not get to its end",
	} {
		assert.Contains(t, said, want)
	}
	assert.Equal(t, before, b.everything(t))
}

func (b *home) assertStopsAtSecrets(t *testing.T) {
	said, err := b.mcs(t, "--yes")
	require.Error(t, err)
	assert.Contains(t, said, "made stack production")
	assert.Contains(t, said, "made a sealing key")
	assert.Contains(t, said, "made a deploy key")
	assert.Contains(t, said, "secrets.intesis.password is missing")
	assert.Contains(t, said, "it goes on from there")
	assert.Equal(t, " M Pulumi.production.yaml\n", b.git(t, "status", "--porcelain"), "nothing else is written")
}

// setSecrets is what a person has to do. All are set that can be, each to a value of its own, but for
// those that are named.
func (b *home) setSecrets(t *testing.T, but ...string) {
	t.Helper()
	values, err := b.Placeholders()
	require.NoError(t, err)
	for _, path := range append(but, "secrets.deployKey") { // which has been made
		delete(values, path)
	}
	for path, value := range values {
		require.NoError(t, b.stack().Set(t.Context(), path, value, true))
	}
}

// assertNothingInTheClear looks for every secret of the stack in all that the helper's commands have
// said, in the clone, in Pulumi's state and wherever else a rehearsal looks.
func (b *home) assertNothingInTheClear(t *testing.T, meanwhile places) {
	cfg, err := b.stack().Config(t.Context())
	require.NoError(t, err)
	all := newCanaries(t, cfg)
	all.assertComplete(t)
	for _, args := range [][]string{
		{"status", "--stack", "production"},
		{"render", "--stack", "production"},
		{"seal", "--stack", "production", "--check"},
		{"seal", "--stack", "production"},
		{"keys", "--stack", "production"},
		{"bootstrap", "--stack", "production", "--dry-run"},
	} {
		cmd := exec.CommandContext(t.Context(), b.program, args...)
		cmd.Dir, cmd.Env = b.folder, b.env
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%v: %s", args, out)
		meanwhile["mcs "+strings.Join(args, " ")] = out
	}
	meanwhile["what mcs bootstrap has said"] = b.heard.Bytes()
	lookIn(t, b.folder, meanwhile)
	lookIn(t, b.backend, meanwhile)
	b.lookAtFiles(t, meanwhile)
	b.lookAtCluster(t, meanwhile)
	b.lookAtGit(t, meanwhile)
	assert.Empty(t, all.leaks(meanwhile))

	meanwhile["what mcs bootstrap has said"] = []byte(cfg.Secrets.Grafana.Password)
	assert.Equal(t, []string{"what mcs bootstrap has said has secrets.grafana.password#0"}, all.leaks(meanwhile), "it can be found")
}

// assertRuns holds the cluster against the catalog.
func (b *home) assertRuns(t *testing.T) {
	t.Helper()
	c := b.flux(t)
	require.Eventually(t, func() bool {
		states, err := flux.Workloads(t.Context(), c)
		return err == nil && len(states) > 0 && len(flux.Problems(states)) == 0
	}, soon, time.Second)
	states, err := flux.Workloads(t.Context(), c)
	require.NoError(t, err)
	for _, workload := range b.catalog(t) {
		if !workload.Direct {
			assert.True(t, slices.ContainsFunc(states, func(s flux.State) bool { return s.Name == workload.Name }), workload.Name)
		}
	}
	keys, err := b.forge(t).DeployKeys(t.Context())
	require.NoError(t, err)
	assert.Len(t, keys, 1)
	pending, err := b.stack().Pending(t.Context())
	require.NoError(t, err)
	assert.Zero(t, pending)
}
