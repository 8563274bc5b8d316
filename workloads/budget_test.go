package workloads_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
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

func deploy(name string, replicas int32, pod corev1.PodSpec) *appsv1.Deployment {
	return &appsv1.Deployment{
		TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}, ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(replicas), Template: corev1.PodTemplateSpec{Spec: pod},
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType},
		},
	}
}

func daemons(name string, pod corev1.PodSpec) *appsv1.DaemonSet {
	return &appsv1.DaemonSet{
		TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "DaemonSet"}, ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DaemonSetSpec{Template: corev1.PodTemplateSpec{Spec: pod}},
	}
}

// rolling is a Deployment as Kubernetes defaults one: a new pod before the old one ends.
func rolling(deployment *appsv1.Deployment) *appsv1.Deployment {
	deployment.Spec.Strategy = appsv1.DeploymentStrategy{}
	return deployment
}

func with(pod corev1.PodSpec, change func(pod *corev1.PodSpec)) corev1.PodSpec {
	change(&pod)
	return pod
}

func one(objects ...client.Object) []workloads.Workload {
	return []workloads.Workload{{Name: "w", Objects: objects}}
}

// The stacks of this project are what the check is for: they fit, whatever the scheduler does.
func TestCheckMemory_PassesTheRealStacks(t *testing.T) {
	for name, cfg := range stacks(t) {
		t.Run(name, func(t *testing.T) {
			made := catalog(t, cfg)
			require.NoError(t, workloads.CheckMemory(cfg, made))
			budget, err := workloads.Budget(cfg, made)
			require.NoError(t, err)
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
	err := workloads.CheckMemory(cfg, []workloads.Workload{
		{Name: "metrics", Objects: []client.Object{deploy("prometheus", 1, podOf("640Mi")), daemons("tail", podOf("32Mi"))}},
		{Name: "hvac", Objects: []client.Object{rolling(deploy("app", 2, podOf("300Mi")))}},
	})
	require.EqualError(t, err, `the memory of cluster.nodes does not do for every pod:
  - the pods ask for 1444 MiB, and there are 1408 MiB for them: 36 MiB too few
mend it in one of these ways:
  - more memory or less reserved in cluster.nodes, or a node more
  - cluster.memoryCheck: false, which leaves it to the scheduler

WORKLOAD   POD              PODS × MiB   WHERE
hvac       app                2 ×  300   any agent, twice while it updates
k3s        coredns            1 ×   70   any node
k3s        metrics-server     1 ×   70   any node, twice while it updates
k3s        traefik            1 ×    0   any node
metrics    prometheus         1 ×  640   any agent
metrics    tail               2 ×   32   every agent
all                               1444

NODE      MiB FOR PODS
server             128   takes no workloads
agent-0            640
agent-1            640
all               1408`)
}

func TestCheckMemory_Refuses(t *testing.T) {
	surging := daemons("daemon", podOf("60Mi"))
	surging.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxSurge: new(intstr.FromInt32(1))}
	tests := map[string]struct {
		cfg     *config.Config
		objects []client.Object
		want    string
	}{
		"a pod as large as no node": {
			machines("1Gi", "640Mi"),
			[]client.Object{deploy("big", 1, podOf("641Mi"))},
			"w/big asks for 641 MiB, and no node that it may run on has more than 640 MiB",
		},
		"a pod that no node takes": {
			machines("0", "640Mi"),
			[]client.Object{deploy("amd", 1, with(podOf("1Mi"), func(p *corev1.PodSpec) {
				p.NodeSelector = map[string]string{"kubernetes.io/arch": "amd64"}
			}))},
			"w/amd may run on no node",
		},
		"a byte too many": {
			machines("1Gi", "10"),
			[]client.Object{deploy("app", 11, podOf("1"))},
			"the pods that can't be elsewhere than on agent-0 ask for 0 MiB, and there are 0 MiB for them: 1 MiB too few",
		},
		// 400 + 300 on one agent and 500 on the other is how it would fit.
		"a pod that the others may crowd out": {
			machines("0", "800Mi", "500Mi"),
			[]client.Object{deploy("large", 1, podOf("500Mi")), deploy("a", 1, podOf("400Mi")), deploy("b", 1, podOf("300Mi"))},
			"w/large: once the others are placed, no single node may have 500 MiB left, though together they have: 400 MiB too few",
		},
		"an update with no room for the new pod": {
			machines("0", "100Mi"),
			[]client.Object{rolling(deploy("app", 1, podOf("60Mi")))},
			"w/app: while an update runs it twice, no single node may have 60 MiB left for the second: 20 MiB too few",
		},
		"several alike": {
			machines("0", "60Mi", "60Mi"),
			[]client.Object{deploy("a", 1, podOf("40Mi")), deploy("b", 1, podOf("40Mi")), deploy("c", 1, podOf("40Mi"))},
			"w/a, w/b and w/c: once the others are placed, no single node may have 40 MiB left, though together they have: 40 MiB too few",
		},
		"a daemon that may come too late": {
			machines("0", "100Mi", "100Mi"),
			[]client.Object{daemons("daemon", podOf("20Mi")), deploy("app", 1, podOf("90Mi"))},
			"w/daemon: once the others are placed, no single node may have 20 MiB left",
		},
		"a daemon's update with no room for the new pod": {
			machines("0", "100Mi"),
			[]client.Object{surging},
			"w/daemon: while an update runs it twice, no single node may have 60 MiB left for the second: 20 MiB too few",
		},
		"a required affinity": {
			machines("0", "1Gi"),
			[]client.Object{deploy("picky", 1, with(podOf("1Mi"), func(p *corev1.PodSpec) {
				p.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
					RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: "kubernetes.io/hostname"}},
				}}
			}))},
			"workload w: Deployment picky has a required affinity, which the memory check can't weigh: use nodeSelector and tolerations, " +
				"or set cluster.memoryCheck to false",
		},
		"a required spread": {
			machines("0", "1Gi"),
			[]client.Object{deploy("picky", 1, with(podOf("1Mi"), func(p *corev1.PodSpec) {
				p.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{WhenUnsatisfiable: corev1.DoNotSchedule}}
			}))},
			"Deployment picky has a required topology spread",
		},
		"an unknown priority class": {
			machines("0", "1Gi"),
			[]client.Object{deploy("vip", 1, with(podOf("1Mi"), func(p *corev1.PodSpec) { p.PriorityClassName = "vip" }))},
			"Deployment vip has priority class vip, which no workload makes",
		},
		"a priority class that evicts nobody": {
			machines("0", "1Gi"),
			[]client.Object{
				&schedulingv1.PriorityClass{
					TypeMeta: metav1.TypeMeta{Kind: "PriorityClass"}, ObjectMeta: metav1.ObjectMeta{Name: "patient"},
					Value: 1, PreemptionPolicy: ptr.To(corev1.PreemptNever),
				},
				deploy("patient", 1, with(podOf("1Mi"), func(p *corev1.PodSpec) { p.PriorityClassName = "patient" })),
			},
			"Deployment patient has priority class patient, which no workload makes, or which evicts nobody",
		},
		"pods that it can't count": {
			machines("0", "1Gi"),
			[]client.Object{&batchv1.Job{TypeMeta: metav1.TypeMeta{Kind: "Job"}, ObjectMeta: metav1.ObjectMeta{Name: "once"}}},
			"workload w: Job once makes pods in a way that the memory check can't weigh",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			assert.ErrorContains(t, workloads.CheckMemory(test.cfg, one(test.objects...)), test.want)
		})
	}
}

