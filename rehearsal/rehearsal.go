package rehearsal

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/internal/flux"
	"github.com/nullify005/manager-cluster-state/stack"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// ErrNothing is what a rehearsal that was never started answers.
var ErrNothing = errors.New("nothing is up")

// Options say what to rehearse and where.
type Options struct {
	// Project is the folder of Pulumi.yaml.
	Project string
	// Stack names the stack file to rehearse: Pulumi.<stack>.yaml.
	Stack string
	// Folder keeps everything of the rehearsal; .rehearsal/<stack> in the project by default.
	Folder string
	// Tools is where the programs are; .tools/bin in the project by default.
	Tools string
	// Out takes what is for people: Pulumi's output and the tables. Nothing by default.
	Out io.Writer
	// Color has Pulumi's output coloured.
	Color bool
	// Log takes progress. Nothing by default.
	Log *slog.Logger
	// Overrides replace values of the stack file, by path: hvac.interval.
	Overrides map[string]any
	// Catalog lists the project's workloads; workloads.Catalog by default.
	Catalog func(*config.Config, workloads.Images) ([]workloads.Workload, error)
}

// Rehearsal is one stack rehearsed in one folder. Its methods may be called from several
// processes: those that change something exclude each other.
type Rehearsal struct {
	root, project, stack, tools, color string
	source                             string // the folder of go.mod
	folder                             folder
	out                                io.Writer
	log                                *slog.Logger
	overrides                          map[string]any
	catalog                            func(*config.Config, workloads.Images) ([]workloads.Workload, error)
	engine                             *engine

	mutex  sync.Mutex
	client client.Client
	dialed string // the address that client talks to
}

// New reads what the project is called, and starts nothing.
func New(options Options) (*Rehearsal, error) {
	root, err := filepath.Abs(options.Project)
	if err != nil {
		return nil, fmt.Errorf("finding the project: %w", err)
	}
	project, err := stack.ProjectName(root)
	if err != nil {
		return nil, err
	}
	r := &Rehearsal{
		root: root, project: project, stack: options.Stack, color: "never",
		tools: options.Tools, out: options.Out, log: options.Log, overrides: options.Overrides,
		catalog: options.Catalog,
	}
	if r.catalog == nil {
		r.catalog = func(cfg *config.Config, images workloads.Images) ([]workloads.Workload, error) {
			return workloads.Catalog(cfg, images)
		}
	}
	if r.stack == "" || r.stack != filepath.Base(r.stack) {
		return nil, fmt.Errorf("stack %q: name a stack, as development", r.stack)
	}
	if r.tools == "" {
		r.tools = filepath.Join(root, ".tools", "bin")
	}
	if r.tools, err = filepath.Abs(r.tools); err != nil {
		return nil, fmt.Errorf("finding the tools: %w", err)
	}
	r.source = moduleFolder(root)
	if options.Color {
		r.color = "always"
	}
	if r.out == nil {
		r.out = io.Discard
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	where := options.Folder
	if where == "" {
		where = defaultFolder(root, r.stack)
	}
	if where, err = resolve(where); err != nil {
		return nil, fmt.Errorf("finding the rehearsal's folder: %w", err)
	}
	if hasSpace(where) {
		return nil, fmt.Errorf("the rehearsal's folder is %q: kwokctl can't work under a path with a space; name another with --dir", where)
	}
	r.folder = folder(where)
	if err := r.folder.ours(); err != nil {
		return nil, err
	}
	r.engine = &engine{rehearsal: r}
	return r, nil
}

// moduleFolder is the one of go.mod: the project's own, or one above it.
func moduleFolder(root string) string {
	for folder := root; ; folder = filepath.Dir(folder) {
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			return folder
		}
		if folder == filepath.Dir(folder) {
			return root
		}
	}
}

// defaultFolder is in the project, where Git ignores it; or, for a project under a path with
// a space, which kwokctl can't work under, in the folder for temporary files.
func defaultFolder(root, stack string) string {
	if !hasSpace(root) {
		return filepath.Join(root, ".rehearsal", stack)
	}
	sum := sha256.Sum256([]byte(root))
	return filepath.Join(os.TempDir(), "rehearsal-"+hex.EncodeToString(sum[:4]), stack)
}

