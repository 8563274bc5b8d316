// Package stack reads and writes the configuration of a real stack through pulumi's command
// line: whatever the backend and the secrets provider are, pulumi knows them. Secrets go in on
// standard input and come out in memory; none is ever an argument, a message or a file of ours.
package stack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/nullify005/manager-cluster-state/config"
)

// sealingKeys is the path of the list of sealing keys.
const sealingKeys = "sealing.keys"

// Stack is one stack of a project.
type Stack struct {
	// Project is the folder of Pulumi.yaml.
	Project string
	// Name of the stack: production, or OWNER/PROJECT/production.
	Name string
	// Pulumi is the program; empty means the one on PATH, or else in .tools/bin of the project.
	Pulumi string
	// Env is pulumi's environment; nil means this process's.
	Env []string
	// ConfigFile is the stack file; empty means the stack's own in the project.
	ConfigFile string

	shown atomic.Pointer[os.Process] // the command that a person reads along, while it runs
}

// Environ is pulumi's environment, a copy.
func (s *Stack) Environ() []string {
	if s.Env == nil {
		return os.Environ()
	}
	return slices.Clone(s.Env)
}

// File is where the stack's configuration stands.
func (s *Stack) File() string {
	if s.ConfigFile != "" {
		return s.ConfigFile
	}
	return filepath.Join(s.Project, "Pulumi."+s.Short()+".yaml")
}

// Short is the name without owner and project.
func (s *Stack) Short() string { return path.Base(s.Name) }

// Config loads the configuration with its secrets. With config.SkipSecrets, what is missing
// among the secrets is no error.
func (s *Stack) Config(ctx context.Context, options ...config.Option) (*config.Config, error) {
	project, err := s.project()
	if err != nil {
		return nil, err
	}
	values, secretKeys, err := s.values(ctx)
	if err != nil {
		return nil, err
	}
	return config.Load(project, values, secretKeys, time.Now(), append([]config.Option{config.ForStack(s.Name)}, options...)...)
}

// values are the texts of the stack's config, as a program gets them.
func (s *Stack) values(ctx context.Context) (values map[string]string, secretKeys []string, err error) {
	out, err := s.run(ctx, "", "config", "--show-secrets", "--json")
	if err != nil {
		return nil, nil, fmt.Errorf("reading the config of stack %s: %w", s.Name, err)
	}
	var entries map[string]struct {
		Value  *string `json:"value"`
		Secret bool    `json:"secret"`
	}
	if json.Unmarshal(out, &entries) != nil { // its error may quote what it read
		return nil, nil, fmt.Errorf("reading the config of stack %s: pulumi config --json printed no JSON of the form that is known", s.Name)
	}
	values = make(map[string]string, len(entries))
	for key, entry := range entries {
		if entry.Value == nil {
			return nil, nil, fmt.Errorf("reading the config of stack %s: pulumi shows no value of %s", s.Name, key)
		}
		values[key] = *entry.Value
		if entry.Secret {
			secretKeys = append(secretKeys, key)
		}
	}
	slices.Sort(secretKeys)
	return values, secretKeys, nil
}

// Set stores one value at a path like git.branch. As pulumi has it, true, false and integers
// below the first level are stored as such.
func (s *Stack) Set(ctx context.Context, path, value string, secret bool) error {
	kind := "--plaintext"
	if secret {
		kind = "--secret"
	}
	return s.change(ctx, "setting", path, value, "set", "--raw", kind)
}

// SetAll stores values that are not secret, by their paths, all of them or none.
func (s *Stack) SetAll(ctx context.Context, values map[string]string) error {
	project, err := s.project()
	if err != nil {
		return err
	}
	args := []string{"config", "set-all", "--path"}
	for _, path := range slices.Sorted(maps.Keys(values)) {
		args = append(args, "--plaintext", project+":"+path+"="+values[path])
	}
	if _, err := s.run(ctx, "", args...); err != nil {
		return fmt.Errorf("setting %s of stack %s: %w", strings.Join(slices.Sorted(maps.Keys(values)), ", "), s.Name, err)
	}
	return nil
}

// Remove deletes what is at a path.
func (s *Stack) Remove(ctx context.Context, path string) error {
	return s.change(ctx, "removing", path, "", "rm")
}

// AppendSealingKey adds a pair to the sealing keys, both halves or none.
func (s *Stack) AppendSealingKey(ctx context.Context, key config.SealingKey) error {
	cfg, err := s.Config(ctx, config.SkipSecrets())
	if err != nil {
		return err
	}
	item := fmt.Sprintf("%s[%d]", sealingKeys, len(cfg.Sealing.Keys))
	err = s.Set(ctx, item+".privateKey", key.PrivateKey, true)
	if err == nil {
		err = s.Set(ctx, item+".certificate", key.Certificate, false)
	}
	if err == nil {
		return nil
	}
	// The context may be what ended it, and half a pair helps nobody.
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if len(s.items(undo)) > len(cfg.Sealing.Keys) {
		err = errors.Join(err, s.Remove(undo, item))
	}
	return err
}

