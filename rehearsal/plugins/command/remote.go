package main

import (
	"context"
	"fmt"
	"strings"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"golang.org/x/crypto/ssh"
)

// runRemote runs a command over SSH. Once it runs, nothing but its end or that of the
// connection ends it, as with the official plugin.
func runRemote(ctx context.Context, in inputs, command string, previous outcome, say speaker) (outcome, error) {
	client, hangUp, err := in.Connection.dial(ctx, say)
	if err != nil {
		return outcome{}, err
	}
	defer hangUp()
	session, err := client.NewSession()
	if err != nil {
		return outcome{}, fmt.Errorf("opening a session: %w", err)
	}
	defer session.Close()
	for name, value := range in.Environment {
		if err := setenv(session, name, value, pulumirpc.LogSeverity_ERROR, say); err != nil {
			return outcome{}, err
		}
	}
	for name, value := range in.previous(previous) {
		_ = setenv(session, name, value, pulumirpc.LogSeverity_WARNING, say) // a courtesy
	}
	if in.Stdin != "" {
		session.Stdin = strings.NewReader(in.Stdin)
	}
	heard := newStreams(in.Logging, say)
	session.Stdout, session.Stderr = heard.stdout(), heard.stderr()
	return heard.end(session.Run(command), command)
}

func setenv(session *ssh.Session, name, value string, severity pulumirpc.LogSeverity, say speaker) error {
	if err := session.Setenv(name, value); err != nil {
		say.lasting(severity, fmt.Sprintf("Unable to set '%s': the SSH server must accept it (AcceptEnv). "+
			"Or write it before the command, as VAR=value command.", name))
		return fmt.Errorf("could not set environment variable %q: %w", name, err)
	}
	return nil
}
