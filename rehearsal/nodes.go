package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/internal/k3s"
)

const (
	simulated   = "kwok.x-k8s.io/node"
	podsPerNode = 110 // the kubelet's own limit

	// nodeLease is how long kwok's hold on a node lasts; it renews it four times as often.
	nodeLease = 8 * time.Second
)

// buildNode is the simulated machine: what pods may use of it is what k3s leaves them.
func buildNode(machine config.Node) (*corev1.Node, error) {
	cpu, err := resource.ParseQuantity(machine.CPU)
	if err != nil {
		return nil, fmt.Errorf("node %s: cpu %q: %w", machine.Name, machine.CPU, err)
	}
	memory, err := resource.ParseQuantity(machine.Memory)
	if err != nil {
		return nil, fmt.Errorf("node %s: memory %q: %w", machine.Name, machine.Memory, err)
	}
	pods := *resource.NewQuantity(podsPerNode, resource.DecimalSI)
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: machine.Name,
			Labels: map[string]string{
				corev1.LabelHostname:   machine.Name,
				corev1.LabelArchStable: machine.Arch,
				corev1.LabelOSStable:   "linux",
			},
			Annotations: map[string]string{simulated: "fake"},
		},
		Status: corev1.NodeStatus{
			Capacity: corev1.ResourceList{
				corev1.ResourceCPU: cpu, corev1.ResourceMemory: memory, corev1.ResourcePods: pods,
			},
			Allocatable: corev1.ResourceList{
				corev1.ResourceCPU: cpu, corev1.ResourceMemory: machine.Allocatable(), corev1.ResourcePods: pods,
			},
			NodeInfo: corev1.NodeSystemInfo{Architecture: machine.Arch, OperatingSystem: "linux"},
		},
	}
	if machine.Role == config.Server {
		node.Labels[k3s.ControlPlaneRole] = "true"
	}
	if !machine.RunsWorkloads() {
		node.Spec.Taints = []corev1.Taint{controlPlaneTaint()}
	}
	return node, nil
}

func controlPlaneTaint() corev1.Taint {
	return corev1.Taint{Key: k3s.ControlPlaneRole, Effect: corev1.TaintEffectNoSchedule}
}

// ensureNodes makes the cluster's nodes be those of the config, and waits until they are
// ready: before, no pod is scheduled.
func (r *Rehearsal) ensureNodes(ctx context.Context, machines []config.Node) error {
	c, err := r.Client()
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, machine := range machines {
		node, err := buildNode(machine)
		if err != nil {
			return err
		}
		wanted[node.Name] = true
		if err := applyNode(ctx, c, node); err != nil {
			return err
		}
	}
	var nodes corev1.NodeList
	if err := c.List(ctx, &nodes); err != nil {
		return fmt.Errorf("listing nodes: %w", err)
	}
	for _, node := range nodes.Items {
		if !wanted[node.Name] {
			if err := client.IgnoreNotFound(c.Delete(ctx, &node)); err != nil {
				return fmt.Errorf("removing node %s, which the stack no longer names: %w", node.Name, err)
			}
		}
	}
	var waiting string
	err = poll(ctx, 100*time.Millisecond, readyBound, func(ctx context.Context) (bool, error) {
		if err := c.List(ctx, &nodes); err != nil {
			return false, fmt.Errorf("listing nodes: %w", err)
		}
		waiting = ""
		for _, node := range nodes.Items {
			if !wanted[node.Name] {
				continue
			}
			held, err := heldByKwok(ctx, c, node.Name)
			if err != nil {
				return false, err
			}
			if !held || !nodeReady(&node) {
				waiting = node.Name
			}
		}
		return waiting == "", nil
	})
	if errors.Is(err, errTimeout) {
		return fmt.Errorf("waiting for node %s to be ready: %w; see %s", waiting, err,
			r.folder.join("kwok", "clusters", kwokCluster, "logs", "kwok-controller.log"))
	}
	return err
}

// heldByKwok says whether a kwok that runs plays this node's kubelet.
func heldByKwok(ctx context.Context, c client.Client, name string) (bool, error) {
	var lease coordinationv1.Lease
	err := c.Get(ctx, client.ObjectKey{Namespace: corev1.NamespaceNodeLease, Name: name}, &lease)
	if client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("asking who plays node %s: %w", name, err)
	}
	return err == nil && lease.Spec.RenewTime != nil && time.Since(lease.Spec.RenewTime.Time) < nodeLease/2, nil
}

func nodeReady(node *corev1.Node) bool {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// applyNode creates the node, or changes what differs of an existing one; taints that
// Kubernetes's own controllers put there stay.
func applyNode(ctx context.Context, c client.Client, wanted *corev1.Node) error {
	node := &corev1.Node{}
	err := c.Get(ctx, client.ObjectKeyFromObject(wanted), node)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("reading node %s: %w", wanted.Name, err)
	}
	if err != nil {
		if err := c.Create(ctx, wanted.DeepCopy()); err != nil {
			return fmt.Errorf("making node %s: %w", wanted.Name, err)
		}
		return nil
	}
	before := node.DeepCopy()
	delete(node.Labels, k3s.ControlPlaneRole)
	maps.Copy(node.Labels, wanted.Labels)
	node.Spec.Taints = mergeTaints(node.Spec.Taints, wanted.Spec.Taints)
	if !equality.Semantic.DeepEqual(before, node) {
		if err := c.Patch(ctx, node, client.MergeFrom(before)); err != nil {
			return fmt.Errorf("changing node %s: %w", wanted.Name, err)
		}
	}
	before = node.DeepCopy()
	node.Status.Capacity, node.Status.Allocatable = wanted.Status.Capacity, wanted.Status.Allocatable
	node.Status.NodeInfo.Architecture = wanted.Status.NodeInfo.Architecture
	if !equality.Semantic.DeepEqual(before, node) {
		if err := c.Status().Patch(ctx, node, client.MergeFrom(before)); err != nil {
			return fmt.Errorf("resizing node %s: %w", wanted.Name, err)
		}
	}
	return nil
}

func mergeTaints(present, wanted []corev1.Taint) []corev1.Taint {
	var merged []corev1.Taint
	for _, taint := range present {
		if taint.Key != k3s.ControlPlaneRole {
			merged = append(merged, taint)
		}
	}
	return append(merged, wanted...)
}
