package workloads_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/nullify005/manager-cluster-state/workloads"
)

// allowances are every connection that the policies let through, one a line: whose pods,
// which way, to or from whom, on which ports.
func allowances(catalog []workloads.Workload) []string {
	var lines []string
	for _, policy := range of[*networkingv1.NetworkPolicy](catalog) {
		pods := policy.Namespace + "/" + text(&policy.Spec.PodSelector)
		for _, rule := range policy.Spec.Ingress {
			for _, from := range names(policy.Namespace, rule.From) {
				lines = append(lines, fmt.Sprintf("%s < %s %s", pods, from, ports(rule.Ports)))
			}
		}
		for _, rule := range policy.Spec.Egress {
			for _, to := range names(policy.Namespace, rule.To) {
				lines = append(lines, fmt.Sprintf("%s > %s %s", pods, to, ports(rule.Ports)))
			}
		}
	}
	return lines
}

// text is a selector in full, less the prefixes that every label has; * selects everything.
func text(selector *metav1.LabelSelector) string {
	full := metav1.FormatLabelSelector(selector)
	if full == "<none>" {
		return "*"
	}
	return strings.NewReplacer("app.kubernetes.io/", "", "kubernetes.io/metadata.", "").Replace(full)
}

func names(namespace string, peers []networkingv1.NetworkPolicyPeer) []string {
	if len(peers) == 0 {
		return []string{"anyone"}
	}
	var all []string
	for _, peer := range peers {
		if peer.IPBlock != nil {
			all = append(all, strings.Join(append([]string{peer.IPBlock.CIDR, "but"}, peer.IPBlock.Except...), " "))
			continue
		}
		in, pods := namespace, "*"
		if peer.NamespaceSelector != nil {
			in = strings.TrimPrefix(text(peer.NamespaceSelector), "name=")
		}
		if peer.PodSelector != nil {
			pods = text(peer.PodSelector)
		}
		all = append(all, in+"/"+pods)
	}
	return all
}

func ports(list []networkingv1.NetworkPolicyPort) string {
	if len(list) == 0 {
		return "any port"
	}
	all := make([]string, len(list))
	for i, port := range list {
		all[i] = string(*port.Protocol)
		if port.Port != nil {
			all[i] += port.Port.String()
		}
		if port.EndPort != nil {
			all[i] += fmt.Sprint("-", *port.EndPort)
		}
	}
	return strings.Join(all, ",")
}

