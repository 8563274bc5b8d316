package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
)

var k3sPattern = regexp.MustCompile(`^v1\.([0-9]{1,4})\.[0-9]+\+k3s[0-9]+$`)

const (
	exampleK3s = "v1.35.0+k3s1"
	// oldestMinor is the Kubernetes 1.x that Flux 2.9 needs.
	oldestMinor = 33
	// longestK3dName is k3d's own limit on the name of a cluster.
	longestK3dName = 32
	mostCPUs       = 1024
)

func (v *validator) cluster() {
	v.label("cluster.name", v.Cluster.Name)
	if v.Cluster.Kind == K3d && len(v.Cluster.Name) > longestK3dName && labelPattern.MatchString(v.Cluster.Name) {
		v.add("cluster.name", v.Cluster.Name, "k3d takes names of at most 32 characters", "shorten it")
	}
	v.nodes()
	v.reach()
	v.install()
	switch v.Cluster.Kind {
	case K3d, Pi:
		v.k3s()
		v.noKubeconfig()
	case Existing:
		v.kubeconfig()
	}
}

func (v *validator) label(path, name string) {
	if name == "" || labelPattern.MatchString(name) {
		return
	}
	mend := "for example development"
	if label := toLabel(name); label != "" {
		mend = setCommand(path, false, label)
	}
	v.add(path, name, "a DNS label is 1 to 63 lower-case letters, digits and hyphens, and begins and ends with no hyphen", mend)
}

func (v *validator) k3s() {
	const path = "cluster.k3s"
	mend := setCommand(path, false, exampleK3s)
	match := k3sPattern.FindStringSubmatch(v.Cluster.K3s)
	switch {
	case v.Cluster.K3s == "":
		v.say(path, missing, fmt.Sprintf("kind %s installs a k3s release", v.Cluster.Kind), mend)
	case match == nil:
		v.add(path, v.Cluster.K3s, "a k3s release has the form "+exampleK3s, mend)
	default:
		if minor, err := strconv.Atoi(match[1]); err != nil || minor < oldestMinor {
			v.add(path, v.Cluster.K3s, "Flux 2.9 needs Kubernetes 1.33 or newer", mend)
		}
	}
}

// noKubeconfig: a cluster that the stack makes brings its own.
func (v *validator) noKubeconfig() {
	reason := fmt.Sprintf("only kind existing takes one: kind %s makes its own", v.Cluster.Kind)
	if v.Cluster.Kubeconfig != "" {
		v.add("cluster.kubeconfig", v.Cluster.Kubeconfig, reason, removeCommand("cluster.kubeconfig"))
	}
	if v.Cluster.Context != "" {
		v.add("cluster.context", v.Cluster.Context, reason, removeCommand("cluster.context"))
	}
}

func (v *validator) kubeconfig() {
	const path = "cluster.kubeconfig"
	file := v.Cluster.Kubeconfig
	switch {
	case file == "":
		v.say(path, missing, "kind existing reaches its cluster with a kubeconfig", setCommand(path, false, ""))
	case strings.Contains(file, "\n"):
		v.add(path, file, "it must be the path of a kubeconfig, not what is in one", "save that to a file, and give its path")
	case strings.HasPrefix(file, "~"), strings.Contains(file, "$"):
		v.add(path, file, "no shell expands it", "write the path out, relative to the project or from /")
	}
}

// nodes checks each node by itself, then all of them together.
func (v *validator) nodes() {
	for i, node := range v.Cluster.Nodes {
		v.node(fmt.Sprintf("cluster.nodes[%d]", i), node)
	}
	v.uniqueNodes()
	v.count()
	v.order()
	v.placement()
	v.archs()
}

func (v *validator) node(path string, node Node) {
	v.label(path+".name", node.Name)
	v.quantities(path, node)
	switch v.Cluster.Kind {
	case Pi:
		v.ssh(path, node)
		if node.Arch == "amd64" {
			v.add(path+".arch", node.Arch, "a Raspberry Pi is arm64", setCommand(path+".arch", false, "arm64"))
		}
	case K3d:
		v.noSSH(path, node)
	case Existing: // a host and a user do no harm: a rehearsal keeps the nodes of kind pi
	}
}

func (v *validator) quantities(path string, node Node) {
	if cpu, ok := v.quantity(path+".cpu", node.CPU, "4 or 500m"); ok && cpu.CmpInt64(mostCPUs) > 0 {
		v.add(path+".cpu", node.CPU, "no machine has more than 1024 CPUs", "for example 4 or 500m")
	}
	memory, memoryOK := v.memory(path+".memory", node.Memory)
	reserved, reservedOK := v.memory(path+".reserved", node.Reserved)
	if memoryOK && reservedOK && reserved.Cmp(memory) >= 0 {
		v.add(path+".reserved", node.Reserved, "nothing would be left of the machine's "+v.shownMemory(node),
			"reserve less than the machine has")
	}
}

func (v *validator) shownMemory(node Node) string {
	if v.hidden["cluster"] {
		return "memory"
	}
	return node.Memory
}

