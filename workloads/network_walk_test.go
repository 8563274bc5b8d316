package workloads_test

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/nullify005/manager-cluster-state/workloads"
)

// pod is one end of a connection: pods of the catalog, or somebody outside of it.
type pod struct {
	name, namespace string
	labels          map[string]string
	address         string // of one outside the cluster
	hostNetwork     bool   // no policy is about it
}

// call is a connection that somebody needs.
type call struct {
	from, to string
	port     int32
}

// walker knows who there is and which policies bind them.
type walker struct {
	t        *testing.T
	catalog  []workloads.Workload
	policies []*networkingv1.NetworkPolicy
	services []*corev1.Service
	pods     map[string]pod
	ports    map[string]map[string]int32 // pod, port's name
}

// outside are those whom the cluster and the house bring along.
func outside() []pod {
	return []pod{
		{name: "traefik", namespace: "kube-system", labels: map[string]string{"app.kubernetes.io/name": "traefik"}},
		{name: "coredns", namespace: "kube-system", labels: map[string]string{"k8s-app": "kube-dns"}},
		{name: "stranger", namespace: "default", labels: map[string]string{"app.kubernetes.io/name": "prometheus"}},
		{name: "laptop", address: "192.168.0.77"},
		{name: "internet", address: "203.0.113.7"},
		{name: "the node", address: "192.168.0.10"}, // its kubelet, and on a server the API server
	}
}

func walk(t *testing.T, catalog []workloads.Workload) *walker {
	t.Helper()
	w := &walker{
		t: t, catalog: catalog, pods: map[string]pod{}, ports: map[string]map[string]int32{},
		policies: of[*networkingv1.NetworkPolicy](catalog), services: of[*corev1.Service](catalog),
	}
	for _, p := range outside() {
		w.pods[p.name] = p
	}
	for _, deployment := range of[*appsv1.Deployment](catalog) {
		template := deployment.Spec.Template
		w.pods[deployment.Name] = pod{deployment.Name, deployment.Namespace, template.Labels, "", template.Spec.HostNetwork}
		w.ports[deployment.Name] = map[string]int32{}
		for _, port := range template.Spec.Containers[0].Ports {
			w.ports[deployment.Name][port.Name] = port.ContainerPort
		}
	}
	// A namesake of each pod in another namespace: a label alone must not be enough.
	for _, deployment := range of[*appsv1.Deployment](catalog) {
		w.pods["namesake of "+deployment.Name] = pod{"namesake of " + deployment.Name, "default", deployment.Spec.Template.Labels, "", false}
	}
	return w
}

func (w *walker) selects(selector *metav1.LabelSelector, set map[string]string) bool {
	s, err := metav1.LabelSelectorAsSelector(selector)
	require.NoError(w.t, err)
	return s.Matches(labels.Set(set))
}

// is says whether a peer of a policy in a namespace is that pod.
func (w *walker) is(peer networkingv1.NetworkPolicyPeer, namespace string, p pod) bool {
	if peer.IPBlock != nil {
		if p.address == "" {
			return false
		}
		address := netip.MustParseAddr(p.address)
		return netip.MustParsePrefix(peer.IPBlock.CIDR).Contains(address) &&
			!slices.ContainsFunc(peer.IPBlock.Except, func(cidr string) bool { return netip.MustParsePrefix(cidr).Contains(address) })
	}
	if p.address != "" {
		return false
	}
	inNamespace := p.namespace == namespace
	if peer.NamespaceSelector != nil {
		inNamespace = w.selects(peer.NamespaceSelector, map[string]string{corev1.LabelMetadataName: p.namespace})
	}
	return inNamespace && (peer.PodSelector == nil || w.selects(peer.PodSelector, p.labels))
}

// lets says whether the policies of one end let the other through, one way.
func (w *walker) lets(way networkingv1.PolicyType, mine, other pod, port int32, protocol corev1.Protocol) bool {
	if mine.address != "" || mine.hostNetwork {
		return true
	}
	bound, through := false, false
	for _, policy := range w.policies {
		if policy.Namespace != mine.namespace || !w.selects(&policy.Spec.PodSelector, mine.labels) || !slices.Contains(policy.Spec.PolicyTypes, way) {
			continue
		}
		bound = true
		rule := func(peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) {
			peerFits := len(peers) == 0 || slices.ContainsFunc(peers, func(p networkingv1.NetworkPolicyPeer) bool { return w.is(p, policy.Namespace, other) })
			portFits := len(ports) == 0 || slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool {
				return *p.Protocol == protocol && (p.Port == nil || p.Port.IntVal == port)
			})
			through = through || peerFits && portFits
		}
		if way == networkingv1.PolicyTypeIngress {
			for _, r := range policy.Spec.Ingress {
				rule(r.From, r.Ports)
			}
		} else {
			for _, r := range policy.Spec.Egress {
				rule(r.To, r.Ports)
			}
		}
	}
	return !bound || through
}

