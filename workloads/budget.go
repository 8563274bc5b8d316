package workloads

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/internal/k3s"
)

// MemoryBudget sets what the pods of a stack ask for against what its nodes have. It counts
// as the scheduler does: requests, whatever is used. Not in it are the pods of a chart, which
// are Flux's to make, and those that an update is about to remove.
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

	nodes     []int // those of MemoryBudget.Nodes that they may run on
	everyNode bool  // one on each of them
	surges    bool  // an update starts a new pod before it ends an old one
	priority  int32 // the scheduler evicts a pod of a lower one to make room
}

// NodeMemory is one node of the budget.
type NodeMemory struct {
	// Name is the node's.
	Name string
	// Allocatable is what pods may ask for altogether, in bytes.
	Allocatable int64

	role    config.NodeRole
	labels  map[string]string
	tainted bool // for control-plane pods only
}

// kind is what tells nodes apart for a pod that names none of them.
func (n NodeMemory) kind() string {
	return fmt.Sprint(n.role, n.labels[corev1.LabelArchStable], n.tainted)
}

// CheckMemory refuses a catalog some pod of which may find no room on the stack's nodes. A
// stack that names no nodes, or has cluster.memoryCheck off, leaves that to the scheduler.
func CheckMemory(cfg *config.Config, catalog []Workload) error {
	if !cfg.Cluster.ChecksMemory() || len(cfg.Cluster.Nodes) == 0 {
		return nil
	}
	budget, err := Budget(cfg, catalog)
	if err != nil {
		return err
	}
	return budget.Check()
}

// Budget lists what the pods of a catalog ask for, and those of k3s where the stack has a k3s
// release: a rehearsal does too, whatever kind its cluster is. Its error lists every pod
// that can't be weighed.
func Budget(cfg *config.Config, catalog []Workload) (*MemoryBudget, error) {
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
			Name: node.Name, Allocatable: allocatable.Value(), role: node.Role, labels: labels, tainted: !node.RunsWorkloads(),
		})
	}
	if cfg.Cluster.K3s != "" {
		addons := Workload{Name: "k3s"}
		for _, deployment := range k3s.Addons() {
			addons.Objects = append(addons.Objects, deployment)
		}
		catalog = append(slices.Clone(catalog), addons)
	}
	priorities := priorityClasses(catalog)
	var problems []error
	for _, workload := range catalog {
		for _, object := range workload.Objects {
			if err := budget.add(workload.Name, object, priorities); err != nil {
				problems = append(problems, fmt.Errorf("workload %s: %s %s %w, or set cluster.memoryCheck to false",
					workload.Name, object.GetObjectKind().GroupVersionKind().Kind, object.GetName(), err))
			}
		}
	}
	slices.SortFunc(budget.Pods, func(a, b PodMemory) int {
		return cmp.Or(cmp.Compare(a.Workload, b.Workload), cmp.Compare(a.Name, b.Name))
	})
	return budget, errors.Join(problems...)
}

// add makes a row of an object that has pods.
func (b *MemoryBudget) add(workload string, object client.Object, priorities map[string]int32) error {
	template := podTemplate(object)
	if template == nil {
		switch object.GetObjectKind().GroupVersionKind().Kind {
		case "Pod", "ReplicaSet", "Job", "CronJob":
			return errors.New("makes pods in a way that the memory check can't weigh: use a Deployment, StatefulSet or DaemonSet")
		}
		return nil
	}
	pod := &template.Spec
	if rule := placementRule(pod); rule != "" {
		return fmt.Errorf("has %s, which the memory check can't weigh: use nodeSelector and tolerations", rule)
	}
	priority, known := priorities[pod.PriorityClassName]
	if !known {
		return fmt.Errorf("has priority class %s, which no workload makes, or which evicts nobody: the memory check can't weigh it", pod.PriorityClassName)
	}
	row := PodMemory{
		Workload: workload, Name: object.GetName(), Request: memoryRequest(pod), nodes: b.nodesOf(pod), priority: priority,
	}
	switch o := object.(type) {
	case *appsv1.Deployment:
		row.Pods = int64(ptr.Deref(o.Spec.Replicas, 1))
		row.surges = startsBeforeItEnds(o)
	case *appsv1.StatefulSet:
		row.Pods = int64(ptr.Deref(o.Spec.Replicas, 1))
	case *appsv1.DaemonSet:
		row.Pods, row.everyNode = int64(len(row.nodes)), true
		update := o.Spec.UpdateStrategy.RollingUpdate
		row.surges = update != nil && update.MaxSurge != nil && *update.MaxSurge != intstr.FromInt32(0)
	}
	row.surges = row.surges && row.Request > 0
	b.Pods = append(b.Pods, row)
	return nil
}

