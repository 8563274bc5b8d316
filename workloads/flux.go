package workloads

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/manifests"
)

const (
	fluxSystemName  = "flux-system"
	fluxNamespace   = "flux-system"
	fluxMetricsPort = 8080
	fluxHTTPPort    = 9090 // artifacts of source-controller, events of notification-controller

	componentLabel         = "app.kubernetes.io/component"
	sourceController       = "source-controller"
	notificationController = "notification-controller"
	kustomizeController    = "kustomize-controller"
	helmController         = "helm-controller"
	imageReflector         = "image-reflector-controller"

	eventsFlag = "--events-addr="
)

// fluxSystem is Flux as its own project installs it, less the controllers of features that
// are off and what they may without need, with the resources and arguments of the stack's
// profile, and with policies that let in who asks it rather than whole namespaces.
func fluxSystem(cfg *config.Config, _ Images) (Workload, error) {
	objects, err := decode(manifests.FluxCRDs, manifests.FluxInstall)
	if err != nil {
		return Workload{}, fmt.Errorf("workload flux-system: reading manifests/flux-system: %w", err)
	}
	off := fluxControllersOff(cfg.Flux)
	objects = slices.DeleteFunc(objects, func(object client.Object) bool {
		_, isPolicy := object.(*networkingv1.NetworkPolicy)
		return isPolicy || addsToOthers(object) || slices.Contains(off, object.GetLabels()[componentLabel])
	})
	var on []string
	for _, object := range objects {
		switch o := object.(type) {
		case *corev1.Namespace:
			enforceRestricted(o.Labels)
			if release := o.Labels[versionLabel]; cfg.Flux.Version != "" && cfg.Flux.Version != release {
				return Workload{}, fmt.Errorf("flux.version is %s: manifests/flux-system is %s; set it to that, "+
					"or raise tools/flux/go.mod and run make generate", cfg.Flux.Version, release)
			}
		case *rbacv1.ClusterRole:
			o.Rules = narrowed(o.Rules)
		case *rbacv1.ClusterRoleBinding:
			o.Subjects = slices.DeleteFunc(o.Subjects, func(s rbacv1.Subject) bool { return slices.Contains(off, s.Name) })
		case *appsv1.Deployment:
			on = append(on, o.Name)
			if slices.Contains(off, notificationController) {
				tellNobody(o)
			}
			if cfg.Flux.Profile == config.LowMemory {
				lowMemory(o)
			}
			switch o.Name {
			case kustomizeController:
				delivers(o)
			case notificationController:
				watchesNoSecrets(o)
			}
		}
	}
	accounts := make([]rbacv1.Subject, len(on))
	for i, name := range on {
		accounts[i] = rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: fluxNamespace, Name: name}
	}
	objects = slices.Concat(objects, fluxSecrets(accounts), fluxPolicies(cfg, on))
	return Workload{Name: fluxSystemName, Namespace: fluxNamespace, Direct: true, Objects: objects}, nil
}

// addsToOthers says whether an object is a role that is added to Kubernetes's own edit and view. Nobody
// here has those; and whoever had edit in a single namespace could have kustomize-controller do
// anything anywhere.
func addsToOthers(object client.Object) bool {
	role, isRole := object.(*rbacv1.ClusterRole)
	if !isRole {
		return false
	}
	for label := range role.Labels {
		if strings.HasPrefix(label, "rbac.authorization.k8s.io/aggregate-to-") {
			return true
		}
	}
	return false
}

// narrowed is what Flux's controllers may, less what nothing here needs. To make tokens of accounts is
// for logging in to a cloud; with it each of the controllers could be kustomize-controller, who may
// everything. To look into every Secret is for sources in other namespaces than Flux's own.
func narrowed(rules []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	rules = slices.DeleteFunc(rules, func(rule rbacv1.PolicyRule) bool {
		return slices.Contains(rule.Resources, "serviceaccounts/token") || slices.Contains(rule.APIGroups, "source.extensions.fluxcd.io")
	})
	for i := range rules {
		rules[i].Resources = slices.DeleteFunc(rules[i].Resources, func(resource string) bool { return resource == "secrets" })
	}
	return rules
}

