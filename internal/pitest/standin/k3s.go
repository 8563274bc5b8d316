package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/nullify005/manager-cluster-state/internal/dockertest/forward"
)

const (
	kubeconfigPath = "/etc/rancher/k3s/k3s.yaml"
	configPath     = "/etc/rancher/k3s/config.yaml"
	datastore      = "/var/lib/rancher/k3s/server/datastore"
	tokenPath      = "/var/lib/rancher/k3s/server/node-token" //nolint:gosec // where it lies
	agentData      = "/var/lib/rancher/k3s/agent/node"
	// upstreamPath says where the test answers, and kubectlPath which kubectl it has.
	upstreamPath = "/standin/upstream"
	kubectlPath  = "/standin/kubectl"
	joinPort     = "6444"
	// playedByKwok has kwok play a node's kubelet.
	playedByKwok = "kwok.x-k8s.io/node"
	beat         = time.Second
	askBound     = 10 * time.Second
)

// settings are what is read of k3s's config file.
type settings struct {
	Server     string   `json:"server"`
	Token      string   `json:"token"`
	NodeName   string   `json:"node-name"`
	Labels     []string `json:"node-label"`
	Taints     []string `json:"node-taint"`
	KubeletArg []string `json:"kubelet-arg"`
}

func k3s(args []string) error {
	if len(args) == 0 {
		return errors.New("it is called with no command")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	switch args[0] {
	case "--version", "-v":
		fmt.Fprintln(os.Stdout, "k3s version "+release+" (a stand-in)")
		return nil
	case "kubectl":
		return kubectl(args[1:])
	case "server":
		return serve(ctx)
	case "agent":
		return join(ctx)
	}
	return fmt.Errorf("the stand-in of k3s knows no %s", args[0])
}

func kubectl(args []string) error {
	path, err := os.ReadFile(kubectlPath)
	if err != nil {
		return err
	}
	program := strings.TrimSpace(string(path))
	environment := append(os.Environ(), "KUBECONFIG="+kubeconfigPath)
	return syscall.Exec(program, append([]string{"kubectl"}, args...), environment) //nolint:gosec // the real one
}

func readSettings() (*settings, error) {
	content, err := os.ReadFile(configPath)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	read := &settings{}
	if err := yaml.Unmarshal(content, read); err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	return read, nil
}

// serve forwards the API to the control plane that the test has for its datastore.
func serve(ctx context.Context) error {
	read, err := readSettings()
	if err != nil {
		return err
	}
	store, err := once(datastore, func() string { return random(8) })
	if err != nil {
		return err
	}
	token, err := once(tokenPath, func() string { return "K10" + random(32) + "::server:" + random(16) })
	if err != nil {
		return err
	}
	plane, err := askTest(ctx, "/control-plane?datastore="+url.QueryEscape(store))
	if err != nil {
		return err
	}
	if _, err := forward.Listen(ctx, ":6443", func() string { return plane.API }); err != nil {
		return err
	}
	if err := os.WriteFile(kubeconfigPath, []byte(plane.Kubeconfig), 0o600); err != nil {
		return err
	}
	if err := letJoin(ctx, token, plane.Kubeconfig); err != nil {
		return err
	}
	return beNode(ctx, []byte(plane.Kubeconfig), read, true)
}

// plane is the test's answer: where the API is, and how to log in to it.
type plane struct {
	API        string `json:"api"`
	Kubeconfig string `json:"kubeconfig"`
}

func askTest(ctx context.Context, path string) (*plane, error) {
	address, err := os.ReadFile(upstreamPath)
	if err != nil {
		return nil, err
	}
	content, err := post(ctx, "http://"+strings.TrimSpace(string(address))+path, "")
	if err != nil {
		return nil, fmt.Errorf("asking the test for a control plane: %w", err)
	}
	answer := &plane{}
	return answer, json.Unmarshal(content, answer)
}

// letJoin answers agents that have the token; k3s itself does so at the API's port.
func letJoin(ctx context.Context, token, kubeconfig string) error {
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", ":"+joinPort)
	if err != nil {
		return err
	}
	server := &http.Server{ReadHeaderTimeout: askBound, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		given, err := io.ReadAll(r.Body)
		if err != nil || subtle.ConstantTimeCompare(bytes.TrimSpace(given), []byte(token)) != 1 {
			http.Error(w, "token CA hash does not match, or the token is wrong", http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, kubeconfig)
	})}
	go func() { _ = server.Serve(listener) }()
	context.AfterFunc(ctx, func() { _ = server.Close() })
	return nil
}

