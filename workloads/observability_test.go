package workloads_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// named is the one object of a kind with a name.
func named[T interface{ GetName() string }](t *testing.T, catalog []workloads.Workload, name string) T {
	t.Helper()
	var found []T
	for _, object := range of[T](catalog) {
		if object.GetName() == name {
			found = append(found, object)
		}
	}
	require.Len(t, found, 1, name)
	return found[0]
}

func TestDevices_AreTheTargetsThatTheScraperReads(t *testing.T) {
	for stack, scraper := range map[string]string{"production": "prometheus", "production-cloud": "alloy"} {
		cfg := variants(t)[stack]
		cfg.SNMP.Devices = []config.Device{
			{Name: "edgemax", Address: "172.16.10.1", Module: "ubiquiti_edgemax"}, {Name: "vdsl", Address: "192.168.0.1", Module: "vdsl"},
		}
		var targets any
		require.NoError(t, yaml.Unmarshal([]byte(named[*corev1.ConfigMap](t, catalog(t, cfg), scraper+"-devices").Data["devices.yml"]), &targets))
		assert.Equal(t, []any{
			map[string]any{"targets": []any{"172.16.10.1"}, "labels": map[string]any{"device": "edgemax", "module": "ubiquiti_edgemax"}},
			map[string]any{"targets": []any{"192.168.0.1"}, "labels": map[string]any{"device": "vdsl", "module": "vdsl"}},
		}, targets)
		cfg.SNMP.Devices = nil
		assert.Equal(t, "[]\n", named[*corev1.ConfigMap](t, catalog(t, cfg), scraper+"-devices").Data["devices.yml"])
	}
}

// What a scraper holds goes with its pod.
func TestDevices_AChangeRollsNoPod(t *testing.T) {
	for _, cfg := range variants(t) {
		before := templates(catalog(t, cfg))
		cfg.SNMP.Devices = append(slices.Clone(cfg.SNMP.Devices), config.Device{Name: "new", Address: "192.168.0.2", Module: "vdsl"})
		assert.Equal(t, before, templates(catalog(t, cfg)))
	}
}

func TestDevices_TheModulesOfConfigAreThoseOfTheExporter(t *testing.T) {
	content, err := os.ReadFile(filepath.Join("files", "snmp-exporter", "snmp.yml"))
	require.NoError(t, err)
	var exporter struct {
		Modules map[string]any `json:"modules"`
	}
	require.NoError(t, yaml.Unmarshal(content, &exporter))
	var modules []string
	for module := range exporter.Modules {
		modules = append(modules, module)
	}
	for _, key := range config.Schema() {
		if key.Path == "snmp.devices[].module" {
			assert.ElementsMatch(t, modules, key.Enum)
			return
		}
	}
	t.Fatal("config has no snmp.devices[].module")
}

func TestSNMP_TheCommunityIsASecretAndPublicUnlessItIsSet(t *testing.T) {
	cfg := stacks(t)["production"]
	for given, want := range map[string]string{"": "public", "0x1: #": "0x1: #"} {
		cfg.Secrets.SNMP.Community = given
		made := catalog(t, cfg)
		var file any
		require.NoError(t, yaml.Unmarshal(named[*corev1.Secret](t, made, "snmp-exporter").Data["auth.yml"], &file))
		assert.Equal(t, map[string]any{"auths": map[string]any{"home": map[string]any{"community": want, "version": float64(2)}}}, file)
	}
}

