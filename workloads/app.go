package workloads

import (
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// Labels of app.kubernetes.io.
const (
	nameLabel      = "app.kubernetes.io/name"
	partOfLabel    = "app.kubernetes.io/part-of"
	managedByLabel = "app.kubernetes.io/managed-by"
	versionLabel   = "app.kubernetes.io/version"
)

// hvac is what the apps around the air-conditioning unit are part of.
const hvac = "hvac"

// ownLabels are on every object that is made here rather than taken from elsewhere. Whoever
// delivers it, this project manages it.
func ownLabels(name, partOf string) map[string]string {
	return map[string]string{nameLabel: name, partOfLabel: partOf, managedByLabel: "manager-cluster-state"}
}

// appUser is the user and group that the HVAC images are built for.
const appUser = 10001

// app is one of the HVAC containers: built from scratch, one port, a read-only root.
type app struct {
	name, namespace string
	image           string
	command, args   []string
	port            int32
	replicas        int32
	memory          string // request and limit
	health          string // path of the probes
	metrics         string // path of the metrics; empty means that nothing scrapes it
	secret          string // mounted at /.secrets; empty means none
}

func (a app) labels() map[string]string { return ownLabels(a.name, hvac) }

func (a app) meta() metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: a.namespace, Name: a.name, Labels: a.labels()}
}

func (a app) selector() map[string]string { return map[string]string{nameLabel: a.name} }

func (a app) serviceAccount() *corev1.ServiceAccount {
	return &corev1.ServiceAccount{
		TypeMeta: typeMeta("v1", "ServiceAccount"), ObjectMeta: a.meta(), AutomountServiceAccountToken: new(false),
	}
}

func (a app) service(ports ...corev1.ServicePort) *corev1.Service {
	return &corev1.Service{
		TypeMeta: typeMeta("v1", "Service"), ObjectMeta: a.meta(),
		Spec: corev1.ServiceSpec{Selector: a.selector(), Ports: ports},
	}
}

func (a app) ingress(host, port string) *networkingv1.Ingress {
	return &networkingv1.Ingress{
		TypeMeta: typeMeta("networking.k8s.io/v1", "Ingress"), ObjectMeta: a.meta(),
		Spec: networkingv1.IngressSpec{
			IngressClassName: new("traefik"),
			Rules: []networkingv1.IngressRule{{
				Host: host,
				IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{
					Paths: []networkingv1.HTTPIngressPath{{
						Path: "/", PathType: ptr.To(networkingv1.PathTypePrefix),
						Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{
							Name: a.name, Port: networkingv1.ServiceBackendPort{Name: port},
						}},
					}},
				}},
			}},
		},
	}
}

// deployment never runs two pods at once: two pollers would share one account, and two
// bots would both answer.
func (a app) deployment() *appsv1.Deployment {
	annotations := map[string]string{"prometheus.io/scrape": "false"}
	if a.metrics != "" {
		annotations = map[string]string{
			"prometheus.io/scrape": "true", "prometheus.io/path": a.metrics, "prometheus.io/port": strconv.Itoa(int(a.port)),
		}
	}
	pod := corev1.PodSpec{
		ServiceAccountName:           a.name,
		AutomountServiceAccountToken: new(false),
		EnableServiceLinks:           new(false),
		SecurityContext:              podSecurity(appUser),
		Containers:                   []corev1.Container{a.container()},
	}
	if a.secret != "" {
		pod.Volumes = []corev1.Volume{{
			Name: "secrets",
			VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
				SecretName: a.secret, DefaultMode: ptr.To[int32](0o440),
			}},
		}}
	}
	return &appsv1.Deployment{
		TypeMeta: typeMeta("apps/v1", "Deployment"), ObjectMeta: a.meta(),
		Spec: appsv1.DeploymentSpec{
			Replicas:             new(a.replicas),
			RevisionHistoryLimit: ptr.To[int32](2),
			Selector:             &metav1.LabelSelector{MatchLabels: a.selector()},
			Strategy:             appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: a.labels(), Annotations: annotations},
				Spec:       pod,
			},
		},
	}
}

func (a app) container() corev1.Container {
	probe := func(period, failures int32) *corev1.Probe {
		return &corev1.Probe{
			ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
				Path: a.health, Port: intstr.FromString("http"), Scheme: corev1.URISchemeHTTP,
			}},
			PeriodSeconds: period, FailureThreshold: failures, TimeoutSeconds: 5, SuccessThreshold: 1,
		}
	}
	container := corev1.Container{
		Name:            a.name,
		Image:           a.image,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Command:         a.command,
		Args:            a.args,
		Ports:           []corev1.ContainerPort{{Name: "http", ContainerPort: a.port, Protocol: corev1.ProtocolTCP}},
		// A Pi under load takes its time to start a process; two minutes before the
		// liveness probe may judge it.
		StartupProbe:    probe(5, 24),
		ReadinessProbe:  probe(10, 3),
		LivenessProbe:   probe(30, 3),
		Resources:       memoryBound(a.memory, "10m"),
		SecurityContext: restricted(),
	}
	if a.secret != "" {
		container.VolumeMounts = []corev1.VolumeMount{{Name: "secrets", MountPath: "/.secrets", ReadOnly: true}}
	}
	return container
}

// memoryBound asks for as much memory as it may ever have, so that what the scheduler
// counts is what a node can be asked for. CPU is shared, not capped.
func memoryBound(memory, cpu string) corev1.ResourceRequirements {
	amount := resource.MustParse(memory)
	return corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceMemory: amount, corev1.ResourceCPU: resource.MustParse(cpu)},
		Limits:   corev1.ResourceList{corev1.ResourceMemory: amount},
	}
}

// podSecurity and restricted are what the restricted Pod Security Standard asks of a pod
// and of a container.
func podSecurity(user int64) *corev1.PodSecurityContext {
	return &corev1.PodSecurityContext{
		RunAsNonRoot: new(true), RunAsUser: new(user), RunAsGroup: new(user), FSGroup: new(user),
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

func restricted() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false),
		ReadOnlyRootFilesystem:   new(true),
		RunAsNonRoot:             new(true),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

func typeMeta(apiVersion, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: apiVersion, Kind: kind}
}

// namespace is an HVAC one, whose pods must pass the restricted Pod Security Standard.
func namespace(name string) *corev1.Namespace {
	labels := ownLabels(name, hvac)
	enforceRestricted(labels)
	return &corev1.Namespace{
		TypeMeta:   typeMeta("v1", "Namespace"),
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
	}
}

func enforceRestricted(labels map[string]string) {
	labels["pod-security.kubernetes.io/enforce"] = "restricted"
	labels["pod-security.kubernetes.io/enforce-version"] = "latest"
}

// secretFile is a Secret with one file in it.
func (a app) secretFile(name, file, content string) *corev1.Secret {
	meta := a.meta()
	meta.Name = name
	return &corev1.Secret{
		TypeMeta: typeMeta("v1", "Secret"), ObjectMeta: meta,
		Type: corev1.SecretTypeOpaque, Data: map[string][]byte{file: []byte(content)},
	}
}

func httpPort(port int32) corev1.ServicePort {
	return corev1.ServicePort{Name: "http", Port: port, TargetPort: intstr.FromString("http"), Protocol: corev1.ProtocolTCP}
}
