package workloads_test

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/workloads"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const (
	project    = "manager-cluster-state"
	tagOfATest = ":tag-of-a-test"
)

// variants are both stacks, and production with its metrics and logs shipped away.
func variants(t *testing.T) map[string]*config.Config {
	t.Helper()
	all := stacks(t)
	all["production-cloud"] = inCloud(all["production"])
	return all
}

// fromGit is a configuration with the pivot turned to Flux, and what that needs.
func fromGit(cfg *config.Config) *config.Config {
	pulled := *cfg
	pulled.Delivery = config.FluxCD
	pulled.Git = config.Git{URL: "ssh://git@github.com/nullify005/manager-cluster-state.git", Branch: "main"}
	pulled.Flux.CommitStatus = true
	pulled.Secrets.Notifications = config.Notifications{SlackWebhook: "https://hooks.slack.com/services/placeholder", GitHubToken: "placeholder"}
	return &pulled
}

// inCloud is a configuration with the pivot turned, and what that needs.
func inCloud(cfg *config.Config) *config.Config {
	cloud := *cfg
	cloud.Observability = config.Cloud
	cloud.Cloud = config.CloudEndpoints{
		Metrics: config.Endpoint{URL: "https://prometheus.example.net/api/prom/push", Username: "1"},
		Logs:    config.Endpoint{URL: "https://logs.example.net/loki/api/v1/push", Username: "2"},
	}
	cloud.Secrets.Cloud.Token = "placeholder"
	return &cloud
}

// stacks are two stacks as they were set out: what an owner sets in the real ones changes no golden
// file, and no list of differences. Production has secrets; the keys of flux delivery are none of that.
func stacks(t *testing.T) map[string]*config.Config {
	t.Helper()
	all := map[string]*config.Config{}
	for _, name := range []string{"development", "production"} {
		content, err := os.ReadFile(filepath.Join("testdata", "Pulumi."+name+".yaml"))
		require.NoError(t, err)
		values, secretKeys, err := config.ReadStackFile(project, content)
		require.NoError(t, err)
		if name == "production" {
			values[project+":secrets"] = `{"intesis": {"username": "placeholder", "password": "placeholder"},
				"slack": {"appToken": "xapp-placeholder", "botToken": "xoxb-placeholder"},
				"grafana": {"username": "placeholder", "password": "placeholder"},
				"notifications": {"slackWebhook": "https://hooks.slack.com/services/placeholder", "githubToken": "placeholder"}}`
			secretKeys = append(secretKeys, project+":secrets")
		}
		cfg, err := config.Load(project, values, secretKeys, time.Now(), config.SkipSecrets())
		require.NoError(t, err)
		all[name] = cfg
	}
	return all
}

func imageList(t *testing.T) workloads.Images {
	t.Helper()
	list, err := workloads.LoadImages(filepath.Join("..", "manifests", "images", "kustomization.yaml"))
	require.NoError(t, err)
	return list
}

// images are those of the list, with a tag that no code could know: Flux commits new ones.
func images(t *testing.T) workloads.Images {
	t.Helper()
	list := imageList(t)
	for name := range list {
		list[name] = name + tagOfATest
	}
	return list
}

func catalog(t *testing.T, cfg *config.Config) []workloads.Workload {
	t.Helper()
	made, err := workloads.Catalog(cfg, images(t))
	require.NoError(t, err)
	return made
}

// eachStack runs check on the catalog of every variant of every stack.
func eachStack(t *testing.T, check func(t *testing.T, catalog []workloads.Workload)) {
	t.Helper()
	for name, cfg := range variants(t) {
		t.Run(name, func(t *testing.T) { check(t, catalog(t, cfg)) })
	}
}

// of returns the objects of one Go type, in every workload.
func of[T any](catalog []workloads.Workload) []T {
	var found []T
	for _, workload := range catalog {
		for _, object := range workload.Objects {
			if o, ok := object.(T); ok {
				found = append(found, o)
			}
		}
	}
	return found
}

