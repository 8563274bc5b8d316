package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	controlPlane = "node-role.kubernetes.io/control-plane"
	// played is the annotation by which kwok plays a node's kubelet.
	played = "kwok.x-k8s.io/node"
	// hold is how many seconds kwok lets go of a node of which somebody else holds the lease.
	hold = 24 * 60 * 60
)

// newNode is this machine as its kubelet would register it.
func newNode(read settings, isServer bool) (*corev1.Node, error) {
	name, err := read.nodeName()
	if err != nil {
		return nil, err
	}
	capacity, err := memory()
	if err != nil {
		return nil, err
	}
	allocatable := capacity.DeepCopy()
	reserved, err := reservations(read)
	if err != nil {
		return nil, err
	}
	for _, one := range reserved {
		allocatable.Sub(one)
	}
	resources := func(memory resource.Quantity) corev1.ResourceList {
		return corev1.ResourceList{
			corev1.ResourceCPU:    *resource.NewQuantity(processors(), resource.DecimalSI),
			corev1.ResourceMemory: memory,
			corev1.ResourcePods:   *resource.NewQuantity(110, resource.DecimalSI),
		}
	}
	arch := architecture()
	node := &corev1.Node{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{
			Name: name,
			Labels: map[string]string{
				corev1.LabelHostname: name, corev1.LabelArchStable: arch, corev1.LabelOSStable: "linux",
				corev1.LabelInstanceTypeStable: "k3s",
			},
			Annotations: map[string]string{played: "fake"},
		},
		Status: corev1.NodeStatus{
			Capacity: resources(capacity), Allocatable: resources(allocatable),
			NodeInfo: corev1.NodeSystemInfo{
				KubeletVersion: release, Architecture: arch, OperatingSystem: "linux", OSImage: "a stand-in of k3s",
			},
		},
	}
	if isServer {
		node.Labels[controlPlane] = "true"
	}
	maps.Copy(node.Labels, read.pairs("node-label"))
	for _, text := range read["node-taint"] {
		taint, err := parseTaint(text)
		if err != nil {
			return nil, err
		}
		node.Spec.Taints = append(node.Spec.Taints, taint)
	}
	return node, nil
}

func parseTaint(text string) (corev1.Taint, error) {
	before, effect, found := strings.Cut(text, ":")
	effects := []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute}
	if !found || !slices.Contains(effects, corev1.TaintEffect(effect)) {
		return corev1.Taint{}, fmt.Errorf("invalid taint spec: %s", text)
	}
	key, value, _ := strings.Cut(before, "=")
	return corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffect(effect)}, nil
}

// reservations are what the kubelet keeps of the memory: for the system, for itself, and what it
// evicts pods for.
func reservations(read settings) ([]resource.Quantity, error) {
	var texts []string
	for _, arg := range []string{"system-reserved", "kube-reserved"} {
		for one := range strings.SplitSeq(read.kubelet(arg), ",") {
			if value, found := strings.CutPrefix(one, "memory="); found {
				texts = append(texts, value)
			}
		}
	}
	for one := range strings.SplitSeq(read.kubelet("eviction-hard"), ",") {
		if value, found := strings.CutPrefix(one, "memory.available<"); found {
			texts = append(texts, value)
		}
	}
	var found []resource.Quantity
	for _, text := range texts {
		quantity, err := resource.ParseQuantity(text)
		if err != nil {
			return nil, fmt.Errorf("reading kubelet-arg: memory %q: %w", text, err)
		}
		found = append(found, quantity)
	}
	return found, nil
}

func memory() (resource.Quantity, error) {
	content, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return resource.Quantity{}, fmt.Errorf("asking for the memory: %w", err)
	}
	for line := range strings.Lines(string(content)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "MemTotal:" {
			return resource.ParseQuantity(fields[1] + "Ki")
		}
	}
	return resource.Quantity{}, errors.New("/proc/meminfo doesn't say how much memory there is")
}

func processors() int64 {
	content, err := os.ReadFile("/proc/cpuinfo")
	count := int64(bytes.Count(append([]byte("\n"), content...), []byte("\nprocessor")))
	if err != nil || count == 0 {
		return int64(runtime.NumCPU())
	}
	return count
}

// architecture is the machine's, which a test may have made another than that of this program.
func architecture() string {
	machine, err := exec.Command("uname", "-m").Output() //nolint:noctx // it answers at once
	switch strings.TrimSpace(string(machine)) {
	case "aarch64":
		return "arm64"
	case "x86_64":
		return "amd64"
	}
	if err != nil {
		return runtime.GOARCH
	}
	return strings.TrimSpace(string(machine))
}

// cluster asks the API for the few things that a stand-in needs.
type cluster struct {
	client *http.Client
	url    string
}

