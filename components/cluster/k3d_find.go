package cluster

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/mod/semver"

	"github.com/nullify005/manager-cluster-state/config"
)

const (
	// oldestK3d is the first that was tried with the config file that is used here.
	oldestK3d = "v5.6.0"
	// answerBound is how long a command that only asks may take.
	answerBound = 30 * time.Second
	dialBound   = time.Second
)

// k3dFound is what there is of a k3d cluster, by the containers that carry its name.
type k3dFound struct {
	// installation of the cluster that is there; empty when there is none, or only half of one.
	installation string
	// changed are the fields in which its config file differs from the wanted one.
	changed []string
	// half says that k3d was cut off while it made the cluster.
	half bool
	// stopped says that it is all there, and doesn't run.
	stopped bool
}

// keeps says whether what is there is the cluster that is wanted.
func (f *k3dFound) keeps() bool { return f.installation != "" && len(f.changed) == 0 }

// findK3d looks for the cluster that args describe, and for what a command that makes it needs.
// It changes nothing, and reports every problem at once.
func findK3d(ctx context.Context, args *K3dArgs) (*k3dFound, error) {
	file, err := args.configFile()
	if err != nil {
		return nil, err
	}
	k3dErr, dockerErr := checkK3d(ctx), checkDocker(ctx)
	if err := errors.Join(k3dErr, dockerErr); err != nil {
		return nil, err
	}
	nodes, err := k3dNodes(ctx, args.Name)
	if err != nil {
		return nil, err
	}
	found, err := file.compare(nodes)
	if err != nil {
		return nil, err
	}
	// A cluster that is there has the ports itself, or gives them back before it is made anew.
	if found.installation != "" {
		return found, nil
	}
	return found, file.checkPorts(ctx)
}

func checkK3d(ctx context.Context) error {
	const get = "get it with `brew install k3d` or as https://k3d.io says; or build the pinned one with " +
		"`go run ./tools/build k3d` and put it on the path with `export PATH=\"$PWD/.tools/bin:$PATH\"`"
	out, err := ask(ctx, "k3d", "version")
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("k3d is not on the path: %s", get)
	case err != nil:
		return fmt.Errorf("k3d does not say its version: %w; %s", err, get)
	}
	for word := range strings.FieldsSeq(out) {
		if semver.IsValid(word) {
			if semver.Compare(word, oldestK3d) < 0 {
				return fmt.Errorf("k3d is %s: %s is the oldest that works; %s", word, oldestK3d, get)
			}
			break // the next one is k3s's
		}
	}
	return nil
}

func checkDocker(ctx context.Context) error {
	out, err := ask(ctx, "docker", "version", "--format", "{{.Server.Version}}")
	switch {
	case err == nil && strings.TrimSpace(out) != "":
		return nil
	case err == nil:
		return errors.New("Docker does not answer: start it") //nolint:staticcheck // a name
	case errors.Is(err, exec.ErrNotFound):
		return errors.New("docker is not on the path: get Docker Desktop, or on Debian and Ubuntu `sudo apt-get install docker.io`")
	case strings.Contains(err.Error(), "permission denied"):
		return fmt.Errorf("this user may not talk to Docker: `sudo usermod -aG docker \"$USER\"`, then log out and in again: %w", err)
	default:
		return fmt.Errorf("Docker does not answer: start Docker Desktop, or on Linux `sudo systemctl start docker`: %w", err) //nolint:staticcheck // a name
	}
}

// ask runs a command that changes nothing. An error has what it complained of, wherever: Docker Desktop's own stand-in of
// docker in WSL tells its mend on stdout.
func ask(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerBound)
	defer cancel()
	var out, complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &complaint, time.Second
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("%s %s: no answer within %s: %w", name, args[0], answerBound, ctx.Err())
	case err != nil:
		return "", fmt.Errorf("%s %s: %w: %s", name, args[0], err, cmp.Or(strings.TrimSpace(complaint.String()), strings.TrimSpace(out.String())))
	}
	return out.String(), nil
}

// k3dNode is a container of a k3d cluster.
type k3dNode struct {
	role, state          string
	installation, config string // of the labels
}

// k3dNodes asks Docker, since k3d tells nothing of labels that aren't its own.
func k3dNodes(ctx context.Context, cluster string) ([]k3dNode, error) {
	out, err := ask(ctx, "docker", "ps", "--all", "--filter", "label=k3d.cluster="+cluster, "--format", strings.Join([]string{
		`{{.Label "k3d.role"}}`, "{{.State}}", `{{.Label "` + labelInstallation + `"}}`, `{{.Label "` + labelConfig + `"}}`,
	}, "\t"))
	if err != nil {
		return nil, fmt.Errorf("looking for the k3d cluster %s: %w", cluster, err)
	}
	var nodes []k3dNode
	for line := range strings.Lines(out) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(fields) != 4 {
			return nil, fmt.Errorf("looking for the k3d cluster %s: docker ps answers %q", cluster, line)
		}
		nodes = append(nodes, k3dNode{role: fields[0], state: fields[1], installation: fields[2], config: fields[3]})
	}
	return nodes, nil
}

const (
	roleServer       = "server"
	roleAgent        = "agent"
	roleLoadBalancer = "loadbalancer"
	// Of a container: never started, and running.
	stateCreated = "created"
	stateRunning = "running"
)