func TestCatalog_IsWhatTheGoldenFilesShow(t *testing.T) {
	for stack, cfg := range variants(t) {
		for _, workload := range catalog(t, cfg) {
			if stack == "production-cloud" && workload.Name != "alloy" {
				continue // TestObservability_ThePivotMovesExactlyThis shows how the others differ
			}
			t.Run(stack+"/"+workload.Name, func(t *testing.T) {
				var got bytes.Buffer
				for _, object := range workload.Objects {
					// Flux's other objects stand in manifests/flux-system; Go makes or patches these.
					kind := object.GetObjectKind().GroupVersionKind().Kind
					ours := slices.Contains([]string{"Namespace", "Deployment", "NetworkPolicy", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}, kind)
					if kind == "CustomResourceDefinition" || workload.Name == "flux-system" && !ours {
						continue
					}
					content, err := yaml.Marshal(withoutFiles(t, object))
					require.NoError(t, err)
					fmt.Fprintf(&got, "---\n%s", content)
				}
				path := filepath.Join("testdata", stack, workload.Name+".yaml")
				if *update {
					require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
					require.NoError(t, os.WriteFile(path, got.Bytes(), 0o600))
				}
				want, err := os.ReadFile(path)
				require.NoError(t, err, "run make golden")
				assert.Equal(t, string(want), got.String(), "run make golden, and look at git diff")
			})
		}
	}
}

// withoutFiles names the file where a ConfigMap holds what is in one: there it is read better.
func withoutFiles(t *testing.T, object client.Object) client.Object {
	t.Helper()
	configMap, ok := object.(*corev1.ConfigMap)
	if !ok {
		return object
	}
	configMap = configMap.DeepCopy()
	require.NoError(t, fs.WalkDir(os.DirFS("files"), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(filepath.Join("files", path))
		if err == nil && configMap.Data[entry.Name()] == string(content) {
			configMap.Data[entry.Name()] = "what is in files/" + path
		}
		return err
	}))
	return configMap
}

func TestCatalog_IsTheSameEachTime(t *testing.T) {
	for _, cfg := range stacks(t) {
		first := catalog(t, cfg)
		assert.Equal(t, first, catalog(t, cfg))
	}
}

func TestCatalog_EachStandsBehindWhatItComesAfter(t *testing.T) {
	eachStack(t, func(t *testing.T, catalog []workloads.Workload) {
		seen := map[string]bool{}
		for _, workload := range catalog {
			for _, name := range workload.After {
				assert.True(t, seen[name], "%s stands before %s", workload.Name, name)
			}
			seen[workload.Name] = true
		}
	})
}

func TestCatalog_HasTheWorkloadsOfItsDeliveryAndItsObservability(t *testing.T) {
	always := []string{
		"flux-system", "sealed-secrets", "external-mdns", "snmp-exporter", "service-intesis", "exporter-weather", "chat-hvac",
	}
	for stack, own := range map[string][]string{
		"development":      {"prometheus", "grafana"},
		"production":       {"prometheus", "grafana", "git-source", "image-automation", "notifications"},
		"production-cloud": {"alloy", "git-source", "image-automation", "notifications"},
	} {
		names := workloadNames(catalog(t, variants(t)[stack]))
		assert.Subset(t, names, append(always, own...), stack)
		for _, name := range []string{"prometheus", "grafana", "alloy", "git-source", "image-automation", "notifications"} {
			assert.Equal(t, slices.Contains(own, name), slices.Contains(names, name), "%s: %s", stack, name)
		}
	}
}

// Flux's objects and the definitions carry the labels of their own projects.
func TestObjects_MadeHereAreLabelledAlike(t *testing.T) {
	eachStack(t, func(t *testing.T, catalog []workloads.Workload) {
		for _, workload := range catalog {
			for _, object := range workload.Objects {
				kind := object.GetObjectKind().GroupVersionKind().Kind
				if workload.Name == "flux-system" || kind == "CustomResourceDefinition" {
					continue
				}
				for _, label := range []string{"name", "part-of", "managed-by"} {
					assert.NotEmpty(t, object.GetLabels()["app.kubernetes.io/"+label], "%s %s has no label %s", kind, object.GetName(), label)
				}
			}
		}
	})
}

func TestHVACApps_RunAsTheUserTheirImagesAreBuiltFor(t *testing.T) {
	eachStack(t, func(t *testing.T, catalog []workloads.Workload) {
		checked := 0
		for _, deployment := range of[*appsv1.Deployment](catalog) {
			if deployment.Labels["app.kubernetes.io/part-of"] != "hvac" {
				continue
			}
			checked++
			assert.EqualValues(t, 10001, *deployment.Spec.Template.Spec.SecurityContext.RunAsUser)
			assert.EqualValues(t, 10001, *deployment.Spec.Template.Spec.SecurityContext.RunAsGroup)
			assert.False(t, *deployment.Spec.Template.Spec.AutomountServiceAccountToken)
			assert.Equal(t, "32Mi", deployment.Spec.Template.Spec.Containers[0].Resources.Limits.Memory().String())
		}
		assert.GreaterOrEqual(t, checked, 3)
	})
}

