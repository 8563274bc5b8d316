package workloads_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// difference is one that is meant: objects and the fields in them, both whole regular
// expressions, and why. An object that stands on one side alone has the field "all of it".
type difference struct{ objects, fields, why string }

// fields are every field of every object: by "Kind namespace/name", then by the field's path.
func fields(t *testing.T, catalog []workloads.Workload) map[string]map[string]string {
	t.Helper()
	all := map[string]map[string]string{}
	for _, workload := range catalog {
		for _, object := range workload.Objects {
			content, err := yaml.Marshal(object)
			require.NoError(t, err)
			var tree any
			require.NoError(t, yaml.Unmarshal(content, &tree))
			flat := map[string]string{}
			flatten(flat, "", tree)
			all[fmt.Sprintf("%s %s/%s", object.GetObjectKind().GroupVersionKind().Kind, object.GetNamespace(), object.GetName())] = flat
		}
	}
	return all
}

func flatten(into map[string]string, path string, tree any) {
	switch value := tree.(type) {
	case map[string]any:
		for key, below := range value {
			flatten(into, path+"."+key, below)
		}
	case []any:
		for i, below := range value {
			flatten(into, path+"["+item(i, below)+"]", below)
		}
	default:
		into[path] = fmt.Sprint(value)
	}
}

// item is what tells an item of a list from the others: its name, itself if it is a text, or its
// place.
func item(place int, value any) string {
	switch v := value.(type) {
	case string:
		return v
	case map[string]any:
		if name, ok := v["name"].(string); ok {
			return name
		}
	}
	return strconv.Itoa(place)
}

// differ lists "object field" for each field that isn't the same on both sides.
func differ(a, b map[string]map[string]string) [][2]string {
	var all [][2]string
	for _, object := range union(a, b) {
		_, inA := a[object]
		_, inB := b[object]
		if !inA || !inB {
			all = append(all, [2]string{object, "all of it"})
			continue
		}
		for _, field := range union(a[object], b[object]) {
			if a[object][field] != b[object][field] {
				all = append(all, [2]string{object, field})
			}
		}
	}
	return all
}

func union[V any](a, b map[string]V) []string {
	return slices.Compact(slices.Sorted(func(yield func(string) bool) {
		for key := range maps.Keys(a) {
			if !yield(key) {
				return
			}
		}
		for key := range maps.Keys(b) {
			if !yield(key) {
				return
			}
		}
	}))
}

// assertDiffer says that two catalogs differ in what is allowed, and in each of that.
func assertDiffer(t *testing.T, a, b []workloads.Workload, allowed []difference) {
	t.Helper()
	used := make([]bool, len(allowed))
	for _, found := range differ(fields(t, a), fields(t, b)) {
		named := false
		for i, d := range allowed {
			if regexp.MustCompile("^("+d.objects+")$").MatchString(found[0]) && regexp.MustCompile("^("+d.fields+")$").MatchString(found[1]) {
				named, used[i] = true, true
			}
		}
		assert.True(t, named, "%s differs in %s: nothing here names that", found[0], found[1])
	}
	for i, d := range allowed {
		assert.True(t, used[i], "nothing differs any more that is allowed to because of %s", d.why)
	}
}

