package workloads

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/internal/k3s"
)

// MemoryBudget sets what the pods of a stack ask for against what its nodes have. It counts
// as the scheduler does: requests, whatever is used. Not in it are the pods of a chart, which
// are Flux's to make, those of a Job, and those that an update has twice for a while.
type MemoryBudget struct {
	// Pods are sorted by workload and name.
	Pods []PodMemory
	// Nodes are in the order of cluster.nodes.
	Nodes []NodeMemory

	mends []string
}

// PodMemory is one row of the budget: the pods of one Deployment, StatefulSet or DaemonSet.
type PodMemory struct {
	// Workload is the one that has them; k3s for those that k3s brings itself.
	Workload string
	// Name is their controller's.
	Name string
	// Pods is how many of them there are.
	Pods int64
	// Request is the memory that each asks for, in bytes.
	Request int64
	// Limit is the memory that each may come to use, in bytes; 0 where nothing bounds it.
	Limit int64

	nodes     []int // those of MemoryBudget.Nodes that they may run on
	everyNode bool  // one on each of them
}

// NodeMemory is one node of the budget.
type NodeMemory struct {
	// Name is the node's.
	Name string
	// Allocatable is what pods may ask for altogether, in bytes.
	Allocatable int64

	labels  map[string]string
	tainted bool // for pods that tolerate a control plane only
}

// CheckMemory refuses a catalog that has no room on the stack's nodes. A stack that names no
// nodes, or has cluster.memoryCheck off, leaves that to the scheduler.
func CheckMemory(cfg *config.Config, catalog []Workload) error {
	if !cfg.Cluster.ChecksMemory() || len(cfg.Cluster.Nodes) == 0 {
		return nil
	}
	return Budget(cfg, catalog).Check()
}

// Budget lists what the pods of a catalog ask for, and those of the stack's k3s.
func Budget(cfg *config.Config, catalog []Workload) *MemoryBudget {
	budget := &MemoryBudget{mends: mends(cfg)}
	for _, node := range cfg.Cluster.Nodes {
		allocatable := node.Allocatable()
		labels := map[string]string{
			corev1.LabelHostname: node.Name, corev1.LabelArchStable: node.Arch, corev1.LabelOSStable: "linux",
		}
		if node.Role == config.Server {
			labels[k3s.ControlPlaneRole] = "true"
		}
		budget.Nodes = append(budget.Nodes, NodeMemory{
			Name: node.Name, Allocatable: allocatable.Value(), labels: labels, tainted: !node.RunsWorkloads(),
		})
	}
	for _, workload := range catalog {
		for _, object := range workload.Objects {
			budget.add(workload.Name, object)
		}
	}
	for _, addon := range k3s.Addons(cfg.Cluster.K3s) {
		budget.add("k3s", addon)
	}
	slices.SortFunc(budget.Pods, func(a, b PodMemory) int {
		return cmp.Or(cmp.Compare(a.Workload, b.Workload), cmp.Compare(a.Name, b.Name))
	})
	return budget
}

// add makes a row of an object that has pods.
func (b *MemoryBudget) add(workload string, object client.Object) {
	template := podTemplate(object)
	if template == nil {
		return
	}
	pod := &template.Spec
	row := PodMemory{
		Workload: workload, Name: object.GetName(), Request: memoryRequest(pod), Limit: memoryLimit(pod), nodes: b.nodesOf(pod),
	}
	switch o := object.(type) {
	case *appsv1.Deployment:
		row.Pods = int64(ptr.Deref(o.Spec.Replicas, 1))
	case *appsv1.StatefulSet:
		row.Pods = int64(ptr.Deref(o.Spec.Replicas, 1))
	case *appsv1.DaemonSet:
		row.Pods, row.everyNode = int64(len(row.nodes)), true
	}
	b.Pods = append(b.Pods, row)
}

// nodesOf lists the nodes that a pod may run on.
func (b *MemoryBudget) nodesOf(pod *corev1.PodSpec) []int {
	var nodes []int
	for i, node := range b.Nodes {
		taken := !node.tainted || slices.ContainsFunc(pod.Tolerations, toleratesControlPlane)
		for key, value := range pod.NodeSelector {
			taken = taken && node.labels[key] == value
		}
		if pod.NodeName != "" { // no scheduler is asked then, and no taint
			taken = node.Name == pod.NodeName
		}
		if taken {
			nodes = append(nodes, i)
		}
	}
	return nodes
}