// items are the sealing keys that are there now, as far as they can be read.
func (s *Stack) items(ctx context.Context) []config.SealingKey {
	cfg, err := s.Config(ctx, config.SkipSecrets())
	if err != nil {
		return nil
	}
	return cfg.Sealing.Keys
}

func (s *Stack) change(ctx context.Context, doing, path, stdin string, args ...string) error {
	project, err := s.project()
	if err != nil {
		return err
	}
	args = slices.Concat([]string{"config"}, args, []string{"--path", project + ":" + path})
	if _, err := s.run(ctx, stdin, args...); err != nil {
		return fmt.Errorf("%s %s of stack %s: %w", doing, path, s.Name, err)
	}
	return nil
}

func (s *Stack) project() (string, error) { return ProjectName(s.Project) }

// ProjectName is the name of the project in a folder, which its config keys begin with.
func ProjectName(folder string) (string, error) {
	content, err := os.ReadFile(filepath.Join(folder, "Pulumi.yaml"))
	if err != nil {
		return "", fmt.Errorf("reading the project: %w; run it in the folder of Pulumi.yaml, or name that with --project", err)
	}
	var project struct {
		Name string `json:"name"`
	}
	if err := yaml.Unmarshal(content, &project); err != nil || project.Name == "" {
		return "", fmt.Errorf("reading the project: %s names no project", filepath.Join(folder, "Pulumi.yaml"))
	}
	return project.Name, nil
}

// run runs pulumi for what it prints, which may tell of a failure too.
func (s *Stack) run(ctx context.Context, stdin string, args ...string) ([]byte, error) {
	if s.Name == "" || strings.HasPrefix(s.Name, "-") {
		return nil, fmt.Errorf("%q is no name of a stack; name one with --stack", s.Name)
	}
	args = append(args, "--stack", s.Name)
	if s.ConfigFile != "" {
		file, err := filepath.Abs(s.ConfigFile)
		if err != nil {
			return nil, fmt.Errorf("finding the stack file: %w", err)
		}
		args = append(args, "--config-file", file)
	}
	return s.exec(ctx, stdin, args...)
}

// exec runs a command that need not be about the stack.
func (s *Stack) exec(ctx context.Context, stdin string, args ...string) ([]byte, error) {
	args = append(args, "--cwd", s.Project, "--non-interactive", "--color", "never")
	var stdout, stderr bytes.Buffer
	cmd := s.command(ctx, 10*time.Second, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	err := cmd.Run()
	switch {
	case err == nil:
		return stdout.Bytes(), nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("pulumi %s: %w", args[0], ctx.Err())
	case errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("pulumi is not there: %w; build it with: make tools", err)
	}
	words := said(stderr.String(), stdin)
	if words == "" {
		words = err.Error()
	}
	if mend := s.mend(words); mend != "" {
		words += "; " + mend
	}
	return stdout.Bytes(), errors.New(words)
}

// command is pulumi, which is asked once to stop, and then has some time to finish what it has begun
// and keep its state whole; with no grace, as much as it needs.
func (s *Stack) command(ctx context.Context, grace time.Duration, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.Program(), args...)
	cmd.Env = append(s.Environ(), "PULUMI_SKIP_UPDATE_CHECK=true")
	// A group of its own: the terminal's Ctrl-C reaches us alone, and we pass it on. A second one
	// has pulumi drop what it has begun: see Interrupt.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = grace
	return cmd
}

// Program is pulumi: the one that was given, the one on PATH, or the project's own.
func (s *Stack) Program() string {
	const name = "pulumi"
	if s.Pulumi != "" {
		return s.Pulumi
	}
	own := filepath.Join(s.Project, ".tools", "bin", name)
	if _, err := exec.LookPath(name); err != nil {
		if absolute, err := filepath.Abs(own); err == nil {
			return absolute
		}
	}
	return name
}

// said is what pulumi wrote about a failure, without anything of what it was given.
func said(stderr, stdin string) string {
	const shortest = 4 // a shorter line would be found in any text
	for line := range strings.Lines(stdin) {
		if line = strings.TrimSpace(line); len(line) >= shortest {
			stderr = strings.ReplaceAll(stderr, line, "…")
		}
	}
	return strings.TrimPrefix(strings.TrimSpace(stderr), "error: ")
}

