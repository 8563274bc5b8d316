package hosts

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

const askBootID = "cat /proc/sys/kernel/random/boot_id"

// Reboot has a host that still runs the boot of that id boot anew, and waits until it answers from
// another one: a host that has done so already is left alone. The progress is told in lines for a
// person.
func Reboot(ctx context.Context, host *Host, bootID string, timeout time.Duration, progress func(string)) error {
	if !bootIDPattern.MatchString(bootID) {
		return fmt.Errorf("rebooting %s: %s is no boot id", host, quote(bootID))
	}
	if err := host.via.ready(ctx); err != nil {
		return fmt.Errorf("rebooting %s: %w", host, err)
	}
	r := &reboot{Host: host, bootID: bootID, timeout: timeout, progress: progress, begun: time.Now()}
	r.told = r.begun
	within, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		done, err := r.step(within)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("rebooting %s: %w; run again: it is safe", host, ctx.Err())
		case done || err != nil:
			return err
		}
		select {
		case <-within.Done():
		case <-time.After(host.via.pause):
		}
		if within.Err() != nil && ctx.Err() == nil {
			return r.late()
		}
		r.tell()
	}
}

// reboot is one machine on its way.
type reboot struct {
	*Host

	bootID      string
	timeout     time.Duration
	progress    func(string)
	begun, told time.Time
	// asked: it has taken the order to reboot.
	asked bool
	// state is what was last seen of it.
	state string
}

// step looks at the machine once, and asks it to reboot if nobody has.
func (r *reboot) step(ctx context.Context) (done bool, err error) {
	got, err := r.runWithin(ctx, askBootID)
	// A connection has the same deadline by a clock of its own, which may be the first to ring.
	if deadline, is := ctx.Deadline(); ctx.Err() != nil || is && !time.Now().Before(deadline) {
		return false, nil //nolint:nilerr // the caller tells of the end, with what was seen before it
	}
	var changed *ChangedKeyError
	switch {
	case errors.As(err, &changed), err != nil && r.HostKey == "":
		return false, fmt.Errorf("rebooting: %w", err)
	case err != nil:
		// It may be on its way down or up, where sshd turns users away for a while.
		r.state = r.problemOf(err).What
		return false, nil
	case got.status != 0 || !bootIDPattern.MatchString(strings.TrimSpace(got.stdout)):
		r.state = "it answers, but tells no boot id: " + quote(got.stdout+" "+got.stderr)
		return false, nil
	case strings.TrimSpace(got.stdout) != r.bootID:
		if r.asked {
			r.progress(fmt.Sprintf("%s is back after %s", r.Name, time.Since(r.begun).Round(time.Second)))
		}
		return true, nil
	case r.asked:
		r.state = "it still runs, and stops what it has to stop"
		return false, nil
	default:
		return false, r.ask(ctx)
	}
}

// ask may lose the connection: whether the order was heard, the next look tells, and what was not
// heard is said again.
func (r *reboot) ask(ctx context.Context) error {
	r.progress(r.Name + " reboots")
	r.state = "it was told to reboot, and has not answered"
	got, err := r.runWithin(ctx, "sudo -n systemctl reboot")
	switch {
	case ctx.Err() != nil:
		return nil //nolint:nilerr // as in step
	case err != nil:
		r.state = r.problemOf(err).What
		return nil
	case got.status != 0:
		return r.problemf("reboot it by hand (sudo reboot), and run again", "it does not reboot: exit status %d, %s", got.status, quote(got.stderr))
	default:
		r.asked, r.state = true, "it still runs, and stops what it has to stop"
		return nil
	}
}

// runWithin: a machine that goes down may leave a command hanging.
func (r *reboot) runWithin(ctx context.Context, command string) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, r.via.answer)
	defer cancel()
	return r.run(ctx, command, "")
}

func (r *reboot) tell() {
	if time.Since(r.told) < r.via.report {
		return
	}
	r.told = time.Now()
	r.progress(fmt.Sprintf("%s: waiting for its reboot, %s of %s: %s", r.Name, time.Since(r.begun).Round(time.Second), r.timeout, r.state))
}

// late: a person has to look, and nothing is lost.
func (r *reboot) late() error {
	return r.problemf("look at its power and its screen, switch it off and on, and run again: that is safe, and what has rebooted is not rebooted twice; "+
		"if it is only slow: "+r.via.set("cluster.ssh.rebootTimeout", "20m"),
		"it did not come back from its reboot within %s; last seen: %s", r.timeout, r.state)
}
