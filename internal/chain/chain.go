// Package chain is the catalog of a stack that is there for a test alone: Flux, and five small
// workloads of every kind, each after the one before, so that any kind comes after any other.
package chain

import (
	"fmt"
	"os"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// What the environment says of the chain; each is a variable's name.
const (
	// Charts is the URL of the repository that has the chart Fixture.
	Charts = "CHAIN_CHARTS"
	// Requires names a ConfigMap in the namespace default without which h1 can't be installed.
	Requires = "CHAIN_REQUIRES"
	// Greeting is a value of both charts.
	Greeting = "CHAIN_GREETING"
)

// Fixture is the chart's name, and its version.
const (
	Fixture        = "fixture"
	FixtureVersion = "0.1.0"
)

// Secret is a secret value of both charts.
const Secret = "chain-canary"

// valuesFile sets what a map and a Secret set again.
const valuesFile = "won: {file: file, map: file, secret: file}\n"

// retryInterval is short, since a test waits for it.
const retryInterval = 5 * time.Second

// image is one of the list; nothing pulls it.
const image = "ghcr.io/nullify005/exporter-weather"

// Links are the chain's workloads, each after the one before, the first after Flux.
func Links() []string { return []string{"k1", "h1", "k2", "p", "h2"} }

// Namespace is that of a link.
func Namespace(link string) string { return "chain-" + link }

// Catalog lists Flux and its like from the real catalog, then the chain: k1 and k2 are delivered
// as the stack says, p by Pulumi in either delivery, h1 and h2 are charts.
func Catalog(cfg *config.Config, images workloads.Images) ([]workloads.Workload, error) {
	catalog, err := workloads.Catalog(cfg, images)
	if err != nil {
		return nil, err
	}
	base := []string{"flux-system", "sealed-secrets", workloads.SourceWorkload}
	catalog = slices.DeleteFunc(catalog, func(workload workloads.Workload) bool { return !slices.Contains(base, workload.Name) })
	reference := images[image]
	if reference == "" {
		return nil, fmt.Errorf("the image %s is not in the list", image)
	}
	before := []string{"flux-system"}
	for _, link := range Links() {
		workload := plain(cfg, link, before, reference)
		if link[0] == 'h' {
			if workload, err = chart(cfg, link, before); err != nil {
				return nil, err
			}
		}
		workload.Direct = workload.Direct || link == "p"
		catalog = append(catalog, workload)
		before = []string{link}
	}
	return workloads.Sort(catalog)
}

func chart(cfg *config.Config, name string, after []string) (workloads.Workload, error) {
	values := map[string]any{"won": map[string]any{"map": "map", "secret": "map", "greeting": os.Getenv(Greeting)}}
	if name == "h1" {
		values["requires"] = os.Getenv(Requires)
	}
	return workloads.Chart{
		Name: name, Namespace: Namespace(name), After: after,
		Repository: os.Getenv(Charts), ChartName: Fixture, Version: FixtureVersion,
		ValuesFile: valuesFile, Values: values,
		SecretValues:  map[string]any{"won": map[string]any{"secret": Secret}},
		RetryInterval: retryInterval,
	}.Workload(cfg)
}

// plain is a namespace, a ConfigMap and a Deployment of one small pod.
func plain(cfg *config.Config, name string, after []string, image string) workloads.Workload {
	namespace := Namespace(name)
	labels := map[string]string{"app.kubernetes.io/name": name}
	meta := metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels}
	if cfg.Delivery == config.FluxCD {
		after = append(after, workloads.SourceWorkload)
	}
	return workloads.Workload{
		Name: name, Namespace: namespace, After: after,
		Objects: []client.Object{
			&corev1.Namespace{
				TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: labels},
			},
			&corev1.ConfigMap{
				TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: meta, Data: map[string]string{"link": name},
			},
			&appsv1.Deployment{
				TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}, ObjectMeta: meta,
				Spec: appsv1.DeploymentSpec{
					Selector: &metav1.LabelSelector{MatchLabels: labels},
					Template: corev1.PodTemplateSpec{
						ObjectMeta: metav1.ObjectMeta{Labels: labels},
						Spec: corev1.PodSpec{Containers: []corev1.Container{{
							Name: "app", Image: image,
							Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("16Mi")}},
						}}},
					},
				},
			},
		},
	}
}