func TestCheckMemory_Passes(t *testing.T) {
	critical := func(p *corev1.PodSpec) { p.PriorityClassName = "system-node-critical" }
	fewer := rolling(deploy("app", 1, podOf("60Mi")))
	fewer.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxUnavailable: new(intstr.FromInt32(1))}
	tests := map[string]struct {
		cfg     *config.Config
		objects []client.Object
	}{
		"the last byte":                           {machines("0", "10"), []client.Object{deploy("app", 10, podOf("1"))}},
		"an update that ends a pod first":         {machines("0", "100Mi"), []client.Object{fewer}},
		"no replica":                              {machines("0", "1Mi"), []client.Object{deploy("off", 0, podOf("1Gi"))}},
		"a pod that asks for nothing":             {machines("0", "1Mi"), []client.Object{deploy("full", 1, podOf("1Mi")), deploy("guest", 1, corev1.PodSpec{})}},
		"a daemon that the scheduler makes room":  {machines("0", "100Mi", "100Mi"), []client.Object{daemons("daemon", with(podOf("20Mi"), critical)), deploy("app", 1, podOf("80Mi"))}},
		"a preferred affinity":                    {machines("0", "1Gi"), []client.Object{deploy("app", 1, with(podOf("1Mi"), func(p *corev1.PodSpec) { p.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{}} }))}},
		"a server's own, however full the agents": {machines("10Mi", "10Mi"), []client.Object{deploy("app", 1, podOf("10Mi")), deploy("own", 1, with(podOf("10Mi"), func(p *corev1.PodSpec) { p.NodeName = "server" }))}},
		"a pod bound to another node": {machines("0", "10", "10"), []client.Object{
			deploy("app", 1, podOf("10")),
			deploy("there", 1, with(podOf("9"), func(p *corev1.PodSpec) {
				critical(p)
				p.NodeSelector = map[string]string{"kubernetes.io/hostname": "agent-0"}
			})),
		}},
		"what has no pods": {machines("0", "1Mi"), []client.Object{&corev1.ConfigMap{TypeMeta: metav1.TypeMeta{Kind: "ConfigMap"}}}},
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