// placementRule names what else than a node's labels and taints decides where a pod may run.
func placementRule(pod *corev1.PodSpec) string {
	if a := pod.Affinity; a != nil &&
		(a.NodeAffinity != nil && a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil ||
			a.PodAffinity != nil && a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil ||
			a.PodAntiAffinity != nil && a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil) {
		return "a required affinity"
	}
	for _, constraint := range pod.TopologySpreadConstraints {
		if constraint.WhenUnsatisfiable == corev1.DoNotSchedule {
			return "a required topology spread"
		}
	}
	return ""
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

// startsBeforeItEnds says whether an update of a Deployment needs room for a pod more. One
// at a time is enough: each that has started ends an old one, whose room the next can have.
func startsBeforeItEnds(deployment *appsv1.Deployment) bool {
	replicas := int(ptr.Deref(deployment.Spec.Replicas, 1))
	if deployment.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return false
	}
	update := ptr.Deref(deployment.Spec.Strategy.RollingUpdate, appsv1.RollingUpdateDeployment{})
	const quarter = "25%" // Kubernetes's default of both
	scaled := func(value *intstr.IntOrString, roundUp bool) int {
		count, err := intstr.GetScaledValueFromIntOrPercent(new(ptr.Deref(value, intstr.FromString(quarter))), replicas, roundUp)
		if err != nil {
			return 0 // the API server refuses it
		}
		return count
	}
	return scaled(update.MaxSurge, true) > 0 && scaled(update.MaxUnavailable, false) == 0
}

// memoryRequest is what the scheduler sets aside for a pod: what its containers and sidecars
// ask for together, or an init container beside the sidecars before it where that is more.
func memoryRequest(pod *corev1.PodSpec) int64 {
	var running, starting int64
	for _, container := range pod.InitContainers {
		request := memoryOf(container.Resources)
		if ptr.Deref(container.RestartPolicy, "") == corev1.ContainerRestartPolicyAlways {
			running += request
		} else {
			starting = max(starting, running+request)
		}
	}
	for _, container := range pod.Containers {
		running += memoryOf(container.Resources)
	}
	total := max(running, starting)
	if whole := pod.Resources; whole != nil {
		if _, set := whole.Requests[corev1.ResourceMemory]; set || total == 0 {
			total = memoryOf(*whole)
		}
	}
	overhead := pod.Overhead[corev1.ResourceMemory]
	return total + overhead.Value()
}

// memoryOf is a request; the API server makes one of a limit that stands alone.
func memoryOf(resources corev1.ResourceRequirements) int64 {
	memory, set := resources.Requests[corev1.ResourceMemory]
	if !set {
		memory = resources.Limits[corev1.ResourceMemory]
	}
	return memory.Value()
}

