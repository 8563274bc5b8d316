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
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"
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

// The fields are those of https://kubernetes.io/docs/concepts/security/pod-security-standards/.
func TestPods_PassTheRestrictedStandard(t *testing.T) {
	eachStack(t, func(t *testing.T, catalog []workloads.Workload) {
		for _, deployment := range of[*appsv1.Deployment](catalog) {
			t.Run(deployment.Name, func(t *testing.T) { restricted(t, &deployment.Spec.Template) })
		}
	})
}

func restricted(t *testing.T, template *corev1.PodTemplateSpec) {
	t.Helper()
	pod := &template.Spec
	assert.False(t, pod.HostNetwork || pod.HostPID || pod.HostIPC, "a namespace of the host")
	if pod.SecurityContext != nil {
		assert.Empty(t, pod.SecurityContext.Sysctls)
		assert.Nil(t, pod.SecurityContext.SELinuxOptions)
		assert.Nil(t, pod.SecurityContext.AppArmorProfile)
		assert.Nil(t, pod.SecurityContext.WindowsOptions)
	}
	for _, volume := range pod.Volumes {
		source := volume.VolumeSource
		source.EmptyDir, source.Secret, source.ConfigMap, source.Projected, source.DownwardAPI, source.CSI = nil, nil, nil, nil, nil, nil
		assert.Zero(t, source, "volume %s", volume.Name)
	}
	assert.Empty(t, pod.EphemeralContainers)
	for _, container := range slices.Concat(pod.InitContainers, pod.Containers) {
		for _, port := range container.Ports {
			assert.Zero(t, port.HostPort)
		}
		security := container.SecurityContext
		require.NotNil(t, security)
		assert.Equal(t, new(false), security.AllowPrivilegeEscalation)
		assert.Equal(t, new(true), security.ReadOnlyRootFilesystem, "not of the standard, but of ours")
		assert.Equal(t, new(true), security.RunAsNonRoot)
		assert.NotEqual(t, ptr.To[int64](0), security.RunAsUser)
		assert.Equal(t, &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}, security.Capabilities)
		assert.Equal(t, &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}, security.SeccompProfile)
		assert.False(t, security.Privileged != nil && *security.Privileged)
		assert.Nil(t, security.ProcMount)
		assert.Nil(t, security.SELinuxOptions)
		assert.Nil(t, security.AppArmorProfile)
		assert.Nil(t, security.WindowsOptions)
	}
}

func TestNamespaces_EnforceTheRestrictedStandard(t *testing.T) {
	eachStack(t, func(t *testing.T, catalog []workloads.Workload) {
		for _, namespace := range of[*corev1.Namespace](catalog) {
			assert.Equal(t, "restricted", namespace.Labels["pod-security.kubernetes.io/enforce"], namespace.Name)
			assert.Equal(t, "latest", namespace.Labels["pod-security.kubernetes.io/enforce-version"], namespace.Name)
		}
	})
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
			for _, container := range deployment.Spec.Template.Spec.Containers {
				assert.False(t, container.Resources.Requests.Memory().IsZero(), "%s has no request", deployment.Name)
				assert.False(t, container.Resources.Limits.Memory().IsZero(), "%s has no limit", deployment.Name)
				assert.LessOrEqual(t, container.Resources.Requests.Memory().Value(), container.Resources.Limits.Memory().Value(), deployment.Name)
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

func TestFlux_TheProfileSetsConcurrencyAndTheHeapFollowsTheLimit(t *testing.T) {
	for stack, want := range map[string]bool{"development": false, "production": true} {
		controllers := 0
		for _, deployment := range of[*appsv1.Deployment](catalog(t, stacks(t)[stack])) {
			if deployment.Namespace != "flux-system" {
				continue
			}
			controllers++
			container := deployment.Spec.Template.Spec.Containers[0]
			assert.Equal(t, want, slices.Contains(container.Args, "--concurrent=1"), "%s %s", stack, deployment.Name)
			assert.True(t, slices.ContainsFunc(container.Env, func(v corev1.EnvVar) bool {
				return v.Name == "GOMEMLIMIT" && v.ValueFrom.ResourceFieldRef.Resource == "limits.memory"
			}), deployment.Name)
		}
		assert.Equal(t, 6, controllers)
	}
}

// Whether each node has room for its pods, the scheduler says in a rehearsal; this says
// that what is asked for is there at all.
func TestMemory_AStacksNodesHaveWhatItsPodsAskFor(t *testing.T) {
	for stack, cfg := range stacks(t) {
		var have, want resource.Quantity
		for _, node := range cfg.Cluster.Nodes {
			if node.RunsWorkloads() {
				have.Add(node.Allocatable())
			}
		}
		for _, deployment := range of[*appsv1.Deployment](catalog(t, cfg)) {
			for _, container := range deployment.Spec.Template.Spec.Containers {
				for range *deployment.Spec.Replicas {
					want.Add(*container.Resources.Requests.Memory())
				}
			}
		}
		assert.LessOrEqual(t, want.Value(), have.Value(), "%s asks for %s of %s", stack, &want, &have)
		t.Logf("%s: requests %s of %s", stack, &want, &have)
	}
}

func TestVersions_NameEveryImageAndFluxsRelease(t *testing.T) {
	list := images(t)
	versions := workloads.Versions(catalog(t, stacks(t)["development"]), list)
	assert.Equal(t, "v2.9.4", versions["flux"])
	assert.Len(t, versions, len(list)+1)
	assert.NotContains(t, list, "flux", "the list itself is left alone")
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

// The list that the catalog gets here has tags that no code could know.
func TestImages_ComeFromTheListAlone(t *testing.T) {
	for stack, cfg := range stacks(t) {
		list := workloads.Images{}
		for name := range images(t) {
			list[name] = name + ":tag-of-a-test"
		}
		made, err := workloads.Catalog(cfg, list)
		require.NoError(t, err)
		used := map[string]bool{}
		for _, deployment := range of[*appsv1.Deployment](made) {
			for _, container := range deployment.Spec.Template.Spec.Containers {
				if deployment.Namespace == "flux-system" {
					assert.Regexp(t, `^ghcr\.io/fluxcd/`+deployment.Name+`:v`, container.Image)
					continue
				}
				name, isOfTheList := strings.CutSuffix(container.Image, ":tag-of-a-test")
				assert.True(t, isOfTheList, "%s: %s runs %s", stack, deployment.Name, container.Image)
				used[name] = true
			}
		}
		assert.Len(t, used, len(list), "the list has an image that nothing uses")
	}
}
