package rehearsal_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/internal/k3s"
	"github.com/nullify005/manager-cluster-state/rehearsal"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// assertWithinBudget compares the scheduler's work with the budget: every pod runs, no node
// has more than it can take, and altogether the cluster has what the budget says.
func (s *stage) assertWithinBudget(t *testing.T) {
	budget := s.budget(t)
	t.Logf("\n%s", budget)
	c, err := s.Client()
	require.NoError(t, err)
	asked := s.requests(t)
	var sum int64
	for _, planned := range budget.Nodes {
		var node corev1.Node
		require.NoError(t, c.Get(t.Context(), client.ObjectKey{Name: planned.Name}, &node))
		assert.Equal(t, planned.Allocatable, node.Status.Allocatable.Memory().Value(), planned.Name)
		assert.LessOrEqual(t, asked[planned.Name], planned.Allocatable, planned.Name)
		sum += asked[planned.Name]
	}
	assert.Equal(t, budget.Requested(), sum, "got %v", asked)
}

func (s *stage) budget(t *testing.T) *workloads.MemoryBudget {
	t.Helper()
	cfg, err := s.Rehearsed()
	require.NoError(t, err)
	budget := workloads.Budget(cfg, s.catalog(t))
	return budget
}

// requests sums what the pods of each node ask for, as the API server has them.
func (s *stage) requests(t *testing.T) map[string]int64 {
	t.Helper()
	c, err := s.Client()
	require.NoError(t, err)
	var pods corev1.PodList
	require.NoError(t, c.List(t.Context(), &pods))
	require.NotEmpty(t, pods.Items)
	asked := map[string]int64{}
	for _, pod := range pods.Items {
		require.Equal(t, corev1.PodRunning, pod.Status.Phase, pod.Name)
		require.NotEmpty(t, pod.Spec.NodeName, pod.Name)
		var stays int64
		for _, container := range slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers) {
			request := container.Resources.Requests.Memory().Value()
			if ends := slices.ContainsFunc(pod.Spec.InitContainers, func(c corev1.Container) bool {
				return c.Name == container.Name && c.RestartPolicy == nil
			}); ends {
				require.LessOrEqual(t, request, stays, "%s: what ends before the rest starts doesn't count", pod.Name)
				continue
			}
			stays += request
		}
		asked[pod.Spec.NodeName] += stays
	}
	return asked
}

// ofK3s says whether k3s has that pod, on a real cluster too.
func ofK3s(pod *corev1.Pod) bool {
	for _, addon := range k3s.Addons("any") {
		if pod.Namespace == addon.Namespace && strings.HasPrefix(pod.Name, addon.Name+"-") {
			return true
		}
	}
	return false
}

// assertOneTooMany has nodes that are just large enough, and then one workload more: the check
// refuses it, and without the check the scheduler has no room for it.
func (s *stage) assertOneTooMany(t *testing.T) {
	const feature, controller = "flux.helm", "helm-controller"
	cfg, err := s.Rehearsed()
	require.NoError(t, err)
	agents := slices.DeleteFunc(slices.Clone(cfg.Cluster.Nodes), func(node config.Node) bool { return node.Role != config.Agent })
	before := s.budget(t).Requested()

	// The smallest agents that the check is content with: where the scheduler has put what, it
	// doesn't know.
	fits := func(size func(config.Node) int64) bool {
		s.sizeAgents(t, size)
		return s.budget(t).Check() == nil
	}
	each := before/int64(len(agents)) - 128<<20
	for !fits(func(config.Node) int64 { return each }) {
		each += 1 << 20
	}
	// What that leaves between the pods is taken from one of them.
	last := each
	size := func(node config.Node) int64 {
		if node.Name == agents[0].Name {
			return last
		}
		return each
	}
	for fits(size) {
		last -= 1 << 20
	}
	last += 1 << 20
	require.True(t, fits(size))
	require.NoError(t, s.ShowPreview(t.Context()))
	s.Set(feature, true)
	more := s.budget(t).Requested() - before
	require.Positive(t, more, "%s is off until now, and asks for memory", controller)
	s.said.Reset()
	require.Error(t, s.ShowPreview(t.Context()))
	said := s.said.String()
	assert.Regexp(t, "no place for |too few", said)
	assert.Contains(t, said, "flux.notifications or flux.imageAutomation: false", "the mend")
	assert.Regexp(t, `flux-system +`+controller+` +1 × +\d+ +\d+ +any agent`, said, "the table")

	// Agents that have a MiB less to spare, all together, than it asks for.
	asked := s.requests(t)
	spare := (more - 1<<20) / int64(len(agents))
	s.sizeAgents(t, func(node config.Node) int64 { return asked[node.Name] + spare })
	s.Set("cluster.memoryCheck", false)
	s.Set("readyTimeout", "10s")
	require.Error(t, s.Up(t.Context(), rehearsal.UpOptions{}))
	report, err := s.Status(t.Context())
	require.NoError(t, err)
	assert.False(t, report.OK())
	var text strings.Builder
	require.NoError(t, report.Render(&text))
	assert.Regexp(t, fmt.Sprintf("Unschedulable: .* %d Insufficient memory", len(agents)), text.String(), "the scheduler's own words")
	// Flux's other controllers start anew and may evict it, or an app: one is left over,
	// whichever it is.
	assert.Len(t, s.pending(t), 1)
}

