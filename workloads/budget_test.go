package workloads_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/workloads"
)

const controlPlane = "node-role.kubernetes.io/control-plane"

// machines are a server that takes no workloads, and agents, of sizes in bytes or with units.
func machines(server string, agents ...string) *config.Config {
	nodes := []config.Node{{Name: "server", Role: config.Server, Arch: "arm64", Memory: server, Reserved: "0", Workloads: new(false)}}
	for i, memory := range agents {
		nodes = append(nodes, config.Node{Name: fmt.Sprintf("agent-%d", i), Role: config.Agent, Arch: "arm64", Memory: memory, Reserved: "0"})
	}
	return &config.Config{Cluster: config.Cluster{Nodes: nodes}, Flux: config.Flux{Profile: config.LowMemory}, Observability: config.Cloud}
}

func podOf(memory string) corev1.PodSpec {
	return corev1.PodSpec{Containers: []corev1.Container{{Resources: asks(memory)}}}
}

func asks(memory string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(memory)}}
}

func limitedTo(memory string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Limits: asks(memory).Requests}
}

func deploy(name string, replicas int32, pod corev1.PodSpec) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       appsv1.DeploymentSpec{Replicas: new(replicas), Template: corev1.PodTemplateSpec{Spec: pod}},
	}
}

func daemons(name string, pod corev1.PodSpec) *appsv1.DaemonSet {
	return &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       appsv1.DaemonSetSpec{Template: corev1.PodTemplateSpec{Spec: pod}},
	}
}

func with(pod corev1.PodSpec, change func(pod *corev1.PodSpec)) corev1.PodSpec {
	change(&pod)
	return pod
}

func one(objects ...client.Object) []workloads.Workload {
	return []workloads.Workload{{Name: "w", Objects: objects}}
}

func selecting(memory, key, value string) corev1.PodSpec {
	return with(podOf(memory), func(p *corev1.PodSpec) { p.NodeSelector = map[string]string{key: value} })
}

func tolerating(memory string, toleration corev1.Toleration) corev1.PodSpec {
	return with(podOf(memory), func(p *corev1.PodSpec) { p.Tolerations = []corev1.Toleration{toleration} })
}

// The stacks of this project are what the check is for: they fit.
func TestCheckMemory_PassesTheRealStacks(t *testing.T) {
	for name, cfg := range stacks(t) {
		t.Run(name, func(t *testing.T) {
			made := catalog(t, cfg)
			require.NoError(t, workloads.CheckMemory(cfg, made))
			budget := workloads.Budget(cfg, made)
			t.Logf("\n%s", budget)
			rows := map[string]bool{}
			for _, pod := range budget.Pods {
				rows[pod.Workload+"/"+pod.Name] = true
				assert.True(t, pod.Request > 0 || pod.Workload == "k3s", "%s asks for no memory, so nothing keeps any for it", pod.Name)
			}
			for _, row := range []string{"k3s/coredns", "k3s/metrics-server", "flux-system/source-controller", "chat-hvac/chat-hvac"} {
				assert.Contains(t, rows, row)
			}
		})
	}
}

func TestCheckMemory_LeavesItToTheSchedulerWhereItIsTold(t *testing.T) {
	tooMuch := one(deploy("big", 1, podOf("1Gi")))
	cfg := machines("1Mi", "1Mi")
	require.Error(t, workloads.CheckMemory(cfg, tooMuch))
	cfg.Cluster.MemoryCheck = new(false)
	require.NoError(t, workloads.CheckMemory(cfg, tooMuch))

	unknown := &config.Config{Cluster: config.Cluster{Kind: config.Existing}}
	require.NoError(t, workloads.CheckMemory(unknown, tooMuch), "nobody knows these nodes")
}