func (v *validator) memory(path, text string) (resource.Quantity, bool) {
	const example = "1Gi or 512Mi"
	amount, ok := v.quantity(path, text, example)
	if ok && amount.CmpInt64(1<<20) < 0 {
		v.add(path, text, "it is less than 1Mi; G and M are units, Gi and Mi their binary kin, m a thousandth", "for example "+example)
		return amount, false
	}
	return amount, ok
}

// quantityPattern is stricter than Kubernetes, which takes 1e2147483647 and would then compare it
// digit by digit.
var quantityPattern = regexp.MustCompile(`^[+-]?[0-9]{0,20}(\.[0-9]{0,20})?([eE][+-]?[0-9]{1,2}|[numkMGTPE]|[KMGTPE]i)?$`)

// quantity parses an amount above zero.
func (v *validator) quantity(path, text, example string) (resource.Quantity, bool) {
	amount, err := parseQuantity(text)
	switch {
	case text == "":
		v.say(path, missing, "the scheduler needs to know it", setCommand(path, false, defaultOf(path)))
	case err != nil:
		v.add(path, text, "it is no Kubernetes quantity", "for example "+example)
	case amount.Sign() <= 0:
		v.add(path, text, "it must be more than 0", "for example "+example)
	default:
		return amount, true
	}
	return amount, false
}

func parseQuantity(text string) (resource.Quantity, error) {
	if !quantityPattern.MatchString(text) {
		return resource.Quantity{}, resource.ErrFormatWrong
	}
	return resource.ParseQuantity(text)
}

func (v *validator) uniqueNodes() {
	names, hosts := map[string]int{}, map[string]int{}
	for i, node := range v.Cluster.Nodes {
		path := fmt.Sprintf("cluster.nodes[%d]", i)
		v.unique(names, path, "name", node.Name, i)
		if v.Cluster.Kind == Pi {
			v.unique(hosts, path, "host", strings.ToLower(node.Host), i)
		}
	}
}

func (v *validator) unique(seen map[string]int, path, key, value string, index int) {
	first, taken := seen[value]
	switch {
	case value == "":
	case taken && v.report.sound(fmt.Sprintf("cluster.nodes[%d].%s", first, key)):
		v.add(path+"."+key, value, fmt.Sprintf("cluster.nodes[%d] has that %s too", first, key), "give each node a "+key+" of its own")
	default:
		seen[value] = index
	}
}

// order: the first server starts the cluster, and the others join it.
func (v *validator) order() {
	agent := -1
	for i, node := range v.Cluster.Nodes {
		if node.Role == Agent && agent < 0 {
			agent = i
		}
		if node.Role == Server && agent >= 0 {
			v.say(fmt.Sprintf("cluster.nodes[%d].role", i), string(Server),
				fmt.Sprintf("servers come first, and cluster.nodes[%d] is an agent", agent), "move this node up in the list")
		}
	}
}

// placement: without a node that runs workloads nothing could start.
func (v *validator) placement() {
	for _, node := range v.Cluster.Nodes {
		if node.RunsWorkloads() {
			return
		}
	}
	if len(v.Cluster.Nodes) > 0 && v.workloadsSound() {
		v.say("cluster.nodes", "a list without room for workloads", "every node has workloads: false", "take that from one of them")
	}
}

// workloadsSound says whether every node's workloads could be read.
func (v *validator) workloadsSound() bool {
	for i := range v.Cluster.Nodes {
		if !v.report.sound(fmt.Sprintf("cluster.nodes[%d].workloads", i)) {
			return false
		}
	}
	return true
}

// archs: the nodes of k3d are containers of one machine.
func (v *validator) archs() {
	if v.Cluster.Kind != K3d || len(v.Cluster.Nodes) == 0 {
		return
	}
	first := v.Cluster.Nodes[0].Arch
	for i, node := range v.Cluster.Nodes {
		path := fmt.Sprintf("cluster.nodes[%d].arch", i)
		if node.Arch != first && v.report.sound("cluster.nodes[0].arch", path) {
			v.add(path, node.Arch, "k3d's nodes share one machine, and cluster.nodes[0] has another arch", "give all nodes the same")
		}
	}
}

// count: how many servers each kind of cluster takes.
func (v *validator) count() {
	const path = "cluster.nodes"
	kind := v.Cluster.Kind
	if kind != K3d && kind != Pi {
		return
	}
	servers := 0
	for i, node := range v.Cluster.Nodes {
		if !v.report.sound(fmt.Sprintf("%s[%d].role", path, i)) {
			return
		}
		if node.Role == Server {
			servers++
		}
	}
	switch {
	case len(v.Cluster.Nodes) == 0:
		v.say(path, missing, fmt.Sprintf("kind %s needs its machines", kind), "list them in the stack file, a server first")
	case servers == 0:
		v.say(path, "a list without a server", "a server runs the control plane", setCommand("cluster.nodes[0].role", false, string(Server)))
	case kind == Pi && servers > 1:
		v.say(path, fmt.Sprintf("a list of %d servers", servers), "kind pi has one server and any number of agents", "make the others agents")
	}
}