func hasSpace(path string) bool { return strings.ContainsFunc(path, unicode.IsSpace) }

// resolve makes a path absolute and free of symbolic links as far as it exists, since
// processes are told apart by it.
func resolve(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	for missing, exists := "", path; ; missing, exists = filepath.Join(filepath.Base(exists), missing), filepath.Dir(exists) {
		found, err := filepath.EvalSymlinks(exists)
		if err == nil {
			return filepath.Join(found, missing), nil
		}
		if !errors.Is(err, os.ErrNotExist) || exists == filepath.Dir(exists) {
			return "", err
		}
	}
}

// Folder is where the rehearsal keeps everything.
func (r *Rehearsal) Folder() string { return string(r.folder) }

// Kubeconfig is the path of the file that points kubectl at the rehearsal.
func (r *Rehearsal) Kubeconfig() string { return r.folder.kubeconfig() }

// Set replaces a value of the stack file, by its path, from the next run on.
func (r *Rehearsal) Set(path string, value any) {
	if r.overrides == nil {
		r.overrides = map[string]any{}
	}
	r.overrides[path] = value
}

func (r *Rehearsal) sourceFile() string {
	return filepath.Join(r.root, "Pulumi."+r.stack+".yaml")
}

// Config reads the stack file as it is, and reports every problem of it at once. Secrets
// are not looked at: a rehearsal has its own.
func (r *Rehearsal) Config() (*config.Config, error) {
	data, err := os.ReadFile(r.sourceFile())
	if err != nil {
		return nil, fmt.Errorf("reading the stack file: %w", err)
	}
	values, secretKeys, err := config.ReadStackFile(r.project, data)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", r.sourceFile(), err)
	}
	loaded, err := config.Load(r.project, values, secretKeys, time.Now(), config.SkipSecrets())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.sourceFile(), err)
	}
	return loaded, nil
}

// Rehearsed is the configuration as the program will see it: the stack file's, with what is
// physical replaced and placeholders for secrets.
func (r *Rehearsal) Rehearsed() (*config.Config, error) {
	data, err := os.ReadFile(r.sourceFile())
	if err != nil {
		return nil, fmt.Errorf("reading the stack file: %w", err)
	}
	values, secretKeys, err := r.rehearsedValues(data)
	if err != nil {
		return nil, fmt.Errorf("making the rehearsal's stack file from %s: %w", r.sourceFile(), err)
	}
	loaded, err := config.Load(r.project, values, secretKeys, time.Now())
	if err != nil {
		return nil, fmt.Errorf("%s, as it is rehearsed: %w", r.sourceFile(), err)
	}
	return loaded, nil
}

// answerBound is how long the API server may take for one answer: one that hangs is told, and not waited for.
const answerBound = time.Minute

func (r *Rehearsal) restConfig() (*rest.Config, error) {
	loaded, err := clientcmd.BuildConfigFromFlags("", r.folder.kubeconfig())
	if err != nil {
		return nil, fmt.Errorf("reading the rehearsal's kubeconfig: %w", err)
	}
	loaded.QPS, loaded.Burst, loaded.Timeout = 100, 200, answerBound
	return loaded, nil
}

// Client talks to the rehearsal's API server.
func (r *Rehearsal) Client() (client.Client, error) {
	loaded, err := r.restConfig()
	if err != nil {
		return nil, err
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	// A new cluster has a new certificate authority.
	if identity := loaded.Host + string(loaded.CAData); r.client == nil || r.dialed != identity {
		scheme := runtime.NewScheme()
		for _, add := range []func(*runtime.Scheme) error{
			corev1.AddToScheme, appsv1.AddToScheme, authenticationv1.AddToScheme,
			coordinationv1.AddToScheme, apiextensionsv1.AddToScheme,
		} {
			if err := add(scheme); err != nil {
				return nil, fmt.Errorf("registering Kubernetes types: %w", err)
			}
		}
		if r.client, err = client.New(loaded, client.Options{Scheme: scheme}); err != nil {
			return nil, fmt.Errorf("making a client for the rehearsal's API server: %w", err)
		}
		r.dialed = identity
	}
	return r.client, nil
}

// locked runs a change with the folder to itself.
func (r *Rehearsal) locked(ctx context.Context, do func() error) error {
	unlock, err := r.folder.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	err = do()
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ErrInterrupted, errors.Join(ctx.Err(), err))
	}
	return err
}