func TestContainers_HaveMemoryBoundsAndProbes(t *testing.T) {
	eachStack(t, func(t *testing.T, catalog []workloads.Workload) {
		for _, deployment := range of[*appsv1.Deployment](catalog) {
			for _, container := range deployment.Spec.Template.Spec.InitContainers {
				assert.Positive(t, container.Resources.Requests.Memory().Value(), deployment.Name)
				assert.Positive(t, container.Resources.Limits.Memory().Value(), deployment.Name)
			}
			for _, container := range deployment.Spec.Template.Spec.Containers {
				assert.False(t, container.Resources.Requests.Memory().IsZero(), "%s has no request", deployment.Name)
				assert.False(t, container.Resources.Limits.Memory().IsZero(), "%s has no limit", deployment.Name)
				assert.LessOrEqual(t, container.Resources.Requests.Memory().Value(), container.Resources.Limits.Memory().Value(), deployment.Name)
				// external-mdns listens on nothing but multicast.
				assert.Equal(t, deployment.Name != "external-mdns", container.ReadinessProbe != nil, deployment.Name)
				assert.Equal(t, deployment.Name != "external-mdns", container.LivenessProbe != nil, deployment.Name)
				for _, probe := range []*corev1.Probe{container.ReadinessProbe, container.LivenessProbe, container.StartupProbe} {
					if probe != nil {
						assert.True(t, hasPort(container, probe.HTTPGet.Port.String()), "%s probes a port it doesn't have", deployment.Name)
					}
				}
			}
		}
	})
}

func hasPort(container corev1.Container, name string) bool {
	return slices.ContainsFunc(container.Ports, func(port corev1.ContainerPort) bool {
		return port.Name == name || strconv.Itoa(int(port.ContainerPort)) == name
	})
}

func TestSelectors_PickWhatTheyAreFor(t *testing.T) {
	eachStack(t, func(t *testing.T, catalog []workloads.Workload) {
		deployments := of[*appsv1.Deployment](catalog)
		for _, deployment := range deployments {
			selector, err := metav1.LabelSelectorAsSelector(deployment.Spec.Selector)
			require.NoError(t, err)
			for _, other := range deployments {
				if other.Namespace == deployment.Namespace {
					assert.Equal(t, other.Name == deployment.Name, selector.Matches(labels.Set(other.Spec.Template.Labels)),
						"the selector of %s and the pods of %s", deployment.Name, other.Name)
				}
			}
		}
		for _, service := range of[*corev1.Service](catalog) {
			behind := behindService(deployments, service)
			require.Len(t, behind, 1, "the pods behind service %s", service.Name)
			for _, port := range service.Spec.Ports {
				assert.True(t, hasPort(behind[0].Spec.Template.Spec.Containers[0], port.TargetPort.String()), "%s %s", service.Name, port.Name)
			}
		}
		for _, ingress := range of[*networkingv1.Ingress](catalog) {
			backend := ingress.Spec.Rules[0].HTTP.Paths[0].Backend.Service
			found := slices.ContainsFunc(of[*corev1.Service](catalog), func(service *corev1.Service) bool {
				return service.Namespace == ingress.Namespace && service.Name == backend.Name &&
					slices.ContainsFunc(service.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == backend.Port.Name })
			})
			assert.True(t, found, "ingress %s has no service behind it", ingress.Name)
		}
	})
}

func behindService(deployments []*appsv1.Deployment, service *corev1.Service) []*appsv1.Deployment {
	var behind []*appsv1.Deployment
	for _, deployment := range deployments {
		if deployment.Namespace == service.Namespace &&
			labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(deployment.Spec.Template.Labels)) {
			behind = append(behind, deployment)
		}
	}
	return behind
}