// The rules of the scheduler, by KEP 753 (sidecars) and KEP 2837 (a pod's own resources).
func TestBudget_CountsWhatTheSchedulerCounts(t *testing.T) {
	container := func(memory string) corev1.Container { return corev1.Container{Resources: asks(memory)} }
	sidecar := func(memory string) corev1.Container {
		c := container(memory)
		c.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways)
		return c
	}
	limit := corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("7")}}
	tests := map[string]struct {
		pod  corev1.PodSpec
		want int64
	}{
		"containers together":        {corev1.PodSpec{Containers: []corev1.Container{container("3"), container("4")}}, 7},
		"a limit is a request":       {corev1.PodSpec{Containers: []corev1.Container{{Resources: limit}}}, 7},
		"a small init container":     {corev1.PodSpec{InitContainers: []corev1.Container{container("6")}, Containers: []corev1.Container{container("7")}}, 7},
		"a large init container":     {corev1.PodSpec{InitContainers: []corev1.Container{container("9"), container("8")}, Containers: []corev1.Container{container("7")}}, 9},
		"a sidecar":                  {corev1.PodSpec{InitContainers: []corev1.Container{sidecar("2")}, Containers: []corev1.Container{container("7")}}, 9},
		"an init container after it": {corev1.PodSpec{InitContainers: []corev1.Container{sidecar("2"), container("8")}, Containers: []corev1.Container{container("7")}}, 10},
		"an init container before":   {corev1.PodSpec{InitContainers: []corev1.Container{container("8"), sidecar("2")}, Containers: []corev1.Container{container("7")}}, 9},
		"overhead":                   {with(podOf("7"), func(p *corev1.PodSpec) { p.Overhead = asks("2").Requests }), 9},
		"the pod's own request":      {with(podOf("7"), func(p *corev1.PodSpec) { p.Resources = new(asks("20")) }), 20},
		"the pod's own limit":        {corev1.PodSpec{Resources: &limit, Containers: []corev1.Container{{}}}, 7},
		"a limit beside requests":    {with(podOf("3"), func(p *corev1.PodSpec) { p.Resources = &limit }), 3},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			budget, err := workloads.Budget(machines("0", "100"), one(deploy("app", 3, test.pod)))
			require.NoError(t, err)
			require.Len(t, budget.Pods, 1)
			assert.Equal(t, test.want, budget.Pods[0].Request)
			assert.Equal(t, 3*test.want, budget.Requested())
		})
	}
}

