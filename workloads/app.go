package workloads

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Labels of app.kubernetes.io.
const (
	nameLabel      = "app.kubernetes.io/name"
	partOfLabel    = "app.kubernetes.io/part-of"
	managedByLabel = "app.kubernetes.io/managed-by"
	versionLabel   = "app.kubernetes.io/version"
)

// What our own workloads are part of.
const (
	hvac          = "hvac"
	observability = "observability"
	discovery     = "discovery"
)

// ownLabels are on every object that is made here rather than taken from elsewhere. Whoever
// delivers it, this project manages it.
func ownLabels(name, partOf string) map[string]string {
	return map[string]string{nameLabel: name, partOfLabel: partOf, managedByLabel: "manager-cluster-state"}
}

// appUser is the user and group of every image that has none of its own.
const appUser = 10001

// app is one workload of a single container: a restricted pod with a read-only root.
type app struct {
	name, namespace string
	partOf          string // hvac unless it is set
	image           string
	command, args   []string
	env             []corev1.EnvVar
	user            int64 // appUser unless it is set
	port            int32 // zero means that it listens on none, and has no probes
	replicas        int32
	memory          string // request, and limit unless there is another
	memoryLimit     string
	health          string // path of the probes
	ready           string // path of the readiness probe, if it is another one
	startSeconds    int32  // how long it may take to start; two minutes unless it is set
	metrics         string // path of the metrics; empty means that nothing scrapes it
	secret          string // mounted at /.secrets; empty means none
	mounts          []mount
	// talksToAPI gives the pod its account's token.
	talksToAPI bool
}

// mount is a volume of a pod and where its container sees it.
type mount struct {
	name, path string
	source     corev1.VolumeSource
	writable   bool
}

// configFiles are the files of a ConfigMap, in a folder below where it is mounted if one is
// given.
type configFiles struct {
	configMap *corev1.ConfigMap
	folder    string
}

// configMount mounts the files of ConfigMaps as one volume: what is mounted read-only has no place
// for another mount below it.
func configMount(mountPath string, sources ...configFiles) mount {
	projected := &corev1.ProjectedVolumeSource{DefaultMode: ptr.To[int32](0o444)}
	for _, source := range sources {
		var items []corev1.KeyToPath
		for _, file := range slices.Sorted(maps.Keys(source.configMap.Data)) {
			items = append(items, corev1.KeyToPath{Key: file, Path: path.Join(source.folder, file)})
		}
		projected.Sources = append(projected.Sources, corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: source.configMap.Name}, Items: items,
		}})
	}
	return mount{name: "config", path: mountPath, source: corev1.VolumeSource{Projected: projected}}
}

// secretFiles mounts the files of a Secret.
func secretFiles(name, at string) mount {
	return mount{name: "secrets", path: at, source: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
		SecretName: name, DefaultMode: ptr.To[int32](0o440),
	}}}
}

// scratch is a folder to write to that goes with the pod; size bounds it, as 4Gi.
func scratch(name, at, size string) mount {
	return mount{name: name, path: at, writable: true, source: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{
		SizeLimit: new(resource.MustParse(size)),
	}}}
}

func (a app) labels() map[string]string { return ownLabels(a.name, cmp.Or(a.partOf, hvac)) }

func (a app) meta() metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: a.namespace, Name: a.name, Labels: a.labels()}
}

// metaOf is the metadata of another object of the app.
func (a app) metaOf(name string) metav1.ObjectMeta {
	meta := a.meta()
	meta.Name = name
	return meta
}

func (a app) selector() map[string]string { return map[string]string{nameLabel: a.name} }

func (a app) serviceAccount() *corev1.ServiceAccount {
	return &corev1.ServiceAccount{
		TypeMeta: typeMeta("v1", "ServiceAccount"), ObjectMeta: a.meta(), AutomountServiceAccountToken: new(false),
	}
}

// mayEverywhere is a ClusterRole of the app's own, bound to its account.
func (a app) mayEverywhere(rules ...rbacv1.PolicyRule) []client.Object {
	meta := a.meta()
	meta.Namespace = ""
	return []client.Object{
		&rbacv1.ClusterRole{TypeMeta: typeMeta("rbac.authorization.k8s.io/v1", "ClusterRole"), ObjectMeta: meta, Rules: rules},
		&rbacv1.ClusterRoleBinding{
			TypeMeta: typeMeta("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"), ObjectMeta: meta,
			RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: meta.Name},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: a.namespace, Name: a.name}},
		},
	}
}