// priorityClasses are Kubernetes's own and those that the catalog makes, as far as they evict
// for their pods.
func priorityClasses(catalog []Workload) map[string]int32 {
	classes := map[string]int32{"": 0, "system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
	for _, workload := range catalog {
		for _, object := range workload.Objects {
			if class, ok := object.(*schedulingv1.PriorityClass); ok && ptr.Deref(class.PreemptionPolicy, "") != corev1.PreemptNever {
				classes[class.Name] = class.Value
			}
		}
	}
	return classes
}

// bound says whether the pods of a row can be on their nodes alone, whatever the scheduler
// does.
func (p PodMemory) bound() bool { return p.everyNode || len(p.nodes) == 1 }

// on is how many pods of a bound row one of its nodes has.
func (p PodMemory) on() int64 {
	if p.everyNode {
		return 1
	}
	return p.Pods
}

// places lists the nodes that each pod of a row has to choose from.
func (p PodMemory) places() [][]int {
	if !p.everyNode {
		return [][]int{p.nodes}
	}
	var places [][]int
	for _, node := range p.nodes {
		places = append(places, []int{node})
	}
	return places
}

// Requested is what all pods ask for together, in bytes.
func (b *MemoryBudget) Requested() int64 {
	var sum int64
	for _, pod := range b.Pods {
		sum += pod.Pods * pod.Request
	}
	return sum
}

// Check is an error unless every pod has room wherever the scheduler puts the others, each
// update's extra pod too. The order that pods come in, and where one lands, are the
// scheduler's affair and change from day to day: what fits by luck alone is refused.
func (b *MemoryBudget) Check() error {
	problems := b.unplaceable()
	if nodes, asked, has := b.overfull(); asked > has {
		which := ""
		if len(nodes) < len(b.Nodes) {
			which = " that can't be elsewhere than on " + b.names(nodes, "and")
		}
		problems = append(problems, fmt.Sprintf("the pods%s ask for %s MiB, and there are %s MiB for them: %s MiB too few",
			which, mib(asked), mib(has), mibUp(asked-has)))
	}
	if len(problems) == 0 {
		problems = b.crowdedOut()
	}
	if len(problems) == 0 {
		return nil
	}
	return fmt.Errorf("the memory of cluster.nodes does not do for every pod:\n  - %s\nmend it in one of these ways:\n  - %s\n\n%s",
		strings.Join(problems, "\n  - "), strings.Join(b.mends, "\n  - "), b)
}

// unplaceable tells of pods that no node would take even if it were empty.
func (b *MemoryBudget) unplaceable() []string {
	var problems []string
	for _, pod := range b.Pods {
		var largest int64
		for _, node := range pod.nodes {
			largest = max(largest, b.Nodes[node].Allocatable)
		}
		switch {
		case pod.Pods == 0:
		case len(pod.nodes) == 0:
			problems = append(problems, pod.title()+" may run on no node: none has the labels that its nodeSelector names, or takes workloads")
		case pod.Request > largest:
			problems = append(problems, fmt.Sprintf("%s asks for %s MiB, and no node that it may run on has more than %s MiB",
				pod.title(), mib(pod.Request), mib(largest)))
		}
	}
	return problems
}

// overfull finds the nodes that lack most of what the pods that can't be elsewhere ask for.
func (b *MemoryBudget) overfull() (nodes []int, asked, has int64) {
	var all []int
	var candidates [][]int
	for i := range b.Nodes {
		all, candidates = append(all, i), append(candidates, []int{i})
	}
	for _, some := range append(candidates, b.unions(all)...) {
		var sum, room int64
		for _, node := range some {
			room += b.Nodes[node].Allocatable
		}
		for _, pod := range b.Pods {
			within := func(node int) bool { return slices.Contains(some, node) }
			outside := func(node int) bool { return !within(node) }
			switch {
			case pod.bound():
				for _, node := range pod.nodes {
					if within(node) {
						sum += pod.on() * pod.Request
					}
				}
			case len(pod.nodes) > 0 && !slices.ContainsFunc(pod.nodes, outside):
				sum += pod.Pods * pod.Request
			}
		}
		if nodes == nil || sum-room > asked-has {
			nodes, asked, has = some, sum, room
		}
	}
	return nodes, asked, has
}

// crowdedOut tells of pods that fit, unless the others leave no single node enough.
func (b *MemoryBudget) crowdedOut() []string {
	var problems []string
	alike := map[string][]string{}
	for row, pod := range b.Pods {
		if pod.Pods == 0 {
			continue
		}
		var lacks, lacksToUpdate int64
		for _, place := range pod.places() {
			lacks = max(lacks, b.lacking(row, place, false))
			if pod.surges {
				lacksToUpdate = max(lacksToUpdate, b.lacking(row, place, true))
			}
		}
		problem := ""
		switch {
		case lacks > 0:
			problem = fmt.Sprintf("once the others are placed, no single node may have %s MiB left, though together they have: %s MiB too few",
				mib(pod.Request), mibUp(lacks))
		case lacksToUpdate > 0:
			problem = fmt.Sprintf("while an update runs it twice, no single node may have %s MiB left for the second: %s MiB too few",
				mib(pod.Request), mibUp(lacksToUpdate))
		default:
			continue
		}
		if alike[problem] == nil {
			problems = append(problems, problem)
		}
		alike[problem] = append(alike[problem], pod.title())
	}
	for i, problem := range problems {
		problems[i] = enumerate(alike[problem], "and") + ": " + problem
	}
	return problems
}

// lacking is how many bytes more the nodes that one pod may run on would need, for it to have
// room wherever the others are; it is not positive when none are needed.
//
// To keep a pod of size s off a node with c free, others must take at least c-s+1 there. So
// some of a set of nodes has room when all that may run on that set ask for less than that,
// summed over the set; and one such set is enough. Pods that are bound to a node take what
// is free there first, and those that the scheduler would evict for this one don't count.
// Pods are taken as if they could be cut in pieces, so that close to the edge this refuses
// some that would do, and never passes one that wouldn't.
func (b *MemoryBudget) lacking(row int, place []int, another bool) int64 {
	pod := b.Pods[row]
	free := make([]int64, len(b.Nodes))
	for i, node := range b.Nodes {
		free[i] = node.Allocatable
	}
	roaming := make([]int64, len(b.Pods))
	for i, other := range b.Pods {
		switch {
		case other.priority < pod.priority:
		case other.bound():
			for _, node := range other.nodes {
				free[node] -= other.on() * other.Request
			}
		default:
			roaming[i] = other.Pods * other.Request
		}
	}
	switch { // a pod is not in its own way
	case another:
	case pod.bound():
		free[place[0]] += pod.Request
	default:
		roaming[row] -= pod.Request
	}
	lacks := int64(math.MaxInt64)
	for _, nodes := range b.unions(place) {
		var asked, needed int64
		tooSmall := int64(math.MaxInt64) // what the best node lacks were nobody else to come
		for _, node := range nodes {
			needed += max(0, free[node]-pod.Request+1)
			tooSmall = min(tooSmall, max(0, pod.Request-1-free[node]))
		}
		for i, other := range b.Pods {
			if slices.ContainsFunc(other.nodes, func(node int) bool { return slices.Contains(nodes, node) }) {
				asked += roaming[i]
			}
		}
		lacks = min(lacks, asked-needed+1+tooSmall)
	}
	return lacks
}

// unions lists the sets of nodes that need to be looked at: a pod that may roam may run on
// all nodes of a kind or on none of them, so part of a kind is never a better set.
func (b *MemoryBudget) unions(nodes []int) [][]int {
	var kinds []string
	byKind := map[string][]int{}
	for _, node := range nodes {
		kind := b.Nodes[node].kind()
		if byKind[kind] == nil {
			kinds = append(kinds, kind)
		}
		byKind[kind] = append(byKind[kind], node)
	}
	var unions [][]int
	for _, kind := range kinds {
		for _, union := range slices.Clone(unions) {
			unions = append(unions, slices.Concat(union, byKind[kind]))
		}
		unions = append(unions, byKind[kind])
	}
	return unions
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
	fmt.Fprintln(table, "WORKLOAD\tPOD\tPODS × MiB\tWHERE")
	for _, pod := range b.Pods {
		fmt.Fprintf(table, "%s\t%s\t%3d × %4s\t%s\n", pod.Workload, pod.Name, pod.Pods, mib(pod.Request), b.where(pod))
	}
	fmt.Fprintf(table, "all\t\t%10s\n\n", mib(b.Requested()))
	fmt.Fprintln(table, "NODE\tMiB FOR PODS")
	var sum int64
	for _, node := range b.Nodes {
		sum += node.Allocatable
		only := ""
		if node.tainted {
			only = "\ttakes no workloads"
		}
		fmt.Fprintf(table, "%s\t%12s%s\n", node.Name, mib(node.Allocatable), only)
	}
	fmt.Fprintf(table, "all\t%12s", mib(sum))
	_ = table.Flush() // a Builder takes everything
	return text.String()
}

func (b *MemoryBudget) where(pod PodMemory) string {
	var servers, agents []int
	for i, node := range b.Nodes {
		if node.role == config.Agent {
			agents = append(agents, i)
		} else {
			servers = append(servers, i)
		}
	}
	each := "any"
	if pod.everyNode {
		each = "every"
	}
	var where string
	switch {
	case len(pod.nodes) == 0:
		where = "no node"
	case len(pod.nodes) == 1:
		where = b.Nodes[pod.nodes[0]].Name
	case len(pod.nodes) == len(b.Nodes):
		where = each + " node"
	case slices.Equal(pod.nodes, agents):
		where = each + " agent"
	case slices.Equal(pod.nodes, servers):
		where = each + " server"
	case pod.everyNode:
		where = b.names(pod.nodes, "and")
	default:
		where = b.names(pod.nodes, "or")
	}
	if pod.surges {
		where += ", twice while it updates"
	}
	return where
}

func (b *MemoryBudget) names(nodes []int, conjunction string) string {
	var names []string
	for _, node := range nodes {
		names = append(names, b.Nodes[node].Name)
	}
	return enumerate(names, conjunction)
}

func enumerate(names []string, conjunction string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " " + conjunction + " " + names[last]
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
