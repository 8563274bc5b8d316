package rehearsal

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

const (
	kwokCluster    = "rehearsal"
	startBound     = 60 * time.Second
	readyBound     = 30 * time.Second
	processGrace   = 10 * time.Second
	shortAPIAnswer = 3 * time.Second
)

// controlPlaneStopOrder lists the processes of a control plane, clients before servers.
func controlPlaneStopOrder() []string {
	return []string{"kwok-controller", "kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd"}
}

// controlPlaneFlags says which flag of kwokctl takes which program.
func controlPlaneFlags() map[string]string {
	return map[string]string{
		"etcd":                    "--etcd-binary",
		"kube-apiserver":          "--kube-apiserver-binary",
		"kube-controller-manager": "--kube-controller-manager-binary",
		"kube-scheduler":          "--kube-scheduler-binary",
		"kwok":                    "--kwok-controller-binary",
	}
}

// ensureControlPlane leaves a healthy control plane behind: the one that runs, else the one
// that was stopped, else a new one. With a new cluster Pulumi's state starts anew too, since
// the state would say that objects exist which don't.
func (r *Rehearsal) ensureControlPlane(ctx context.Context) error {
	identity, err := os.ReadFile(r.folder.clusterID())
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("reading the cluster's identity: %w", err)
	default:
		if r.healthy(ctx, string(identity)) == nil {
			r.log.Info("the control plane runs already")
			return nil
		}
		err := r.restartControlPlane(ctx, string(identity))
		if err == nil {
			r.log.Info("the control plane was started again, its objects kept")
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.log.Warn("the control plane can't be started again: making a new one, and Pulumi's state with it", "because", err)
	}
	const attempts = 2 // a port may be taken between the choice and the use
	for attempt := 1; ; attempt++ {
		err := r.createControlPlane(ctx)
		if err == nil || ctx.Err() != nil || attempt == attempts {
			return err
		}
		r.log.Warn("the control plane did not come up: once more", "because", err)
	}
}

// errEnded is that a part of the control plane isn't there.
var errEnded = errors.New("does not run")

// healthy says why the cluster of that identity is not up, or nil. The identity of a cluster
// is the UID of its kube-system namespace.
func (r *Rehearsal) healthy(ctx context.Context, identity string) error {
	running, err := processesOf(ctx, string(r.folder))
	if err != nil {
		return err
	}
	for _, name := range controlPlaneStopOrder() {
		if !slices.ContainsFunc(running, func(p Process) bool { return p.Name() == name }) {
			return fmt.Errorf("%s %w", name, errEnded)
		}
	}
	found, err := r.askIdentity(ctx)
	if err != nil {
		return err
	}
	if string(found) != identity {
		return fmt.Errorf("the API server at this address serves cluster %s, not ours, %s", found, identity)
	}
	if err := r.readyz(ctx); err != nil {
		return err
	}
	return r.settled(ctx)
}

// readyz asks the API server itself: it says no until its own roles and the like are made.
func (r *Rehearsal) readyz(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, shortAPIAnswer)
	defer cancel()
	config, err := r.restConfig()
	if err != nil {
		return err
	}
	asks, err := rest.HTTPClientFor(config)
	if err != nil {
		return fmt.Errorf("making a client for the API server: %w", err)
	}
	defer asks.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, config.Host+"/readyz", nil)
	if err != nil {
		return fmt.Errorf("asking the API server whether it is ready: %w", err)
	}
	response, err := asks.Do(request)
	if err != nil {
		return fmt.Errorf("asking the API server whether it is ready: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the API server says of itself: %s", response.Status)
	}
	return nil
}

// settled says whether the controller manager has furnished each namespace with what pods
// need: an account, and the certificate of the API server.
func (r *Rehearsal) settled(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, shortAPIAnswer)
	defer cancel()
	c, err := r.Client()
	if err != nil {
		return err
	}
	for _, namespace := range []string{"default", "kube-system", "kube-public", "kube-node-lease"} {
		key := client.ObjectKey{Namespace: namespace, Name: "default"}
		if err := c.Get(ctx, key, &corev1.ServiceAccount{}); err != nil {
			return fmt.Errorf("waiting for the controller manager: %w", err)
		}
		key.Name = "kube-root-ca.crt"
		if err := c.Get(ctx, key, &corev1.ConfigMap{}); err != nil {
			return fmt.Errorf("waiting for the controller manager: %w", err)
		}
	}
	return nil
}

