package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/nullify005/manager-cluster-state/rehearsal"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// kubectl is the real one, on a rehearsal's cluster, with the same objects that Pulumi makes.
type kubectl struct {
	program string
	r       *rehearsal.Rehearsal
	calls   []call
	all     string // a file with every object
}

// call is one run of kubectl.
type call []string

// newKubectl writes the objects of a stack as files, and works out the calls that bring them up.
func (b *bench) newKubectl(r *rehearsal.Rehearsal) (*kubectl, error) {
	cfg, err := r.Rehearsed()
	if err != nil {
		return nil, err
	}
	images, err := workloads.LoadImages(filepath.Join(b.project, cfg.Images))
	if err != nil {
		return nil, err
	}
	catalog, err := workloads.Catalog(cfg, images)
	if err != nil {
		return nil, err
	}
	steps, err := inSteps(catalog)
	if err != nil {
		return nil, err
	}
	k := &kubectl{program: filepath.Join(b.tools, "kubectl"), r: r}
	return k, k.plan(steps)
}

// folder is the rehearsal's, so that it goes with it.
func (k *kubectl) folder() string { return filepath.Join(k.r.Folder(), "kubectl") }

func (k *kubectl) plan(steps []step) error {
	if err := os.MkdirAll(k.folder(), 0o700); err != nil {
		return fmt.Errorf("making the folder of kubectl's files: %w", err)
	}
	var everything, last []*unstructured.Unstructured
	files := 0
	file := func(items []*unstructured.Unstructured) (string, error) {
		data, err := list(items)
		if err != nil {
			return "", err
		}
		files++
		path := filepath.Join(k.folder(), strconv.Itoa(files)+".json")
		return path, os.WriteFile(path, data, 0o600)
	}
	call := func(items []*unstructured.Unstructured, args ...string) error {
		if len(items) == 0 {
			return nil
		}
		path, err := file(items)
		k.calls = append(k.calls, append(args, "--filename", path))
		return err
	}
	wait := func(items []*unstructured.Unstructured, condition string) error {
		return call(items, "wait", "--for=condition="+condition, "--timeout=2m")
	}
	for i, s := range steps {
		if err := call(s.objects, "apply", "--server-side"); err != nil {
			return err
		}
		everything, last = append(everything, s.objects...), append(last, s.others...)
		if i == len(steps)-1 {
			break // nothing comes after it
		}
		if err := wait(s.definitions, "Established"); err != nil {
			return err
		}
		if err := wait(s.before, "Available"); err != nil {
			return err
		}
	}
	if err := wait(last, "Available"); err != nil {
		return err
	}
	var err error
	k.all, err = file(everything)
	return err
}

// up applies and waits, in order.
func (k *kubectl) up(ctx context.Context) error {
	for _, c := range k.calls {
		if err := k.run(ctx, c...); err != nil {
			return err
		}
	}
	return nil
}

// diff fails when anything differs.
func (k *kubectl) diff(ctx context.Context) error {
	return k.run(ctx, "diff", "--server-side", "--force-conflicts", "--filename", k.all)
}

func (k *kubectl) run(ctx context.Context, args ...string) error {
	// Its cache of what the API server has is the cluster's own.
	environ := []string{"KUBECONFIG=" + k.r.Kubeconfig(), "KUBECACHEDIR=" + filepath.Join(k.folder(), "cache")}
	return runIn(ctx, k.folder(), environ, k.program, args...)
}
