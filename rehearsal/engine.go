package rehearsal

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nullify005/manager-cluster-state/seal"
	"github.com/nullify005/manager-cluster-state/stack"
)

// ErrInterrupted is what a run that was stopped by its context ends with.
var ErrInterrupted = errors.New("interrupted")

// engineGrace is how long an interrupted engine may take to finish what it has begun; it
// waits for no object to become ready then.
const engineGrace = 60 * time.Second

// engine runs Pulumi in the project, with everything else in the rehearsal's folder.
type engine struct {
	rehearsal *Rehearsal

	saveOnce bool // see Rehearsal.SaveOnce

	mutex   sync.Mutex
	running *exec.Cmd
}

func (e *engine) environment() []string {
	r := e.rehearsal
	token := noForge().Token
	if record, err := r.forge(); err == nil {
		token = record.Token
	}
	environ := r.environment("PULUMI_", "KUBECONFIG=", "GITHUB_", "GIT_")
	if e.saveOnce {
		environ = append(environ, "PULUMI_EXPERIMENTAL=true", "PULUMI_SKIP_CHECKPOINTS=true")
	}
	return append(append(environ, r.gitEnvironment()...),
		"GITHUB_TOKEN="+token,
		"PULUMI_HOME="+r.folder.pulumiHome(),
		// Without the sidecar files of attributes, which nobody reads, and which are not written
		// in one go: a Pulumi that was killed meanwhile could never read its state again.
		"PULUMI_BACKEND_URL=file://"+r.folder.state()+"?metadata=skip",
		"PULUMI_CONFIG_PASSPHRASE_FILE="+r.folder.passphrase(),
		"PULUMI_SKIP_UPDATE_CHECK=true",
		"PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION=true",
		// The program stays where it was built: while nothing of it changes it isn't linked again, which takes
		// longer than most of what it does.
		"PULUMI_GO_PROGRAMS="+r.folder.programs(),
		// The state of a rehearsal is not worth a copy at every step: mendState has one of each operation.
		"PULUMI_DIY_BACKEND_DISABLE_CHECKPOINT_BACKUPS=true",
	)
}

// run runs one pulumi command. Cancelling the context interrupts it once, as Ctrl-C does: it
// then finishes what it has begun and keeps its state whole.
func (e *engine) run(ctx context.Context, stdout, stderr io.Writer, args ...string) error {
	cmd := exec.CommandContext(ctx, e.rehearsal.tool("pulumi"), append(args, "--non-interactive")...)
	cmd.Dir, cmd.Env = e.rehearsal.root, e.environment()
	cmd.Stdout, cmd.Stderr = stdout, stderr
	// A group of its own: the terminal's Ctrl-C reaches us alone, and we pass it on.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = engineGrace

	e.mutex.Lock()
	err := cmd.Start()
	if err == nil {
		e.running = cmd
	}
	e.mutex.Unlock()
	if err == nil {
		err = cmd.Wait()
	}
	e.mutex.Lock()
	e.running = nil
	e.mutex.Unlock()
	if ctx.Err() != nil {
		return fmt.Errorf("pulumi %s: %w", args[0], ErrInterrupted)
	}
	if err != nil {
		return fmt.Errorf("pulumi %s: %w", args[0], err)
	}
	return nil
}

// kill ends the running pulumi and what it started, at once. Its plugins end by themselves
// too, but not before they notice.
func (e *engine) kill() {
	e.mutex.Lock()
	running := e.running
	e.mutex.Unlock()
	if running != nil {
		_ = syscall.Kill(-running.Process.Pid, syscall.SIGKILL)
	}
	left, err := e.processes(context.Background())
	if err != nil {
		return
	}
	for _, p := range left {
		_ = syscall.Kill(p.PID, syscall.SIGKILL)
	}
}

// keepLog says whether Pulumi keeps its own log of each command, all that its engine and plugins tell each other,
// compressed and encrypted. That is nearly half of what a command takes, and there is no switch: where the folder of
// the logs can't be made, it does without.
func (e *engine) keepLog(keep bool) error {
	home := e.rehearsal.folder.pulumiHome()
	logs := filepath.Join(home, "logs")
	err := errors.Join(os.MkdirAll(home, 0o700), os.RemoveAll(logs))
	if err == nil && !keep {
		err = writePrivate(logs, nil)
	}
	if err != nil {
		return fmt.Errorf("turning Pulumi's own log on or off: %w", err)
	}
	return nil
}

