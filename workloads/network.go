package workloads

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// Namespaces of those that workloads talk to.
const (
	kubeSystem          = "kube-system"
	metricsNamespace    = "service-metrics-v1"
	shippingNamespace   = "ship-metrics-v1"
	snmpNamespace       = "exporter-snmp-v1"
	grafanaNamespace    = "render-metrics-v1"
	dashboardsNamespace = "grafana-dashboards-v1"
	mdnsNamespace       = "service-mdns-v1"
	intesisNamespace    = "service-intesis-v1"
	weatherNamespace    = "exporter-weather-v1"
	chatNamespace       = "chat-hvac-v1"
)

// peer is who may talk, or be talked to: pods by their labels in one namespace.
func peer(namespace string, labels map[string]string) networkingv1.NetworkPolicyPeer {
	return networkingv1.NetworkPolicyPeer{
		NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: namespace}},
		PodSelector:       &metav1.LabelSelector{MatchLabels: labels},
	}
}

// traefik is the ingress controller, as k3s installs it.
func traefik() networkingv1.NetworkPolicyPeer {
	return peer(kubeSystem, map[string]string{nameLabel: "traefik"})
}

// internet is every address but those of a house or a cluster.
func internet() networkingv1.NetworkPolicyPeer {
	return networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{
		CIDR: "0.0.0.0/0", Except: []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"},
	}}
}

// tcp lists ports; none of them means every port of TCP.
func tcp(ports ...int32) []networkingv1.NetworkPolicyPort {
	if len(ports) == 0 {
		return []networkingv1.NetworkPolicyPort{{Protocol: ptr.To(corev1.ProtocolTCP)}}
	}
	list := make([]networkingv1.NetworkPolicyPort, len(ports))
	for i, port := range ports {
		list[i] = networkingv1.NetworkPolicyPort{Protocol: ptr.To(corev1.ProtocolTCP), Port: new(intstr.FromInt32(port))}
	}
	return list
}

func from(ports []networkingv1.NetworkPolicyPort, peers ...networkingv1.NetworkPolicyPeer) networkingv1.NetworkPolicyIngressRule {
	return networkingv1.NetworkPolicyIngressRule{From: peers, Ports: ports}
}

func to(ports []networkingv1.NetworkPolicyPort, peers ...networkingv1.NetworkPolicyPeer) networkingv1.NetworkPolicyEgressRule {
	return networkingv1.NetworkPolicyEgressRule{To: peers, Ports: ports}
}

// only is one address.
func only(address string) networkingv1.NetworkPolicyPeer {
	return networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: address + "/32"}}
}

// dns lets a pod ask the cluster's name server.
func dns() networkingv1.NetworkPolicyEgressRule {
	ports := tcp(53)
	ports = append(ports, networkingv1.NetworkPolicyPort{Protocol: ptr.To(corev1.ProtocolUDP), Port: new(intstr.FromInt32(53))})
	return to(ports, peer(kubeSystem, map[string]string{"k8s-app": "kube-dns"}))
}

// apiServer lets a pod ask the API server, whose address no label knows.
func apiServer() networkingv1.NetworkPolicyEgressRule { return to(tcp(443, 6443)) }

// denyAll lets nothing in or out of a namespace's pods; allow adds what they need.
func denyAll(namespace, partOf string) *networkingv1.NetworkPolicy {
	const name = "default-deny"
	return &networkingv1.NetworkPolicy{
		TypeMeta:   typeMeta("networking.k8s.io/v1", "NetworkPolicy"),
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: ownLabels(name, partOf)},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{},
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
		},
	}
}

// allow is the one policy of an app's pods.
func (a app) allow(in []networkingv1.NetworkPolicyIngressRule, out []networkingv1.NetworkPolicyEgressRule) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{
		TypeMeta: typeMeta("networking.k8s.io/v1", "NetworkPolicy"), ObjectMeta: a.meta(),
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: a.selector()},
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
			Ingress:     in, Egress: out,
		},
	}
}