func TestCheckMemory_SaysWhatDoesNotFitByHowMuchAndTheMend(t *testing.T) {
	cfg := machines("128Mi", "640Mi", "640Mi")
	cfg.Cluster.K3s = "v1.35.0+k3s1"
	bounded := podOf("300Mi")
	bounded.Containers[0].Resources.Limits = asks("400Mi").Requests
	err := workloads.CheckMemory(cfg, []workloads.Workload{
		{Name: "metrics", Objects: []client.Object{deploy("prometheus", 1, podOf("640Mi")), daemons("tail", podOf("32Mi"))}},
		{Name: "hvac", Objects: []client.Object{deploy("app", 2, bounded)}},
	})
	require.EqualError(t, err, `the memory of cluster.nodes does not do for every pod:
  - the pods ask for 1444 MiB, and there are 1408 MiB for them: 36 MiB too few
  - no place for metrics/prometheus on any agent: a pod asks for 640 MiB, and at most 608 MiB are left: 32 MiB too few
mend it in one of these ways:
  - more memory or less reserved in cluster.nodes, or a node more
  - cluster.memoryCheck: false, which leaves it to the scheduler

WORKLOAD   POD              PODS × MiB   LIMITS   WHERE
hvac       app                2 ×  300      800   any agent
k3s        coredns            1 ×   70      170   any node
k3s        metrics-server     1 ×   70        -   any node
k3s        traefik            1 ×    0        -   any node
metrics    prometheus         1 ×  640        -   any agent
metrics    tail               2 ×   32        -   every agent
all                               1444      970

NODE      MiB FOR PODS
server             128   takes no workloads
agent-0            640
agent-1            640
all               1408`)
}

func TestBudget_HasK3sOwnPods_WhereverTheStackHasARelease(t *testing.T) {
	for _, kind := range []config.ClusterKind{config.K3d, config.Pi, config.Existing} {
		for release, want := range map[string]int{"": 0, "v1.35.0+k3s1": 3} {
			budget := workloads.Budget(&config.Config{Cluster: config.Cluster{Kind: kind, K3s: release}}, nil)
			assert.Len(t, budget.Pods, want, "%s %s", kind, release)
		}
	}
}

func TestCheckMemory_Refuses(t *testing.T) {
	host := func(memory, name string) corev1.PodSpec { return selecting(memory, corev1.LabelHostname, name) }
	tests := map[string]struct {
		cfg     *config.Config
		objects []client.Object
		want    string
	}{
		"a pod larger than any node, whatever the tainted server has": {
			machines("1Gi", "640Mi", "600Mi"),
			[]client.Object{deploy("big", 1, podOf("641Mi"))},
			"no place for w/big on any agent: a pod asks for 641 MiB, and even an empty node has no more than 640 MiB: 1 MiB too few",
		},
		"a pod that no node takes": {
			machines("0", "640Mi"),
			[]client.Object{deploy("amd", 1, selecting("1Mi", corev1.LabelArchStable, "amd64"))},
			"w/amd may run on no node",
		},
		"a byte too many": {
			machines("0", "10"),
			[]client.Object{deploy("app", 11, podOf("1"))},
			"the pods ask for 0 MiB, and there are 0 MiB for them: 1 MiB too few",
		},
		"the second of two": {
			machines("0", "50Mi", "30Mi"),
			[]client.Object{deploy("app", 3, podOf("20Mi")), deploy("side", 1, podOf("15Mi"))},
			"no place for w/side on any agent: a pod asks for 15 MiB, and at most 10 MiB are left: 5 MiB too few",
		},
		"some of several": {
			machines("0", "60Mi", "60Mi"),
			[]client.Object{deploy("app", 4, podOf("40Mi"))},
			"no place for 2 of 4 pods of w/app on any agent: a pod asks for 40 MiB, and at most 20 MiB are left: 20 MiB too few",
		},
		// Together they have 20 MiB more than is asked for.
		"what is left in pieces": {
			machines("0", "60Mi", "60Mi"),
			[]client.Object{deploy("a", 2, podOf("35Mi")), deploy("b", 1, podOf("30Mi"))},
			"no place for w/b on any agent: a pod asks for 30 MiB, and at most 25 MiB are left: 5 MiB too few",
		},
		"what the room of a tainted server is no use to": {
			machines("1Gi", "10Mi"),
			[]client.Object{deploy("app", 2, podOf("10Mi"))},
			"no place for 1 of 2 pods of w/app on agent-0: a pod asks for 10 MiB, and at most 0 MiB are left: 10 MiB too few",
		},
		"a daemon where one node is full of pinned pods": {
			machines("0", "100Mi", "100Mi"),
			[]client.Object{daemons("tail", podOf("20Mi")), deploy("app", 1, host("90Mi", "agent-1"))},
			"no place for w/tail on agent-1: a pod asks for 20 MiB, and at most 10 MiB are left: 10 MiB too few",
		},
		"a pod where every node has a daemon": {
			machines("0", "100Mi", "100Mi"),
			[]client.Object{deploy("app", 1, podOf("90Mi")), daemons("tail", podOf("20Mi"))},
			"no place for w/app on any agent: a pod asks for 90 MiB, and at most 80 MiB are left: 10 MiB too few",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			assert.ErrorContains(t, workloads.CheckMemory(test.cfg, one(test.objects...)), "\n  - "+test.want)
		})
	}
}