// toleratesControlPlane is the scheduler's own comparison, for the one taint that nodes have
// here; that has no value.
func toleratesControlPlane(t corev1.Toleration) bool {
	exists := t.Operator == corev1.TolerationOpExists
	return (t.Effect == "" || t.Effect == corev1.TaintEffectNoSchedule) &&
		(t.Key == "" && exists || t.Key == k3s.ControlPlaneRole && (exists || t.Value == ""))
}

// memoryRequest is what the scheduler sets aside for a pod. The API server makes a request of
// a limit that stands alone.
func memoryRequest(pod *corev1.PodSpec) int64 {
	return together(pod, func(container corev1.Container) int64 {
		if request, set := container.Resources.Requests[corev1.ResourceMemory]; set {
			return request.Value()
		}
		return limitOf(container)
	})
}

// memoryLimit is what a pod's containers may use between them; 0 where one may use anything.
func memoryLimit(pod *corev1.PodSpec) int64 {
	if slices.ContainsFunc(slices.Concat(pod.InitContainers, pod.Containers), func(c corev1.Container) bool { return limitOf(c) == 0 }) {
		return 0
	}
	return together(pod, limitOf)
}

func limitOf(container corev1.Container) int64 {
	return container.Resources.Limits.Memory().Value()
}

// together is what a pod's containers and sidecars come to, or an init container beside the
// sidecars before it where that is more, and what running any pod costs.
func together(pod *corev1.PodSpec, of func(corev1.Container) int64) int64 {
	var running, starting int64
	for _, container := range pod.InitContainers {
		if ptr.Deref(container.RestartPolicy, "") == corev1.ContainerRestartPolicyAlways {
			running += of(container)
		} else {
			starting = max(starting, running+of(container))
		}
	}
	for _, container := range pod.Containers {
		running += of(container)
	}
	return max(running, starting) + pod.Overhead.Memory().Value()
}

// Requested is what all pods ask for together, in bytes.
func (b *MemoryBudget) Requested() int64 {
	var sum int64
	for _, pod := range b.Pods {
		sum += pod.Pods * pod.Request
	}
	return sum
}

// Limits is what all pods may come to use together, in bytes; but for those that nothing
// bounds.
func (b *MemoryBudget) Limits() int64 {
	var sum int64
	for _, pod := range b.Pods {
		sum += pod.Pods * pod.Limit
	}
	return sum
}

// allocatable is what all nodes have for pods, in bytes.
func (b *MemoryBudget) allocatable() int64 {
	var sum int64
	for _, node := range b.Nodes {
		sum += node.Allocatable
	}
	return sum
}

// Check is an error unless every pod finds a place. Pods that are pinned or run on every node
// are taken off each node first; the rest is placed biggest first, each where most is free;
// what finds no place is told, with how much is missing.
//
// The scheduler tends to place them so too, but takes them as they come, and weighs more than
// memory. So this is a check and no promise: the rehearsal has the real scheduler.
func (b *MemoryBudget) Check() error {
	var problems []string
	if asked, has := b.Requested(), b.allocatable(); asked > has {
		problems = append(problems, fmt.Sprintf("the pods ask for %s MiB, and there are %s MiB for them: %s MiB too few",
			mib(asked), mib(has), mibUp(asked-has)))
	}
	problems = append(problems, b.place()...)
	if len(problems) == 0 {
		return nil
	}
	return fmt.Errorf("the memory of cluster.nodes does not do for every pod:\n  - %s\nmend it in one of these ways:\n  - %s\n\n%s",
		strings.Join(problems, "\n  - "), strings.Join(b.mends, "\n  - "), b)
}

// place gives pods their places, as Check says, and tells of those that find none.
func (b *MemoryBudget) place() []string {
	var pinned, others []PodMemory
	for _, pod := range b.Pods {
		switch {
		case pod.everyNode:
			for _, node := range pod.nodes {
				pinned = append(pinned, PodMemory{Workload: pod.Workload, Name: pod.Name, Pods: 1, Request: pod.Request, nodes: []int{node}})
			}
		case len(pod.nodes) == 1:
			pinned = append(pinned, pod)
		default:
			others = append(others, pod)
		}
	}
	slices.SortStableFunc(others, func(a, b PodMemory) int { return cmp.Compare(b.Request, a.Request) })

	free := make([]int64, len(b.Nodes))
	for i, node := range b.Nodes {
		free[i] = node.Allocatable
	}
	var problems []string
	for _, pod := range slices.Concat(pinned, others) {
		for left := pod.Pods; left > 0; left-- {
			if len(pod.nodes) == 0 {
				problems = append(problems, pod.title()+" may run on no node: none has the labels that its nodeSelector names, or takes workloads")
				break
			}
			freest := slices.MaxFunc(pod.nodes, func(a, b int) int { return cmp.Compare(free[a], free[b]) })
			if free[freest] < pod.Request {
				problems = append(problems, b.noPlace(pod, left, free[freest]))
				break
			}
			free[freest] -= pod.Request
		}
	}
	return problems
}