// join is let in with the token, and from then on a node.
func join(ctx context.Context) error {
	read, err := readSettings()
	if err != nil {
		return err
	}
	server, err := url.Parse(read.Server)
	if err != nil || server.Hostname() == "" || read.Token == "" {
		return errors.New("an agent needs the server and token of its configuration")
	}
	kubeconfig, err := post(ctx, "http://"+net.JoinHostPort(server.Hostname(), joinPort), read.Token)
	if err != nil {
		return fmt.Errorf("joining %s: %w", read.Server, err)
	}
	config, err := clientcmd.Load(kubeconfig)
	if err != nil {
		return err
	}
	for _, cluster := range config.Clusters {
		cluster.Server = read.Server
	}
	if kubeconfig, err = clientcmd.Write(*config); err != nil {
		return err
	}
	if _, err := once(agentData, func() string { return read.NodeName }); err != nil {
		return err
	}
	return beNode(ctx, kubeconfig, read, false)
}

// beNode registers the node, and says what a kubelet would, until it is stopped. That it is ready
// kwok says, and goes on saying so; its pods are kwok's too.
func beNode(ctx context.Context, kubeconfig []byte, read *settings, server bool) error {
	config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	if err != nil {
		return err
	}
	config.Timeout = askBound
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	node, err := newNode(read, server)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, "k3s is up and running, a stand-in of "+release)
	for {
		if err := report(ctx, client, node); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "reporting the node:", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(beat):
		}
	}
}

func newNode(read *settings, server bool) (*corev1.Node, error) {
	memory, err := memoryKiB()
	if err != nil {
		return nil, err
	}
	reserved := resource.MustParse("0")
	for _, arg := range read.KubeletArg {
		if text, found := strings.CutPrefix(arg, "system-reserved=memory="); found {
			if reserved, err = resource.ParseQuantity(text); err != nil {
				return nil, fmt.Errorf("reading %s: %w", arg, err)
			}
		}
	}
	capacity := *resource.NewQuantity(memory<<10, resource.BinarySI)
	allocatable := capacity.DeepCopy()
	allocatable.Sub(reserved)
	resources := func(memory resource.Quantity) corev1.ResourceList {
		return corev1.ResourceList{"cpu": resource.MustParse("4"), "pods": resource.MustParse("110"), "memory": memory}
	}
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name:        read.NodeName,
			Annotations: map[string]string{playedByKwok: "fake"},
			Labels: map[string]string{
				corev1.LabelHostname: read.NodeName, corev1.LabelArchStable: "arm64", corev1.LabelOSStable: "linux",
			},
		},
		Status: corev1.NodeStatus{
			Capacity: resources(capacity), Allocatable: resources(allocatable),
			NodeInfo: corev1.NodeSystemInfo{KubeletVersion: release, Architecture: "arm64", OperatingSystem: "linux"},
		},
	}
	if server {
		node.Labels["node-role.kubernetes.io/control-plane"] = "true"
	}
	for _, label := range read.Labels {
		key, value, _ := strings.Cut(label, "=")
		node.Labels[key] = value
	}
	for _, taint := range read.Taints {
		key, rest, _ := strings.Cut(taint, "=")
		value, effect, _ := strings.Cut(rest, ":")
		node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffect(effect)})
	}
	return node, nil
}

// report makes the node, or brings its status up to date; as a kubelet, it leaves labels and taints
// of a node that is there to others.
func report(ctx context.Context, client kubernetes.Interface, node *corev1.Node) error {
	nodes := client.CoreV1().Nodes()
	found, err := nodes.Get(ctx, node.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		found, err = nodes.Create(ctx, node, metav1.CreateOptions{})
	}
	if err != nil {
		return err
	}
	changed := found.Status.NodeInfo.KubeletVersion != release
	if memory := found.Status.Allocatable["memory"]; !memory.Equal(node.Status.Allocatable["memory"]) {
		changed = true
	}
	if !changed {
		return nil
	}
	found.Status.NodeInfo.KubeletVersion, found.Status.NodeInfo.Architecture = release, "arm64"
	found.Status.Allocatable, found.Status.Capacity = node.Status.Allocatable, node.Status.Capacity
	_, err = nodes.UpdateStatus(ctx, found, metav1.UpdateOptions{})
	return err
}

func memoryKiB() (int64, error) {
	content, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(content)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "MemTotal:" {
			return strconv.ParseInt(fields[1], 10, 64)
		}
	}
	return 0, errors.New("/proc/meminfo has no MemTotal")
}

// once reads a file, or writes it where it isn't there.
func once(path string, content func() string) (string, error) {
	before, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(before)), nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	text := content()
	return text, os.WriteFile(path, []byte(text+"\n"), 0o600)
}

func random(bytes int) string {
	text := make([]byte, bytes)
	_, _ = rand.Read(text) // never fails
	return hex.EncodeToString(text)
}

func post(ctx context.Context, address, body string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute) // the test may have to start one
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, strings.TrimSpace(string(content)))
	}
	return content, err
}