func TestIngress_IsWhereTheStacksDomainPutsIt(t *testing.T) {
	for stack, want := range map[string][]string{
		"development":      {"prometheus.localtest.me", "grafana.localtest.me", "service-intesis-v1.localtest.me"},
		"production":       {"prometheus.local", "grafana.local", "service-intesis-v1.local"},
		"production-cloud": {"service-intesis-v1.local"},
	} {
		cfg := variants(t)[stack]
		made := catalog(t, cfg)
		var hosts, wantURLs, urls []string
		for _, ingress := range of[*networkingv1.Ingress](made) {
			hosts = append(hosts, ingress.Spec.Rules[0].Host)
			assert.Equal(t, "traefik", *ingress.Spec.IngressClassName)
		}
		assert.Subset(t, hosts, want)
		for _, host := range hosts {
			assert.True(t, strings.HasSuffix(host, "."+cfg.Domain), host)
			wantURLs = append(wantURLs, "http://"+host)
		}
		for _, workload := range made {
			urls = append(urls, workload.URLs...)
		}
		assert.ElementsMatch(t, wantURLs, urls)
	}
}

func TestScraping_IsAnnotatedOnThePods(t *testing.T) {
	eachStack(t, func(t *testing.T, catalog []workloads.Workload) {
		got := map[string][3]string{}
		for _, deployment := range of[*appsv1.Deployment](catalog) {
			a := deployment.Spec.Template.Annotations
			got[deployment.Name] = [3]string{a["prometheus.io/scrape"], a["prometheus.io/path"], a["prometheus.io/port"]}
		}
		assert.Equal(t, [3]string{"true", "/metrics", "2112"}, got["service-intesis"])
		assert.Equal(t, [3]string{"true", "/metrics", "2112"}, got["exporter-weather"])
		assert.Equal(t, [3]string{"false", "", ""}, got["chat-hvac"])
	})
}

func TestChat_HasNoReplicaWithoutTokens(t *testing.T) {
	cfg := *stacks(t)["development"]
	replicas := func() int32 {
		for _, deployment := range of[*appsv1.Deployment](catalog(t, &cfg)) {
			if deployment.Name == "chat-hvac" {
				return *deployment.Spec.Replicas
			}
		}
		t.Fatal("there is no chat-hvac")
		return -1
	}
	assert.EqualValues(t, 0, replicas())
	cfg.Secrets.Slack = config.Slack{AppToken: "xapp-1", BotToken: "xoxb-1"}
	assert.EqualValues(t, 1, replicas())
}

// templates are the pods of every Deployment, by name.
func templates(catalog []workloads.Workload) map[string]corev1.PodTemplateSpec {
	all := map[string]corev1.PodTemplateSpec{}
	for _, deployment := range of[*appsv1.Deployment](catalog) {
		all[deployment.Name] = deployment.Spec.Template
	}
	return all
}

func TestSecrets_AChangeRollsExactlyThePodsThatReadIt(t *testing.T) {
	for reader, change := range map[string]func(*config.Config){
		"service-intesis": func(cfg *config.Config) { cfg.Secrets.Intesis.Password = "changed" },
		"chat-hvac":       func(cfg *config.Config) { cfg.Secrets.Slack.BotToken = "xoxb-changed" },
	} {
		cfg := *stacks(t)["production"]
		before := templates(catalog(t, &cfg))
		change(&cfg)
		after := templates(catalog(t, &cfg))
		for name := range before {
			assert.Equal(t, name == reader, !assert.ObjectsAreEqual(before[name], after[name]), "%s, when the secret of %s changed", name, reader)
		}
	}
}

// secretFile is the one file of a Secret.
func secretFile(t *testing.T, catalog []workloads.Workload, name, file string) map[string]string {
	t.Helper()
	for _, secret := range of[*corev1.Secret](catalog) {
		if secret.Name == name {
			require.Len(t, secret.Data, 1)
			content := map[string]string{}
			require.NoError(t, yaml.UnmarshalStrict(secret.Data[file], &content))
			return content
		}
	}
	t.Fatalf("there is no Secret %s", name)
	return nil
}