// noPlace tells of pods that are left over where no node that they may run on has more than
// so much left.
func (b *MemoryBudget) noPlace(pod PodMemory, left, most int64) string {
	var largest int64
	for _, node := range pod.nodes {
		largest = max(largest, b.Nodes[node].Allocatable)
	}
	which := pod.title()
	if pod.Pods > 1 {
		which = fmt.Sprintf("%d of %d pods of %s", left, pod.Pods, which)
	}
	has := fmt.Sprintf("at most %s MiB are left", mib(most))
	if pod.Request > largest {
		most, has = largest, fmt.Sprintf("even an empty node has no more than %s MiB", mib(largest))
	}
	return fmt.Sprintf("no place for %s on %s: a pod asks for %s MiB, and %s: %s MiB too few",
		which, b.where(pod), mib(pod.Request), has, mibUp(pod.Request-most))
}

// mends are what a person can still do about a budget that doesn't fit.
func mends(cfg *config.Config) []string {
	all := []string{"more memory or less reserved in cluster.nodes, or a node more"}
	if cfg.Flux.Profile != config.LowMemory {
		all = append(all, "flux.profile: low-memory")
	}
	if cfg.Flux.Helm || cfg.Flux.Notifications || cfg.Flux.ImageAutomation {
		all = append(all, "flux.helm, flux.notifications or flux.imageAutomation: false, whichever is not used")
	}
	if cfg.Observability != config.Cloud {
		all = append(all, "observability: cloud")
	}
	return append(all, "cluster.memoryCheck: false, which leaves it to the scheduler")
}

// String is the budget as a table, in MiB.
func (b *MemoryBudget) String() string {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "WORKLOAD\tPOD\tPODS × MiB\tLIMITS\tWHERE")
	for _, pod := range b.Pods {
		limits := "-"
		if pod.Limit > 0 {
			limits = mib(pod.Pods * pod.Limit)
		}
		fmt.Fprintf(table, "%s\t%s\t%3d × %4s\t%6s\t%s\n", pod.Workload, pod.Name, pod.Pods, mib(pod.Request), limits, b.where(pod))
	}
	fmt.Fprintf(table, "all\t\t%10s\t%6s\n\n", mib(b.Requested()), mib(b.Limits()))
	fmt.Fprintln(table, "NODE\tMiB FOR PODS")
	for _, node := range b.Nodes {
		only := ""
		if node.tainted {
			only = "\ttakes no workloads"
		}
		fmt.Fprintf(table, "%s\t%12s%s\n", node.Name, mib(node.Allocatable), only)
	}
	fmt.Fprintf(table, "all\t%12s", mib(b.allocatable()))
	_ = table.Flush() // a Builder takes everything
	return text.String()
}

// where names the nodes that pods may run on, as short as it can.
func (b *MemoryBudget) where(pod PodMemory) string {
	each := "any "
	if pod.everyNode {
		each = "every "
	}
	var agents []int
	for i, node := range b.Nodes {
		if node.labels[k3s.ControlPlaneRole] == "" {
			agents = append(agents, i)
		}
	}
	switch {
	case len(pod.nodes) == 0:
		return "no node"
	case len(pod.nodes) == 1:
		return b.Nodes[pod.nodes[0]].Name
	case len(pod.nodes) == len(b.Nodes):
		return each + "node"
	case slices.Equal(pod.nodes, agents):
		return each + "agent"
	}
	var names []string
	for _, i := range pod.nodes {
		names = append(names, b.Nodes[i].Name)
	}
	return strings.Join(names, ", ")
}

func (p PodMemory) title() string {
	if p.Workload == p.Name {
		return p.Name
	}
	return p.Workload + "/" + p.Name
}

const mebibyte = 1 << 20

func mib(bytes int64) string {
	return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(bytes)/mebibyte), ".0")
}

// mibUp never says that nothing is lacking when a byte is.
func mibUp(bytes int64) string { return mib((bytes + mebibyte - 1) / mebibyte * mebibyte) }