func TestBudget_SaysWherePodsMayRun(t *testing.T) {
	tolerate := func(t corev1.Toleration) func(*corev1.PodSpec) {
		return func(p *corev1.PodSpec) { p.Tolerations = []corev1.Toleration{t} }
	}
	selects := func(key, value string) func(*corev1.PodSpec) {
		return func(p *corev1.PodSpec) { p.NodeSelector = map[string]string{key: value} }
	}
	tests := map[string]struct {
		change func(*corev1.PodSpec)
		want   string
	}{
		"anything":                   {func(*corev1.PodSpec) {}, "any agent"},
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
		"names its node":             {func(p *corev1.PodSpec) { p.NodeName = "server" }, "server"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			budget, err := workloads.Budget(machines("10", "10", "10"), one(deploy("app", 1, with(podOf("1"), test.change))))
			require.NoError(t, err)
			assert.Regexp(t, `(?m)^w +app +1 × +0   `+test.want+`$`, budget.String())
		})
	}
}

func TestBudget_KnowsWhichUpdatesNeedRoomForAPodMore(t *testing.T) {
	percent, count := intstr.FromString, intstr.FromInt32
	tests := []struct {
		replicas           int32
		surge, unavailable *intstr.IntOrString
		want               bool
	}{
		{replicas: 1, want: true},
		{replicas: 3, want: true},
		{replicas: 4}, // a quarter of four may go first
		{replicas: 0},
		{replicas: 1, surge: new(count(0))},
		{replicas: 1, unavailable: new(count(1))},
		{replicas: 8, unavailable: new(count(0)), want: true},
		{replicas: 8, surge: new(percent("100%")), unavailable: new(percent("0%")), want: true},
	}
	for _, test := range tests {
		deployment := rolling(deploy("app", test.replicas, podOf("1")))
		deployment.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: test.surge, MaxUnavailable: test.unavailable}
		budget, err := workloads.Budget(machines("0", "100"), one(deployment))
		require.NoError(t, err)
		assert.Equal(t, test.want, strings.Contains(budget.String(), "twice while it updates"), "%+v", test)
	}
}

// thing is a pod of a random instance, and all that the adversary knows of it.
type thing struct {
	size, priority int
	nodes          []bool
	zero           bool
}

// TestCheckMemory_NoAdversaryCanLeaveAPodWithoutRoom lets an adversary place the pods of many
// small clusters in every way there is. What the check passed has room in each of them. Where
// all pods are of one byte, so that none is cut in pieces, what it refused can be crowded out.
func TestCheckMemory_NoAdversaryCanLeaveAPodWithoutRoom(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	passed, refused := 0, 0
	for round := range 6000 {
		largest := 1 + round%2*3 // every other round has pods of one byte
		cfg, objects, things := instance(random, largest)
		err := workloads.CheckMemory(cfg, one(objects...))
		sizes := make([]int, len(cfg.Cluster.Nodes))
		for i, node := range cfg.Cluster.Nodes {
			size := node.Allocatable()
			sizes[i] = int(size.Value())
		}
		stuck := crowdable(sizes, things)
		if err == nil {
			passed++
			require.False(t, stuck, "round %d: passed, and yet %v on %v can be crowded out", round, things, sizes)
			continue
		}
		refused++
		if largest == 1 {
			require.True(t, stuck, "round %d: %v on %v always have room, and yet: %v", round, things, sizes, err)
		}
	}
	t.Logf("%d passed, %d refused", passed, refused)
	assert.Greater(t, passed, 1000)
	assert.Greater(t, refused, 1000)
}

