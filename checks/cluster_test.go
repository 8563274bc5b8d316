package checks_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// cluster is a Kubernetes API that lists and watches the objects of a sample cluster, and
// remembers what it was asked for.
type cluster struct {
	*httptest.Server

	objects map[string][]any

	mutex sync.Mutex
	asked map[string]bool
}

// collections are the paths of the API, with the kind of what each lists.
var collections = map[string]metav1.TypeMeta{
	"/api/v1/nodes":    {APIVersion: "v1", Kind: "Node"},
	"/api/v1/pods":     {APIVersion: "v1", Kind: "Pod"},
	"/api/v1/services": {APIVersion: "v1", Kind: "Service"},
	"/apis/discovery.k8s.io/v1/endpointslices": {APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{asked: map[string]bool{}, objects: map[string][]any{
		"/api/v1/nodes":    nodes(),
		"/api/v1/pods":     append(workloadPods(t), oddPods()...),
		"/api/v1/services": services(),
		"/apis/discovery.k8s.io/v1/endpointslices": endpointSlices(),
	}}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	verb := "list"
	if r.URL.Query().Get("watch") != "" {
		verb = "watch"
	}
	c.mutex.Lock()
	c.asked[verb+" "+r.URL.Path] = true
	c.mutex.Unlock()

	kind, found := collections[r.URL.Path]
	if !found {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	for _, answer := range answers(r, kind, c.objects[r.URL.Path]) {
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			return // who asked is gone
		}
	}
	if verb == "watch" {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
}

// answers are a list, or the events of a watch: one for each object, and one that says that those
// were all, if the watch is to begin with them.
func answers(r *http.Request, kind metav1.TypeMeta, objects []any) []map[string]any {
	query := r.URL.Query()
	if query.Get("watch") == "" {
		return []map[string]any{{
			"apiVersion": kind.APIVersion, "kind": kind.Kind + "List",
			"metadata": map[string]any{"resourceVersion": "1"}, "items": objects,
		}}
	}
	if query.Get("sendInitialEvents") != "true" {
		return nil
	}
	var events []map[string]any
	for _, object := range objects {
		events = append(events, map[string]any{"type": "ADDED", "object": object})
	}
	return append(events, map[string]any{"type": "BOOKMARK", "object": map[string]any{
		"apiVersion": kind.APIVersion, "kind": kind.Kind, "metadata": map[string]any{
			"resourceVersion": "1", "annotations": map[string]string{metav1.InitialEventsAnnotationKey: "true"},
		},
	}})
}

// requests are the verbs and paths that were asked for, sorted.
func (c *cluster) requests() []string {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	var list []string
	for request := range c.asked {
		list = append(list, request)
	}
	slices.Sort(list)
	return list
}

func nodes() []any {
	var list []any
	for i, name := range []string{"kiwipi", "orangepi"} {
		list = append(list, &corev1.Node{
			TypeMeta:   collections["/api/v1/nodes"],
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/hostname": name}},
			Status: corev1.NodeStatus{
				Addresses: []corev1.NodeAddress{
					{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("192.168.1.%d", 10+i)},
					{Type: corev1.NodeHostName, Address: name},
				},
				DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: 10250}},
			},
		})
	}
	return list
}

// annotate gives the annotations prometheus.io/scrape, port and path; an empty one is left out.
func annotate(scrape, port, path string) map[string]string {
	annotations := map[string]string{}
	for key, value := range map[string]string{"scrape": scrape, "port": port, "path": path} {
		if value != "" {
			annotations["prometheus.io/"+key] = value
		}
	}
	return annotations
}

func pod(namespace, name, ip string, labels, annotations map[string]string, ports ...int32) *corev1.Pod {
	container := corev1.Container{Name: name}
	for _, port := range ports {
		container.Ports = append(container.Ports, corev1.ContainerPort{
			Name: fmt.Sprintf("port-%d", port), ContainerPort: port, Protocol: corev1.ProtocolTCP,
		})
	}
	return &corev1.Pod{
		TypeMeta:   collections["/api/v1/pods"],
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name + "-0", Labels: labels, Annotations: annotations},
		Spec:       corev1.PodSpec{NodeName: "orangepi", Containers: []corev1.Container{container}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, HostIP: "192.168.1.11"},
	}
}

func named(name string) map[string]string { return map[string]string{"app.kubernetes.io/name": name} }

// production is the catalog of the stack as it was set out, whatever an owner has set in the real one.
func production(t *testing.T) []workloads.Workload {
	t.Helper()
	content, err := os.ReadFile("../workloads/testdata/Pulumi.production.yaml")
	require.NoError(t, err)
	values, secrets, err := config.ReadStackFile("manager-cluster-state", content)
	require.NoError(t, err)
	cfg, err := config.Load("manager-cluster-state", values, secrets, time.Now(), config.SkipSecrets())
	require.NoError(t, err)
	images, err := workloads.LoadImages("../manifests/images/kustomization.yaml")
	require.NoError(t, err)
	catalog, err := workloads.Catalog(cfg, images)
	require.NoError(t, err)
	return catalog
}

