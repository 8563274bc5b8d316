package hosts

import (
	"context"
	_ "embed" // the script that a machine is asked with
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nullify005/manager-cluster-state/config"
)

//go:embed check.sh
var checkScript string

// asRoot runs the script on standard input: what it is to do is on no command line.
const asRoot = "sudo -n sh -s"

// Facts are those of each host that answered, by the name of its node.
type Facts map[string]Fact

// Check asks all machines at once what they are, and changes nothing. The error is Problems with
// every problem of every host; what the others said is in the facts all the same.
func Check(ctx context.Context, cfg *config.Config, now func() time.Time, options ...Option) (Facts, error) {
	list := All(cfg, options...)
	facts := Facts{}
	if len(list) == 0 {
		return facts, nil
	}
	via := list[0].via
	if err := via.ready(ctx); err != nil {
		return facts, fmt.Errorf("asking the machines of the cluster: %w", err)
	}
	if err := via.throughJump(ctx); err != nil {
		return facts, err
	}
	c := &checker{cfg: cfg, now: now, found: make([]*Fact, len(list)), problems: make([]Problems, len(list))}
	c.all(ctx, list)
	if ctx.Err() != nil {
		return facts, fmt.Errorf("asking the machines of the cluster: %w", ctx.Err())
	}
	for i, h := range list {
		if c.found[i] != nil {
			facts[h.Name] = *c.found[i]
		}
	}
	if all := slices.Concat(c.problems...); len(all) > 0 {
		return facts, all
	}
	return facts, nil
}

// throughJump looks at the jump host by itself: its problem is one, and not one of each host.
func (c *connection) throughJump(ctx context.Context) error {
	if c.jump == nil {
		return nil
	}
	open, err := c.jump.dial(ctx)
	switch {
	case err == nil:
		open.close()
		return nil
	case ctx.Err() != nil:
		return err
	default:
		return Problems{c.jump.problemOf(err)}
	}
}

type checker struct {
	cfg      *config.Config
	now      func() time.Time
	found    []*Fact
	problems []Problems
}

// all asks the hosts side by side, a few at a time: a jump host has its limits.
func (c *checker) all(ctx context.Context, list []*Host) {
	sideBySide := make(chan struct{}, 8)
	var all sync.WaitGroup
	for i, h := range list {
		all.Go(func() {
			sideBySide <- struct{}{}
			defer func() { <-sideBySide }()
			c.found[i], c.problems[i] = c.check(ctx, h)
		})
	}
	all.Wait()
}

func (c *checker) check(ctx context.Context, h *Host) (*Fact, Problems) {
	before := c.now()
	said, problems, err := h.ask(ctx)
	if err != nil {
		return nil, Problems{h.problemOf(err)}
	}
	after := c.now()
	fact, err := parse(said)
	if err != nil {
		return nil, append(problems, h.problemf(
			"see what its shell prints: ssh "+h.User+"@"+h.Address+" true; nothing but the answer may come, so look at ~/.bashrc there",
			"its answer is not understood: %v", err))
	}
	return fact, append(problems, c.judge(h, fact, before, after)...)
}

// ask runs the script as root. Where sudo wants a password, that is one problem, and the rest is
// found out without.
func (h *Host) ask(ctx context.Context) (said string, problems Problems, err error) {
	within, cancel := context.WithTimeout(ctx, h.via.answer)
	defer cancel()
	for _, command := range []string{asRoot, "sh -s"} {
		got, err := h.run(within, command, checkScript)
		switch {
		case err != nil && within.Err() != nil && ctx.Err() == nil:
			return "", nil, h.problemf("look at what it is busy with: top", "it lets us in, but has not answered within %s", h.via.answer)
		case err != nil:
			return "", nil, err
		case got.status == 0:
			return got.stdout, problems, nil
		case command == asRoot:
			problems = append(problems, h.noSudo(got))
		default:
			return "", nil, h.problemf("run: ssh "+h.User+"@"+h.Address, "it runs no script: exit status %d, %s", got.status, quote(got.stderr))
		}
	}
	return "", problems, nil
}

func (h *Host) noSudo(got *answer) Problem {
	grant := fmt.Sprintf("run there: echo '%s ALL=(ALL) NOPASSWD: ALL' | sudo tee /etc/sudoers.d/010_%s-nopasswd", h.User, h.User)
	switch {
	case strings.Contains(got.stderr, "password is required"):
		return h.problemf(grant, "sudo wants a password of user %s", h.User)
	case got.status == 127:
		return h.problemf("install it there as root: apt install sudo", "it has no sudo")
	default:
		return h.problemf(grant, "sudo lets user %s run nothing: exit status %d, %s", h.User, got.status, quote(got.stderr))
	}
}
