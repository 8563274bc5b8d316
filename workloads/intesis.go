package workloads

import (
	"fmt"
	"net"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/nullify005/manager-cluster-state/config"
)

const (
	intesisImage = "ghcr.io/nullify005/service-intesis"
	intesisPort  = 2112
	mockTCPPort  = 5000
	mockHTTPPort = 5001
)

// serviceIntesis polls and controls the air-conditioning unit, through the Intesis cloud
// or, with hvac.mock, a mock of it beside the service.
func serviceIntesis(cfg *config.Config, images Images) (Workload, error) {
	image, err := images.reference(intesisImage)
	if err != nil {
		return Workload{}, fmt.Errorf("workload service-intesis: %w", err)
	}
	service := app{
		name: "service-intesis", namespace: intesisNamespace, image: image, replicas: 1, memory: "32Mi",
		command: []string{"/service-intesis"},
		args: []string{
			"watch", string(cfg.HVAC.Device), "--listen", fmt.Sprintf(":%d", intesisPort),
			"--interval", cfg.HVAC.Interval.String(), "--secrets", "/.secrets/creds.yaml",
		},
		port: intesisPort, health: "/health", metrics: "/metrics", secret: "service-intesis",
	}
	account := cfg.Secrets.Intesis
	out := []networkingv1.NetworkPolicyEgressRule{dns()}
	var mock []client.Object
	if cfg.HVAC.Mock {
		if !account.Given() {
			account = config.Intesis{Username: "mock", Password: "mock"}
		}
		server := mockServer(image)
		service.args = append(service.args,
			"--tcpserver", fmt.Sprintf("%s:%d", server.name, mockTCPPort),
			"--httpserver", "http://"+net.JoinHostPort(server.name, strconv.Itoa(mockHTTPPort)))
		out = append(out, to(tcp(mockTCPPort, mockHTTPPort), peer(intesisNamespace, server.selector())))
		mock = mockObjects(server, service)
	} else {
		// The cloud hands out the address and the port of its control channel.
		out = append(out, to(tcp(), internet()))
	}
	credentials, err := yaml.Marshal(map[string]string{"username": account.Username, "password": account.Password})
	if err != nil {
		return Workload{}, fmt.Errorf("workload service-intesis: writing its credentials: %w", err)
	}
	host := intesisNamespace + "." + cfg.Domain
	in := []networkingv1.NetworkPolicyIngressRule{
		from(tcp(intesisPort), traefik(), scraper(cfg), peer(chatNamespace, map[string]string{nameLabel: "chat-hvac"})),
	}
	objects := []client.Object{
		namespace(intesisNamespace, hvac),
		denyAll(intesisNamespace, hvac),
		service.allow(in, out),
		service.serviceAccount(),
		service.secretFile(service.secret, "creds.yaml", string(credentials)),
		service.deployment(),
		service.service(httpPort(intesisPort)),
		service.ingress(host),
	}
	return Workload{
		Name: service.name, Namespace: intesisNamespace,
		Objects: append(objects, mock...), URLs: []string{"http://" + host},
	}, nil
}

// intesisURL is where other workloads reach the service.
func intesisURL() string {
	return fmt.Sprintf("http://service-intesis.%s.svc.cluster.local:%d", intesisNamespace, intesisPort)
}

// mockServer is the image of service-intesis playing the Intesis cloud.
func mockServer(image string) app {
	return app{
		name: "mockserver", namespace: intesisNamespace, image: image, replicas: 1, memory: "32Mi",
		command: []string{"/service-intesis"},
		args: []string{
			"server", "--tcpserver", fmt.Sprintf("0.0.0.0:%d", mockTCPPort), "--httpserver", fmt.Sprintf("0.0.0.0:%d", mockHTTPPort),
		},
		port: mockHTTPPort, health: "/health",
	}
}

func mockObjects(server, service app) []client.Object {
	deployment := server.deployment()
	container := &deployment.Spec.Template.Spec.Containers[0]
	container.Ports = append(container.Ports, corev1.ContainerPort{
		Name: "control", ContainerPort: mockTCPPort, Protocol: corev1.ProtocolTCP,
	})
	in := []networkingv1.NetworkPolicyIngressRule{
		from(tcp(mockTCPPort, mockHTTPPort), peer(intesisNamespace, service.selector())),
	}
	return []client.Object{
		server.allow(in, nil),
		server.serviceAccount(),
		deployment,
		server.service(httpPort(mockHTTPPort), corev1.ServicePort{
			Name: "control", Port: mockTCPPort, TargetPort: intstr.FromString("control"), Protocol: corev1.ProtocolTCP,
		}),
	}
}