// sizeAgents reserves so much that each agent has that many bytes for pods.
func (s *stage) sizeAgents(t *testing.T, allocatable func(config.Node) int64) {
	t.Helper()
	cfg, err := s.Rehearsed()
	require.NoError(t, err)
	for i, node := range cfg.Cluster.Nodes {
		if node.Role == config.Agent {
			reserved := resource.MustParse(node.Memory)
			reserved.Sub(*resource.NewQuantity(allocatable(node), resource.BinarySI))
			cfg.Cluster.Nodes[i].Reserved = reserved.String()
		}
	}
	content, err := json.Marshal(cfg.Cluster.Nodes)
	require.NoError(t, err)
	var nodes []map[string]any
	require.NoError(t, json.Unmarshal(content, &nodes))
	s.Set("cluster.nodes", nodes)
}

// pending names the pods that are on no node.
func (s *stage) pending(t *testing.T) []string {
	t.Helper()
	c, err := s.Client()
	require.NoError(t, err)
	var pods corev1.PodList
	require.NoError(t, c.List(t.Context(), &pods))
	var names []string
	for _, pod := range pods.Items {
		if pod.Spec.NodeName == "" && pod.Status.Phase == corev1.PodPending {
			names = append(names, pod.Name)
		}
	}
	return names
}

// assertPodSecurity has the API server judge pods in each namespace of the stack whose label
// asks for restricted ones. Nothing is stored.
func (s *stage) assertPodSecurity(t *testing.T) {
	c, err := s.Client()
	require.NoError(t, err)
	var namespaces []string
	for _, workload := range s.catalog(t) {
		for _, object := range workload.Objects {
			if namespace, ok := object.(*corev1.Namespace); ok && namespace.Labels["pod-security.kubernetes.io/enforce"] == "restricted" {
				namespaces = append(namespaces, namespace.Name)
			}
		}
	}
	require.Subset(t, namespaces, []string{"flux-system", "service-intesis-v1", "exporter-weather-v1", "chat-hvac-v1"})
	forbidden := map[string]func(*corev1.PodSpec){
		`host namespaces (hostNetwork=true)`:                         func(p *corev1.PodSpec) { p.HostNetwork = true },
		`privileged (container "app" must not set`:                   privileged,
		`runAsUser=0 (container "app" must not set runAsUser=0)`:     func(p *corev1.PodSpec) { p.Containers[0].SecurityContext.RunAsUser = new(int64(0)) },
		`restricted volume types (volume "root" uses`:                func(p *corev1.PodSpec) { p.Volumes = []corev1.Volume{hostRoot()} },
		`unrestricted capabilities (container "app" must set`:        func(p *corev1.PodSpec) { p.Containers[0].SecurityContext.Capabilities = nil },
		`seccompProfile (pod or container "app" must set`:            func(p *corev1.PodSpec) { p.Containers[0].SecurityContext.SeccompProfile = nil },
		`allowPrivilegeEscalation != false (container "app" must se`: func(p *corev1.PodSpec) { p.Containers[0].SecurityContext.AllowPrivilegeEscalation = nil },
	}
	for _, namespace := range slices.Compact(slices.Sorted(slices.Values(namespaces))) {
		require.NoError(t, c.Create(t.Context(), restrictedPod(namespace), client.DryRunAll), "what keeps the rules is welcome in %s", namespace)
		for want, change := range forbidden {
			pod := restrictedPod(namespace)
			change(&pod.Spec)
			err := c.Create(t.Context(), pod, client.DryRunAll)
			assert.True(t, apierrors.IsForbidden(err), "%s: %v", namespace, err)
			require.ErrorContains(t, err, `violates PodSecurity "restricted:latest"`, namespace)
			assert.ErrorContains(t, err, want, namespace)
		}
	}
}

func privileged(p *corev1.PodSpec) {
	p.Containers[0].SecurityContext.Privileged = new(true)
	p.Containers[0].SecurityContext.AllowPrivilegeEscalation = nil // false is no pod at all then
}

func hostRoot() corev1.Volume {
	return corev1.Volume{Name: "root", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}}
}

func restrictedPod(namespace string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "judged"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "app", Image: "app",
			SecurityContext: &corev1.SecurityContext{
				RunAsNonRoot: new(true), AllowPrivilegeEscalation: new(false),
				Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
		}}},
	}
}