func (r *Rehearsal) askIdentity(ctx context.Context) (types.UID, error) {
	ctx, cancel := context.WithTimeout(ctx, shortAPIAnswer)
	defer cancel()
	c, err := r.Client()
	if err != nil {
		return "", err
	}
	var system corev1.Namespace
	if err := c.Get(ctx, client.ObjectKey{Name: "kube-system"}, &system); err != nil {
		return "", fmt.Errorf("asking the API server for its kube-system namespace: %w", err)
	}
	return system.UID, nil
}

// restartControlPlane starts what is missing of a cluster whose data are kept.
func (r *Rehearsal) restartControlPlane(ctx context.Context, identity string) error {
	if err := r.startMissing(ctx); err != nil {
		return err
	}
	return r.waitHealthy(ctx, identity)
}

func (r *Rehearsal) startMissing(ctx context.Context) error {
	if err := r.dropStalePIDs(ctx); err != nil {
		return err
	}
	return r.kwokctl(ctx, "start", "cluster")
}

// waitHealthy waits for a cluster that is starting. A part of it may die meanwhile: on a slow machine the controller
// manager waits for the API server no longer than it has patience for, and nobody else would start it again.
func (r *Rehearsal) waitHealthy(ctx context.Context, identity string) error {
	var last error
	again := 2
	err := poll(ctx, 200*time.Millisecond, startBound, func(ctx context.Context) (bool, error) {
		last = r.healthy(ctx, identity)
		if errors.Is(last, errEnded) && again > 0 {
			again--
			r.log.Warn("a part of the control plane has ended: starting it again", "because", last)
			return false, r.startMissing(ctx)
		}
		return last == nil, nil
	})
	if errors.Is(err, errTimeout) {
		return fmt.Errorf("waiting for the control plane: %w: %w\n%s", err, last, r.controlPlaneLogs())
	}
	return err
}

// restartEnded starts what has ended of a control plane whose API server runs. Scheduler and controller manager end when
// that was away for longer than their leases last, and count on somebody who starts them again.
func (r *Rehearsal) restartEnded(ctx context.Context) error {
	running, err := processesOf(ctx, string(r.folder))
	if err != nil {
		return err
	}
	ended := slices.DeleteFunc(controlPlaneStopOrder(), func(name string) bool {
		return slices.ContainsFunc(running, func(p Process) bool { return p.Name() == name })
	})
	if len(ended) == 0 || slices.Contains(ended, "kube-apiserver") || slices.Contains(ended, "etcd") {
		return nil
	}
	if r.readyz(ctx) != nil {
		return nil //nolint:nilerr // it isn't back yet: in a later round
	}
	r.log.Warn("a part of the control plane has ended: starting it again", "part", strings.Join(ended, ", "))
	return r.startMissing(ctx)
}

// dropStalePIDs forgets processes that aren't ours: kwokctl takes any live process of a recorded number for its own,
// and after a reboot that may be anybody's.
func (r *Rehearsal) dropStalePIDs(ctx context.Context) error {
	records := r.folder.join("kwok", "clusters", kwokCluster, "pids")
	names, err := fs.Glob(os.DirFS(records), "*.pid") // the path itself is no pattern: it may have brackets in it
	if err != nil {
		return fmt.Errorf("listing the control plane's process records: %w", err)
	}
	running, err := processesOf(ctx, string(r.folder))
	if err != nil {
		return err
	}
	for _, file := range names {
		path := filepath.Join(records, file)
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("reading a process record of the control plane: %w", err)
		}
		pid, _ := strconv.Atoi(strings.TrimSpace(string(data)))
		name := strings.TrimSuffix(file, ".pid")
		if slices.ContainsFunc(running, func(p Process) bool { return p.PID == pid && p.Name() == name }) {
			continue
		}
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("removing a stale process record of the control plane: %w", err)
		}
	}
	return nil
}