// behind is the pod and the container's port that a port of a service leads to.
func (w *walker) behind(service *corev1.Service, port int32) (string, int32) {
	for _, p := range service.Spec.Ports {
		if p.Port != port {
			continue
		}
		for name, candidate := range w.pods {
			if candidate.namespace == service.Namespace && w.selects(&metav1.LabelSelector{MatchLabels: service.Spec.Selector}, candidate.labels) {
				if p.TargetPort.StrVal != "" {
					return name, w.ports[name][p.TargetPort.StrVal]
				}
				return name, p.TargetPort.IntVal
			}
		}
	}
	w.t.Errorf("nothing is behind port %d of service %s", port, service.Name)
	return "", 0
}

var (
	// In full, as svc names it; or short, to a port in the same namespace.
	fullName  = regexp.MustCompile(`([a-z0-9-]+)\.([a-z0-9-]+)\.svc(?:\.cluster\.local)?\.?(?::(\d+))?`)
	shortName = regexp.MustCompile(`\b([a-z0-9-]+):(\d+)\b`)
)

// calls are the connections that the catalog's own text asks for: every scrape, every ingress,
// and every service that somebody's arguments, environment or files name.
func (w *walker) calls(scraper string) []call {
	var calls []call
	for _, deployment := range of[*appsv1.Deployment](w.catalog) {
		template := deployment.Spec.Template
		if template.Annotations["prometheus.io/scrape"] == "true" && deployment.Namespace != "kube-system" {
			port, err := strconv.Atoi(template.Annotations["prometheus.io/port"])
			require.NoError(w.t, err)
			calls = append(calls, call{scraper, deployment.Name, int32(port)})
		}
		calls = append(calls, w.named(deployment)...)
	}
	for _, ingress := range of[*networkingv1.Ingress](w.catalog) {
		backend := ingress.Spec.Rules[0].HTTP.Paths[0].Backend.Service
		for _, service := range w.services {
			if service.Namespace != ingress.Namespace || service.Name != backend.Name {
				continue
			}
			for _, port := range service.Spec.Ports {
				if port.Name == backend.Port.Name {
					to, at := w.behind(service, port.Port)
					calls = append(calls, call{"traefik", to, at})
				}
			}
		}
	}
	return calls
}

// named are the services that the text of a Deployment, and of what it reads, names.
func (w *walker) named(deployment *appsv1.Deployment) []call {
	text, err := yaml.Marshal(deployment.Spec.Template.Spec)
	require.NoError(w.t, err)
	all := strings.Builder{}
	all.Write(text)
	for _, configMap := range of[*corev1.ConfigMap](w.catalog) {
		if configMap.Namespace == deployment.Namespace && strings.Contains(string(text), "name: "+configMap.Name+"\n") {
			for _, content := range configMap.Data {
				all.WriteString(content)
			}
		}
	}
	for _, secret := range of[*corev1.Secret](w.catalog) {
		if secret.Namespace == deployment.Namespace && strings.Contains(string(text), "secretName: "+secret.Name+"\n") {
			for _, content := range secret.Data {
				all.Write(content)
			}
		}
	}
	var calls []call
	add := func(name, namespace, portText string) {
		for _, service := range w.services {
			if service.Name != name || service.Namespace != namespace || name == deployment.Name {
				continue
			}
			port := int32(80)
			if portText != "" {
				number, err := strconv.Atoi(portText)
				require.NoError(w.t, err)
				port = int32(number)
			}
			to, at := w.behind(service, port)
			calls = append(calls, call{deployment.Name, to, at})
		}
	}
	for _, match := range fullName.FindAllStringSubmatch(all.String(), -1) {
		add(match[1], match[2], match[3])
	}
	for _, match := range shortName.FindAllStringSubmatch(all.String(), -1) {
		add(match[1], deployment.Namespace, match[2])
	}
	return calls
}

// unwritten are the calls that no text of the catalog names.
func unwritten(w *walker, scraper string) []call {
	calls := []call{{scraper, "the node", 10250}}
	// source-controller gives its address away in the status of its objects.
	for _, name := range []string{"kustomize-controller", "helm-controller"} {
		if _, on := w.ports[name]; on {
			calls = append(calls, call{name, "source-controller", 9090})
		}
	}
	// What Flux is told to do has it leave the house: registries, Git hosts, Slack and GitHub.
	for _, workload := range w.catalog {
		switch workload.Name {
		case "image-automation":
			calls = append(calls, call{"image-reflector-controller", "internet", 443}, call{"image-automation-controller", "internet", 22})
		case "notifications":
			calls = append(calls, call{"notification-controller", "internet", 443})
		}
	}
	for _, deployment := range of[*appsv1.Deployment](w.catalog) {
		// A policy sees the API server's own port or that of its service, by who enforces it.
		if hasToken(deployment) {
			calls = append(calls, call{deployment.Name, "the node", 6443}, call{deployment.Name, "the node", 443})
		}
	}
	// The API server asks for the certificate to seal with; no label knows it, so anyone may.
	for name := range w.pods {
		calls = append(calls, call{name, "sealed-secrets-controller", 8080})
	}
	return calls
}