func (a app) service(ports ...corev1.ServicePort) *corev1.Service {
	return &corev1.Service{
		TypeMeta: typeMeta("v1", "Service"), ObjectMeta: a.meta(),
		Spec: corev1.ServiceSpec{Selector: a.selector(), Ports: ports},
	}
}

// ingress leads a host to the app's httpPort.
func (a app) ingress(host string) *networkingv1.Ingress {
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
							Name: a.name, Port: networkingv1.ServiceBackendPort{Name: portName},
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
		AutomountServiceAccountToken: new(a.talksToAPI),
		EnableServiceLinks:           new(false),
		SecurityContext:              podSecurity(cmp.Or(a.user, appUser)),
		Containers:                   []corev1.Container{a.container()},
	}
	for _, mount := range a.allMounts() {
		pod.Volumes = append(pod.Volumes, corev1.Volume{Name: mount.name, VolumeSource: mount.source})
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

func (a app) allMounts() []mount {
	if a.secret == "" {
		return a.mounts
	}
	return append([]mount{secretFiles(a.secret, "/.secrets")}, a.mounts...)
}

func (a app) container() corev1.Container {
	container := corev1.Container{
		Name:            a.name,
		Image:           a.image,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Command:         a.command,
		Args:            a.args,
		Env:             a.env,
		Resources:       memoryBound(a.memory, cmp.Or(a.memoryLimit, a.memory)),
		SecurityContext: restricted(),
	}
	if a.port != 0 {
		container.Ports = []corev1.ContainerPort{{Name: portName, ContainerPort: a.port, Protocol: corev1.ProtocolTCP}}
		// A Pi under load takes its time to start a process, before the liveness probe may
		// judge it.
		const period, twoMinutes = 5, 120
		container.StartupProbe = probe(a.health, period, cmp.Or(a.startSeconds, twoMinutes)/period)
		container.ReadinessProbe = probe(cmp.Or(a.ready, a.health), 10, 3)
		container.LivenessProbe = probe(a.health, 30, 3)
	}
	for _, mount := range a.allMounts() {
		container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{
			Name: mount.name, MountPath: mount.path, ReadOnly: !mount.writable,
		})
	}
	return container
}

func probe(at string, period, failures int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
			Path: at, Port: intstr.FromString(portName), Scheme: corev1.URISchemeHTTP,
		}},
		PeriodSeconds: period, FailureThreshold: failures, TimeoutSeconds: 5, SuccessThreshold: 1,
	}
}

// heapWithin has Go's runtime collect its garbage before the kernel would kill the pod: at four
// fifths of the memory limit, since a process has more than its heap.
func heapWithin(limit string) corev1.EnvVar {
	amount := resource.MustParse(limit)
	return corev1.EnvVar{Name: "GOMEMLIMIT", Value: fmt.Sprintf("%dMiB", (amount.Value()*4/5)>>20)}
}

// memoryBound asks for what a container is known to need, and bounds what it may ever have.
// CPU is shared, not capped.
func memoryBound(request, limit string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(request), corev1.ResourceCPU: resource.MustParse("10m")},
		Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(limit)},
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

// namespace is one whose pods must pass the restricted Pod Security Standard.
func namespace(name, partOf string) *corev1.Namespace {
	labels := ownLabels(name, partOf)
	enforceRestricted(labels)
	return &corev1.Namespace{
		TypeMeta:   typeMeta("v1", "Namespace"),
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
	}
}

// Labels that the API server's admission reads on a namespace.
const (
	enforceLabel = "pod-security.kubernetes.io/enforce"
	versionOf    = "-version"
	warnLabel    = "pod-security.kubernetes.io/warn"
)

func enforceRestricted(labels map[string]string) {
	labels[enforceLabel] = "restricted"
	labels[enforceLabel+versionOf] = "latest"
}

// secretFile is a Secret with one file in it.
func (a app) secretFile(name, file, content string) *corev1.Secret {
	return &corev1.Secret{
		TypeMeta: typeMeta("v1", "Secret"), ObjectMeta: a.metaOf(name),
		Type: corev1.SecretTypeOpaque, Data: map[string][]byte{file: []byte(content)},
	}
}

// configMap holds files by their names.
func (a app) configMap(name string, files map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{TypeMeta: typeMeta("v1", "ConfigMap"), ObjectMeta: a.metaOf(name), Data: files}
}

// portName is what a container's port of HTTP, and the Service's, are called.
const portName = "http"

func httpPort(port int32) corev1.ServicePort {
	return corev1.ServicePort{Name: portName, Port: port, TargetPort: intstr.FromString(portName), Protocol: corev1.ProtocolTCP}
}