// Text that YAML would read as a number, a truth, or its own syntax arrives as it is.
func TestSecrets_ArriveAsTheyAre(t *testing.T) {
	cfg := *stacks(t)["production"]
	cfg.Secrets = config.Secrets{
		Intesis: config.Intesis{Username: "0123", Password: `yes: "#{[*&!|>'%@` + "`"},
		Slack:   config.Slack{AppToken: "xapp-1", BotToken: "xoxb-1"},
	}
	made := catalog(t, &cfg)
	assert.Equal(t, map[string]string{"username": cfg.Secrets.Intesis.Username, "password": cfg.Secrets.Intesis.Password},
		secretFile(t, made, "service-intesis", "creds.yaml"))
	assert.Equal(t, map[string]string{
		"appToken": "xapp-1", "botToken": "xoxb-1", "channel": cfg.HVAC.SlackChannel, "device": "127934703953",
		"intesis": "http://service-intesis.service-intesis-v1.svc.cluster.local:2112",
	}, secretFile(t, made, "chat-hvac", "config.yaml"))
}

func TestMock_NeedsNoSecret(t *testing.T) {
	cfg := *stacks(t)["development"]
	cfg.Secrets = config.Secrets{}
	assert.Equal(t, map[string]string{"username": "mock", "password": "mock"},
		secretFile(t, catalog(t, &cfg), "service-intesis", "creds.yaml"))
}

func TestMock_IsThereOnlyWhereConfigAsksForIt(t *testing.T) {
	for stack, want := range map[string]bool{"development": true, "production": false} {
		made := catalog(t, stacks(t)[stack])
		deployments := map[string]*appsv1.Deployment{}
		for _, deployment := range of[*appsv1.Deployment](made) {
			deployments[deployment.Name] = deployment
		}
		_, mocked := deployments["mockserver"]
		assert.Equal(t, want, mocked, stack)
		args := strings.Join(deployments["service-intesis"].Spec.Template.Spec.Containers[0].Args, " ")
		assert.Equal(t, want, strings.Contains(args, "--tcpserver mockserver:5000 --httpserver http://mockserver:5001"), args)
		assert.True(t, strings.HasPrefix(args, "watch 127934703953 --listen :2112 --interval 2m --secrets /.secrets/creds.yaml"), args)
	}
}

// fluxControllers are the Deployments of Flux, by name.
func fluxControllers(catalog []workloads.Workload) map[string]*appsv1.Deployment {
	all := map[string]*appsv1.Deployment{}
	for _, deployment := range of[*appsv1.Deployment](catalog) {
		if deployment.Namespace == "flux-system" {
			all[deployment.Name] = deployment
		}
	}
	return all
}

func TestFlux_LowMemoryFitsAPi(t *testing.T) {
	cfg := *stacks(t)["production"]
	cfg.Flux.Helm, cfg.Flux.Notifications, cfg.Flux.ImageAutomation = true, true, true
	for profile, want := range map[config.FluxProfile][2]int64{config.Standard: {6 * 64, 6 * 1024}, config.LowMemory: {6 * 32, 6 * 128}} {
		cfg.Flux.Profile = profile
		var requests, limits int64
		for _, deployment := range fluxControllers(catalog(t, &cfg)) {
			resources := deployment.Spec.Template.Spec.Containers[0].Resources
			requests += resources.Requests.Memory().Value() >> 20
			limits += resources.Limits.Memory().Value() >> 20
		}
		assert.Equal(t, want, [2]int64{requests, limits}, profile)
	}
}

func TestFlux_TheProfileSetsConcurrencyAndTheHeapFollowsTheLimit(t *testing.T) {
	for stack, want := range map[string]bool{"development": false, "production": true} {
		for name, deployment := range fluxControllers(catalog(t, stacks(t)[stack])) {
			container := deployment.Spec.Template.Spec.Containers[0]
			for _, arg := range []string{"--concurrent=1", "--leader-election-retry-period=26s", "--token-cache-max-size=10"} {
				assert.Equal(t, want, slices.Contains(container.Args, arg), "%s %s %s", stack, name, arg)
			}
			assert.True(t, slices.ContainsFunc(container.Env, func(v corev1.EnvVar) bool {
				return v.Name == "GOMEMLIMIT" && v.ValueFrom.ResourceFieldRef.Resource == "limits.memory"
			}), name)
			if want {
				assert.Equal(t, appsv1.RecreateDeploymentStrategyType, deployment.Spec.Strategy.Type, "there is no room for a second %s", name)
			}
		}
	}
}

