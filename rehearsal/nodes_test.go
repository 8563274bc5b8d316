package rehearsal

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/nullify005/manager-cluster-state/config"
)

func TestBuildNode_IsTheMachineLessWhatK3sTakes(t *testing.T) {
	node, err := buildNode(config.Node{
		Name: "kiwipi", Role: config.Server, Arch: "arm64", CPU: "4", Memory: "1Gi", Reserved: "384Mi", Workloads: new(false),
	})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{
		"kubernetes.io/hostname": "kiwipi", "kubernetes.io/arch": "arm64", "kubernetes.io/os": "linux",
		"node-role.kubernetes.io/control-plane": "true",
	}, node.Labels)
	assert.Equal(t, "fake", node.Annotations["kwok.x-k8s.io/node"])
	assert.Equal(t, []corev1.Taint{{Key: "node-role.kubernetes.io/control-plane", Effect: corev1.TaintEffectNoSchedule}}, node.Spec.Taints)
	assert.Equal(t, "640Mi", node.Status.Allocatable.Memory().String())
	assert.Equal(t, "1Gi", node.Status.Capacity.Memory().String())
	assert.Equal(t, "4", node.Status.Allocatable.Cpu().String())
	assert.Equal(t, "110", node.Status.Allocatable.Pods().String())
}

func TestBuildNode_AnAgentTakesWorkloads(t *testing.T) {
	node, err := buildNode(config.Node{Name: "a", Role: config.Agent, Arch: "amd64", CPU: "2", Memory: "4Gi", Reserved: "0"})
	require.NoError(t, err)
	assert.Empty(t, node.Spec.Taints)
	assert.NotContains(t, node.Labels, "node-role.kubernetes.io/control-plane")
}

func TestBuildNode_NamesTheNodeOfABadQuantity(t *testing.T) {
	_, err := buildNode(config.Node{Name: "a", CPU: "4", Memory: "lots"})
	assert.ErrorContains(t, err, `node a: memory "lots"`)
}

func TestMergeTaints_KeepsThoseOfKubernetes(t *testing.T) {
	unreachable := corev1.Taint{Key: "node.kubernetes.io/unreachable", Effect: corev1.TaintEffectNoExecute}
	assert.Equal(t, []corev1.Taint{unreachable}, mergeTaints([]corev1.Taint{unreachable, controlPlaneTaint()}, nil))
	assert.Equal(t, []corev1.Taint{unreachable, controlPlaneTaint()}, mergeTaints([]corev1.Taint{unreachable}, []corev1.Taint{controlPlaneTaint()}))
}
