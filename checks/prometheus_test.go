package checks_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	commonconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/file"
	"github.com/prometheus/prometheus/discovery/kubernetes"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/scrape"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	prometheusYAML = "../workloads/files/prometheus/prometheus.yml"

	// Where the pod has its list of devices, and a list as the program writes it.
	devicesPath = "/etc/prometheus/devices/devices.yml"
	devices     = `- targets: [172.16.10.1]
  labels: {device: edgemax, module: ubiquiti_edgemax}
- targets: [192.168.0.1]
  labels: {device: vdsl, module: vdsl}
`
)

// loadPrometheus reads prometheus.yml as Prometheus does, which refuses unknown fields.
func loadPrometheus(t *testing.T) *config.Config {
	t.Helper()
	cfg, err := config.LoadFile(prometheusYAML, false, promslog.NewNopLogger())
	require.NoError(t, err)
	return cfg
}

func scrapeConfigs(t *testing.T, cfg *config.Config) map[string]*config.ScrapeConfig {
	t.Helper()
	list, err := cfg.GetScrapeConfigs()
	require.NoError(t, err)
	jobs := map[string]*config.ScrapeConfig{}
	for _, job := range list {
		jobs[job.JobName] = job
	}
	return jobs
}

// discover runs Prometheus's own discovery, of every job at once, against the sample cluster and
// the sample list of devices.
func discover(t *testing.T, cfg *config.Config, api *cluster) map[string][]*targetgroup.Group {
	t.Helper()
	list := filepath.Join(t.TempDir(), "devices.yml")
	require.NoError(t, os.WriteFile(list, []byte(devices), 0o600))
	server, err := url.Parse(api.URL)
	require.NoError(t, err)

	jobs := map[string]discovery.Configs{}
	for name, job := range scrapeConfigs(t, cfg) {
		for _, source := range job.ServiceDiscoveryConfigs {
			switch sd := source.(type) {
			case *file.SDConfig:
				require.Equal(t, []string{devicesPath}, sd.Files, "files of job %s", name)
				sd.Files = []string{list}
			case *kubernetes.SDConfig:
				sd.APIServer = commonconfig.URL{URL: server}
			default:
				t.Fatalf("job %s has discovery %s, which nothing here knows", name, sd.Name())
			}
		}
		jobs[name] = job.ServiceDiscoveryConfigs
	}

	ctx, cancel := context.WithCancel(t.Context())
	registry := prometheus.NewRegistry()
	metrics, err := discovery.CreateAndRegisterSDMetrics(registry)
	require.NoError(t, err)
	manager := discovery.NewManager(ctx, slog.New(slog.DiscardHandler), registry, metrics, discovery.Updatert(10*time.Millisecond))
	require.NotNil(t, manager)
	require.NoError(t, manager.ApplyConfig(jobs))
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		_ = manager.Run()
	}()
	defer func() {
		cancel()
		<-stopped
	}()

	// Groups come as discovery finds them: one for each pod, slice, node and entry of the list.
	want := map[string]int{
		"snmp": 2, "cadvisor": len(api.objects["/api/v1/nodes"]), "pods": len(api.objects["/api/v1/pods"]),
		"endpoints": len(api.objects["/apis/discovery.k8s.io/v1/endpointslices"]),
	}
	timeout := time.After(30 * time.Second)
	for {
		select {
		case found := <-manager.SyncCh():
			if complete(found, want) {
				return found
			}
		case <-timeout:
			t.Fatalf("discovery has not found the whole sample cluster within 30s; it asked for %q", api.requests())
		}
	}
}

func complete(found map[string][]*targetgroup.Group, want map[string]int) bool {
	for job, count := range want {
		groups := slices.DeleteFunc(slices.Clone(found[job]), func(g *targetgroup.Group) bool { return len(g.Targets) == 0 })
		if len(groups) < count {
			return false
		}
		// An endpoint has its pod's labels once the pod is known.
		if job == "endpoints" {
			for _, group := range groups {
				if _, known := group.Targets[0]["__meta_kubernetes_pod_name"]; !known {
					return false
				}
				if _, known := group.Labels["__meta_kubernetes_service_name"]; !known {
					return false
				}
			}
		}
	}
	return true
}

// targets are what Prometheus would scrape for one job. Like its scrape pool, it has one of those
// that have the same URL and labels.
func targets(t *testing.T, job *config.ScrapeConfig, groups []*targetgroup.Group) []*scrape.Target {
	t.Helper()
	builder := labels.NewBuilder(labels.EmptyLabels())
	seen := map[string]bool{}
	var list []*scrape.Target
	for _, group := range groups {
		all, failures := scrape.TargetsFromGroup(group, job, nil, builder)
		require.Empty(t, failures, "targets of job %s", job.JobName)
		for _, target := range all {
			if id := describe(target); target.Labels(builder).Len() > 0 && !seen[id] {
				seen[id] = true
				list = append(list, target)
			}
		}
	}
	return list
}

func describe(target *scrape.Target) string {
	return target.URL().String() + " " + target.Labels(labels.NewBuilder(labels.EmptyLabels())).String()
}

