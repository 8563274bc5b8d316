package rehearsal

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/internal/flux"
)

const (
	sealedSecrets = "sealed-secrets-controller"

	// controllerBound is how long a started controller may take until it is healthy.
	controllerBound = 45 * time.Second
	// tokenLife outlives any rehearsal; half of it later the controller gets a new token.
	tokenLife = 365 * 24 * time.Hour
	// restartsPerRun bounds how often one run starts a controller that keeps dying.
	restartsPerRun = 3
)

// controllerPrograms names the controllers that run for real, on this machine. Each is
// called like its Deployment.
func controllerPrograms() []string {
	return append(flux.Controllers(), sealedSecrets)
}

// controller is the record of a controller that was started, kept in the folder.
type controller struct {
	Name    string    `json:"name"`
	Process Process   `json:"process"`
	Health  string    `json:"health"` // the URL that says whether it is
	Digest  string    `json:"digest"` // of everything it was started with
	Expires time.Time `json:"expires"`
	// Ports are kept when it is started again: others hold addresses with them.
	Ports []int `json:"ports"`
}

func (f folder) controllerRecord(name string) string { return f.join("controllers", name+".json") }

// controllerRecords reads the records of what was started.
func (r *Rehearsal) controllerRecords() ([]controller, error) {
	var records []controller
	for _, name := range controllerPrograms() {
		data, err := os.ReadFile(r.folder.controllerRecord(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading the record of %s: %w", name, err)
		}
		var record controller
		if err := json.Unmarshal(data, &record); err != nil {
			return nil, fmt.Errorf("reading the record of %s: %w", name, err)
		}
		records = append(records, record)
	}
	return records, nil
}

// superviseControllers starts each controller once the stack's own Deployment of it exists,
// and starts it again should it die, or a part of the control plane beside it. It returns when,
// after the engine is done, every controller that the stack has is healthy; or with why one isn't.
func (r *Rehearsal) superviseControllers(ctx context.Context, engineDone <-chan struct{}) error {
	starts := map[string]int{}
	var deadline time.Time
	for {
		done := false
		select {
		case <-engineDone:
			done = true
			if deadline.IsZero() {
				deadline = time.Now().Add(controllerBound)
			}
		default:
		}
		waiting, err := r.reconcileControllers(ctx, starts)
		err = errors.Join(err, r.restartEnded(ctx))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		switch {
		case done && err == nil && waiting == nil:
			return nil
		case done && time.Now().After(deadline):
			return errors.Join(err, waiting)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// reconcileControllers makes one round: waiting says what is not healthy yet, err what
// couldn't be done.
func (r *Rehearsal) reconcileControllers(ctx context.Context, starts map[string]int) (waiting, err error) {
	c, err := r.Client()
	if err != nil {
		return nil, err
	}
	deployments, err := controllerDeployments(ctx, c)
	if err != nil || len(deployments) == 0 {
		return nil, err
	}
	var unready, problems []error
	for _, deployment := range deployments {
		if err := r.reconcileController(ctx, c, &deployment, starts); err != nil {
			if wait := (waitError{}); errors.As(err, &wait) {
				unready = append(unready, err)
			} else {
				problems = append(problems, err)
			}
		}
	}
	return errors.Join(unready...), errors.Join(problems...)
}

// controllerDeployments lists the Deployments of controllers that are meant to run.
func controllerDeployments(ctx context.Context, c client.Client) ([]appsv1.Deployment, error) {
	var list appsv1.DeploymentList
	if err := c.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("listing the controllers' deployments: %w", err)
	}
	return slices.DeleteFunc(list.Items, func(d appsv1.Deployment) bool {
		return !slices.Contains(controllerPrograms(), d.Name) || d.DeletionTimestamp != nil ||
			d.Spec.Replicas != nil && *d.Spec.Replicas == 0
	}), nil
}

// waitError is no failure yet.
type waitError struct{ text string }

func (e waitError) Error() string { return e.text }

func (r *Rehearsal) reconcileController(ctx context.Context, c client.Client, deployment *appsv1.Deployment, starts map[string]int) error {
	name := deployment.Name
	plan, err := r.planController(ctx, c, deployment)
	if err != nil {
		return err
	}
	records, err := r.controllerRecords()
	if err != nil {
		return err
	}
	running, err := processesOf(ctx, string(r.folder))
	if err != nil {
		return err
	}
	i := slices.IndexFunc(records, func(c controller) bool { return c.Name == name })
	alive := i >= 0 && stillRuns(running, records[i].Process)
	switch {
	case alive && records[i].Digest == plan.digest && time.Until(records[i].Expires) > tokenLife/2:
		if !answers(ctx, records[i].Health) {
			return waitError{fmt.Sprintf("%s runs but is not healthy yet; see %s", name, r.folder.log(name))}
		}
		return nil
	case starts[name] >= restartsPerRun:
		return fmt.Errorf("%s keeps ending; the end of %s:\n%s", name, r.folder.log(name), tailFile(r.folder.log(name), 10))
	case !alive && starts[name] > 0:
		r.log.Warn("a controller ended", "name", name, "log", r.folder.log(name))
	}
	starts[name]++
	// Also one whose record was never written, because that run was killed just then.
	if _, err := r.stopMatching(ctx, func(p Process) bool { return p.Name() == name }); err != nil {
		return err
	}
	if err := r.startController(ctx, c, plan); err != nil {
		return err
	}
	return waitError{name + " was just started"}
}

// controllerPlan is what a controller is to be started with.
type controllerPlan struct {
	name, namespace string
	account         corev1.ServiceAccount
	args            []string // those of its Deployment
	digest          string
}

func (r *Rehearsal) planController(ctx context.Context, c client.Client, deployment *appsv1.Deployment) (*controllerPlan, error) {
	if err := definitionsEstablished(ctx, c); err != nil {
		return nil, err
	}
	pod := deployment.Spec.Template.Spec
	plan := &controllerPlan{name: deployment.Name, namespace: deployment.Namespace}
	for _, container := range pod.Containers {
		if len(container.Command) > 1 {
			plan.args = append(plan.args, container.Command[1:]...)
		}
		plan.args = append(plan.args, container.Args...)
	}
	key := client.ObjectKey{Namespace: deployment.Namespace, Name: pod.ServiceAccountName}
	if err := c.Get(ctx, key, &plan.account); err != nil {
		return nil, fmt.Errorf("reading the service account of %s: %w", deployment.Name, err)
	}
	target, err := r.findTool(plan.name)
	if err != nil {
		return nil, err
	}
	built, err := os.Stat(target)
	if err != nil {
		return nil, fmt.Errorf("looking at %s: %w", plan.name, err)
	}
	hash := sha256.New()
	fmt.Fprintln(hash, plan.args, plan.account.UID, target, built.Size(), built.ModTime().UnixNano())
	plan.digest = hex.EncodeToString(hash.Sum(nil))
	return plan, nil
}

// definitionsEstablished waits for the custom resources: a controller that starts before
// its own are served ends.
func definitionsEstablished(ctx context.Context, c client.Client) error {
	var definitions apiextensionsv1.CustomResourceDefinitionList
	if err := c.List(ctx, &definitions); err != nil {
		return fmt.Errorf("listing custom resource definitions: %w", err)
	}
	for _, definition := range definitions.Items {
		established := slices.ContainsFunc(definition.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
			return c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue
		})
		if !established {
			return waitError{"waiting for the custom resource definition " + definition.Name}
		}
	}
	return nil
}

// startController starts the program as its Deployment would, but for where it listens and
// stores. It logs in with its own service account, so its real permissions are rehearsed.
func (r *Rehearsal) startController(ctx context.Context, c client.Client, plan *controllerPlan) error {
	token := &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(tokenLife.Seconds()))},
	}
	if err := c.SubResource("token").Create(ctx, &plan.account, token); err != nil {
		return fmt.Errorf("getting a token for the service account of %s: %w", plan.name, err)
	}
	kubeconfig := r.folder.join("controllers", plan.name+".kubeconfig")
	if err := r.writeAccountKubeconfig(kubeconfig, plan.name, token.Status.Token); err != nil {
		return err
	}
	ports, err := r.controllerPorts(ctx, plan.name)
	if err != nil {
		return err
	}
	events, err := r.eventsPort(ctx)
	if err != nil {
		return err
	}
	args, health := controllerArgs(plan, ports, events, r.folder.join("controllers", plan.name))
	env := append(r.environment("KUBE", "RUNTIME_NAMESPACE=", "POD_NAMESPACE="),
		"KUBECONFIG="+kubeconfig,
		"RUNTIME_NAMESPACE="+plan.namespace,
		"POD_NAMESPACE="+plan.namespace,
		"HOME="+r.folder.temp(),
	)
	if err := os.MkdirAll(r.folder.join("controllers", plan.name), 0o700); err != nil {
		return fmt.Errorf("making the storage of %s: %w", plan.name, err)
	}
	process, err := startDetached(ctx, r.tool(plan.name), args, env, r.folder.log(plan.name))
	if err != nil {
		return err
	}
	record := controller{
		Name: plan.name, Process: process, Health: health, Digest: plan.digest, Expires: token.Status.ExpirationTimestamp.Time, Ports: ports,
	}
	data, err := json.MarshalIndent(record, "", "  ")
	if err == nil {
		err = writePrivate(r.folder.controllerRecord(plan.name), data)
	}
	if err != nil {
		return fmt.Errorf("recording %s: %w", plan.name, err)
	}
	r.log.Info("started", "controller", plan.name, "process", process.PID)
	return nil
}

