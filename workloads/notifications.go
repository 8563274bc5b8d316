package workloads

import (
	"fmt"
	"net/url"
	"slices"

	eventv1 "github.com/fluxcd/notification-controller/api/v1"
	notificationv1 "github.com/fluxcd/notification-controller/api/v1beta3"
	"github.com/fluxcd/pkg/apis/meta"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/config"
)

const (
	slackSecret  = "slack-webhook"
	githubSecret = "github-token"

	gitRepositoryKind = "GitRepository"
	kustomizationKind = "Kustomization"
	helmReleaseKind   = "HelmRelease"
)

// tellsSlack says whether somebody tells Slack, and how is known.
func tellsSlack(cfg *config.Config) bool {
	return cfg.Flux.Notifications && cfg.Secrets.Notifications.SlackWebhook != ""
}

// tellsGitHub says whether there are commits that are delivered, and somebody tells GitHub how
// each did.
func tellsGitHub(cfg *config.Config) bool {
	return cfg.Flux.Notifications && cfg.Flux.CommitStatus && cfg.Delivery == config.FluxCD && cfg.Secrets.Notifications.GitHubToken != ""
}

// notifications has Flux tell what it does, and what of it fails. An Alert sees no namespace
// that it doesn't name, so it names each that has a release of the catalog.
func notifications(cfg *config.Config, catalog []Workload) (Workload, error) {
	var objects []client.Object
	if tellsSlack(cfg) {
		objects = append(objects, toSlack(cfg, namespacesOf(helmReleaseKind, catalog))...)
	}
	if tellsGitHub(cfg) {
		made, err := toGitHub(cfg)
		if err != nil {
			return Workload{}, fmt.Errorf("workload notifications: %w", err)
		}
		objects = append(objects, made...)
	}
	return Workload{
		Name: "notifications", Namespace: fluxNamespace, After: []string{fluxSystemName}, Direct: true, Objects: objects,
	}, nil
}

// toSlack is everything, what went well too.
func toSlack(cfg *config.Config, releases []string) []client.Object {
	sources := []eventv1.CrossNamespaceObjectReference{
		every(gitRepositoryKind, fluxNamespace), every(kustomizationKind, fluxNamespace),
	}
	for _, namespace := range releases {
		sources = append(sources, every(helmReleaseKind, namespace))
	}
	return []client.Object{
		fluxSecret(slackSecret, "address", cfg.Secrets.Notifications.SlackWebhook),
		provider("slack", notificationv1.ProviderSpec{
			Type: notificationv1.SlackProvider, Channel: cfg.Flux.SlackChannel, SecretRef: &meta.LocalObjectReference{Name: slackSecret},
		}),
		alert(cfg, "slack", sources),
	}
}

// toGitHub is how each workload took a commit. A status is known by its context: were that
// Flux's own, which has the Provider's UID, a cluster that is made anew could not better what
// the one before it has said.
func toGitHub(cfg *config.Config) ([]client.Object, error) {
	address, err := githubAddress(cfg.Git)
	if err != nil {
		return nil, err
	}
	return []client.Object{
		fluxSecret(githubSecret, "token", cfg.Secrets.Notifications.GitHubToken),
		provider("github", notificationv1.ProviderSpec{
			Type: notificationv1.GitHubProvider, Address: address, SecretRef: &meta.LocalObjectReference{Name: githubSecret},
			CommitStatusExpr: fmt.Sprintf("(event.involvedObject.kind + '/' + event.involvedObject.name + '/%s').lowerAscii()", cfg.Cluster.Name),
		}),
		alert(cfg, "github", []eventv1.CrossNamespaceObjectReference{every(kustomizationKind, fluxNamespace)}),
	}, nil
}

// githubAddress is the repository at the host of the API. notification-controller makes the
// API's address of it: of github.com its own, of a host that begins with api. the host itself,
// and of any other what is below its /api/v3/.
func githubAddress(git config.Git) (string, error) {
	api, err := url.Parse(git.API())
	if err != nil {
		return "", fmt.Errorf("reading git.githubURL: %w", err)
	}
	host := api.Host
	if host == "api.github.com" {
		host = "github.com"
	}
	owner, name := git.Repository()
	return (&url.URL{Scheme: api.Scheme, Host: host, Path: "/" + owner + "/" + name}).String(), nil
}

func provider(name string, spec notificationv1.ProviderSpec) client.Object {
	return &notificationv1.Provider{
		TypeMeta:   typeMeta(notificationv1.GroupVersion.String(), notificationv1.ProviderKind),
		ObjectMeta: fluxMeta(name), Spec: spec,
	}
}

// alert sends to the provider of its own name. Severity info is everything, errors too.
func alert(cfg *config.Config, name string, sources []eventv1.CrossNamespaceObjectReference) client.Object {
	return &notificationv1.Alert{
		TypeMeta:   typeMeta(notificationv1.GroupVersion.String(), notificationv1.AlertKind),
		ObjectMeta: fluxMeta(name),
		Spec: notificationv1.AlertSpec{
			ProviderRef: meta.LocalObjectReference{Name: name}, EventSeverity: "info", EventSources: sources,
			EventMetadata: map[string]string{"summary": "cluster " + cfg.Cluster.Name},
		},
	}
}

// every is every object of a kind in a namespace.
func every(kind, namespace string) eventv1.CrossNamespaceObjectReference {
	return eventv1.CrossNamespaceObjectReference{Kind: kind, Namespace: namespace, Name: "*"}
}

func fluxSecret(name, key, value string) client.Object {
	return &corev1.Secret{
		TypeMeta: typeMeta("v1", "Secret"), ObjectMeta: fluxMeta(name), Type: corev1.SecretTypeOpaque,
		Data: map[string][]byte{key: []byte(value)},
	}
}

// namespacesOf are those in which the catalog has objects of a kind.
func namespacesOf(kind string, catalog []Workload) []string {
	var namespaces []string
	for _, workload := range catalog {
		for _, object := range workload.Objects {
			if object.GetObjectKind().GroupVersionKind().Kind == kind {
				namespaces = append(namespaces, object.GetNamespace())
			}
		}
	}
	slices.Sort(namespaces)
	return slices.Compact(namespaces)
}