// hasToken says whether the pods of a Deployment may log in to the API server.
func hasToken(deployment *appsv1.Deployment) bool {
	pod := deployment.Spec.Template.Spec
	return pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken ||
		slices.ContainsFunc(pod.Volumes, func(volume corev1.Volume) bool {
			return volume.Projected != nil && slices.ContainsFunc(volume.Projected.Sources, func(source corev1.VolumeProjection) bool {
				return source.ServiceAccountToken != nil
			})
		})
}

func TestNetwork_EveryCallIsLetThroughAndNothingElseIsLetIn(t *testing.T) {
	for stack, cfg := range variants(t) {
		scraper := "prometheus"
		if stack == "production-cloud" {
			scraper = "alloy"
		}
		w := walk(t, catalog(t, cfg))
		calls := append(w.calls(scraper), unwritten(w, scraper)...)
		if stack != "production-cloud" {
			assert.Contains(t, calls, call{"grafana", "prometheus", 9090}, "the dashboards' datasource")
		}
		assert.Contains(t, calls, call{scraper, "snmp-exporter", 9116})
		assert.Contains(t, calls, call{scraper, "source-controller", 8080})
		assert.Equal(t, cfg.Flux.Notifications, slices.Contains(calls, call{"kustomize-controller", "notification-controller", 9090}), stack)
		assert.Contains(t, calls, call{"chat-hvac", "service-intesis", 2112})
		for _, c := range []call{
			{"image-reflector-controller", "internet", 443}, {"image-automation-controller", "internet", 22}, {"notification-controller", "internet", 443},
		} {
			assert.Equal(t, stack != "development", slices.Contains(calls, c), "%s: %v", stack, c)
		}

		for _, c := range calls {
			from, to := w.pods[c.from], w.pods[c.to]
			require.NotEmpty(t, to.name, c)
			assert.True(t, w.lets(networkingv1.PolicyTypeIngress, to, from, c.port, corev1.ProtocolTCP), "%s: %s doesn't let %s in, at port %d", stack, c.to, c.from, c.port)
			if from.namespace != "kube-system" && from.namespace != "default" && c.to != "sealed-secrets-controller" {
				assert.True(t, w.lets(networkingv1.PolicyTypeEgress, from, to, c.port, corev1.ProtocolTCP), "%s: %s isn't let out to %s, port %d", stack, c.from, c.to, c.port)
			}
		}
		for name, to := range w.pods {
			if to.address != "" || to.hostNetwork || w.ports[name] == nil {
				continue
			}
			for _, port := range append(slices.Collect(portsOf(w, name)), 4444) {
				for other, from := range w.pods {
					if other == name {
						continue // a pod always reaches itself
					}
					let := w.lets(networkingv1.PolicyTypeIngress, to, from, port, corev1.ProtocolTCP)
					assert.Equal(t, slices.Contains(calls, call{other, name, port}), let, "%s: %s to %s, port %d", stack, other, name, port)
					assert.False(t, w.lets(networkingv1.PolicyTypeIngress, to, from, port, corev1.ProtocolUDP), "%s: %s to %s, UDP %d", stack, other, name, port)
				}
			}
		}
	}
}

func portsOf(w *walker, name string) func(func(int32) bool) {
	return func(yield func(int32) bool) {
		for _, port := range w.ports[name] {
			if !yield(port) {
				return
			}
		}
	}
}

// Whoever names a service, or a host, has to be able to ask for its address.
func TestNetwork_WhoCallsByNameMayAskForIt(t *testing.T) {
	for stack, cfg := range variants(t) {
		w := walk(t, catalog(t, cfg))
		callers := map[string]bool{"service-intesis": true, "exporter-weather": true, "chat-hvac": true} // hosts on the internet
		for _, deployment := range of[*appsv1.Deployment](w.catalog) {
			if len(w.named(deployment)) > 0 || deployment.Namespace == "flux-system" {
				callers[deployment.Name] = true
			}
		}
		for name := range callers {
			for _, protocol := range []corev1.Protocol{corev1.ProtocolUDP, corev1.ProtocolTCP} {
				assert.True(t, w.lets(networkingv1.PolicyTypeEgress, w.pods[name], w.pods["coredns"], 53, protocol), "%s: %s can't ask for names by %s", stack, name, protocol)
			}
		}
	}
}

// What leaves the cluster: each device by its address, at SNMP's port alone.
func TestNetwork_TheSNMPExporterReachesTheDevicesAndNothingElse(t *testing.T) {
	for stack, cfg := range variants(t) {
		w := walk(t, catalog(t, cfg))
		exporter := w.pods["snmp-exporter"]
		for _, device := range cfg.SNMP.Devices {
			assert.True(t, w.lets(networkingv1.PolicyTypeEgress, exporter, pod{address: device.Address}, 161, corev1.ProtocolUDP), "%s: %s", stack, device.Name)
			assert.False(t, w.lets(networkingv1.PolicyTypeEgress, exporter, pod{address: device.Address}, 22, corev1.ProtocolTCP), "%s: %s", stack, device.Name)
		}
		for _, p := range w.pods {
			assert.False(t, w.lets(networkingv1.PolicyTypeEgress, exporter, p, 161, corev1.ProtocolUDP), fmt.Sprint(stack, p.name))
		}
	}
}
