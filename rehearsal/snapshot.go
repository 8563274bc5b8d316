package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// volatileResources come and go by themselves, whatever a stack does.
func volatileResources() map[schema.GroupResource]string {
	return map[schema.GroupResource]string{
		{Resource: "events"}:                                       "each expires an hour later",
		{Group: "events.k8s.io", Resource: "events"}:               "the same events",
		{Group: "coordination.k8s.io", Resource: "leases"}:         "heartbeats of nodes and servers",
		{Resource: "endpoints"}:                                    "follow services and pods",
		{Group: "discovery.k8s.io", Resource: "endpointslices"}:    "follow services and pods",
		{Resource: "componentstatuses"}:                            "are no objects but a health check",
		{Group: "metrics.k8s.io", Resource: "nodes"}:               "are measurements",
		{Group: "metrics.k8s.io", Resource: "pods"}:                "are measurements",
		{Group: "networking.k8s.io", Resource: "ipaddresses"}:      "are given and taken back with services, later",
		{Group: "apiregistration.k8s.io", Resource: "apiservices"}: "are made and removed with custom resource definitions, later",
	}
}

// Objects lists every object of the API server, namespaced or not, except the volatile
// kinds, as group/resource namespace/name with its UID: an object made anew is another one.
func (r *Rehearsal) Objects(ctx context.Context) ([]string, error) {
	config, err := r.restConfig()
	if err != nil {
		return nil, err
	}
	asks, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a discovery client: %w", err)
	}
	lists, err := asks.ServerPreferredResources()
	if err != nil {
		return nil, fmt.Errorf("asking the API server for its resources: %w", err)
	}
	c, err := r.Client()
	if err != nil {
		return nil, err
	}
	volatile := volatileResources()
	var objects []string
	var problems []error
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, fmt.Errorf("reading the API server's resources: %w", err)
		}
		for _, resource := range list.APIResources {
			group := schema.GroupResource{Group: version.Group, Resource: resource.Name}
			if _, skip := volatile[group]; skip || strings.Contains(resource.Name, "/") || !slices.Contains(resource.Verbs, "list") {
				continue
			}
			items := &metav1.PartialObjectMetadataList{}
			items.SetGroupVersionKind(version.WithKind(resource.Kind + "List"))
			if err := c.List(ctx, items); err != nil {
				problems = append(problems, fmt.Errorf("listing %s: %w", group, err))
				continue
			}
			for _, item := range items.Items {
				key := strings.TrimPrefix(client.ObjectKeyFromObject(&item).String(), "/")
				objects = append(objects, fmt.Sprintf("%s %s %s", group, key, item.UID))
			}
		}
	}
	slices.Sort(objects)
	return objects, errors.Join(problems...)
}