// StartCluster leaves a control plane with the stack's nodes behind, and nothing on it.
func (r *Rehearsal) StartCluster(ctx context.Context) error {
	return r.locked(ctx, func() error { return r.startCluster(ctx, &stopwatch{start: time.Now()}, clusterPrograms()) })
}

func (r *Rehearsal) startCluster(ctx context.Context, watch *stopwatch, tools []string) error {
	// All that can be told is told before anything is started.
	var rehearsed *config.Config
	loaded, err := r.Config()
	if err == nil {
		rehearsed, err = r.Rehearsed()
	}
	if err = errors.Join(err, r.checkTools(tools)); err != nil {
		return err
	}
	if err := errors.Join(r.folder.create(), r.linkTools()); err != nil {
		return err
	}
	r.log.Info("starting the control plane", "folder", r.Folder())
	if err := watch.run("control plane", func() error { return r.ensureControlPlane(ctx) }); err != nil {
		return fmt.Errorf("starting the control plane: %w", err)
	}
	// The nodes are those that the program will be told of. Its kind of cluster always is
	// existing: whose pods run there already, cluster.k3s says.
	r.log.Info("simulating the nodes", "count", len(rehearsed.Cluster.Nodes))
	if err := watch.run("nodes", func() error { return r.ensureNodes(ctx, rehearsed.Cluster.Nodes) }); err != nil {
		return fmt.Errorf("simulating the nodes: %w", err)
	}
	if err := watch.run("add-ons", func() error { return r.ensureAddons(ctx, loaded.Cluster.K3s) }); err != nil {
		return fmt.Errorf("simulating k3s's own pods: %w", err)
	}
	return nil
}

// StopCluster stops the control plane and keeps its data.
func (r *Rehearsal) StopCluster(ctx context.Context) error {
	return r.locked(ctx, func() error { return r.stopAll(ctx) })
}

// UpOptions change what Up demands.
type UpOptions struct {
	// ExpectNoChanges makes an update that changes anything an error.
	ExpectNoChanges bool
	// KeepBranch pushes nothing before the update: Git stays as it is.
	KeepBranch bool
	// Plain goes on after a run that was cut short as a person with Pulumi alone does: `pulumi
	// cancel` where the stack is locked, then `pulumi up`. No process of that run is ended, no
	// object removed, and the state isn't compared with the cluster before.
	Plain bool
}

// Prepare leaves everything behind that an update finds: cluster, Git host, stack, keys, manifests
// in Git. The next Up has but the update to do.
func (r *Rehearsal) Prepare(ctx context.Context) error {
	return r.locked(ctx, func() error { return r.prepare(ctx, &stopwatch{start: time.Now()}, UpOptions{}) })
}

// Up brings the stack up, from nothing or from whatever is there, and writes the report to
// Out. What is not ready at the end is an error, and told before.
func (r *Rehearsal) Up(ctx context.Context, options UpOptions) error {
	return r.locked(ctx, func() error { return r.up(ctx, options) })
}

func (r *Rehearsal) prepare(ctx context.Context, watch *stopwatch, options UpOptions) error {
	if err := r.startCluster(ctx, watch, programs()); err != nil {
		return err
	}
	return watch.run("stack", func() error {
		if err := r.ensureForge(ctx); err != nil {
			return err
		}
		prepare := r.engine.prepare
		if options.Plain {
			prepare = r.engine.prepareStack
		}
		if err := prepare(ctx); err != nil {
			return err
		}
		if !options.KeepBranch {
			if err := r.pushIfPulled(ctx); err != nil {
				return err
			}
		}
		if options.Plain {
			return nil
		}
		return r.engine.settle(ctx)
	})
}

