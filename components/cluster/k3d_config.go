package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/nullify005/manager-cluster-state/config"
)

// The labels of a k3d node's container, by which this program knows its own clusters again.
const (
	labelInstallation = "manager-cluster-state.installation"
	// labelConfig has the config file that the cluster was made from, as JSON.
	labelConfig = "manager-cluster-state.config"
)

const (
	everyServer = "server:*"
	everyAgent  = "agent:*"
)

// k3dFile is the part of k3d's config file (k3d.io/v1alpha5, Simple) that is used here.
type k3dFile struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   map[string]string `json:"metadata"`
	Servers    int               `json:"servers"`
	Agents     int               `json:"agents"`
	Image      string            `json:"image"`
	Ports      []k3dPort         `json:"ports"`
	Options    k3dOptions        `json:"options"`
}

type k3dPort struct {
	Port        string   `json:"port"`
	NodeFilters []string `json:"nodeFilters"`
}

type k3dOptions struct {
	K3d        k3dWait         `json:"k3d"`
	K3s        k3dK3s          `json:"k3s"`
	Kubeconfig map[string]bool `json:"kubeconfig"`
	Runtime    *k3dRuntime     `json:"runtime,omitempty"`
}

type k3dWait struct {
	Wait    bool   `json:"wait"`
	Timeout string `json:"timeout"`
}

type k3dK3s struct {
	ExtraArgs []k3dArg `json:"extraArgs,omitempty"`
}

type k3dArg struct {
	Arg         string   `json:"arg"`
	NodeFilters []string `json:"nodeFilters"`
}

type k3dRuntime struct {
	Labels []k3dLabel `json:"labels"`
}

type k3dLabel struct {
	Label       string   `json:"label"`
	NodeFilters []string `json:"nodeFilters"`
}

// k3sUnused are parts of k3s that nothing here uses. What stays is what internal/k3s counts,
// and servicelb, which gives Traefik's Service the address that ports 80 and 443 lead to.
func k3sUnused() []string { return []string{"local-storage"} }

// onALaptop are the kubelet's arguments that don't suit a node whose disk is the laptop's. How
// full that is says nothing about the cluster: its images go with it, and no pod of it is to be
// evicted, nor images removed and pulled again, for what else is on the disk.
func onALaptop() []string {
	return []string{
		"image-gc-high-threshold=100", // 100 switches it off
		"eviction-hard=imagefs.available<1%,nodefs.available<1%",
		"eviction-minimum-reclaim=imagefs.available=1%,nodefs.available=1%",
	}
}

func (a *K3dArgs) configFile() (*k3dFile, error) {
	if a.Name == "" || a.K3s == "" {
		return nil, errors.New("a k3d cluster needs a name and a k3s release; set cluster.name and cluster.k3s")
	}
	file := &k3dFile{
		APIVersion: "k3d.io/v1alpha5",
		Kind:       "Simple",
		Metadata:   map[string]string{"name": a.Name},
		// An image tag can't have a plus, so k3s publishes v1.35.0+k3s1 as v1.35.0-k3s1.
		Image: "rancher/k3s:" + strings.ReplaceAll(a.K3s, "+", "-"),
		Ports: []k3dPort{
			{Port: "80:80", NodeFilters: []string{"loadbalancer"}},
			{Port: "443:443", NodeFilters: []string{"loadbalancer"}},
		},
		Options: k3dOptions{
			// Long enough to pull the images over a slow line.
			K3d: k3dWait{Wait: true, Timeout: "15m0s"},
			// The stack's output is the kubeconfig; the user's own file stays as it is.
			Kubeconfig: map[string]bool{"updateDefaultKubeconfig": false, "switchCurrentContext": false},
		},
	}
	var tainted []string
	for _, node := range a.Nodes {
		filter := fmt.Sprintf("agent:%d", file.Agents)
		if node.Role == config.Server {
			filter = fmt.Sprintf("server:%d", file.Servers)
			file.Servers++
		} else {
			file.Agents++
		}
		if !node.RunsWorkloads() {
			tainted = append(tainted, filter)
		}
	}
	if file.Servers == 0 {
		return nil, errors.New("a k3d cluster needs a server; add a node with role server to cluster.nodes")
	}
	file.addArguments(a.Flannel, tainted)
	return file, nil
}

func (f *k3dFile) addArguments(flannel config.Flannel, tainted []string) {
	add := func(arg string, nodes ...string) {
		f.Options.K3s.ExtraArgs = append(f.Options.K3s.ExtraArgs, k3dArg{Arg: arg, NodeFilters: nodes})
	}
	if flannel != "" {
		add("--flannel-backend="+string(flannel), everyServer)
	}
	for _, part := range k3sUnused() {
		add("--disable="+part, everyServer)
	}
	for _, arg := range onALaptop() {
		add("--kubelet-arg="+arg, f.nodes()...)
	}
	for _, node := range tainted {
		add("--node-taint=node-role.kubernetes.io/control-plane=true:NoSchedule", node)
	}
}

// nodes filters all that run k3s; k3d refuses a filter that no node fits.
func (f *k3dFile) nodes() []string {
	if f.Agents == 0 {
		return []string{everyServer}
	}
	return []string{everyServer, everyAgent}
}

// describe is what makes a cluster this one: all but its installation.
func (f *k3dFile) describe() (map[string]any, error) {
	content, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("writing the k3d config of cluster %s: %w", f.Metadata["name"], err)
	}
	described := map[string]any{}
	if err := json.Unmarshal(content, &described); err != nil {
		return nil, fmt.Errorf("reading the k3d config of cluster %s: %w", f.Metadata["name"], err)
	}
	return described, nil
}

// labelled is what k3d is given: the file, with the labels that it is known by.
func (f *k3dFile) labelled(installation string) (string, error) {
	described, err := json.Marshal(f)
	if err != nil {
		return "", fmt.Errorf("writing the k3d config of cluster %s: %w", f.Metadata["name"], err)
	}
	file := *f
	file.Options.Runtime = &k3dRuntime{Labels: []k3dLabel{
		{Label: labelInstallation + "=" + installation, NodeFilters: f.nodes()},
		{Label: labelConfig + "=" + string(described), NodeFilters: []string{"server:0"}},
	}}
	content, err := yaml.Marshal(file)
	if err != nil {
		return "", fmt.Errorf("writing the k3d config of cluster %s: %w", f.Metadata["name"], err)
	}
	return string(content), nil
}
