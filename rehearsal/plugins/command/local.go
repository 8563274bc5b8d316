package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// runLocal runs a command on this machine. To end it is to kill its first process: what that
// has started lives on, as it does with the official plugin.
func runLocal(ctx context.Context, in inputs, command string, previous outcome, say speaker) (outcome, error) {
	line := in.Interpreter
	if len(line) == 0 {
		line = []string{"/bin/sh", "-c"}
	}
	line = append(slices.Clone(line), command)
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	cmd.Dir = in.Dir
	cmd.Env = os.Environ()
	for name, value := range in.Environment {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	for name, value := range in.previous(previous) {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	if in.Stdin != "" {
		cmd.Stdin = strings.NewReader(in.Stdin)
	}
	heard := newStreams(in.Logging, say)
	cmd.Stdout, cmd.Stderr = heard.stdout(), heard.stderr()
	err := cmd.Run()
	return heard.end(err, command)
}

// previous is the output of the run before, as commands are told of it.
func (i inputs) previous(output outcome) map[string]string {
	variables := map[string]string{}
	if i.AddPreviousOutputInEnv != nil && !*i.AddPreviousOutputInEnv {
		return variables
	}
	for name, value := range map[string]string{"PULUMI_COMMAND_STDOUT": output.stdout, "PULUMI_COMMAND_STDERR": output.stderr} {
		if value != "" {
			variables[name] = value
		}
	}
	return variables
}

// failed has what a command said in the error, whatever its logging is.
func failed(err error, command, said string) error {
	return fmt.Errorf("%w: running %q:\n%s", err, command, said)
}