// mend says what to do about what pulumi said.
func (s *Stack) mend(words string) string {
	switch {
	case strings.Contains(words, "no stack named"):
		return "make it with: pulumi stack init " + s.Name
	case strings.Contains(words, "PULUMI_ACCESS_TOKEN"), strings.Contains(words, "pulumi login"):
		return "log in with: pulumi login, or pulumi login --local"
	case strings.Contains(words, "passphrase"):
		return "set PULUMI_CONFIG_PASSPHRASE or PULUMI_CONFIG_PASSPHRASE_FILE to what the stack was made with"
	default:
		return ""
	}
}

// ErrNoStack says that the backend has no such stack.
var ErrNoStack = errors.New("there is no such stack")

// Look says whether the stack is there, and its secrets can be read: nil, an ErrNoStack, or why it can't
// be told.
func (s *Stack) Look(ctx context.Context) error {
	_, err := s.run(ctx, "", "stack", "--show-name")
	if err != nil && strings.Contains(err.Error(), "no stack named") {
		return fmt.Errorf("%w: %w", ErrNoStack, err)
	}
	if err != nil {
		return fmt.Errorf("looking for stack %s: %w", s.Name, err)
	}
	_, _, err = s.values(ctx)
	return err
}

// Init makes the stack in the backend. Where there is no stack file yet, or one without a salt, it gets one.
func (s *Stack) Init(ctx context.Context) error {
	if _, err := s.run(ctx, "", "stack", "init", "--no-select"); err != nil {
		return fmt.Errorf("making stack %s: %w", s.Name, err)
	}
	return nil
}

// Value is that of any key of the config, as github:token; empty if it isn't set.
func (s *Stack) Value(ctx context.Context, key string) (string, error) {
	values, _, err := s.values(ctx)
	return values[key], err
}

// Output is one of the stack's outputs, secret or not.
func (s *Stack) Output(ctx context.Context, name string) (string, error) {
	out, err := s.run(ctx, "", "stack", "output", name, "--show-secrets")
	if err != nil {
		return "", fmt.Errorf("asking for output %s of stack %s: %w", name, s.Name, err)
	}
	return string(out), nil
}

// Pending counts the resources that an update would change.
func (s *Stack) Pending(ctx context.Context) (int, error) {
	out, failed := s.run(ctx, "", "preview", "--json")
	var preview struct {
		Steps []struct {
			Op string `json:"op"`
		} `json:"steps"`
		Diagnostics []struct {
			Message  string `json:"message"`
			Severity string `json:"severity"`
		} `json:"diagnostics"`
	}
	err := json.Unmarshal(out, &preview)
	if failed != nil {
		// With --json pulumi says what is wrong among its output, and nothing beside it.
		for _, diagnostic := range preview.Diagnostics {
			if diagnostic.Severity == "error" {
				failed = fmt.Errorf("%w: %s", failed, strings.TrimSpace(diagnostic.Message))
			}
		}
		return 0, fmt.Errorf("previewing stack %s: %w", s.Name, failed)
	}
	if err != nil {
		return 0, fmt.Errorf("previewing stack %s: reading what pulumi said: %w", s.Name, err)
	}
	pending := 0
	for _, step := range preview.Steps {
		if step.Op != "same" && step.Op != "read" {
			pending++
		}
	}
	return pending, nil
}

// Preview shows what an update would change.
func (s *Stack) Preview(ctx context.Context, out io.Writer) error {
	return s.show(ctx, out, "preview")
}

// Up runs the update, and passes its output on.
func (s *Stack) Up(ctx context.Context, out io.Writer) error {
	return s.show(ctx, out, "up", "--yes", "--skip-preview")
}

// Interrupt asks a preview or an update that runs to drop what it has begun and save its state, which
// is what pulumi takes a second Ctrl-C for. It says whether one runs.
func (s *Stack) Interrupt() bool {
	process := s.shown.Load()
	return process != nil && process.Signal(os.Interrupt) == nil
}

// show runs a command for a person to read along.
func (s *Stack) show(ctx context.Context, out io.Writer, args ...string) error {
	command := args[0]
	args = append(args, "--suppress-progress", "--stack", s.Name, "--cwd", s.Project, "--non-interactive")
	if s.ConfigFile != "" {
		file, err := filepath.Abs(s.ConfigFile)
		if err != nil {
			return fmt.Errorf("finding the stack file: %w", err)
		}
		args = append(args, "--config-file", file)
	}
	// However long a step takes that can't be stopped: a pulumi that is killed leaves the stack locked,
	// and doesn't know what it has made.
	cmd := s.command(ctx, 0, args...)
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Start()
	if err == nil {
		s.shown.Store(cmd.Process)
		err = cmd.Wait()
		s.shown.Store(nil)
	}
	if err != nil {
		return fmt.Errorf("pulumi %s of stack %s: %w", command, s.Name, errors.Join(ctx.Err(), err))
	}
	return nil
}