// instance makes a cluster of two to four nodes and a handful of pods. A pod more of every
// Deployment that surges is among the things, marked as none of the others' burden.
func instance(random *rand.Rand, largest int) (*config.Config, []client.Object, []thing) {
	cfg := &config.Config{}
	for i := range 2 + random.IntN(3) {
		node := config.Node{
			Name: "n" + strconv.Itoa(i), Role: config.Agent, Arch: []string{"amd64", "arm64"}[random.IntN(2)],
			Memory: strconv.Itoa(random.IntN(4*largest + 3)), Reserved: "0",
		}
		if i == 0 {
			node.Role, node.Workloads = config.Server, new(random.IntN(2) == 0)
		}
		cfg.Cluster.Nodes = append(cfg.Cluster.Nodes, node)
	}
	class := &schedulingv1.PriorityClass{TypeMeta: metav1.TypeMeta{Kind: "PriorityClass"}, ObjectMeta: metav1.ObjectMeta{Name: "high"}, Value: 5}
	objects := []client.Object{class}
	var things []thing
	for len(things) < 5 {
		made := thing{size: random.IntN(largest) + 1, nodes: make([]bool, len(cfg.Cluster.Nodes))}
		pod := podOf(strconv.Itoa(made.size))
		arch, host, tolerates := "", "", random.IntN(3) == 0
		switch random.IntN(6) {
		case 0:
			arch = []string{"amd64", "arm64"}[random.IntN(2)]
			pod.NodeSelector = map[string]string{"kubernetes.io/arch": arch}
		case 1:
			host = "n" + strconv.Itoa(random.IntN(len(cfg.Cluster.Nodes)))
			pod.NodeSelector = map[string]string{"kubernetes.io/hostname": host}
		}
		if tolerates {
			pod.Tolerations = []corev1.Toleration{{Key: controlPlane, Operator: corev1.TolerationOpExists}}
		}
		if random.IntN(4) == 0 {
			pod.PriorityClassName, made.priority = "high", 5
		}
		for i, node := range cfg.Cluster.Nodes {
			made.nodes[i] = (arch == "" || node.Arch == arch) && (host == "" || node.Name == host) && (tolerates || node.RunsWorkloads())
		}
		name := "p" + strconv.Itoa(len(objects))
		switch random.IntN(6) {
		case 0:
			objects = append(objects, daemons(name, pod))
			for i, may := range made.nodes {
				if may {
					daemon := made
					daemon.nodes = make([]bool, len(made.nodes))
					daemon.nodes[i] = true
					things = append(things, daemon)
				}
			}
			if len(things) == 0 {
				things = append(things, thing{zero: true})
			}
		case 1:
			objects = append(objects, rolling(deploy(name, 1, pod)))
			another := made
			another.zero = true
			things = append(things, made, another)
		default:
			count := 1 + random.IntN(2)
			objects = append(objects, deploy(name, int32(count), pod))
			for range count {
				things = append(things, made)
			}
		}
	}
	return cfg, objects, things
}

// crowdable says whether the others can be so placed that one thing has no room.
func crowdable(sizes []int, things []thing) bool {
	for i, wanted := range things {
		if wanted.size == 0 {
			continue
		}
		var others []thing
		for j, other := range things {
			if j != i && !other.zero {
				others = append(others, other)
			}
		}
		if crowd(wanted, others, append([]int(nil), sizes...), append([]int(nil), sizes...)) {
			return true
		}
	}
	return false
}

// crowd tries every way to place the others, or to leave them out. Nothing is placed where
// it has no room; for the one that is wanted, what has a lower priority is evicted.
func crowd(wanted thing, others []thing, free, freeForWanted []int) bool {
	if len(others) == 0 {
		for i, may := range wanted.nodes {
			if may && freeForWanted[i] >= wanted.size {
				return false
			}
		}
		return true
	}
	other, rest := others[0], others[1:]
	for i, may := range other.nodes {
		if !may || free[i] < other.size {
			continue
		}
		burden := 0
		if other.priority >= wanted.priority {
			burden = other.size
		}
		free[i], freeForWanted[i] = free[i]-other.size, freeForWanted[i]-burden
		stuck := crowd(wanted, rest, free, freeForWanted)
		free[i], freeForWanted[i] = free[i]+other.size, freeForWanted[i]+burden
		if stuck {
			return true
		}
	}
	return crowd(wanted, rest, free, freeForWanted)
}