func TestCheckMemory_Passes(t *testing.T) {
	tests := map[string]struct {
		cfg     *config.Config
		objects []client.Object
	}{
		"the last byte":               {machines("0", "10"), []client.Object{deploy("app", 10, podOf("1"))}},
		"no replica":                  {machines("0", "1Mi"), []client.Object{deploy("off", 0, podOf("1Gi"))}},
		"a pod that asks for nothing": {machines("0", "1Mi"), []client.Object{deploy("full", 1, podOf("1Mi")), deploy("guest", 1, corev1.PodSpec{})}},
		"a server's own, however full the agents": {machines("10Mi", "10Mi"), []client.Object{
			deploy("app", 1, podOf("10Mi")), deploy("own", 1, with(podOf("10Mi"), func(p *corev1.PodSpec) { p.NodeName = "server" })),
		}},
		"a tolerating pod on the server": {machines("10Mi", "10Mi"), []client.Object{
			deploy("app", 1, podOf("10Mi")), deploy("critical", 1, tolerating("9Mi", corev1.Toleration{Operator: corev1.TolerationOpExists})),
		}},
		"the big one before those that were named before it": {machines("0", "10", "10"), []client.Object{
			deploy("a", 2, podOf("5")), deploy("z", 1, podOf("10")),
		}},
		"the pinned one before a bigger one": {machines("0", "10", "10"), []client.Object{
			deploy("app", 1, podOf("10")), deploy("there", 1, selecting("9", corev1.LabelHostname, "agent-0")),
		}},
		"each where most is free":     {machines("0", "10", "13"), []client.Object{deploy("a", 1, podOf("7")), deploy("b", 1, podOf("6")), deploy("c", 1, podOf("5")), deploy("d", 1, podOf("4"))}},
		"a daemon that no node takes": {machines("10", "1"), []client.Object{daemons("amd", selecting("2", corev1.LabelArchStable, "amd64"))}},
		"what has no pods":            {machines("0", "1Mi"), []client.Object{&corev1.ConfigMap{}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			assert.NoError(t, workloads.CheckMemory(test.cfg, one(test.objects...)))
		})
	}
}

func TestCheckMemory_OffersOnlyMendsThatAreLeft(t *testing.T) {
	cfg := machines("0", "1Mi")
	tooMuch := one(deploy("big", 1, podOf("1Gi")))
	mends := []string{"flux.profile: low-memory", "flux.imageAutomation: false", "observability: cloud"}
	for _, mend := range mends {
		assert.NotContains(t, workloads.CheckMemory(cfg, tooMuch).Error(), mend)
	}
	cfg.Flux, cfg.Observability = config.Flux{Profile: config.Standard, ImageAutomation: true}, config.Local
	for _, mend := range mends {
		assert.ErrorContains(t, workloads.CheckMemory(cfg, tooMuch), mend)
	}
}

