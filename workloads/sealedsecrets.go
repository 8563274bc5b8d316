package workloads

import (
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/manifests"
)

// SealedSecretsWorkload is the workload that every one with secrets in Git comes after.
const SealedSecretsWorkload = "sealed-secrets"

const (
	sealedSecretsName = "sealed-secrets-controller" // where kubeseal looks for it
	sealedSecretsUser = 1001                        // of the controller's image
)

// sealedSecrets is the controller that opens SealedSecrets. It lives in kube-system, where
// kubeseal expects it.
func sealedSecrets(_ *config.Config, images Images) (Workload, error) {
	image, err := images.reference("docker.io/bitnami/sealed-secrets-controller")
	if err != nil {
		return Workload{}, fmt.Errorf("workload sealed-secrets: %w", err)
	}
	crds, err := decode(manifests.SealedSecretCRDs)
	if err != nil {
		return Workload{}, fmt.Errorf("workload sealed-secrets: reading manifests/sealed-secrets: %w", err)
	}
	labels := ownLabels("sealed-secrets", "sealed-secrets")
	selector := map[string]string{nameLabel: "sealed-secrets"}
	meta := metav1.ObjectMeta{Namespace: kubeSystem, Name: sealedSecretsName, Labels: labels}
	objects := slices.Concat(crds, sealedSecretsAccess(meta), []client.Object{
		&corev1.Service{
			TypeMeta: typeMeta("v1", "Service"), ObjectMeta: meta,
			Spec: corev1.ServiceSpec{Selector: selector, Ports: []corev1.ServicePort{httpPort(8080)}},
		},
		// kube-system is shared: only the controller's own pods are closed. Who asks for
		// the certificate comes through the API server, and the controller asks nobody
		// else; no label knows that server's address. Prometheus leaves out kube-system.
		&networkingv1.NetworkPolicy{
			TypeMeta: typeMeta("networking.k8s.io/v1", "NetworkPolicy"), ObjectMeta: meta,
			Spec: networkingv1.NetworkPolicySpec{
				PodSelector: metav1.LabelSelector{MatchLabels: selector},
				PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
				Ingress:     []networkingv1.NetworkPolicyIngressRule{{Ports: tcp(8080)}},
				Egress:      []networkingv1.NetworkPolicyEgressRule{{Ports: tcp(443, 6443)}},
			},
		},
		&appsv1.Deployment{
			TypeMeta: typeMeta("apps/v1", "Deployment"), ObjectMeta: meta,
			Spec: appsv1.DeploymentSpec{
				Replicas: ptr.To[int32](1), RevisionHistoryLimit: ptr.To[int32](2),
				Selector: &metav1.LabelSelector{MatchLabels: selector},
				Strategy: appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType},
				Template: corev1.PodTemplateSpec{
					ObjectMeta: metav1.ObjectMeta{Labels: labels},
					Spec: corev1.PodSpec{
						ServiceAccountName: sealedSecretsName,
						SecurityContext:    podSecurity(sealedSecretsUser),
						Containers:         []corev1.Container{sealedSecretsContainer(image)},
						Volumes:            []corev1.Volume{{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
					},
				},
			},
		},
	})
	return Workload{Name: SealedSecretsWorkload, Namespace: kubeSystem, Objects: objects}, nil
}

func sealedSecretsContainer(image string) corev1.Container {
	const name, health, limit = "controller", "/healthz", "64Mi"
	return corev1.Container{
		Name: name, Image: image, ImagePullPolicy: corev1.PullIfNotPresent,
		Command: []string{"controller"},
		// Keys come from the stack's config and are rotated there; a new one is taken up at once. What
		// didn't open is tried again until it does, ever more rarely: by default the controller gives up
		// within a second, and what was pushed before its key reached the cluster would never open.
		Args: []string{
			"--update-status", "--key-prefix", "sealed-secrets-key", "--key-renew-period=0", "--watch-for-secrets",
			"--max-unseal-retries=100000",
		},
		Env: []corev1.EnvVar{heapWithin(limit)},
		Ports: []corev1.ContainerPort{
			{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP},
			{Name: "metrics", ContainerPort: 8081, Protocol: corev1.ProtocolTCP},
		},
		StartupProbe:    probe(health, 5, 24),
		ReadinessProbe:  probe(health, 10, 3),
		LivenessProbe:   probe(health, 30, 3),
		Resources:       memoryBound("32Mi", limit),
		SecurityContext: restricted(),
		VolumeMounts:    []corev1.VolumeMount{{Name: "tmp", MountPath: "/tmp"}},
	}
}

// sealedSecretsAccess is the controller's account and what it may do, as its own project
// gives it: SealedSecrets and Secrets everywhere, its keys in its own namespace. What that
// project gives to everyone who is logged in, every pod with a token among them, is left out: to ask
// the controller for its certificate, which is in the stack file here, and to seal anew.
func sealedSecretsAccess(meta metav1.ObjectMeta) []client.Object {
	named := func(name string) metav1.ObjectMeta {
		m := *meta.DeepCopy()
		m.Name = name
		return m
	}
	global := func(name string) metav1.ObjectMeta {
		m := named(name)
		m.Namespace = ""
		return m
	}
	account := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: meta.Namespace, Name: meta.Name}}
	ref := func(kind, name string) rbacv1.RoleRef {
		return rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: name}
	}
	const unsealer, keyAdmin = "secrets-unsealer", "sealed-secrets-key-admin"
	return []client.Object{
		&corev1.ServiceAccount{TypeMeta: typeMeta("v1", "ServiceAccount"), ObjectMeta: meta},
		&rbacv1.ClusterRole{
			TypeMeta: typeMeta("rbac.authorization.k8s.io/v1", "ClusterRole"), ObjectMeta: global(unsealer),
			Rules: []rbacv1.PolicyRule{
				{APIGroups: []string{"bitnami.com"}, Resources: []string{"sealedsecrets"}, Verbs: []string{"get", "list", "watch"}},
				{APIGroups: []string{"bitnami.com"}, Resources: []string{"sealedsecrets/status"}, Verbs: []string{"update"}},
				{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get", "list", "create", "update", "delete", "watch"}},
				{APIGroups: []string{""}, Resources: []string{"events"}, Verbs: []string{"create", "patch"}},
				{APIGroups: []string{""}, Resources: []string{"namespaces"}, Verbs: []string{"get"}},
			},
		},
		&rbacv1.ClusterRoleBinding{
			TypeMeta: typeMeta("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"), ObjectMeta: global(meta.Name),
			RoleRef: ref("ClusterRole", unsealer), Subjects: account,
		},
		&rbacv1.Role{
			TypeMeta: typeMeta("rbac.authorization.k8s.io/v1", "Role"), ObjectMeta: named(keyAdmin),
			Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"create", "list"}}},
		},
		&rbacv1.RoleBinding{
			TypeMeta: typeMeta("rbac.authorization.k8s.io/v1", "RoleBinding"), ObjectMeta: named(keyAdmin),
			RoleRef: ref("Role", keyAdmin), Subjects: account,
		},
	}
}