// fluxSecrets has the controllers that are bound read the Secrets of Flux's own namespace, where all
// of its objects are.
func fluxSecrets(accounts []rbacv1.Subject) []client.Object {
	meta := metav1.ObjectMeta{Namespace: fluxNamespace, Name: "flux-secrets", Labels: ownLabels("flux-secrets", "flux")}
	return []client.Object{
		&rbacv1.Role{
			TypeMeta: typeMeta("rbac.authorization.k8s.io/v1", "Role"), ObjectMeta: meta,
			Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get", "list", "watch"}}},
		},
		&rbacv1.RoleBinding{
			TypeMeta: typeMeta("rbac.authorization.k8s.io/v1", "RoleBinding"), ObjectMeta: meta,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: meta.Name}, Subjects: accounts,
		},
	}
}

// fluxControllersOff lists the controllers that nothing needs, by the label that everything
// of a controller has: its definitions, too, so that turning a feature off takes all of it.
func fluxControllersOff(flux config.Flux) []string {
	off := []string{"source-watcher"} // it is in Flux's bindings, and not installed
	if !flux.Helm {
		off = append(off, helmController)
	}
	if !flux.Notifications {
		off = append(off, notificationController)
	}
	if !flux.ImageAutomation {
		off = append(off, imageReflector, "image-automation-controller")
	}
	return off
}

// tellNobody stops a controller from sending events to a notification-controller that isn't
// there.
func tellNobody(deployment *appsv1.Deployment) {
	container := &deployment.Spec.Template.Spec.Containers[0]
	for i, arg := range container.Args {
		if strings.HasPrefix(arg, eventsFlag) {
			container.Args[i] = eventsFlag
		}
	}
}

// watchesNoSecrets keeps notification-controller from watching the Secrets of every namespace, for Receivers, which
// nothing here has: it may not (see narrowed), and what may not watch what it wants to ends every two minutes.
func watchesNoSecrets(deployment *appsv1.Deployment) {
	container := &deployment.Spec.Template.Spec.Containers[0]
	container.Args = append(container.Args, "--feature-gates=DisableConfigWatchers=true")
}

// delivers sets kustomize-controller up for delivering this catalog.
func delivers(deployment *appsv1.Deployment) {
	container := &deployment.Spec.Template.Spec.Containers[0]
	container.Args = append(container.Args,
		// What Pulumi delivered before it is Flux's alone then: a field that Git no longer has would
		// stay, held by the field manager of who made it.
		"--override-manager=pulumi-kubernetes",
		// A new revision ends the health check of the one before it: a workload that never gets
		// ready would keep its own mending out for as long as its timeout.
		"--feature-gates=CancelHealthCheckOnNewRevision=true",
		// A new revision goes down the chain of workloads one by one, each asking so often whether
		// the ones before it have it.
		"--requeue-dependency=10s")
}

// lowMemory fits a controller to a Pi: half of the stock request and an eighth of the stock
// limit. The stock manifests tie GOMEMLIMIT to the limit, so the heap is collected harder
// before the kernel would kill the pod. What a controller holds grows with what it works on
// at once, so that is one object; and there is room for one pod of it, not for the second one
// of a rolling update. What it asks again and again, it asks less often: leases alone are a
// write to the SD card every few seconds for each controller.
func lowMemory(deployment *appsv1.Deployment) {
	const request, limit = "32Mi", "128Mi"
	container := &deployment.Spec.Template.Spec.Containers[0]
	container.Args = append(container.Args, "--concurrent=1", "--token-cache-max-size=10",
		// OpenShift's values, for an API server that may be slow or away for a minute.
		"--leader-election-lease-duration=137s", "--leader-election-renew-deadline=107s", "--leader-election-retry-period=26s")
	switch deployment.Name {
	case sourceController:
		container.Args = append(container.Args, "--requeue-dependency=2m", "--artifact-retention-records=1")
	case kustomizeController:
		container.Args = append(container.Args, "--concurrent-ssa=1")
	case helmController:
		container.Args = append(container.Args, "--requeue-dependency=2m")
	case imageReflector:
		// Its database maps this much memory: 16 MiB in place of 256.
		container.Args = append(container.Args, "--requeue-dependency=2m", "--storage-value-log-file-size=16777216")
	}
	container.Resources.Requests[corev1.ResourceMemory] = resource.MustParse(request)
	container.Resources.Limits[corev1.ResourceMemory] = resource.MustParse(limit)
	deployment.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
}