// createControlPlane makes a new cluster, and clears away what the one before left: its
// processes, its data, and the Pulumi state that spoke of them.
func (r *Rehearsal) createControlPlane(ctx context.Context) error {
	if err := r.stopAll(ctx); err != nil {
		return err
	}
	for _, path := range []string{r.folder.clusterID(), r.folder.complete(), r.folder.state(), r.folder.kwok(), r.folder.controllers(), r.folder.kubeconfig()} {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("clearing the cluster before: %w", err)
		}
	}
	if err := r.folder.create(); err != nil {
		return err
	}
	kwokctlConfig, err := r.writeKwokConfig()
	if err != nil {
		return err
	}
	args := []string{
		"create", "cluster", "--runtime", "binary", "--config", kwokctlConfig,
		// kwokctl adds its context to a kubeconfig: not to the user's.
		"--kubeconfig", r.folder.join("kwok", "kubeconfig"),
		"--secure-port", "--kube-authorization", "--kube-admission",
		// A kwok that is started again takes the nodes over once the leases of the one before
		// have run out, and until then no pod of theirs starts or ends.
		"--heartbeat-factor", "1", "--node-lease-duration-seconds", strconv.Itoa(int(nodeLease.Seconds())),
	}
	flags := controlPlaneFlags()
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		args = append(args, flags[name], r.tool(name))
	}
	ports, err := freePorts(ctx, 5)
	if err != nil {
		return err
	}
	for i, flag := range []string{"--kube-apiserver-port", "--etcd-port", "--controller-port", "--kube-scheduler-port", "--kube-controller-manager-port"} {
		args = append(args, flag, strconv.Itoa(ports[i]))
	}
	if err := r.kwokctl(ctx, args...); err != nil {
		return err
	}
	if err := r.writeKubeconfig(); err != nil {
		return err
	}
	var identity types.UID
	err = poll(ctx, 200*time.Millisecond, startBound, func(ctx context.Context) (bool, error) {
		identity, err = r.askIdentity(ctx)
		return err == nil, nil
	})
	if errors.Is(err, errTimeout) {
		return fmt.Errorf("waiting for the API server: %w\n%s", err, r.controlPlaneLogs())
	}
	if err != nil {
		return err
	}
	if err := r.waitHealthy(ctx, string(identity)); err != nil {
		return err
	}
	if err := writePrivate(r.folder.clusterID(), []byte(identity)); err != nil {
		return fmt.Errorf("recording the cluster's identity: %w", err)
	}
	return nil
}

// readyAgain is a stage that kwok plays beside its own.
//
//go:embed kwok/ready-again.yaml
var readyAgain []byte

// writeKwokConfig has kwok read our stage too, and gives the file that tells kwokctl so. It is not
// in that file itself: kwokctl would leave out the stages that kwok has.
func (r *Rehearsal) writeKwokConfig() (string, error) {
	stage, config := r.folder.join("kwok", "ready-again.yaml"), r.folder.join("kwok", "kwokctl.yaml")
	data, err := yaml.Marshal(map[string]any{
		"apiVersion": "config.kwok.x-k8s.io/v1alpha1",
		"kind":       "KwokctlConfiguration",
		"componentsPatches": []any{map[string]any{
			"name":      "kwok-controller",
			"extraArgs": []any{map[string]any{"key": "config", "value": stage}},
		}},
	})
	if err != nil {
		return "", fmt.Errorf("writing kwok's config: %w", err)
	}
	for path, data := range map[string][]byte{stage: readyAgain, config: data} {
		if err := writePrivate(path, data); err != nil {
			return "", fmt.Errorf("writing kwok's config: %w", err)
		}
	}
	return config, nil
}

// kwokctl runs it with a home and a work folder of the rehearsal's own.
func (r *Rehearsal) kwokctl(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*startBound)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.tool("kwokctl"), append([]string{"--name", kwokCluster}, args...)...)
	cmd.Env = append(r.environment("KWOK_", "KUBE"),
		"KWOK_WORKDIR="+r.folder.kwok(), "KWOK_KUBECTL_BINARY="+r.tool("kubectl"), "HOME="+r.folder.temp())
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = processGrace
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("running kwokctl %s: %w\n%s", strings.Join(args[:2], " "), errors.Join(ctx.Err(), err), lastLines(out.Bytes(), 10))
	}
	return nil
}

