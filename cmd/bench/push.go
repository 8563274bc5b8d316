package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/rehearsal"
)

const (
	production = "production"
	// pushed is the workload of which a value is pushed, where it is, and where its Deployment.
	pushed          = "exporter-weather"
	pushedNamespace = "exporter-weather-v1"
	pushedFile      = "manifests/" + production + "/" + pushed + "/deployment-" + pushed + ".yaml"
)

// push brings production up as Git delivers it. Then a value is pushed, and the time runs from there until its
// Deployment has been rolled over, by one command or the other.
func push(ctx context.Context, b *bench) (string, error) {
	r, err := b.rehearsal(rehearsal.Options{Project: b.project, Stack: production})
	if err != nil {
		return "", err
	}
	if err := b.clear(ctx); err != nil {
		return "", err
	}
	if err := r.Up(ctx, rehearsal.UpOptions{}); err != nil {
		return "", err
	}
	mcs := filepath.Join(r.Folder(), "bin", "mcs")
	if err := b.build(ctx, "./cmd/mcs", mcs); err != nil {
		return "", err
	}
	p := &pusher{b: b, r: r, value: "2m"}
	by := func(name, program string, args ...string) way {
		return way{name: name, before: p.push, run: func(ctx context.Context) error {
			if err := p.command(ctx, program, args...); err != nil {
				return err
			}
			return p.rolled(ctx)
		}}
	}
	all, err := b.inTurn(
		ctx,
		by("`mcs reconcile`", mcs, "reconcile", pushed, "--kubeconfig", r.Kubeconfig()),
		by("`flux reconcile kustomization --with-source`", b.fluxCLI(), "reconcile", "kustomization", pushed, "--with-source", "--kubeconfig", r.Kubeconfig()),
	)
	if err != nil {
		return "", err
	}
	return compared(all), nil
}

// pusher pushes one value after the other.
type pusher struct {
	b     *bench
	r     *rehearsal.Rehearsal
	value string
	count int
}

// push gives the workload a value that it never had.
func (p *pusher) push(ctx context.Context) error {
	p.count++
	from, to := p.value, fmt.Sprintf("%dm", 2+p.count)
	p.value = to
	return p.r.Edit(ctx, "Ask for the weather every "+to, map[string]func(string) string{
		pushedFile: func(before string) string { return strings.Replace(before, "- "+from+"\n", "- "+to+"\n", 1) },
	})
}

// rolled waits until the Deployment has the value that was pushed, and is through with it.
func (p *pusher) rolled(ctx context.Context) error {
	const every, bound = 20 * time.Millisecond, 2 * time.Minute
	c, err := p.r.Client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, bound, fmt.Errorf("waiting for what was pushed: not there after %s", bound))
	defer cancel()
	for {
		var deployment appsv1.Deployment
		if err := c.Get(ctx, client.ObjectKey{Namespace: pushedNamespace, Name: pushed}, &deployment); err != nil {
			return fmt.Errorf("reading the Deployment of %s: %w", pushed, err)
		}
		if hasRolled(&deployment, p.value) {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(every):
		}
	}
}

// hasRolled says whether every pod of a Deployment has the argument, and is available.
func hasRolled(d *appsv1.Deployment, argument string) bool {
	wanted := int32(1)
	if d.Spec.Replicas != nil {
		wanted = *d.Spec.Replicas
	}
	return slices.Contains(d.Spec.Template.Spec.Containers[0].Args, argument) && d.Status.ObservedGeneration == d.Generation &&
		d.Status.Replicas == wanted && d.Status.UpdatedReplicas == wanted && d.Status.AvailableReplicas == wanted
}

func (p *pusher) command(ctx context.Context, program string, args ...string) error {
	return p.b.command(ctx, p.b.project, program, args...)
}

// build builds a program of this repository.
func (b *bench) build(ctx context.Context, pkg, path string) error {
	return b.command(ctx, b.project, "go", "build", "-o", path, pkg)
}

func (b *bench) command(ctx context.Context, folder, program string, args ...string) error {
	return runIn(ctx, folder, nil, program, args...)
}

// runIn runs a program to its end, with environ beside what there is.
func runIn(ctx context.Context, folder string, environ []string, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env = folder, append(os.Environ(), environ...)
	// The terminal's Ctrl-C reaches us alone, and ends it through the context.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", filepath.Base(program), args[0], err, last(out))
	}
	return nil
}
