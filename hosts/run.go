package hosts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// answer is what a command said and how it ended.
type answer struct {
	stdout, stderr string
	status         int
}

// run runs a command there until it ends, the machine gives no sign of life, or the context ends.
// How the command ended is in the answer; the error is a Problem of the way there, or the context's.
func (h *Host) run(ctx context.Context, command, stdin string) (*answer, error) {
	c, err := h.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	defer context.AfterFunc(ctx, c.close)()

	alive, done := context.WithCancel(ctx)
	dead := make(chan error, 1)
	go func() { dead <- c.keptAlive(alive, h.via.keepAlive) }()
	found, err := c.run(command, stdin)
	done()
	lost := <-dead
	switch {
	case err == nil:
		return found, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("asking %s: %w", h, context.Cause(ctx))
	case lost != nil:
		return nil, h.problemf("run again when it is back", "it went away in the middle of a command: %v", lost)
	default:
		return nil, h.problemf("run again", "the connection broke off in the middle of a command: %v", err)
	}
}

func (c *client) run(command, stdin string) (*answer, error) {
	session, err := c.NewSession()
	if err != nil {
		return nil, err
	}
	defer session.Close()
	var stdout, stderr bounded
	session.Stdin, session.Stdout, session.Stderr = strings.NewReader(stdin), &stdout, &stderr
	err = session.Run(command)
	found := &answer{stdout: stdout.String(), stderr: stderr.String()}
	var exit *ssh.ExitError
	switch {
	case errors.As(err, &exit) && exit.Signal() != "":
		return nil, fmt.Errorf("the command was ended by signal %s", exit.Signal())
	case errors.As(err, &exit):
		found.status = exit.ExitStatus()
		return found, nil
	default:
		return found, err
	}
}

// bounded keeps the beginning of what is written to it: whoever is there can't fill our memory.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	const most = 64 << 10
	if room := most - b.Len(); room > 0 {
		b.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