// processes lists what runs of the engine: pulumi first, then its plugins and the program.
func (e *engine) processes(ctx context.Context) ([]Process, error) {
	folder := e.rehearsal.folder
	running, err := processesOf(ctx, string(folder))
	if err != nil {
		return nil, err
	}
	running = slices.DeleteFunc(running, func(p Process) bool {
		return !strings.HasPrefix(p.Name(), "pulumi") && !strings.HasPrefix(p.Command, folder.temp()+string(filepath.Separator))
	})
	slices.SortStableFunc(running, pulumiFirst)
	return running, nil
}

// pulumiFirst is the order in which the engine's processes are ended: pulumi, which has a state to save, before what
// it started.
func pulumiFirst(a, b Process) int {
	rank := func(p Process) int {
		if p.Name() == "pulumi" {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Name(), b.Name()))
}

// output runs a pulumi command for what it prints.
func (e *engine) output(ctx context.Context, args ...string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	if err := e.run(ctx, &stdout, &stderr, args...); err != nil {
		return stdout.Bytes(), fmt.Errorf("%w\n%s", err, lastLines(append(stderr.Bytes(), stdout.Bytes()...), 20))
	}
	return stdout.Bytes(), nil
}

// quietly runs a pulumi command whose output only matters when it fails.
func (e *engine) quietly(ctx context.Context, args ...string) error {
	_, err := e.output(ctx, args...)
	return err
}

// prepare leaves a stack behind that an operation can run on: it exists, its config file has
// its placeholders, and nothing of an earlier run holds it.
func (e *engine) prepare(ctx context.Context) error {
	if err := e.stopLeftovers(ctx); err != nil {
		return err
	}
	return e.prepareStack(ctx)
}

// prepareStack is prepare without ending any process: a lock that there is, the caller knows to be nobody's.
func (e *engine) prepareStack(ctx context.Context) error {
	r := e.rehearsal
	if err := errors.Join(r.linkTools(), r.ensurePlugins(ctx), e.keepLog(false)); err != nil {
		return err
	}
	complete, err := r.writeStackFile()
	if err != nil {
		return err
	}
	if _, err := os.Stat(e.checkpoint()); errors.Is(err, fs.ErrNotExist) {
		if err := e.initStack(ctx); err != nil {
			return err
		}
	}
	if err := e.mendState(); err != nil {
		return err
	}
	if !complete {
		if err := e.setPlaceholders(ctx); err != nil {
			return err
		}
	}
	return e.unlock(ctx)
}

// mendState puts a state that a full disk has cut off back to how it was before the last operation, and has a copy
// of one that is whole. It takes the place of the copies that Pulumi keeps at every step of a real stack.
func (e *engine) mendState() error {
	state := e.saved()
	_, err := state.Resources()
	switch {
	case err == nil:
		return state.Keep()
	case !errors.Is(err, stack.ErrCutOff):
		return err
	}
	newest, missing := state.Newest()
	if missing != nil {
		return fmt.Errorf("%w; %w; make down, then make up begin anew", err, missing)
	}
	e.rehearsal.log.Warn("going on from a copy of Pulumi's state", "of", newest.Written.Format(time.TimeOnly), "because", err)
	return state.Restore(newest)
}

// checkpoint is where the file backend keeps the stack's state. It is read, never written.
func (e *engine) checkpoint() string {
	return e.saved().File()
}

// saved is the stack's state as it is on disk.
func (e *engine) saved() stack.State {
	return stack.State{Backend: e.rehearsal.folder.state(), Project: e.rehearsal.project, Stack: e.rehearsal.stack}
}

// initStack makes the stack. It runs in the rehearsal's folder, with a Pulumi.yaml there:
// `stack init` knows no --config-file, and would write its salt into the real stack file.
func (e *engine) initStack(ctx context.Context) error {
	r := e.rehearsal
	project := fmt.Sprintf("name: %s\nruntime: go\n", r.project)
	if err := writePrivate(r.folder.join("Pulumi.yaml"), []byte(project)); err != nil {
		return fmt.Errorf("writing the rehearsal's Pulumi.yaml: %w", err)
	}
	if err := e.quietly(ctx, "stack", "init", r.stack, "--cwd", string(r.folder), "--no-select"); err != nil {
		return fmt.Errorf("making the stack: %w", err)
	}
	return nil
}