func TestGrafana_HasAnAdminOnlyWhenThereAreCredentials(t *testing.T) {
	cfg := stacks(t)["production"]
	environment := func() string {
		deployment := named[*appsv1.Deployment](t, catalog(t, cfg), "grafana")
		return fmt.Sprint(deployment.Spec.Template.Spec.Containers[0].Env)
	}
	cfg.Secrets.Grafana = config.GrafanaAdmin{Username: "canary-user", Password: "canary-password"}
	assert.Contains(t, environment(), "GF_SECURITY_ADMIN_PASSWORD__FILE")
	assert.NotContains(t, environment(), "GF_AUTH_DISABLE_LOGIN_FORM")
	assert.NotContains(t, environment(), "canary")
	secret := named[*corev1.Secret](t, catalog(t, cfg), "grafana")
	assert.Equal(t, map[string][]byte{"username": []byte("canary-user"), "password": []byte("canary-password")}, secret.Data)

	cfg.Secrets.Grafana = config.GrafanaAdmin{}
	assert.Contains(t, environment(), "GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION")
	assert.Contains(t, environment(), "GF_AUTH_DISABLE_LOGIN_FORM")
	assert.NotContains(t, environment(), "__FILE")
}

// Grafana's pods read ConfigMaps of another namespace, which a mount can't.
func TestGrafana_EveryDashboardIsAConfigMapThatItsPodsMayRead(t *testing.T) {
	made := catalog(t, stacks(t)["production"])
	dashboards, err := filepath.Glob("files/grafana/dashboards/*.json")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(dashboards), 4)
	deployment := named[*appsv1.Deployment](t, made, "grafana")
	pod := deployment.Spec.Template.Spec
	require.Len(t, pod.InitContainers, 1)
	for _, path := range dashboards {
		want, err := os.ReadFile(path)
		require.NoError(t, err)
		name := filepath.Base(path)
		configMap := named[*corev1.ConfigMap](t, made, "dashboard-"+strings.TrimSuffix(name, ".json"))
		assert.Equal(t, "grafana-dashboards-v1", configMap.Namespace)
		assert.Equal(t, map[string]string{name: string(want)}, configMap.Data)

		environment := map[string]string{}
		for _, variable := range pod.InitContainers[0].Env {
			environment[variable.Name] = variable.Value
		}
		assert.Equal(t, configMap.Namespace, environment["NAMESPACE"])
		assert.Contains(t, configMap.Labels, environment["LABEL"])
		assert.True(t, slices.ContainsFunc(pod.Containers[0].VolumeMounts, func(m corev1.VolumeMount) bool {
			return m.MountPath == environment["FOLDER"] && m.Name == pod.InitContainers[0].VolumeMounts[0].Name
		}), "Grafana doesn't see the folder that they are copied to")
	}
	roles := slices.DeleteFunc(of[*rbacv1.Role](made), func(r *rbacv1.Role) bool { return r.Namespace != "grafana-dashboards-v1" })
	require.Len(t, roles, 1)
	assert.Equal(t, []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get", "list"}}}, roles[0].Rules)
	bindings := slices.DeleteFunc(of[*rbacv1.RoleBinding](made), func(b *rbacv1.RoleBinding) bool { return b.Namespace != "grafana-dashboards-v1" })
	require.Len(t, bindings, 1)
	assert.Equal(t, rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: roles[0].Name}, bindings[0].RoleRef)
	assert.Equal(t, []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: deployment.Namespace, Name: pod.ServiceAccountName}}, bindings[0].Subjects)
}

// A volume that is mounted read-only has no place to mount another one below it: the container
// would not start.
func TestMounts_NothingIsMountedBelowWhatIsReadOnly(t *testing.T) {
	eachStack(t, func(t *testing.T, catalog []workloads.Workload) {
		for _, deployment := range of[*appsv1.Deployment](catalog) {
			pod := deployment.Spec.Template.Spec
			for _, container := range slices.Concat(pod.InitContainers, pod.Containers) {
				for _, upper := range container.VolumeMounts {
					for _, lower := range container.VolumeMounts {
						assert.False(t, upper.ReadOnly && strings.HasPrefix(lower.MountPath, upper.MountPath+"/"),
							"%s: %s is below %s", deployment.Name, lower.MountPath, upper.MountPath)
					}
				}
			}
		}
	})
}