// controllerArgs are the Deployment's own arguments, with what is of the machine replaced:
// the last of two equal flags wins. Kubernetes's $(VARIABLES) occur in replaced ones alone.
func controllerArgs(plan *controllerPlan, ports []int, events int, storage string) (args []string, health string) {
	local := func(i int) string { return localAddress(ports[i]) }
	args = slices.Clone(plan.args)
	if plan.name == sealedSecrets {
		return append(args, "--listen-addr="+local(0), "--listen-metrics-addr="+local(1)), "http://" + local(0) + "/healthz"
	}
	args = slices.DeleteFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "--enable-leader-election") })
	args = append(args, "--enable-leader-election=false", "--health-addr="+local(0), "--metrics-addr="+local(1))
	// Where the stack tells somebody, notification-controller is not behind a Service here.
	if slices.ContainsFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "--events-addr=http") }) {
		args = append(args, "--events-addr=http://"+localAddress(events)+"/")
	}
	switch plan.name {
	case "notification-controller":
		args = append(args, "--events-addr="+localAddress(events), "--receiverAddr=127.0.0.1:0")
	case "source-controller":
		args = append(args, "--storage-path="+storage, "--storage-addr="+local(2), "--storage-adv-addr="+local(2))
	case "image-reflector-controller":
		args = append(args, "--storage-path="+storage)
	}
	return args, "http://" + local(0) + "/readyz"
}