func (r *Rehearsal) up(ctx context.Context, options UpOptions) error {
	watch := &stopwatch{start: time.Now()}
	if err := r.prepare(ctx, watch, options); err != nil {
		return err
	}
	upErr := r.update(ctx, watch, options)
	if ctx.Err() != nil {
		return upErr
	}
	var report *Report
	reportErr := watch.run("report", func() (err error) {
		report, err = r.report(ctx)
		return err
	})
	if reportErr != nil {
		return errors.Join(upErr, reportErr)
	}
	fmt.Fprintln(r.out)
	if err := report.Render(r.out); err != nil {
		return errors.Join(upErr, err)
	}
	r.log.Info("took " + watch.String())
	if upErr == nil && !report.OK() {
		return errNotReady
	}
	return upErr
}

var errNotReady = errors.New("the stack is not ready: see above")

// update runs the engine, and the controllers beside it.
func (r *Rehearsal) update(ctx context.Context, watch *stopwatch, options UpOptions) error {
	engineDone := make(chan struct{})
	watching, stopWatching := context.WithCancel(ctx)
	var watchers sync.WaitGroup
	watchers.Go(func() { r.watchReadiness(watching) })
	defer func() { stopWatching(); watchers.Wait() }()

	controllers := make(chan error, 1)
	go func() { controllers <- r.superviseControllers(ctx, engineDone) }()

	r.log.Info("running pulumi up", "stack", r.stack)
	upErr := watch.run("pulumi up", func() error { return r.engine.up(ctx, options.ExpectNoChanges) })
	close(engineDone)
	stopWatching()
	controllersErr := watch.run("controllers", func() error { return <-controllers })
	if controllersErr != nil && ctx.Err() == nil {
		upErr = errors.Join(upErr, fmt.Errorf("running the controllers: %w", controllersErr))
	}
	if upErr != nil {
		return upErr
	}
	if err := r.markComplete(); err != nil {
		return err
	}
	return watch.run("settling", func() error { return r.waitReady(ctx) })
}

// waitReady gives what is still rolling a moment, or readyTimeout where that is less: Pulumi
// doesn't wait for every last pod. What isn't ready then is for the report to tell.
func (r *Rehearsal) waitReady(ctx context.Context) error {
	c, err := r.Client()
	if err != nil {
		return err
	}
	rehearsed, err := r.Rehearsed()
	if err != nil {
		return err
	}
	bound := min(readyBound, rehearsed.ReadyTimeout.Duration)
	err = poll(ctx, 250*time.Millisecond, bound, func(ctx context.Context) (bool, error) {
		seen, err := observe(ctx, c)
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(seen.diagnose(), func(object readiness) bool { return !object.ready }) {
			return false, nil
		}
		delivered, err := flux.Workloads(ctx, c)
		return err == nil && len(flux.Problems(delivered)) == 0, err
	})
	if errors.Is(err, errTimeout) {
		return nil
	}
	return err
}

// markComplete remembers that the stack is all there; an update or a destroy begins by
// forgetting it.
func (r *Rehearsal) markComplete() error {
	if err := writePrivate(r.folder.complete(), nil); err != nil {
		return fmt.Errorf("recording that the update is complete: %w", err)
	}
	return nil
}

// Preview says what an update would change. It needs no running cluster.
func (r *Rehearsal) Preview(ctx context.Context) (changes []Change, err error) {
	if !r.folder.exists() {
		return nil, ErrNothing
	}
	err = r.locked(ctx, func() error {
		if err := r.engine.prepare(ctx); err != nil {
			return err
		}
		changes, err = r.engine.preview(ctx)
		return err
	})
	return changes, err
}

// ShowPreview writes Pulumi's own account of what an update would change to Out.
func (r *Rehearsal) ShowPreview(ctx context.Context) error {
	if !r.folder.exists() {
		return ErrNothing
	}
	return r.locked(ctx, func() error {
		if err := r.engine.prepare(ctx); err != nil {
			return err
		}
		return r.engine.showPreview(ctx)
	})
}