// The rules of the scheduler, with sidecars as by KEP 753.
func TestBudget_CountsWhatTheSchedulerCounts(t *testing.T) {
	container := func(memory string) corev1.Container { return corev1.Container{Resources: asks(memory)} }
	limited := func(memory string) corev1.Container { return corev1.Container{Resources: limitedTo(memory)} }
	sidecar := func(memory string) corev1.Container {
		c := container(memory)
		c.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways)
		return c
	}
	tests := map[string]struct {
		pod                    corev1.PodSpec
		wantRequest, wantLimit int64
	}{
		"containers together":        {corev1.PodSpec{Containers: []corev1.Container{container("3"), container("4")}}, 7, 0},
		"a limit is a request":       {corev1.PodSpec{Containers: []corev1.Container{limited("7")}}, 7, 7},
		"limits together":            {corev1.PodSpec{Containers: []corev1.Container{limited("7"), limited("3")}}, 10, 10},
		"one without a limit":        {corev1.PodSpec{Containers: []corev1.Container{limited("7"), container("3")}}, 10, 0},
		"a first one without it":     {corev1.PodSpec{InitContainers: []corev1.Container{container("3")}, Containers: []corev1.Container{limited("7")}}, 7, 0},
		"a first one with more":      {corev1.PodSpec{InitContainers: []corev1.Container{limited("9")}, Containers: []corev1.Container{limited("7")}}, 9, 9},
		"a small init container":     {corev1.PodSpec{InitContainers: []corev1.Container{container("6")}, Containers: []corev1.Container{container("7")}}, 7, 0},
		"a large init container":     {corev1.PodSpec{InitContainers: []corev1.Container{container("9"), container("8")}, Containers: []corev1.Container{container("7")}}, 9, 0},
		"a sidecar":                  {corev1.PodSpec{InitContainers: []corev1.Container{sidecar("2")}, Containers: []corev1.Container{container("7")}}, 9, 0},
		"an init container after it": {corev1.PodSpec{InitContainers: []corev1.Container{sidecar("2"), container("8")}, Containers: []corev1.Container{container("7")}}, 10, 0},
		"an init container before":   {corev1.PodSpec{InitContainers: []corev1.Container{container("8"), sidecar("2")}, Containers: []corev1.Container{container("7")}}, 9, 0},
		"overhead":                   {with(podOf("7"), func(p *corev1.PodSpec) { p.Overhead = asks("2").Requests }), 9, 0},
		"a request below its limit": {corev1.PodSpec{Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{
			Requests: asks("3").Requests, Limits: asks("8").Requests,
		}}}}, 3, 8},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			budget := workloads.Budget(machines("0", "100"), one(deploy("app", 3, test.pod)))
			require.Len(t, budget.Pods, 1)
			assert.Equal(t, test.wantRequest, budget.Pods[0].Request)
			assert.Equal(t, test.wantLimit, budget.Pods[0].Limit)
			assert.Equal(t, 3*test.wantRequest, budget.Requested())
			assert.Equal(t, 3*test.wantLimit, budget.Limits())
		})
	}
}

func TestBudget_CountsEveryKindOfController(t *testing.T) {
	unset := deploy("default", 1, podOf("1"))
	unset.Spec.Replicas = nil
	set := &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{Replicas: new(int32(2)), Template: corev1.PodTemplateSpec{Spec: podOf("1")}}}
	set.Name = "set"
	budget := workloads.Budget(machines("9", "9", "9"), one(
		unset, set, deploy("three", 3, podOf("1")), daemons("agents", podOf("1")),
		daemons("nodes", tolerating("1", corev1.Toleration{Operator: corev1.TolerationOpExists})),
	))
	pods := map[string]int64{}
	for _, pod := range budget.Pods {
		pods[pod.Name] = pod.Pods
	}
	assert.Equal(t, map[string]int64{"default": 1, "set": 2, "three": 3, "agents": 2, "nodes": 3}, pods)
	assert.Regexp(t, `(?m)^w +nodes .* every node$`, budget.String())
}

func TestBudget_SaysWherePodsMayRun(t *testing.T) {
	tolerate := func(t corev1.Toleration) corev1.PodSpec { return tolerating("1", t) }
	selects := func(key, value string) corev1.PodSpec { return selecting("1", key, value) }
	tests := map[string]struct {
		pod  corev1.PodSpec
		want string
	}{
		"anything":                   {podOf("1"), "any agent"},
		"tolerates the taint":        {tolerate(corev1.Toleration{Key: controlPlane, Operator: corev1.TolerationOpExists}), "any node"},
		"tolerates its empty value":  {tolerate(corev1.Toleration{Key: controlPlane}), "any node"},
		"tolerates everything":       {tolerate(corev1.Toleration{Operator: corev1.TolerationOpExists}), "any node"},
		"tolerates another value":    {tolerate(corev1.Toleration{Key: controlPlane, Value: "true"}), "any agent"},
		"tolerates another effect":   {tolerate(corev1.Toleration{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}), "any agent"},
		"tolerates another taint":    {tolerate(corev1.Toleration{Key: "CriticalAddonsOnly", Operator: corev1.TolerationOpExists}), "any agent"},
		"wants a host":               {selects("kubernetes.io/hostname", "agent-1"), "agent-1"},
		"wants a tainted host":       {selects("kubernetes.io/hostname", "server"), "no node"},
		"wants Linux":                {selects("kubernetes.io/os", "linux"), "any agent"},
		"wants another system":       {selects("kubernetes.io/os", "windows"), "no node"},
		"wants an architecture":      {selects("kubernetes.io/arch", "arm64"), "any agent"},
		"wants a label nothing sets": {selects("disk", "ssd"), "no node"},
		"wants any server":           {selects(controlPlane, "true"), "no node"},
		"names its node":             {with(podOf("1"), func(p *corev1.PodSpec) { p.NodeName = "server" }), "server"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			budget := workloads.Budget(machines("10", "10", "10"), one(deploy("app", 1, test.pod)))
			assert.Regexp(t, `(?m)^w +app +1 × +0 +-   `+test.want+`$`, budget.String())
		})
	}
}