func localAddress(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

// controllerPorts are those that it had before, while they are free: statuses in the cluster
// name them.
func (r *Rehearsal) controllerPorts(ctx context.Context, name string) ([]int, error) {
	const count = 3
	records, err := r.controllerRecords()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(records, func(c controller) bool { return c.Name == name })
	if i >= 0 && len(records[i].Ports) == count && !slices.ContainsFunc(records[i].Ports, func(port int) bool { return !free(ctx, port) }) {
		return records[i].Ports, nil
	}
	return freePorts(ctx, count)
}

// eventsPort is where notification-controller takes events from the others, whichever of them
// starts first.
func (r *Rehearsal) eventsPort(ctx context.Context) (int, error) {
	file := r.folder.join("controllers", "events-port")
	if text, err := os.ReadFile(file); err == nil {
		return strconv.Atoi(string(text))
	}
	ports, err := freePorts(ctx, 1)
	if err != nil {
		return 0, err
	}
	if err := writePrivate(file, []byte(strconv.Itoa(ports[0]))); err != nil {
		return 0, fmt.Errorf("recording the port of events: %w", err)
	}
	return ports[0], nil
}

func (r *Rehearsal) writeAccountKubeconfig(path, name, token string) error {
	admin, err := clientcmd.LoadFromFile(r.folder.kubeconfig())
	if err != nil {
		return fmt.Errorf("reading the rehearsal's kubeconfig: %w", err)
	}
	return writeKubeconfig(path, name, admin.Clusters[r.contextName()], &clientcmdapi.AuthInfo{Token: token})
}

// answers says whether a health endpoint says yes.
func answers(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, shortAPIAnswer)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// stopControllers ends the controllers, and forgets them.
func (r *Rehearsal) stopControllers(ctx context.Context) error {
	_, err := r.stopMatching(ctx, func(p Process) bool { return slices.Contains(controllerPrograms(), p.Name()) })
	return err
}

// ControllerState is how one of the controllers does.
type ControllerState struct {
	Name    string
	PID     int
	Healthy bool
	Problem string
}

// controllerStates reports on every controller that the stack has, or that was started.
func (r *Rehearsal) controllerStates(ctx context.Context, deployments []appsv1.Deployment) ([]ControllerState, error) {
	records, err := r.controllerRecords()
	if err != nil {
		return nil, err
	}
	running, err := processesOf(ctx, string(r.folder))
	if err != nil {
		return nil, err
	}
	var states []ControllerState
	for _, deployment := range deployments {
		state := ControllerState{Name: deployment.Name}
		i := slices.IndexFunc(records, func(c controller) bool { return c.Name == state.Name })
		switch {
		case i < 0:
			state.Problem = "was not started"
		default:
			switch {
			case !stillRuns(running, records[i].Process):
				state.Problem = fmt.Sprintf("ended; the end of %s:\n%s", r.folder.log(state.Name), tailFile(r.folder.log(state.Name), 5))
			case !answers(ctx, records[i].Health):
				state.PID = records[i].Process.PID
				state.Problem = "runs, but " + records[i].Health + " does not say that it is healthy; see " + r.folder.log(state.Name)
			default:
				state.PID, state.Healthy = records[i].Process.PID, true
			}
		}
		states = append(states, state)
	}
	return states, nil
}