// fluxPolicies: controllers talk to the API server, to Git hosts and to registries wherever
// those are; what they are asked for is artifacts, events and metrics.
func fluxPolicies(cfg *config.Config, on []string) []client.Object {
	policy := func(name string, selector map[string]string, spec networkingv1.NetworkPolicySpec) client.Object {
		spec.PodSelector = metav1.LabelSelector{MatchLabels: selector}
		return &networkingv1.NetworkPolicy{
			TypeMeta:   typeMeta("networking.k8s.io/v1", "NetworkPolicy"),
			ObjectMeta: metav1.ObjectMeta{Namespace: fluxNamespace, Name: name, Labels: ownLabels(name, "flux")},
			Spec:       spec,
		}
	}
	lets := func(port int32, who ...networkingv1.NetworkPolicyPeer) networkingv1.NetworkPolicySpec {
		return networkingv1.NetworkPolicySpec{
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
			Ingress:     []networkingv1.NetworkPolicyIngressRule{from(tcp(port), who...)},
		}
	}
	var tellers, readers []networkingv1.NetworkPolicyPeer
	for _, name := range on {
		pods := peer(fluxNamespace, map[string]string{"app": name})
		if name != notificationController {
			tellers = append(tellers, pods)
		}
		if name == kustomizeController || name == helmController {
			readers = append(readers, pods)
		}
	}
	policies := []client.Object{
		policy("default-deny", nil, networkingv1.NetworkPolicySpec{
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
			Egress:      []networkingv1.NetworkPolicyEgressRule{{}},
		}),
		policy("metrics", nil, lets(fluxMetricsPort, scraper(cfg))),
		policy("artifacts", map[string]string{"app": sourceController}, lets(fluxHTTPPort, readers...)),
	}
	if cfg.Flux.Notifications {
		policies = append(policies, policy("events", map[string]string{"app": notificationController}, lets(fluxHTTPPort, tellers...)))
	}
	return policies
}

// decode reads YAML documents, strictly, into the Go type of their kind. Definitions of
// custom resources stay as they are: nothing here patches one, and their Go type would write
// fields that the file doesn't have.
func decode(files ...[]byte) ([]client.Object, error) {
	var objects []client.Object
	for _, file := range files {
		documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(file)))
		for {
			document, err := documents.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("reading YAML documents: %w", err)
			}
			object, err := decodeOne(document)
			if err != nil {
				return nil, err
			}
			objects = append(objects, object)
		}
	}
	return objects, nil
}

func decodeOne(document []byte) (client.Object, error) {
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(document, &u.Object); err != nil {
		return nil, fmt.Errorf("decoding an object: %w", err)
	}
	var typed client.Object
	switch kind := u.GetKind(); kind {
	case "Namespace":
		typed = &corev1.Namespace{}
	case "Service":
		typed = &corev1.Service{}
	case "ServiceAccount":
		typed = &corev1.ServiceAccount{}
	case "ResourceQuota":
		typed = &corev1.ResourceQuota{}
	case "Deployment":
		typed = &appsv1.Deployment{}
	case "NetworkPolicy":
		typed = &networkingv1.NetworkPolicy{}
	case "ClusterRole":
		typed = &rbacv1.ClusterRole{}
	case "ClusterRoleBinding":
		typed = &rbacv1.ClusterRoleBinding{}
	case "CustomResourceDefinition":
		return u, nil
	default:
		return nil, fmt.Errorf("object %s has kind %s, which nothing here knows", u.GetName(), kind)
	}
	if err := yaml.UnmarshalStrict(document, typed); err != nil {
		return nil, fmt.Errorf("decoding %s %s: %w", u.GetKind(), u.GetName(), err)
	}
	return typed, nil
}
