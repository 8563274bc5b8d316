package workloads

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/config"
)

const (
	grafanaName = "grafana"
	grafanaPort = 3000
	grafanaUser = 472 // of Grafana's image

	// dashboardLabel marks a ConfigMap whose files are dashboards.
	dashboardLabel   = "grafana_dashboard"
	dashboardsFolder = "/var/lib/grafana/dashboards"
	// dashboardsDigest rolls Grafana's pods when a dashboard changes: they read ConfigMaps of
	// another namespace, once, at their start.
	dashboardsDigest = "manager-cluster-state/dashboards-digest"
)

// grafana shows the dashboards. Anyone in the house may look; with an account in the stack's
// config its owner may edit, without one nobody can log in.
func grafana(cfg *config.Config, images Images) (Workload, error) {
	fail := func(err error) (Workload, error) { return Workload{}, fmt.Errorf("workload %s: %w", grafanaName, err) }
	image, err := images.reference("docker.io/grafana/grafana")
	if err != nil {
		return fail(err)
	}
	fetcher, err := images.reference("quay.io/kiwigrid/k8s-sidecar")
	if err != nil {
		return fail(err)
	}
	files := map[string]map[string]string{}
	for _, name := range []string{"", "/provisioning/datasources", "/provisioning/dashboards", "/dashboards"} {
		if files[name], err = folder(grafanaName + name); err != nil {
			return fail(err)
		}
	}
	host := grafanaName + "." + cfg.Domain
	server := app{
		name: grafanaName, namespace: grafanaNamespace, partOf: observability, image: image, replicas: 1,
		user: grafanaUser, memory: "192Mi", memoryLimit: "320Mi", port: grafanaPort, health: "/api/health",
		// Its database is made anew, by some hundreds of migrations, at each start.
		startSeconds: 600,
		env: []corev1.EnvVar{
			{Name: "GF_SERVER_ROOT_URL", Value: "http://" + host + "/"},
			heapWithin("320Mi"),
		},
	}
	settings := []*corev1.ConfigMap{
		server.configMap(grafanaName, files[""]),
		server.configMap(grafanaName+"-datasources", files["/provisioning/datasources"]),
		server.configMap(grafanaName+"-dashboards", files["/provisioning/dashboards"]),
	}
	server.mounts = []mount{
		configMount("/etc/grafana", configFiles{settings[0], ""},
			configFiles{settings[1], "provisioning/datasources"}, configFiles{settings[2], "provisioning/dashboards"}),
		scratch("data", "/var/lib/grafana", "256Mi"),
		scratch("dashboards", dashboardsFolder, "16Mi"),
		scratch("tmp", "/tmp", "64Mi"),
	}
	var credentials []client.Object
	if admin := cfg.Secrets.Grafana; admin.Given() {
		server.secret = grafanaName
		server.env = append(server.env,
			corev1.EnvVar{Name: "GF_SECURITY_ADMIN_USER__FILE", Value: "/.secrets/username"},
			corev1.EnvVar{Name: "GF_SECURITY_ADMIN_PASSWORD__FILE", Value: "/.secrets/password"})
		secret := server.secretFile(server.secret, "username", admin.Username)
		secret.Data["password"] = []byte(admin.Password)
		credentials = append(credentials, secret)
	} else {
		server.env = append(server.env,
			corev1.EnvVar{Name: "GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION", Value: "true"},
			corev1.EnvVar{Name: "GF_AUTH_DISABLE_LOGIN_FORM", Value: "true"})
	}
	deployment := server.deployment()
	fetchDashboards(&deployment.Spec.Template, fetcher)
	annotate(&deployment.Spec.Template.ObjectMeta, dashboardsDigest, digest(files["/dashboards"]))
	objects := slices.Concat([]client.Object{
		namespace(grafanaNamespace, observability),
		denyAll(grafanaNamespace, observability),
		server.allow(
			[]networkingv1.NetworkPolicyIngressRule{from(tcp(grafanaPort), traefik())},
			[]networkingv1.NetworkPolicyEgressRule{
				dns(), apiServer(),
				to(tcp(prometheusPort), peer(metricsNamespace, map[string]string{nameLabel: prometheusName})),
			},
		),
		server.serviceAccount(),
		settings[0], settings[1], settings[2],
	}, credentials, []client.Object{
		deployment,
		server.service(httpPort(grafanaPort)),
		server.ingress(host),
	}, server.dashboards(files["/dashboards"]))
	return Workload{
		Name: grafanaName, Namespace: grafanaNamespace, After: []string{prometheusName},
		Objects: objects, URLs: []string{"http://" + host},
	}, nil
}

// dashboards is a namespace with one ConfigMap for each dashboard, and leave to read them.
func (a app) dashboards(files map[string]string) []client.Object {
	reader := a.metaOf(a.name)
	reader.Namespace = dashboardsNamespace
	objects := []client.Object{
		namespace(dashboardsNamespace, observability),
		denyAll(dashboardsNamespace, observability),
		&rbacv1.Role{
			TypeMeta: typeMeta("rbac.authorization.k8s.io/v1", "Role"), ObjectMeta: reader,
			Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get", "list"}}},
		},
		&rbacv1.RoleBinding{
			TypeMeta: typeMeta("rbac.authorization.k8s.io/v1", "RoleBinding"), ObjectMeta: reader,
			RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: reader.Name},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: a.namespace, Name: a.name}},
		},
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		dashboard := a.configMap("dashboard-"+strings.TrimSuffix(name, ".json"), map[string]string{name: files[name]})
		dashboard.Namespace = dashboardsNamespace
		dashboard.Labels[dashboardLabel] = "true"
		objects = append(objects, dashboard)
	}
	return objects
}

// fetchDashboards adds a container that, before Grafana starts, copies the dashboards out of
// the ConfigMaps of their namespace: a pod can't mount those of another. It alone gets the
// account's token.
func fetchDashboards(template *corev1.PodTemplateSpec, image string) {
	const volume, oneHour = "account", 3600
	template.Spec.InitContainers = []corev1.Container{{
		Name: "fetch-dashboards", Image: image, ImagePullPolicy: corev1.PullIfNotPresent,
		Env: []corev1.EnvVar{
			{Name: "METHOD", Value: "LIST"},
			{Name: "RESOURCE", Value: "configmap"},
			{Name: "NAMESPACE", Value: dashboardsNamespace},
			{Name: "LABEL", Value: dashboardLabel},
			{Name: "FOLDER", Value: dashboardsFolder},
			// k3s's certificates lack an extension that Python insists on.
			{Name: "DISABLE_X509_STRICT_VERIFICATION", Value: "true"},
		},
		Resources:       memoryBound("96Mi", "96Mi"),
		SecurityContext: restricted(),
		VolumeMounts: []corev1.VolumeMount{
			{Name: "dashboards", MountPath: dashboardsFolder},
			{Name: "tmp", MountPath: "/tmp"},
			{Name: volume, MountPath: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true},
		},
	}}
	template.Spec.Volumes = append(template.Spec.Volumes, corev1.Volume{
		Name: volume,
		VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			DefaultMode: ptr.To[int32](0o440),
			Sources: []corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr.To[int64](oneHour)}},
				{ConfigMap: &corev1.ConfigMapProjection{
					LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"},
					Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
				}},
				{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{
					Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"},
				}}}},
			},
		}},
	})
}

// digest is of files in the clear.
func digest(files map[string]string) string {
	sum := sha256.Sum256(canonical(files))
	return hex.EncodeToString(sum[:8])
}