func TestStacks_DifferInExactlyThis(t *testing.T) {
	both := variants(t)
	const (
		digests   = `\.spec\.template\.metadata\.annotations\.manager-cluster-state/(secret|config)-digest`
		pod       = `\.spec\.template\.spec\.`
		container = pod + `containers\[[a-z-]+\]\.`
	)
	assertDiffer(t, catalog(t, both["development"]), catalog(t, both["production"]), []difference{
		{`Ingress .*`, `\.spec\.rules\[0\]\.host`, "domain"},
		{`Deployment render-metrics-v1/grafana`, container + `env\[GF_SERVER_ROOT_URL\]\.value`, "domain: Grafana's own URL"},
		{`Deployment .*`, `\.spec\.progressDeadlineSeconds`, "readyTimeout"},

		{`(Deployment|Service|ServiceAccount|NetworkPolicy) service-intesis-v1/mockserver`, `all of it`, "hvac.mock"},
		{
			`Deployment service-intesis-v1/service-intesis`,
			container + `args\[(--tcpserver|mockserver:5000|--httpserver|http://mockserver:5001)\]`, "hvac.mock: where the cloud is",
		},
		{`NetworkPolicy service-intesis-v1/service-intesis`, `\.spec\.egress\[1\]\..*`, "hvac.mock: where the cloud is"},

		{`Secret service-intesis-v1/service-intesis|Secret chat-hvac-v1/chat-hvac`, `\.data\..*|\.metadata\.annotations\.manager-cluster-state/digest`, "secrets"},
		{`Deployment (service-intesis-v1/service-intesis|chat-hvac-v1/chat-hvac)`, digests, "secrets"},
		{`Deployment chat-hvac-v1/chat-hvac`, `\.spec\.replicas`, "secrets.slack: no replica without tokens"},
		{`Secret render-metrics-v1/grafana`, `all of it`, "secrets.grafana: no account without them"},
		{`Deployment render-metrics-v1/grafana`, digests, "secrets.grafana"},
		{
			`Deployment render-metrics-v1/grafana`, container + `env\[(GF_SECURITY_ADMIN_(USER|PASSWORD)__FILE|` +
				`GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION|GF_AUTH_DISABLE_LOGIN_FORM)\]\.(name|value)`, "secrets.grafana",
		},
		{`Deployment render-metrics-v1/grafana`, container + `volumeMounts\[secrets\]\..*`, "secrets.grafana"},
		{`Deployment render-metrics-v1/grafana`, pod + `volumes\[secrets\]\..*`, "secrets.grafana"},

		{
			`Deployment flux-system/.*`, container + `args\[--(concurrent=1|token-cache-max-size=10|requeue-dependency=2m|` +
				`leader-election-(lease-duration=137s|renew-deadline=107s|retry-period=26s)|artifact-retention-records=1|concurrent-ssa=1|storage-value-log-file-size=16777216)\]`,
			"flux.profile",
		},
		{`Deployment flux-system/.*`, container + `resources\.(requests|limits)\.memory`, "flux.profile"},
		{`Deployment flux-system/.*`, `\.spec\.strategy(\.type)?`, "flux.profile"},
		{`(Deployment|ServiceAccount) flux-system/helm-controller`, `all of it`, "flux.helm"},
		{`CustomResourceDefinition /.*\.helm\.toolkit\.fluxcd\.io`, `all of it`, "flux.helm"},
		{`ClusterRoleBinding /(crd-controller|cluster-reconciler)-flux-system|RoleBinding flux-system/flux-secrets`, `\.subjects\[helm-controller\]\..*`, "flux.helm"},
		{`NetworkPolicy flux-system/events`, `\.spec\.ingress\[0\]\.from\[\d\]\..*`, "flux.helm"},
		{`NetworkPolicy flux-system/artifacts`, `\.spec\.ingress\[0\]\.from\[1\]\..*`, "flux.helm"},

		{`GitRepository flux-system/manager-cluster-state|Secret flux-system/deploy-key`, `all of it`, "delivery"},
		{`Image(Repository|Policy|UpdateAutomation) flux-system/.*`, `all of it`, "delivery: there is Git to commit new tags to"},
		{`(Provider|Alert) flux-system/github|Secret flux-system/github-token`, `all of it`, "flux.commitStatus"},
		{`(Provider|Alert) flux-system/slack|Secret flux-system/slack-webhook`, `all of it`, "secrets.notifications"},
	})
}

func TestObservability_ThePivotMovesExactlyThis(t *testing.T) {
	both := variants(t)
	assertDiffer(t, catalog(t, both["production"]), catalog(t, both["production-cloud"]), []difference{
		{`.* /(prometheus|alloy)|.* (service|ship)-metrics-v1/.*|Namespace /(service|ship)-metrics-v1`, `all of it`, "who scrapes"},
		{`.* render-metrics-v1/.*|Namespace /render-metrics-v1`, `all of it`, "there is no Grafana"},
		{`.* grafana-dashboards-v1/.*|Namespace /grafana-dashboards-v1`, `all of it`, "there is no Grafana"},
		{
			`NetworkPolicy (exporter-snmp-v1/snmp-exporter|service-intesis-v1/service-intesis|exporter-weather-v1/exporter-weather|flux-system/metrics)`,
			`\.spec\.ingress\[0\]\.from\[\d\]\.(podSelector|namespaceSelector)\.matchLabels\..*`, "who scrapes",
		},
	})
}

// What Flux is told, not what runs: everything else is the same in either delivery.
func TestDelivery_ThePivotAddsExactlyThis(t *testing.T) {
	flux := variants(t)["production"]
	direct := *flux
	direct.Delivery = config.Direct
	assertDiffer(t, catalog(t, &direct), catalog(t, flux), []difference{
		{`GitRepository flux-system/manager-cluster-state|Secret flux-system/deploy-key`, `all of it`, "it pulls from Git"},
		{`Image(Repository|Policy) flux-system/(service-intesis|exporter-weather|chat-hvac)`, `all of it`, "there is Git to commit new tags to"},
		{`ImageUpdateAutomation flux-system/image-automation`, `all of it`, "there is Git to commit new tags to"},
		{`(Provider|Alert) flux-system/github|Secret flux-system/github-token`, `all of it`, "there are commits to give a status"},
	})
}