// setPlaceholders encrypts the placeholders of secrets into the rehearsal's stack file.
func (e *engine) setPlaceholders(ctx context.Context) error {
	r := e.rehearsal
	record, err := r.forge()
	if err != nil {
		return err
	}
	data, err := os.ReadFile(r.folder.config(r.stack))
	if err != nil {
		return fmt.Errorf("reading the rehearsal's stack file: %w", err)
	}
	file, err := parseStackFile(r.project, data)
	if err != nil {
		return fmt.Errorf("reading the rehearsal's stack file: %w", err)
	}
	into, err := newEncrypter(ctx, file, r.folder.passphrase())
	if err != nil {
		return fmt.Errorf("setting the placeholders of secrets: %w", err)
	}
	values := placeholders(record)
	for _, path := range slices.Sorted(maps.Keys(values)) {
		if _, overridden := r.overrides[path]; overridden {
			continue
		}
		if err := into.set(ctx, path, values[path]); err != nil {
			return err
		}
	}
	if _, overridden := r.overrides[sealingKeys]; !overridden {
		// Begun a minute ago, so that one that is made next is newer.
		pair, err := seal.NewSealingKey(time.Now().Add(-time.Minute))
		if err != nil {
			return err
		}
		private, err := into.secret(ctx, pair.PrivateKey)
		if err != nil {
			return err
		}
		if err := file.set(sealingKeys, []any{map[string]any{"certificate": pair.Certificate, "privateKey": private}}); err != nil {
			return err
		}
	}
	if data, err = file.bytes(); err != nil {
		return err
	}
	if err := writePrivate(r.folder.config(r.stack), data); err != nil {
		return fmt.Errorf("writing the rehearsal's stack file: %w", err)
	}
	if err := writePrivate(r.folder.join("placeholders"), []byte(placeholdersDigest(record))); err != nil {
		return fmt.Errorf("recording the placeholders of secrets: %w", err)
	}
	return nil
}

func (e *engine) stackArgs(args ...string) []string {
	r := e.rehearsal
	return append(args, "--stack", r.stack, "--config-file", r.folder.config(r.stack))
}

// up runs the update, its output passed on and kept in a log.
func (e *engine) up(ctx context.Context, expectNoChanges bool) error {
	args := e.stackArgs("up", "--yes", "--skip-preview")
	if expectNoChanges {
		args = append(args, "--expect-no-changes")
	}
	return e.streamed(ctx, "pulumi-up", args...)
}

func (e *engine) destroy(ctx context.Context) error {
	return e.streamed(ctx, "pulumi-destroy", e.stackArgs("destroy", "--yes", "--skip-preview")...)
}

func (e *engine) streamed(ctx context.Context, name string, args ...string) error {
	if err := os.Remove(e.rehearsal.folder.complete()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("recording that %s begins: %w", name, err)
	}
	log, err := os.OpenFile(e.rehearsal.folder.log(name), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("opening the log of %s: %w", name, err)
	}
	defer log.Close()
	out := io.MultiWriter(e.rehearsal.out, log)
	return e.run(ctx, out, out, append(args, "--suppress-progress", "--color", e.rehearsal.color)...)
}

// Change is what an update would do to one resource.
type Change struct {
	Op    string   // create, update, replace, delete, ...
	URN   string   // of the resource
	Paths []string // of the fields that differ, sorted
}

// Name is the resource's type and name, for people.
func (c Change) Name() string {
	parts := strings.Split(c.URN, "::")
	if len(parts) < 4 {
		return c.URN
	}
	types := strings.Split(parts[2], "$")
	return types[len(types)-1] + " " + parts[3]
}

func (c Change) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s %s", c.Op, c.Name(), strings.Join(c.Paths, ", ")))
}

func (e *engine) preview(ctx context.Context) ([]Change, error) {
	out, err := e.output(ctx, e.stackArgs("preview", "--diff", "--json")...)
	if err != nil {
		return nil, err
	}
	return parsePreview(out)
}

// showPreview passes on a preview as Pulumi words it.
func (e *engine) showPreview(ctx context.Context) error {
	out := e.rehearsal.out
	return e.run(ctx, out, out, e.stackArgs("preview", "--diff", "--suppress-progress", "--color", e.rehearsal.color)...)
}

func parsePreview(out []byte) ([]Change, error) {
	var preview struct {
		Steps []struct {
			Op           string         `json:"op"`
			URN          string         `json:"urn"`
			DetailedDiff map[string]any `json:"detailedDiff"`
		} `json:"steps"`
	}
	if err := json.Unmarshal(out, &preview); err != nil {
		return nil, fmt.Errorf("parsing the preview: %w", err)
	}
	var changes []Change
	for _, step := range preview.Steps {
		if step.Op != "same" {
			changes = append(changes, Change{Op: step.Op, URN: step.URN, Paths: slices.Sorted(maps.Keys(step.DetailedDiff))})
		}
	}
	return changes, nil
}