// TestCheckMemory_PassesOnlyWhatHasAPlace holds the check against every way there is to place
// the pods of many small clusters. What has no way at all is refused. Of what has one, it finds
// one for nearly all: what it refuses then is what comes out so close that the scheduler, which
// knows no better, may fail at it too.
func TestCheckMemory_PassesOnlyWhatHasAPlace(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	passed, missed, hopeless := 0, 0, 0
	for round := range 5000 {
		cfg, objects, pods := instance(random)
		var free []int64
		for _, node := range cfg.Cluster.Nodes {
			size := node.Allocatable()
			free = append(free, size.Value())
		}
		err := workloads.CheckMemory(cfg, one(objects...))
		switch possible := fits(pods, slices.Clone(free)); {
		case err == nil:
			passed++
			require.True(t, possible, "round %d: passed, and yet %v have no place on %v", round, pods, free)
		case possible:
			missed++
		default:
			hopeless++
		}
	}
	t.Logf("%d passed, %d refused though there is a way, %d without one", passed, missed, hopeless)
	assert.Greater(t, passed, 1000)
	assert.Greater(t, hopeless, 1000)
	assert.Less(t, missed, passed/20)
}

// placed is one pod of a random instance, and the nodes that it may run on.
type placed struct {
	size  int64
	nodes []int
}

// instance makes a cluster of two to four nodes and a handful of pods.
func instance(random *rand.Rand) (*config.Config, []client.Object, []placed) {
	cfg := machines(strconv.Itoa(random.IntN(20)))
	for i := range 1 + random.IntN(3) {
		cfg.Cluster.Nodes = append(cfg.Cluster.Nodes, config.Node{
			Name: "n" + strconv.Itoa(i), Role: config.Agent, Memory: strconv.Itoa(random.IntN(20)), Reserved: "0",
		})
	}
	var objects []client.Object
	var pods []placed
	for i := range 2 + random.IntN(4) {
		made := placed{size: int64(1 + random.IntN(9))}
		pod := podOf(strconv.FormatInt(made.size, 10))
		host, tolerates := "", random.IntN(3) == 0
		if random.IntN(4) == 0 {
			host = "n0"
			pod.NodeSelector = map[string]string{corev1.LabelHostname: host}
		}
		if tolerates {
			pod.Tolerations = []corev1.Toleration{{Key: controlPlane, Operator: corev1.TolerationOpExists}}
		}
		for node, machine := range cfg.Cluster.Nodes {
			if cmp.Or(host, machine.Name) == machine.Name && (tolerates || node > 0) {
				made.nodes = append(made.nodes, node)
			}
		}
		if random.IntN(5) == 0 {
			objects = append(objects, daemons("d"+strconv.Itoa(i), pod))
			for _, node := range made.nodes {
				pods = append(pods, placed{made.size, []int{node}})
			}
			continue
		}
		count := 1 + random.IntN(2)
		objects = append(objects, deploy("p"+strconv.Itoa(i), int32(count), pod))
		pods = append(pods, slices.Repeat([]placed{made}, count)...)
	}
	return cfg, objects, pods
}

// fits tries every way to place the pods.
func fits(pods []placed, free []int64) bool {
	if len(pods) == 0 {
		return true
	}
	for _, node := range pods[0].nodes {
		if free[node] < pods[0].size {
			continue
		}
		free[node] -= pods[0].size
		if fits(pods[1:], free) {
			return true
		}
		free[node] += pods[0].size
	}
	return false
}
