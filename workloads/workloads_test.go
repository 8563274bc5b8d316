package workloads_test

import (
	"bytes"
	"flag"
	"fmt"
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
	"sigs.k8s.io/yaml"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/workloads"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const project = "manager-cluster-state"

// stacks are the configurations of the real stack files, with secrets where they need them.
func stacks(t *testing.T) map[string]*config.Config {
	t.Helper()
	all := map[string]*config.Config{}
	for _, name := range []string{"development", "production"} {
		content, err := os.ReadFile(filepath.Join("..", "Pulumi."+name+".yaml"))
		require.NoError(t, err)
		values, secretKeys, err := config.ReadStackFile(project, content)
		require.NoError(t, err)
		if name == "production" {
			values[project+":secrets"] = `{"intesis": {"username": "placeholder", "password": "placeholder"},
				"slack": {"appToken": "xapp-placeholder", "botToken": "xoxb-placeholder"}}`
			secretKeys = append(secretKeys, project+":secrets")
		}
		cfg, err := config.Load(project, values, secretKeys, time.Now())
		require.NoError(t, err)
		all[name] = cfg
	}
	return all
}

func images(t *testing.T) workloads.Images {
	t.Helper()
	list, err := workloads.LoadImages(filepath.Join("..", "manifests", "images", "kustomization.yaml"))
	require.NoError(t, err)
	return list
}

func catalog(t *testing.T, cfg *config.Config) []workloads.Workload {
	t.Helper()
	made, err := workloads.Catalog(cfg, images(t))
	require.NoError(t, err)
	return made
}

// eachStack runs check on the catalog of every stack.
func eachStack(t *testing.T, check func(t *testing.T, catalog []workloads.Workload)) {
	t.Helper()
	for name, cfg := range stacks(t) {
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
	for stack, cfg := range stacks(t) {
		for _, workload := range catalog(t, cfg) {
			t.Run(stack+"/"+workload.Name, func(t *testing.T) {
				var got bytes.Buffer
				for _, object := range workload.Objects {
					// Flux's other objects stand in manifests/flux-system; Go patches these.
					_, patched := object.(*appsv1.Deployment)
					kind := object.GetObjectKind().GroupVersionKind().Kind
					if kind == "CustomResourceDefinition" || workload.Name == "flux-system" && !patched && kind != "Namespace" {
						continue
					}
					content, err := yaml.Marshal(object)
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
		assert.Len(t, seen, 5)
	})
}

func TestPods_PassTheRestrictedStandard(t *testing.T) {
	eachStack(t, func(t *testing.T, catalog []workloads.Workload) {
		for _, deployment := range of[*appsv1.Deployment](catalog) {
			pod := deployment.Spec.Template.Spec
			assert.False(t, pod.HostNetwork || pod.HostPID || pod.HostIPC, deployment.Name)
			for _, volume := range pod.Volumes {
				assert.Nil(t, volume.HostPath, deployment.Name)
			}
			for _, container := range pod.Containers {
				security := container.SecurityContext
				require.NotNil(t, security, deployment.Name)
				assert.False(t, *security.AllowPrivilegeEscalation, deployment.Name)
				assert.True(t, *security.ReadOnlyRootFilesystem, deployment.Name)
				assert.True(t, *security.RunAsNonRoot, deployment.Name)
				assert.Equal(t, []corev1.Capability{"ALL"}, security.Capabilities.Drop, deployment.Name)
				assert.Empty(t, security.Capabilities.Add, deployment.Name)
				assert.Equal(t, corev1.SeccompProfileTypeRuntimeDefault, security.SeccompProfile.Type, deployment.Name)
			}
		}
		for _, namespace := range of[*corev1.Namespace](catalog) {
			assert.Equal(t, "restricted", namespace.Labels["pod-security.kubernetes.io/enforce"], namespace.Name)
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
			for _, container := range deployment.Spec.Template.Spec.Containers {
				assert.False(t, container.Resources.Requests.Memory().IsZero(), "%s has no request", deployment.Name)
				assert.False(t, container.Resources.Limits.Memory().IsZero(), "%s has no limit", deployment.Name)
				assert.NotNil(t, container.ReadinessProbe, deployment.Name)
				assert.NotNil(t, container.LivenessProbe, deployment.Name)
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
	for stack, want := range map[string]string{
		"development": "service-intesis-v1.localtest.me", "production": "service-intesis-v1.local",
	} {
		made := catalog(t, stacks(t)[stack])
		ingresses := of[*networkingv1.Ingress](made)
		require.Len(t, ingresses, 1)
		assert.Equal(t, want, ingresses[0].Spec.Rules[0].Host)
		assert.Equal(t, "traefik", *ingresses[0].Spec.IngressClassName)
		urls := []string{}
		for _, workload := range made {
			urls = append(urls, workload.URLs...)
		}
		assert.Equal(t, []string{"http://" + want}, urls)
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

func TestFlux_LowMemoryFitsAPi(t *testing.T) {
	total := func(stack string) (requests, limits int64) {
		for _, deployment := range of[*appsv1.Deployment](catalog(t, stacks(t)[stack])) {
			if deployment.Namespace == "flux-system" {
				resources := deployment.Spec.Template.Spec.Containers[0].Resources
				requests += resources.Requests.Memory().Value() >> 20
				limits += resources.Limits.Memory().Value() >> 20
			}
		}
		return requests, limits
	}
	requests, limits := total("development")
	assert.EqualValues(t, 6*64, requests)
	assert.EqualValues(t, 6*1024, limits)
	requests, limits = total("production")
	assert.EqualValues(t, 6*32, requests)
	assert.EqualValues(t, 6*128, limits)
}

func TestFlux_AnotherReleaseThanTheGeneratedOneIsRefused(t *testing.T) {
	cfg := *stacks(t)["development"]
	cfg.Flux.Version = "v2.9.4"
	catalog(t, &cfg)
	cfg.Flux.Version = "v2.8.0"
	_, err := workloads.Catalog(&cfg, images(t))
	assert.ErrorContains(t, err, "flux.version is v2.8.0: manifests/flux-system is v2.9.4; set it to that")
}

func TestSealedSecrets_NeverRotatesItsKeysByItself(t *testing.T) {
	eachStack(t, func(t *testing.T, catalog []workloads.Workload) {
		for _, deployment := range of[*appsv1.Deployment](catalog) {
			if deployment.Name == "sealed-secrets-controller" {
				assert.Contains(t, deployment.Spec.Template.Spec.Containers[0].Args, "--key-renew-period=0")
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
	list := images(t)
	eachStack(t, func(t *testing.T, catalog []workloads.Workload) {
		used := map[string]bool{}
		for _, deployment := range of[*appsv1.Deployment](catalog) {
			image := deployment.Spec.Template.Spec.Containers[0].Image
			if deployment.Namespace == "flux-system" {
				assert.True(t, strings.HasPrefix(image, "ghcr.io/fluxcd/"), image)
				continue
			}
			name, _, _ := strings.Cut(image, ":")
			if strings.HasPrefix(image, "docker.io") {
				name = image[:strings.LastIndex(image, ":")]
			}
			assert.Equal(t, list[name], image)
			used[name] = true
		}
		assert.Len(t, used, len(list), "the list has an image that nothing uses")
	})
}