// compare says what nodes of the wanted name are: nothing, the wanted cluster, another one of
// this program, or a half-made one. One that somebody else made is an error.
func (f *k3dFile) compare(nodes []k3dNode) (*k3dFound, error) {
	found := &k3dFound{}
	count := map[string]int{}
	made := ""
	for _, node := range nodes {
		count[node.role]++
		found.half = found.half || node.state == stateCreated
		found.stopped = found.stopped || node.state != stateRunning
		if node.role != roleServer {
			continue
		}
		if node.installation == "" {
			name := f.Metadata["name"]
			return nil, fmt.Errorf("a k3d cluster %s is there that this program did not make: "+
				"remove it with `k3d cluster delete %s`, or give this stack's another name: pulumi config set --path cluster.name NAME", name, name)
		}
		found.installation = node.installation
		made = cmp.Or(made, node.config) // the first server's
	}
	if len(nodes) == 0 {
		return found, nil
	}
	var before struct {
		Servers int `json:"servers"`
		Agents  int `json:"agents"`
	}
	var err error
	found.changed, err = f.differences(made)
	if err != nil || json.Unmarshal([]byte(made), &before) != nil {
		found.half = true
	}
	found.half = found.half || count[roleServer] < max(before.Servers, 1) || count[roleAgent] < before.Agents || count[roleLoadBalancer] == 0
	if found.half {
		return &k3dFound{half: true}, nil
	}
	return found, nil
}

// differences lists the fields that differ in what a cluster was made from, as JSON.
func (f *k3dFile) differences(made string) ([]string, error) {
	wanted, err := f.describe()
	if err != nil {
		return nil, err
	}
	before := map[string]any{}
	if err := json.Unmarshal([]byte(made), &before); err != nil {
		return nil, fmt.Errorf("reading the label %s: %w", labelConfig, err)
	}
	return differences("", before, wanted), nil
}

func differences(path string, before, wanted map[string]any) []string {
	keys := maps.Clone(before)
	maps.Copy(keys, wanted)
	var found []string
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		from, to := before[key], wanted[key]
		fromObject, isObject := from.(map[string]any)
		toObject, isToo := to.(map[string]any)
		switch {
		case reflect.DeepEqual(from, to):
		case isObject && isToo:
			found = append(found, differences(path+key+".", fromObject, toObject)...)
		case isPlain(from) && isPlain(to):
			found = append(found, fmt.Sprintf("%s (%v → %v)", path+key, from, to))
		default:
			found = append(found, path+key)
		}
	}
	return found
}

func isPlain(value any) bool {
	switch value.(type) {
	case string, float64, bool:
		return true
	}
	return false
}

// checkPorts says which of the ports that the load balancer wants somebody has.
func (f *k3dFile) checkPorts(ctx context.Context) error {
	local := dockerIsLocal(ctx)
	var problems []error
	for _, mapping := range f.Ports {
		port, _, _ := strings.Cut(mapping.Port, ":")
		holder, err := holderOf(ctx, f.Metadata["name"], port, local)
		if err != nil {
			return err
		}
		if holder != "" {
			problems = append(problems, fmt.Errorf("port %s is in use, %s", port, holder))
		}
	}
	return errors.Join(problems...)
}

// holderOf says who has a port, and what to do about it. What is left of a half-made cluster
// doesn't count.
func holderOf(ctx context.Context, cluster, port string, local bool) (string, error) {
	out, err := ask(ctx, "docker", "ps", "--filter", "publish="+port, "--format", `{{.Names}} {{.Label "k3d.cluster"}}`)
	if err != nil {
		return "", fmt.Errorf("asking Docker who has port %s: %w", port, err)
	}
	for line := range strings.Lines(out) {
		container, owner, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch owner {
		case cluster:
			return "", nil
		case "":
			return fmt.Sprintf("by the container %s: stop it with `docker stop %s`", container, container), nil
		default:
			return fmt.Sprintf("by the k3d cluster %s: stop it with `k3d cluster stop %s`", owner, owner), nil
		}
	}
	if local && inUse(ctx, port) {
		return fmt.Sprintf("by another program: `sudo lsof -nP -iTCP:%s -sTCP:LISTEN` says which; stop it", port), nil
	}
	return "", nil
}

// dockerIsLocal says whether the ports are those of this machine.
func dockerIsLocal(ctx context.Context) bool {
	out, err := ask(ctx, "docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}")
	if err != nil {
		return true
	}
	return strings.HasPrefix(out, "unix:") || strings.HasPrefix(out, "npipe:")
}

// inUse finds whoever listens. A user who may not have a low port is told of one that is in use
// only by somebody's answering there.
func inUse(ctx context.Context, port string) bool {
	for _, host := range []string{"127.0.0.1", "::1"} {
		dialer := net.Dialer{Timeout: dialBound}
		if connection, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, port)); err == nil {
			_ = connection.Close()
			return true
		}
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", net.JoinHostPort("", port))
	if err != nil {
		return errors.Is(err, syscall.EADDRINUSE)
	}
	_ = listener.Close()
	return false
}

// startK3d starts a cluster that somebody stopped.
func startK3d(ctx context.Context, cluster string) error {
	const bound = 5 * time.Minute
	out, err := exec.CommandContext(ctx, "k3d", "cluster", "start", cluster, "--wait", "--timeout", bound.String()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("starting the k3d cluster %s, which was stopped: %w: %s", cluster, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// k3dArgs is what the configuration says of a cluster, but for its installation.
func k3dArgs(cfg *config.Cluster) *K3dArgs {
	return &K3dArgs{Name: cfg.Name, K3s: cfg.K3s, Flannel: cfg.Flannel, Nodes: cfg.Nodes}
}