// Whoever adds a workload adds its calls here: somebody has looked at each.
func TestNetworkPolicies_LetThroughExactlyThis(t *testing.T) {
	const (
		internet = "0.0.0.0/0 but 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 169.254.0.0/16"
		dns      = "kube-system/k8s-app=kube-dns TCP53,UDP53"
		chat     = "chat-hvac-v1/name=chat-hvac"
		weather  = "exporter-weather-v1/name=exporter-weather"
		intesis  = "service-intesis-v1/name=service-intesis"
		mock     = "service-intesis-v1/name=mockserver"
		sealed   = "kube-system/name=sealed-secrets"
		snmp     = "exporter-snmp-v1/name=snmp-exporter"
		grafana  = "render-metrics-v1/name=grafana"
		traefik  = "kube-system/name=traefik"
		flux     = "flux-system/"
	)
	everywhere := []string{
		chat + " > " + dns,
		chat + " > " + internet + " TCP443",
		chat + " > " + intesis + " TCP2112",
		weather + " > " + dns,
		weather + " > " + internet + " TCP80,TCP443",
		intesis + " < " + chat + " TCP2112",
		intesis + " < " + traefik + " TCP2112",
		intesis + " > " + dns,
		// The API server, both ways: no label knows its address.
		sealed + " < anyone TCP8080",
		sealed + " > anyone TCP443,TCP6443",
		flux + "* > anyone any port",
		flux + "app=source-controller < " + flux + "app=kustomize-controller TCP9090",
	}
	ofHelm := []string{
		flux + "app=source-controller < " + flux + "app=helm-controller TCP9090",
		flux + "app=notification-controller < " + flux + "app=helm-controller TCP9090",
	}
	told := []string{
		flux + "app=notification-controller < " + flux + "app=source-controller TCP9090",
		flux + "app=notification-controller < " + flux + "app=kustomize-controller TCP9090",
		flux + "app=notification-controller < " + flux + "app=image-reflector-controller TCP9090",
		flux + "app=notification-controller < " + flux + "app=image-automation-controller TCP9090",
	}
	mocked := []string{mock + " < " + intesis + " TCP5000,TCP5001", intesis + " > " + mock + " TCP5000,TCP5001"}
	notMocked := []string{intesis + " > " + internet + " TCP"}
	scraped := func(scraper string) []string {
		return []string{
			weather + " < " + scraper + " TCP2112", scraper + " > " + weather + " TCP2112",
			intesis + " < " + scraper + " TCP2112", scraper + " > " + intesis + " TCP2112",
			snmp + " < " + scraper + " TCP9116", scraper + " > " + snmp + " TCP9116",
			flux + "* < " + scraper + " TCP8080", scraper + " > " + flux + "* TCP8080",
			scraper + " > " + dns, scraper + " > anyone TCP443,TCP6443", scraper + " > anyone TCP10250",
		}
	}
	const prometheus, alloy = "service-metrics-v1/name=prometheus", "ship-metrics-v1/name=alloy"
	local := append(scraped(prometheus),
		prometheus+" < "+traefik+" TCP9090", prometheus+" < "+grafana+" TCP9090",
		grafana+" < "+traefik+" TCP3000", grafana+" > "+prometheus+" TCP9090",
		grafana+" > "+dns, grafana+" > anyone TCP443,TCP6443",
	)
	cloud := append(scraped(alloy), alloy+" > anyone TCP443")
	for stack, own := range map[string][]string{
		"production":       slices.Concat(notMocked, told, local),
		"development":      slices.Concat(mocked, told, ofHelm, local),
		"production-cloud": slices.Concat(notMocked, told, cloud),
	} {
		cfg := variants(t)[stack]
		for _, device := range cfg.SNMP.Devices {
			own = append(own, snmp+" > "+device.Address+"/32 but UDP161")
		}
		assert.ElementsMatch(t, slices.Concat(own, everywhere), allowances(catalog(t, cfg)), stack)
	}
}

// closesBothWays is a policy without which its pods could talk to anyone.
func closesBothWays(policy *networkingv1.NetworkPolicy) bool {
	return slices.Contains(policy.Spec.PolicyTypes, networkingv1.PolicyTypeIngress) &&
		slices.Contains(policy.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
}

// Flux's controllers may leave for wherever Git hosts and registries are.
func TestNetworkPolicies_EveryNamespaceMadeHereDeniesByDefault(t *testing.T) {
	eachStack(t, func(t *testing.T, catalog []workloads.Workload) {
		policies := of[*networkingv1.NetworkPolicy](catalog)
		for _, namespace := range of[*corev1.Namespace](catalog) {
			egress := 0
			if namespace.Name == "flux-system" {
				egress = 1
			}
			assert.True(t, slices.ContainsFunc(policies, func(p *networkingv1.NetworkPolicy) bool {
				return p.Namespace == namespace.Name && text(&p.Spec.PodSelector) == "*" && closesBothWays(p) &&
					len(p.Spec.Ingress) == 0 && len(p.Spec.Egress) == egress
			}), "%s lets everything through", namespace.Name)
		}
	})
}

func TestNetworkPolicies_NoPodIsOpen(t *testing.T) {
	eachStack(t, func(t *testing.T, catalog []workloads.Workload) {
		for _, deployment := range of[*appsv1.Deployment](catalog) {
			closed := false
			for _, policy := range of[*networkingv1.NetworkPolicy](catalog) {
				selector, err := metav1.LabelSelectorAsSelector(&policy.Spec.PodSelector)
				require.NoError(t, err)
				closed = closed || policy.Namespace == deployment.Namespace && closesBothWays(policy) &&
					selector.Matches(labels.Set(deployment.Spec.Template.Labels))
			}
			assert.True(t, closed, "no policy closes the pods of %s", deployment.Name)
		}
	})
}