// Reading more than they need would be theirs to lose. What they do need was seen with the real
// Prometheus and the real Alloy.
func TestScrapers_MayReadWhatTheyDiscoverAndNothingElse(t *testing.T) {
	discover := []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"nodes", "pods", "services"}, Verbs: []string{"list", "watch"}},
		{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: []string{"list", "watch"}},
		{APIGroups: []string{""}, Resources: []string{"nodes/metrics"}, Verbs: []string{"get"}},
	}
	logs := rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods", "pods/log"}, Verbs: []string{"get"}}
	assert.Equal(t, discover, named[*rbacv1.ClusterRole](t, catalog(t, variants(t)["production"]), "prometheus").Rules)
	assert.Equal(t, append(discover, logs), named[*rbacv1.ClusterRole](t, catalog(t, variants(t)["production-cloud"]), "alloy").Rules)
}

func TestAlloy_GetsItsEndpointsFromConfigAndItsTokenFromAFile(t *testing.T) {
	cfg := variants(t)["production-cloud"]
	cfg.Secrets.Cloud.Token = "canary"
	made := catalog(t, cfg)
	alloy := named[*appsv1.Deployment](t, made, "alloy").Spec.Template
	content, err := yaml.Marshal(alloy)
	require.NoError(t, err)
	assert.NotContains(t, string(content), "canary")
	assert.Contains(t, string(content), cfg.Cloud.Metrics.URL)
	assert.Contains(t, string(content), cfg.Cloud.Logs.URL)
	assert.Equal(t, map[string][]byte{"token": []byte("canary")}, named[*corev1.Secret](t, made, "alloy").Data)
	pipeline := named[*corev1.ConfigMap](t, made, "alloy").Data["config.alloy"]
	for _, variable := range alloy.Spec.Containers[0].Env {
		if variable.Name != "GOMEMLIMIT" {
			assert.Contains(t, pipeline, `sys.env("`+variable.Name+`")`)
		}
	}
	assert.Contains(t, pipeline, "/etc/alloy-secrets/token")
}

func TestAlloy_MayPushToThePortsOfItsEndpoints(t *testing.T) {
	cfg := variants(t)["production-cloud"]
	cfg.Cloud.Metrics.URL = "https://mimir.example.net:9009/api/v1/push"
	w := walk(t, catalog(t, cfg))
	for port, want := range map[int32]bool{9009: true, 443: true, 3100: false} {
		assert.Equal(t, want, w.lets(networkingv1.PolicyTypeEgress, w.pods["alloy"], w.pods["internet"], port, corev1.ProtocolTCP), port)
	}
}

func TestMDNS_LivesOnTheNodesNetworkAndMayOnlyListWhatItTells(t *testing.T) {
	eachStack(t, func(t *testing.T, catalog []workloads.Workload) {
		mdns := named[*appsv1.Deployment](t, catalog, "external-mdns").Spec.Template.Spec
		assert.True(t, mdns.HostNetwork)
		assert.Equal(t, []string{"-source=ingress", "-source=service"}, mdns.Containers[0].Args)
		for _, rule := range named[*rbacv1.ClusterRole](t, catalog, "external-mdns").Rules {
			assert.Equal(t, []string{"list", "watch"}, rule.Verbs)
		}
		for _, deployment := range of[*appsv1.Deployment](catalog) {
			assert.Equal(t, deployment.Name == "external-mdns", deployment.Spec.Template.Spec.HostNetwork, deployment.Name)
		}
	})
}

// The engine makes what is new before it takes away what is not wanted any more: an object that
// both sides had, each by its own workload, would be gone in the end.
func TestObservability_TurningThePivotMovesNoObjectBetweenWorkloads(t *testing.T) {
	owners := map[string]string{}
	for _, stack := range []string{"production", "production-cloud"} {
		for _, workload := range catalog(t, variants(t)[stack]) {
			for _, object := range workload.Objects {
				id := fmt.Sprint(object.GetObjectKind().GroupVersionKind(), object.GetNamespace(), object.GetName())
				if owner, known := owners[id]; known {
					assert.Equal(t, owner, workload.Name, id)
				}
				owners[id] = workload.Name
			}
		}
	}
}