// writeKubeconfig makes one file with everything in it from kwokctl's, which names others.
func (r *Rehearsal) writeKubeconfig() error {
	source := r.folder.join("kwok", "clusters", kwokCluster, "kubeconfig.yaml")
	kwoks, err := clientcmd.LoadFromFile(source)
	if err != nil {
		return fmt.Errorf("reading kwokctl's kubeconfig: %w", err)
	}
	if err := clientcmdapi.FlattenConfig(kwoks); err != nil {
		return fmt.Errorf("reading the certificates that kwokctl's kubeconfig names: %w", err)
	}
	from, found := kwoks.Contexts[kwoks.CurrentContext]
	if !found {
		return fmt.Errorf("%s has no context %q", source, kwoks.CurrentContext)
	}
	return writeKubeconfig(r.folder.kubeconfig(), r.contextName(), kwoks.Clusters[from.Cluster], kwoks.AuthInfos[from.AuthInfo])
}

func writeKubeconfig(path, name string, cluster *clientcmdapi.Cluster, user *clientcmdapi.AuthInfo) error {
	config := clientcmdapi.NewConfig()
	config.Clusters[name], config.AuthInfos[name] = cluster, user
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	data, err := clientcmd.Write(*config)
	if err == nil {
		err = writePrivate(path, data)
	}
	if err != nil {
		return fmt.Errorf("writing the kubeconfig %s: %w", path, err)
	}
	return nil
}

func (r *Rehearsal) contextName() string { return "rehearsal-" + r.stack }

func (r *Rehearsal) controlPlaneLogs() string {
	var text strings.Builder
	for _, name := range slices.Backward(controlPlaneStopOrder()) {
		path := r.folder.join("kwok", "clusters", kwokCluster, "logs", name+".log")
		if lines := tailFile(path, 3); lines != "" {
			fmt.Fprintf(&text, "%s:\n%s\n", path, lines)
		}
	}
	return strings.TrimRight(text.String(), "\n")
}

// stopAll ends every process of the rehearsal, clients before servers: an interrupted
// engine, the controllers, then the control plane.
func (r *Rehearsal) stopAll(ctx context.Context) error {
	stopped, err := r.stopMatching(ctx, func(p Process) bool {
		return !slices.Contains(controlPlaneStopOrder(), p.Name())
	})
	for _, name := range controlPlaneStopOrder() {
		more, stopErr := r.stopMatching(ctx, func(p Process) bool { return p.Name() == name })
		stopped, err = append(stopped, more...), errors.Join(err, stopErr)
	}
	for _, p := range stopped {
		r.log.Debug("stopped", "program", p.Name(), "process", p.PID)
	}
	return err
}

func (r *Rehearsal) stopMatching(ctx context.Context, matches func(Process) bool) ([]Process, error) {
	running, err := processesOf(ctx, string(r.folder))
	if err != nil {
		return nil, err
	}
	victims := slices.DeleteFunc(running, func(p Process) bool { return !matches(p) })
	if len(victims) == 0 {
		return nil, nil
	}
	return victims, stopProcesses(ctx, string(r.folder), victims, syscall.SIGTERM, processGrace)
}

// freePorts picks ports that nobody listens on. They lie below the range that systems hand
// to outgoing connections, so that they are still free when the cluster is started again;
// they are drawn by lot, so that two clones that start at once seldom meet.
func freePorts(ctx context.Context, count int) ([]int, error) {
	const lowest, highest, tries = 20000, 30000, 1000
	var ports []int
	for range tries {
		if len(ports) == count {
			return ports, nil
		}
		port := lowest + rand.IntN(highest-lowest)
		if slices.Contains(ports, port) {
			continue
		}
		if free(ctx, port) {
			ports = append(ports, port)
		}
	}
	return nil, fmt.Errorf("finding %d free ports between %d and %d: none after %d tries", count, lowest, highest, tries)
}

// free asks for both: macOS gives a port on every address though somebody has it on 127.0.0.1.
func free(ctx context.Context, port int) bool {
	for _, host := range []string{"127.0.0.1", ""} {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil || listener.Close() != nil {
			return false
		}
	}
	return true
}