func TestPrometheus_FitsAPi(t *testing.T) {
	cfg := loadPrometheus(t)
	assert.Equal(t, model.Duration(2*time.Minute), cfg.GlobalConfig.ScrapeInterval)
	assert.Equal(t, model.Duration(10*time.Second), cfg.GlobalConfig.ScrapeTimeout)
	assert.Equal(t, model.Duration(time.Minute), cfg.GlobalConfig.EvaluationInterval)
	assert.EqualValues(t, 128<<20, cfg.StorageConfig.TSDBConfig.Retention.Size)
	assert.Zero(t, cfg.StorageConfig.TSDBConfig.Retention.Time, "a retention by time beside the one by size")
	assert.Empty(t, cfg.AlertingConfig.AlertmanagerConfigs)

	jobs := scrapeConfigs(t, cfg)
	assert.Len(t, jobs, 4)
	for name, job := range jobs {
		assert.NotZero(t, job.SampleLimit, "sample limit of job %s", name)
		assert.Equal(t, cfg.GlobalConfig.ScrapeInterval, job.ScrapeInterval, "scrape interval of job %s", name)
		assert.False(t, job.HonorLabels, "job %s lets what it scrapes name itself", name)
	}
}

func TestPrometheus_TrustsKubeletsByTheClustersAuthority(t *testing.T) {
	client := scrapeConfigs(t, loadPrometheus(t))["cadvisor"].HTTPClientConfig
	const mount = "/var/run/secrets/kubernetes.io/serviceaccount"
	assert.Equal(t, mount+"/ca.crt", client.TLSConfig.CAFile)
	assert.False(t, client.TLSConfig.InsecureSkipVerify)
	require.NotNil(t, client.Authorization)
	assert.Equal(t, mount+"/token", client.Authorization.CredentialsFile)
}

// The rules of Prometheus's ClusterRole: whoever adds a job learns here what it asks for.
func TestPrometheus_AsksTheAPIForNoMoreThanThis(t *testing.T) {
	api := newCluster(t)
	cfg := loadPrometheus(t)
	discover(t, cfg, api)

	// client-go lists by watching where the API server can do that, and lists where it can't:
	// older ones, and those that have it switched off.
	want := []string{"/nodes", "/pods", "/services", "discovery.k8s.io/endpointslices"}
	for _, permission := range permissions(api.requests()) {
		verb, resource, _ := strings.Cut(permission, " ")
		assert.Contains(t, []string{"list", "watch"}, verb)
		assert.Contains(t, want, resource)
	}
	for _, resource := range want {
		assert.Contains(t, permissions(api.requests()), "watch "+resource)
	}
}

func TestPrometheus_Targets(t *testing.T) {
	cfg := loadPrometheus(t)
	api := newCluster(t)
	groups := discover(t, cfg, api)
	want := map[string][]string{
		"snmp": {
			`http://snmp-exporter.exporter-snmp-v1.svc.cluster.local:9116/snmp?auth=home&module=ubiquiti_edgemax&target=172.16.10.1 ` +
				`{instance="172.16.10.1", job="edgemax", module="ubiquiti_edgemax"}`,
			`http://snmp-exporter.exporter-snmp-v1.svc.cluster.local:9116/snmp?auth=home&module=vdsl&target=192.168.0.1 ` +
				`{instance="192.168.0.1", job="vdsl", module="vdsl"}`,
		},
		"endpoints": {
			`http://10.42.1.9:9090/stats {app="behind", instance="10.42.1.9:9090", job="endpoints", namespace="app-v1", pod="behind-0"}`,
		},
		"pods": {
			`http://10.42.1.2:80/metrics {app="both", instance="10.42.1.2:80", job="pods", namespace="app-v1", pod="both-0"}`,
			`http://10.42.1.4:9100/stats {app="ports", instance="10.42.1.4:9100", job="pods", namespace="app-v1", pod="ports-0"}`,
		},
		"cadvisor": {
			`https://192.168.1.10:10250/metrics/cadvisor {instance="kiwipi", job="cadvisor", node="kiwipi"}`,
			`https://192.168.1.11:10250/metrics/cadvisor {instance="orangepi", job="cadvisor", node="orangepi"}`,
		},
	}
	for _, pod := range api.pods() {
		port := map[string]string{"flux-system": "8080", "service-intesis-v1": "2112", "exporter-weather-v1": "2112"}[pod.Namespace]
		if port != "" {
			address := pod.Status.PodIP + ":" + port
			want["pods"] = append(want["pods"], fmt.Sprintf(`http://%s/metrics {app="%s", instance="%s", job="pods", namespace="%s", pod="%s"}`,
				address, strings.TrimSuffix(pod.Name, "-0"), address, pod.Namespace, pod.Name))
		}
	}

	urls := map[string]string{}
	for name, job := range scrapeConfigs(t, cfg) {
		var got []string
		for _, target := range targets(t, job, groups[name]) {
			got = append(got, describe(target))
			address := target.URL().String()
			assert.Empty(t, urls[address], "%s is a target of job %s already", address, urls[address])
			urls[address] = name
		}
		slices.Sort(got)
		slices.Sort(want[name])
		assert.Equal(t, want[name], got, "targets of job %s", name)
	}
}

func TestPrometheus_WaitsForSlowDevices(t *testing.T) {
	cfg := loadPrometheus(t)
	groups := discover(t, cfg, newCluster(t))
	for _, target := range targets(t, scrapeConfigs(t, cfg)["snmp"], groups["snmp"]) {
		timeout := target.GetValue(model.ScrapeTimeoutLabel)
		assert.Equal(t, "30s", timeout, describe(target))
	}
}
