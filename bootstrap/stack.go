package bootstrap

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/stack"
)

// tools looks for what is run, and says of all that is missing how to get it.
func (b *Bootstrap) tools(context.Context) error {
	const install = "install Pulumi (https://www.pulumi.com/docs/install/), or build it with: make tools"
	wanted := map[string]string{"go": "install Go (https://go.dev/dl/)"}
	pulumi := b.Stack.Program()
	wanted[pulumi] = install
	// Pulumi looks for it on PATH, and beside itself.
	host := "pulumi-language-go"
	if found, err := exec.LookPath(pulumi); err == nil {
		if beside := filepath.Join(filepath.Dir(found), host); isThere(beside) {
			host = beside
		}
	}
	wanted[host] = install
	if b.cfg.Delivery == config.FluxCD {
		wanted["git"] = "install Git (https://git-scm.com/downloads)"
		wanted["ssh"] = "install OpenSSH's client: git pushes with it"
	}
	if b.cfg.Cluster.Kind == config.K3d {
		wanted["k3d"] = "install k3d (https://k3d.io)"
		wanted["docker"] = "install Docker (https://docs.docker.com/get-docker/)"
	}
	var missing []error
	for program, mend := range wanted {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, fmt.Errorf("%s is not there: %s", program, mend))
		}
	}
	if len(missing) > 0 {
		return errors.Join(missing...)
	}
	b.sayf("all there")
	return nil
}

func isThere(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// stack leaves a stack whose secrets can be read and written.
func (b *Bootstrap) stack(ctx context.Context) error {
	err := b.Stack.Look(ctx)
	switch {
	case errors.Is(err, stack.ErrNoStack) && b.DryRun:
		b.sayf("there is no stack %s yet: would make it, with pulumi stack init %s", b.Stack.Name, b.Stack.Name)
		if !b.knowsPassphrase() {
			b.sayf("unless it is kept by Pulumi Cloud, a run needs a passphrase for its secrets: export PULUMI_CONFIG_PASSPHRASE=…")
		}
		err = b.pretend(ctx)
	case errors.Is(err, stack.ErrNoStack):
		if !b.Ask(ctx, fmt.Sprintf("There is no stack %s yet. Make it?", b.Stack.Name)) {
			return fmt.Errorf("%w: make it with pulumi stack init %s, or log in to where it is with pulumi login", ErrStopped, b.Stack.Name)
		}
		if err = b.Stack.Init(ctx); err == nil {
			b.sayf("made stack %s", b.Stack.Name)
		}
	case err == nil:
		b.sayf("stack %s is there, and its secrets can be read", b.Stack.Name)
	}
	if err != nil {
		return err
	}
	problems, err := b.problems(ctx)
	if err != nil {
		return err
	}
	var wrong config.Problems
	for _, problem := range problems {
		if !mendedLater(problem) && !isSecret(problem) {
			wrong = append(wrong, problem)
		}
	}
	if len(wrong) > 0 {
		return wrong
	}
	return b.reload(ctx)
}

// knowsPassphrase says whether the environment has one, or where one is.
func (b *Bootstrap) knowsPassphrase() bool {
	return slices.ContainsFunc(b.Stack.Environ(), func(variable string) bool {
		name, value, _ := strings.Cut(variable, "=")
		return value != "" && (name == "PULUMI_CONFIG_PASSPHRASE" || name == "PULUMI_CONFIG_PASSPHRASE_FILE")
	})
}

const missing = "missing"

// mendedLater says whether a later step makes what is missing.
func mendedLater(p config.Problem) bool {
	return p.Value == missing && (p.Path == "secrets.deployKey" || p.Path == "sealing.keys" ||
		strings.HasSuffix(p.Path, ".hostKey") || strings.HasPrefix(p.Path, "cluster.install."))
}

// isSecret says whether only a person has what is missing.
func isSecret(p config.Problem) bool {
	return p.Value == missing && strings.HasPrefix(p.Path, "secrets.") && !mendedLater(p)
}

// pretend has a dry run look at a stack in a backend of its own, with a copy of the stack file. What is
// encrypted in that is read with the passphrase of the environment; where nothing is, any will do.
func (b *Bootstrap) pretend(ctx context.Context) error {
	folder, err := os.MkdirTemp("", "mcs-bootstrap-")
	if err != nil {
		return fmt.Errorf("making a folder to try things in: %w", err)
	}
	b.scratch = folder
	state := filepath.Join(folder, "state")
	env := append(b.Stack.Environ(), "PULUMI_BACKEND_URL=file://"+filepath.ToSlash(state))
	content, err := os.ReadFile(b.Stack.File())
	if err != nil {
		return fmt.Errorf("reading the stack file: %w", err)
	}
	if !strings.Contains(string(content), "encryptionsalt:") {
		env = append(env, "PULUMI_CONFIG_PASSPHRASE_FILE=", "PULUMI_CONFIG_PASSPHRASE="+rand.Text())
	}
	project, err := os.ReadFile(filepath.Join(b.Stack.Project, "Pulumi.yaml"))
	if err != nil {
		return fmt.Errorf("reading the project: %w", err)
	}
	made := &stack.Stack{Project: folder, Name: b.Stack.Short(), Pulumi: b.Stack.Program(), Env: env}
	for path, content := range map[string][]byte{filepath.Join(folder, "Pulumi.yaml"): project, made.File(): content} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return fmt.Errorf("copying the stack file: %w", err)
		}
	}
	if err := os.Mkdir(state, 0o700); err != nil {
		return fmt.Errorf("making a folder to try things in: %w", err)
	}
	if err := made.Init(ctx); err != nil {
		return err
	}
	b.Stack.Env, b.Stack.ConfigFile, b.Stack.Name = env, made.File(), made.Name
	return nil
}
