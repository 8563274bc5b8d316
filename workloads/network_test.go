package workloads_test

import (
	"fmt"
	"sort"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/nullify005/manager-cluster-state/workloads"
)

// allowances are every connection that the policies outside of flux-system let through,
// one a line: whose pods, which way, to or from whom, on which ports.
func allowances(catalog []workloads.Workload) []string {
	var lines []string
	for _, policy := range of[*networkingv1.NetworkPolicy](catalog) {
		if policy.Namespace == "flux-system" {
			continue
		}
		pods := policy.Spec.PodSelector.MatchLabels["app.kubernetes.io/name"]
		for _, rule := range policy.Spec.Ingress {
			for _, from := range names(rule.From) {
				lines = append(lines, fmt.Sprintf("%s < %s %s", pods, from, ports(rule.Ports)))
			}
		}
		for _, rule := range policy.Spec.Egress {
			for _, to := range names(rule.To) {
				lines = append(lines, fmt.Sprintf("%s > %s %s", pods, to, ports(rule.Ports)))
			}
		}
	}
	sort.Strings(lines)
	return lines
}

func names(peers []networkingv1.NetworkPolicyPeer) []string {
	if len(peers) == 0 {
		return []string{"anyone"}
	}
	var all []string
	for _, peer := range peers {
		if peer.IPBlock != nil {
			all = append(all, fmt.Sprintf("%s but %d ranges", peer.IPBlock.CIDR, len(peer.IPBlock.Except)))
			continue
		}
		var pods []string
		for _, value := range peer.PodSelector.MatchLabels {
			pods = append(pods, value)
		}
		all = append(all, peer.NamespaceSelector.MatchLabels[corev1.LabelMetadataName]+"/"+strings.Join(pods, ","))
	}
	return all
}

func ports(list []networkingv1.NetworkPolicyPort) string {
	all := make([]string, len(list))
	for i, port := range list {
		all[i] = string(*port.Protocol)
		if port.Port != nil {
			all[i] += port.Port.String()
		}
	}
	return strings.Join(all, ",")
}

const everywhere = "0.0.0.0/0 but 4 ranges"

func TestNetworkPolicies_LetThroughExactlyThis(t *testing.T) {
	both := []string{
		"chat-hvac > " + everywhere + " TCP443",
		"chat-hvac > kube-system/kube-dns TCP53,UDP53",
		"chat-hvac > service-intesis-v1/service-intesis TCP2112",
		"exporter-weather < service-metrics-v1/prometheus TCP2112",
		"exporter-weather > " + everywhere + " TCP80,TCP443",
		"exporter-weather > kube-system/kube-dns TCP53,UDP53",
		"sealed-secrets < anyone TCP8080",
		"sealed-secrets < service-metrics-v1/prometheus TCP8081",
		"sealed-secrets > anyone TCP443,TCP6443",
		"service-intesis < chat-hvac-v1/chat-hvac TCP2112",
		"service-intesis < kube-system/traefik TCP2112",
		"service-intesis < service-metrics-v1/prometheus TCP2112",
		"service-intesis > kube-system/kube-dns TCP53,UDP53",
	}
	for stack, own := range map[string][]string{
		"production": {"service-intesis > " + everywhere + " TCP"},
		"development": {
			"mockserver < service-intesis-v1/service-intesis TCP5000,TCP5001",
			"service-intesis > service-intesis-v1/mockserver TCP5000,TCP5001",
		},
	} {
		assert.ElementsMatch(t, append(own, both...), allowances(catalog(t, stacks(t)[stack])), stack)
	}
}

func TestNetworkPolicies_EveryNamespaceDeniesByDefault(t *testing.T) {
	eachStack(t, func(t *testing.T, catalog []workloads.Workload) {
		closed := map[string]bool{}
		for _, policy := range of[*networkingv1.NetworkPolicy](catalog) {
			selectsAll := len(policy.Spec.PodSelector.MatchLabels)+len(policy.Spec.PodSelector.MatchExpressions) == 0
			if selectsAll && len(policy.Spec.PolicyTypes) == 2 {
				closed[policy.Namespace] = true
			}
		}
		for _, namespace := range of[*corev1.Namespace](catalog) {
			assert.True(t, closed[namespace.Name], "%s lets everything through", namespace.Name)
		}
	})
}
