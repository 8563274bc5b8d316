// Package k3s holds facts about k3s itself: what a cluster of it runs that no stack made.
package k3s

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// ControlPlaneRole is the label of a server, and the taint of one that takes no workloads.
const ControlPlaneRole = "node-role.kubernetes.io/control-plane"

// Addons are the Deployments that a k3s of that release brings and nothing here switches off,
// as far as the scheduler sees them; none where there is no k3s, which is the release "". It
// has more: local-path-provisioner and the load balancer's DaemonSet ask for no memory, and
// nothing here talks to them.
func Addons(release string) []*appsv1.Deployment {
	if release == "" {
		return nil
	}
	coreDNS := addon("coredns", map[string]string{"k8s-app": "kube-dns"}, "70Mi")
	coreDNS.Spec.Template.Spec.PriorityClassName = "system-cluster-critical"
	coreDNS.Spec.Template.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("170Mi")}
	coreDNS.Spec.Strategy = appsv1.DeploymentStrategy{
		Type:          appsv1.RollingUpdateDeploymentStrategyType,
		RollingUpdate: &appsv1.RollingUpdateDeployment{MaxUnavailable: new(intstr.FromInt32(1))},
	}
	metricsServer := addon("metrics-server", map[string]string{"k8s-app": "metrics-server"}, "70Mi")
	metricsServer.Spec.Template.Spec.PriorityClassName = "system-node-critical"
	traefik := addon("traefik", map[string]string{"app.kubernetes.io/name": "traefik"}, "")
	traefik.Spec.Template.Spec.PriorityClassName = "system-cluster-critical"
	return []*appsv1.Deployment{coreDNS, metricsServer, traefik}
}

func addon(name string, labels map[string]string, memory string) *appsv1.Deployment {
	container := corev1.Container{Name: name, Image: "rancher/" + name}
	if memory != "" {
		container.Resources.Requests = corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse(memory),
		}
	}
	return &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: name, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					Containers: []corev1.Container{container},
					Tolerations: []corev1.Toleration{
						{Key: "CriticalAddonsOnly", Operator: corev1.TolerationOpExists},
						{Key: ControlPlaneRole, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
					},
				},
			},
		},
	}
}