func newCluster(kubeconfig []byte, host string) (*cluster, error) {
	config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading a kubeconfig: %w", err)
	}
	if host != "" {
		config.Host = "https://" + host
	}
	config.Timeout = shortBound
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("making a client for the API: %w", err)
	}
	return &cluster{client: client, url: config.Host}, nil
}

var errGone = errors.New("there is no such object")

const (
	nodesPath      = "/api/v1/nodes"
	leasesPath     = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
	mergePatch     = "application/merge-patch+json"
	strategicPatch = "application/strategic-merge-patch+json"
)

// do asks the API, and says what is wrong with its answer.
func (c *cluster) do(ctx context.Context, method, path, kind string, body any) error {
	return c.ask(ctx, method, path, kind, body, nil)
}

// ask is do with an answer that is read.
func (c *cluster) ask(ctx context.Context, method, path, kind string, body, answer any) error {
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return fmt.Errorf("asking the API: %w", err)
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(content))
	if err != nil {
		return fmt.Errorf("asking the API: %w", err)
	}
	request.Header.Set("Content-Type", kind)
	request.Header.Set("Accept", "application/json")
	response, err := c.client.Do(request)
	if err != nil {
		return fmt.Errorf("asking the API: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("reading the API's answer: %w", err)
	}
	if response.StatusCode == http.StatusNotFound {
		return fmt.Errorf("%s %s: %w", method, path, errGone)
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("%s %s: %s: %s", method, path, response.Status, strings.TrimSpace(string(text)))
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("reading the API's answer: %w", err)
	}
	return nil
}

// wait returns when the API is ready, or else when ctx is done.
func (c *cluster) wait(ctx context.Context) error {
	for {
		err := c.do(ctx, http.MethodGet, "/readyz", "", nil)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the API: %w", err)
		case <-time.After(pause / 4):
		}
	}
}

func (c *cluster) exists(ctx context.Context, name string) (bool, error) {
	err := c.do(ctx, http.MethodGet, nodesPath+"/"+name, "", nil)
	if errors.Is(err, errGone) {
		return false, nil
	}
	return err == nil, err
}

// removeNodes is the beginning of a new cluster, as far as its nodes.
func (c *cluster) removeNodes(ctx context.Context) error {
	return c.do(ctx, http.MethodDelete, nodesPath, "", nil)
}

// register makes the node; of one that is there, labels and taints stay as they are.
func (c *cluster) register(ctx context.Context, node *corev1.Node) error {
	exists, err := c.exists(ctx, node.Name)
	if err != nil {
		return err
	}
	if !exists {
		return c.do(ctx, http.MethodPost, nodesPath, "application/json", node)
	}
	status := map[string]any{"status": map[string]any{
		"nodeInfo": map[string]any{
			"kubeletVersion": node.Status.NodeInfo.KubeletVersion, "architecture": node.Status.NodeInfo.Architecture,
		},
		"capacity": node.Status.Capacity, "allocatable": node.Status.Allocatable,
	}}
	if err := c.do(ctx, http.MethodPatch, nodesPath+"/"+node.Name+"/status", strategicPatch, status); err != nil {
		return err
	}
	return c.setReady(ctx, node.Name, true)
}

// setReady does what Kubernetes does with a node that is silent, or heard again. kwok, which would
// have it ready again at once, lets go of it, and of its pods, while its lease is another's.
func (c *cluster) setReady(ctx context.Context, name string, ready bool) error {
	lease := map[string]any{"holderIdentity": name, "leaseDurationSeconds": hold, "renewTime": metav1.NowMicro()}
	condition := map[string]any{
		"type": corev1.NodeReady, "status": corev1.ConditionUnknown,
		"reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status.",
		"lastTransitionTime": metav1.Now(),
	}
	if ready {
		lease = map[string]any{"holderIdentity": nil, "leaseDurationSeconds": nil, "renewTime": nil}
		condition["status"], condition["reason"], condition["message"] = corev1.ConditionTrue, "KubeletReady", "kubelet is posting ready status"
	}
	err := c.do(ctx, http.MethodPatch, leasesPath+"/"+name, mergePatch, map[string]any{"spec": lease})
	if err != nil && !errors.Is(err, errGone) {
		return err
	}
	status := map[string]any{"status": map[string]any{"conditions": []any{condition}}}
	return c.do(ctx, http.MethodPatch, nodesPath+"/"+name+"/status", strategicPatch, status)
}

// isReady asks whether a node is.
func (c *cluster) isReady(ctx context.Context, name string) (bool, error) {
	var node corev1.Node
	if err := c.ask(ctx, http.MethodGet, nodesPath+"/"+name, "", nil, &node); err != nil {
		return false, err
	}
	return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	}), nil
}