func TestFlux_AFeatureThatIsOffTakesItsControllersAndAllThatIsTheirs(t *testing.T) {
	for feature, test := range map[string]struct {
		off   func(*config.Flux)
		gone  []string
		group string
	}{
		"helm":            {func(f *config.Flux) { f.Helm = false }, []string{"helm-controller"}, "helm.toolkit.fluxcd.io"},
		"notifications":   {func(f *config.Flux) { f.Notifications = false }, []string{"notification-controller"}, "notification.toolkit.fluxcd.io"},
		"imageAutomation": {func(f *config.Flux) { f.ImageAutomation = false }, []string{"image-reflector-controller", "image-automation-controller"}, "image.toolkit.fluxcd.io"},
	} {
		cfg := *stacks(t)["development"]
		full, err := yaml.Marshal(catalog(t, &cfg)[0])
		require.NoError(t, err)
		test.off(&cfg.Flux)
		made := catalog(t, &cfg)
		assert.Len(t, fluxControllers(made), 6-len(test.gone), feature)
		assert.Equal(t, "flux-system", made[0].Name)
		less, err := yaml.Marshal(made[0].Objects)
		require.NoError(t, err)
		for _, name := range test.gone {
			assert.Contains(t, string(full), name)
			assert.NotContains(t, string(less), name)
		}
		for _, object := range made[0].Objects {
			assert.False(t, strings.HasSuffix(object.GetName(), "."+test.group), "%s is of no use without %s", object.GetName(), test.gone)
		}
	}
}

func TestVersions_NameWhatAStackRuns(t *testing.T) {
	list := images(t)
	for stack, absent := range map[string][]string{
		"development":      {"docker.io/grafana/alloy"},
		"production-cloud": {"docker.io/prom/prometheus", "docker.io/grafana/grafana", "quay.io/kiwigrid/k8s-sidecar"},
	} {
		versions := workloads.Versions(catalog(t, variants(t)[stack]), list)
		assert.Equal(t, "v2.9.4", versions["flux"])
		for name, reference := range list {
			if slices.Contains(absent, name) {
				assert.NotContains(t, versions, name, stack)
			} else {
				assert.Equal(t, reference, versions[name], stack)
			}
		}
		assert.Len(t, versions, len(list)+1-len(absent))
	}
}

func TestFlux_AnotherReleaseThanTheGeneratedOneIsRefused(t *testing.T) {
	cfg := *stacks(t)["development"]
	cfg.Flux.Version = "v2.9.4"
	catalog(t, &cfg)
	cfg.Flux.Version = "v2.8.0"
	_, err := workloads.Catalog(&cfg, images(t))
	assert.ErrorContains(t, err, "flux.version is v2.8.0: manifests/flux-system is v2.9.4; set it to that")
}

func TestSealedSecrets_TakesUpNewKeysAndMakesNone(t *testing.T) {
	eachStack(t, func(t *testing.T, catalog []workloads.Workload) {
		for _, deployment := range of[*appsv1.Deployment](catalog) {
			if deployment.Name == "sealed-secrets-controller" {
				assert.Subset(t, deployment.Spec.Template.Spec.Containers[0].Args, []string{"--key-renew-period=0", "--watch-for-secrets", "--max-unseal-retries=100000"})
				return
			}
		}
		t.Fatal("there is no sealed-secrets-controller in kube-system")
	})
}

func TestCatalog_ListsEveryImageThatIsMissing(t *testing.T) {
	_, err := workloads.Catalog(stacks(t)["development"], workloads.Images{})
	for _, image := range []string{"service-intesis", "exporter-weather", "chat-hvac", "sealed-secrets-controller"} {
		assert.ErrorContains(t, err, image)
	}
}

func TestImages_ComeFromTheListAlone(t *testing.T) {
	used := map[string]bool{}
	for stack, cfg := range variants(t) {
		for _, deployment := range of[*appsv1.Deployment](catalog(t, cfg)) {
			pod := deployment.Spec.Template.Spec
			for _, container := range slices.Concat(pod.InitContainers, pod.Containers) {
				if deployment.Namespace == "flux-system" {
					assert.Regexp(t, `^ghcr\.io/fluxcd/`+deployment.Name+`:v`, container.Image)
					continue
				}
				name, isOfTheList := strings.CutSuffix(container.Image, tagOfATest)
				assert.True(t, isOfTheList, "%s: %s runs %s", stack, deployment.Name, container.Image)
				used[name] = true
			}
		}
	}
	assert.Len(t, used, len(images(t)), "the list has an image that nothing uses")
}