// workloadPods are the pods that production's Deployments make.
func workloadPods(t *testing.T) []any {
	t.Helper()
	var list []any
	for _, workload := range production(t) {
		for _, object := range workload.Objects {
			deployment, ok := object.(*appsv1.Deployment)
			if !ok {
				continue
			}
			list = append(list, &corev1.Pod{
				TypeMeta: collections["/api/v1/pods"],
				ObjectMeta: metav1.ObjectMeta{
					Namespace: deployment.Namespace, Name: deployment.Name + "-0",
					Labels: deployment.Spec.Template.Labels, Annotations: deployment.Spec.Template.Annotations,
				},
				Spec:   deployment.Spec.Template.Spec,
				Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: fmt.Sprintf("10.42.0.%d", 10+len(list))},
			})
		}
	}
	return list
}

func (c *cluster) pods() []*corev1.Pod {
	var list []*corev1.Pod
	for _, object := range c.objects["/api/v1/pods"] {
		if pod, ok := object.(*corev1.Pod); ok {
			list = append(list, pod)
		}
	}
	return list
}

// oddPods are what the workloads have none of, or not all of the time.
func oddPods() []any {
	finished := pod("app-v1", "finished", "10.42.1.7", named("finished"), annotate("true", "80", ""), 80)
	finished.Status.Phase = corev1.PodSucceeded
	failed := pod("app-v1", "failed", "10.42.1.8", named("failed"), annotate("true", "80", ""), 80)
	failed.Status.Phase = corev1.PodFailed

	// Several containers and ports, none of them the one to scrape, and only the older labels.
	ports := pod("app-v1", "ports", "10.42.1.4", map[string]string{"app": "older", "app.kubernetes.io/component": "ports"},
		annotate("true", "9100", "/stats"), 80, 443)
	ports.Spec.Containers = append(ports.Spec.Containers, corev1.Container{
		Name: "sidecar", Ports: []corev1.ContainerPort{{Name: "admin", ContainerPort: 8001}},
	})
	ports.Spec.InitContainers = []corev1.Container{{Name: "init", Ports: []corev1.ContainerPort{{ContainerPort: 8002}}}}

	return []any{
		pod("app-v1", "both", "10.42.1.2", named("both"), annotate("true", "80", "/metrics"), 80),
		pod("app-v1", "refuses", "10.42.1.3", named("refuses"), annotate("false", "80", ""), 80),
		ports,
		pod("app-v1", "no-port", "10.42.1.5", named("no-port"), annotate("true", "", ""), 80, 81),
		pod("app-v1", "silent", "10.42.1.6", named("silent"), nil, 80),
		finished, failed,
		pod("app-v1", "behind", "10.42.1.9", named("behind"), nil, 8080, 9090),
		pod("kube-system", "coredns", "10.42.1.20", named("coredns"), annotate("true", "9153", ""), 53, 9153),
	}
}

// services has one that asks to be scraped, with two ports before a pod of two others; one whose
// pod asks for it too; one that doesn't ask; and one in kube-system.
func services() []any {
	service := func(namespace, name string, annotations map[string]string) *corev1.Service {
		return &corev1.Service{
			TypeMeta:   collections["/api/v1/services"],
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: named(name), Annotations: annotations},
		}
	}
	return []any{
		service("app-v1", "behind", annotate("true", "9090", "/stats")),
		service("app-v1", "silent", nil),
		service("app-v1", "both", annotate("true", "80", "/metrics")),
		service("kube-system", "kube-dns", annotate("true", "9153", "")),
	}
}

func endpointSlices() []any {
	slice := func(namespace, service, address, pod string, ports ...int32) *discoveryv1.EndpointSlice {
		s := &discoveryv1.EndpointSlice{
			TypeMeta: collections["/apis/discovery.k8s.io/v1/endpointslices"],
			ObjectMeta: metav1.ObjectMeta{
				Namespace: namespace, Name: service + "-abcde", Labels: map[string]string{discoveryv1.LabelServiceName: service},
			},
			AddressType: discoveryv1.AddressTypeIPv4,
			Endpoints: []discoveryv1.Endpoint{{
				Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)},
				TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: pod},
			}},
		}
		for _, port := range ports {
			s.Ports = append(s.Ports, discoveryv1.EndpointPort{
				Name: new(fmt.Sprintf("port-%d", port)), Port: new(port), Protocol: new(corev1.ProtocolTCP),
			})
		}
		return s
	}
	return []any{
		slice("app-v1", "behind", "10.42.1.9", "behind-0", 8080, 8443),
		slice("app-v1", "silent", "10.42.1.6", "silent-0", 80),
		slice("app-v1", "both", "10.42.1.2", "both-0", 80),
		slice("kube-system", "kube-dns", "10.42.1.20", "coredns-0", 53, 9153),
	}
}

// permissions are the rules of a ClusterRole that requests need, as verb group/resource.
func permissions(requests []string) []string {
	var list []string
	for _, request := range requests {
		verb, path, _ := strings.Cut(request, " ")
		parts := strings.Split(strings.Trim(path, "/"), "/")
		group := ""
		if parts[0] == "apis" {
			group = parts[1]
		}
		list = append(list, fmt.Sprintf("%s %s/%s", verb, group, parts[len(parts)-1]))
	}
	return list
}