// Destroy has Pulumi delete the stack's objects. The controllers run on meanwhile, since
// finalizers are theirs to answer, and are stopped after.
func (r *Rehearsal) Destroy(ctx context.Context) error {
	if !r.folder.exists() {
		return ErrNothing
	}
	return r.locked(ctx, func() error {
		if err := r.engine.prepare(ctx); err != nil {
			return err
		}
		if err := r.engine.settle(ctx); err != nil {
			return err
		}
		return errors.Join(r.engine.destroy(ctx), r.stopControllers(ctx))
	})
}

// Status reports how the rehearsal stands. It changes nothing.
func (r *Rehearsal) Status(ctx context.Context) (*Report, error) {
	if !r.folder.exists() {
		return nil, ErrNothing
	}
	running, err := processesOf(ctx, string(r.folder))
	if err != nil {
		return nil, err
	}
	if len(running) == 0 {
		return nil, fmt.Errorf("%w of %s: the folder is there, but no process of it runs", ErrNothing, r.folder)
	}
	return r.report(ctx)
}

func (r *Rehearsal) report(ctx context.Context) (*Report, error) {
	report := &Report{Stack: r.stack, Kubeconfig: r.Kubeconfig()}
	_, err := os.Stat(r.folder.complete())
	report.Incomplete = err != nil
	running, err := processesOf(ctx, string(r.folder))
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Backward(controlPlaneStopOrder()) {
		if i := slices.IndexFunc(running, func(p Process) bool { return p.Name() == name }); i >= 0 {
			report.Processes = append(report.Processes, running[i])
		} else {
			report.Missing = append(report.Missing, name)
		}
	}
	if slices.Contains(report.Missing, "kube-apiserver") || slices.Contains(report.Missing, "etcd") {
		return report, nil // nobody to ask
	}
	c, err := r.Client()
	if err != nil {
		return nil, err
	}
	seen, err := observe(ctx, c)
	if err != nil {
		return nil, err
	}
	if report.Flux, err = flux.Workloads(ctx, c); err != nil {
		return nil, err
	}
	state := &stackState{}
	if _, err := os.Stat(r.engine.checkpoint()); err == nil {
		if state, err = r.engine.state(ctx); err != nil {
			return nil, err
		}
	}
	diagnosed := seen.diagnose()
	state.addPulled(diagnosed)
	report.Workloads, report.URLs = buildWorkloads(state, diagnosed), state.urls
	var nodes corev1.NodeList
	if err := c.List(ctx, &nodes); err != nil {
		return nil, fmt.Errorf("listing nodes: %w", err)
	}
	for _, node := range nodes.Items {
		report.Nodes = append(report.Nodes, NodeState{Name: node.Name, Ready: nodeReady(&node)})
	}
	deployments, err := controllerDeployments(ctx, c)
	if err != nil {
		return nil, err
	}
	report.Controllers, err = r.controllerStates(ctx, deployments)
	return report, err
}

// Down stops every process of the rehearsal and removes its folder. It returns what it
// stopped, and ErrNothing when there was nothing at all.
func (r *Rehearsal) Down(ctx context.Context) (stopped []Process, err error) {
	if !r.folder.exists() {
		// The folder may have been removed by hand from under its processes.
		running, err := processesOf(ctx, string(r.folder))
		if err != nil {
			return nil, err
		}
		if len(running) == 0 {
			return nil, ErrNothing
		}
	}
	err = r.locked(ctx, func() error {
		if stopped, err = processesOf(ctx, string(r.folder)); err != nil {
			return err
		}
		if err := r.stopAll(ctx); err != nil {
			return err
		}
		return r.folder.remove()
	})
	return stopped, err
}

// Pulumi runs a command of Pulumi as the rehearsal does, whatever else works on the stack: what a
// person in another terminal does. It writes what it says, on either stream, to out.
func (r *Rehearsal) Pulumi(ctx context.Context, out io.Writer, args ...string) error {
	beside := &engine{rehearsal: r, saveOnce: r.engine.saveOnce}
	return beside.run(ctx, out, out, args...)
}

// Running lists the processes of the rehearsal.
func (r *Rehearsal) Running(ctx context.Context) ([]Process, error) {
	return processesOf(ctx, string(r.folder))
}

// Kill ends a running pulumi at once, and everything that it started: for the second Ctrl-C.
func (r *Rehearsal) Kill() { r.engine.kill() }
