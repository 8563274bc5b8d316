// Package workloads turns configuration into Kubernetes objects. Its functions are pure:
// no engine, no cluster, no files but the embedded ones. One file per workload; Catalog is
// the one list of them.
package workloads

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/seal"
)

// Workload is one node of the graph: a named set of objects that becomes ready as a whole.
type Workload struct {
	// Name is unique in the catalog: a DNS label.
	Name string
	// Namespace is where its pods run.
	Namespace string
	// After names the workloads that must be ready before this one starts.
	After []string
	// Objects are complete: each has its apiVersion, kind, name and, where it has one,
	// namespace set.
	Objects []client.Object
	// Direct says that Pulumi delivers it in either delivery: Flux itself, what tells Flux what to
	// do, and charts.
	Direct bool
	// URLs are where a person reaches it, if anywhere: http://service-intesis-v1.local.
	URLs []string
}

// builder makes one workload from configuration.
type builder func(cfg *config.Config, images Images) (Workload, error)

// Option changes how a catalog is made.
type Option func(*options)

type options struct {
	digests map[string]string
	given   bool
}

// WithDigests has the digests of Secrets from their sealed files, by namespace/name, for who
// can't see the secrets. A Secret without one gets seal.Unsealed.
func WithDigests(digests map[string]string) Option {
	return func(o *options) { o.digests, o.given = digests, true }
}

// Catalog lists every workload of a stack, each after the ones it comes After. Its error
// lists every problem.
func Catalog(cfg *config.Config, images Images, opts ...Option) ([]Workload, error) {
	digest, err := digests(cfg, opts)
	if err != nil {
		return nil, err
	}
	builders := slices.Concat(
		[]builder{fluxSystem}, sources(cfg), []builder{sealedSecrets, externalMDNS, snmpExporter}, observers(cfg),
		[]builder{serviceIntesis, exporterWeather, chatHVAC},
	)
	if cfg.Pushes() {
		builders = append(builders, imageAutomation)
	}
	var catalog []Workload
	if tellsSlack(cfg) || tellsGitHub(cfg) {
		// The last, since it tells of what the others have.
		builders = append(builders, func(cfg *config.Config, _ Images) (Workload, error) { return notifications(cfg, catalog) })
	}
	var problems []error
	for _, build := range builders {
		workload, err := build(cfg, images)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		rollOnChange(&workload, digest)
		waitAsLong(cfg, &workload)
		pullAfter(cfg, &workload)
		catalog = append(catalog, workload)
	}
	problems = append(problems, check(catalog)...)
	if len(problems) == 0 {
		problems = suspendProblems(cfg.Suspend, catalog)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return Sort(catalog)
}

// digests is how a Secret gets its digest. That of encrypted values would say nothing.
func digests(cfg *config.Config, opts []Option) (func(*corev1.Secret) string, error) {
	var o options
	for _, option := range opts {
		option(&o)
	}
	encrypted := slices.ContainsFunc(cfg.Sealing.Keys, func(key config.SealingKey) bool { return key.PrivateKey == config.Encrypted })
	if o.given || encrypted {
		return func(secret *corev1.Secret) string {
			return cmp.Or(o.digests[secret.Namespace+"/"+secret.Name], seal.Unsealed)
		}, nil
	}
	key, err := seal.DigestKey(cfg.Sealing.Keys)
	if err != nil {
		return nil, fmt.Errorf("making the digests of secrets: %w", err)
	}
	return func(secret *corev1.Secret) string { return seal.Digest(key, secret) }, nil
}

// waitAsLong has a Deployment call itself failed no sooner than an update gives up on it: the
// first pull of an image may take a Pi longer than Kubernetes's own ten minutes.
func waitAsLong(cfg *config.Config, workload *Workload) {
	const tenMinutes = 10 * time.Minute
	for _, object := range workload.Objects {
		if deployment, ok := object.(*appsv1.Deployment); ok {
			deployment.Spec.ProgressDeadlineSeconds = new(int32(max(cfg.ReadyTimeout.Duration, tenMinutes).Seconds()))
		}
	}
}

// pullAfter has what Flux delivers come after what it pulls from; and what has secrets, which
// are sealed in Git, after what opens them.
func pullAfter(cfg *config.Config, workload *Workload) {
	if cfg.Delivery != config.FluxCD || workload.Direct {
		return
	}
	workload.After = append(workload.After, SourceWorkload)
	if slices.ContainsFunc(workload.Objects, func(object client.Object) bool {
		_, isSecret := object.(*corev1.Secret)
		return isSecret
	}) {
		workload.After = append(workload.After, SealedSecretsWorkload)
	}
}

// check finds what would only fail in a cluster: objects that are not complete, or that
// two workloads have.
func check(catalog []Workload) []error {
	var problems []error
	owners := map[string]string{}
	for _, workload := range catalog {
		for _, object := range workload.Objects {
			if err := complete(object); err != nil {
				problems = append(problems, fmt.Errorf("workload %s: %w", workload.Name, err))
				continue
			}
			kind := object.GetObjectKind().GroupVersionKind().GroupKind()
			id := fmt.Sprintf("%s %s/%s", kind, object.GetNamespace(), object.GetName())
			if owner, taken := owners[id]; taken {
				problems = append(problems, fmt.Errorf("workload %s: %s is an object of %s already", workload.Name, id, owner))
			}
			owners[id] = workload.Name
		}
	}
	return problems
}

// suspendProblems are names that Flux can't leave alone: what is in no catalog, and what it
// doesn't deliver.
func suspendProblems(names []string, catalog []Workload) []error {
	byName := make(map[string]Workload, len(catalog))
	var others []string
	for _, workload := range catalog {
		byName[workload.Name] = workload
		if !workload.Direct {
			others = append(others, workload.Name)
		}
	}
	slices.Sort(others)
	var problems []error
	for i, name := range names {
		workload, known := byName[name]
		reason := "there is no such workload"
		switch {
		case known && !workload.Direct:
			continue
		case known:
			reason = "Pulumi delivers it, not Flux"
		}
		problems = append(problems, fmt.Errorf("suspend[%d] is %q: %s; those that can be suspended are %s", i, name, reason, strings.Join(others, ", ")))
	}
	return problems
}

func complete(object client.Object) error {
	kind, name := object.GetObjectKind().GroupVersionKind(), object.GetName()
	switch {
	case kind.Kind == "" || kind.Version == "" || name == "":
		return fmt.Errorf("an object lacks its apiVersion, kind or name: %s %q", kind, name)
	case clusterWide(kind.Kind) && object.GetNamespace() != "":
		return fmt.Errorf("%s %s has namespace %s: its kind is in none; remove it", kind.Kind, name, object.GetNamespace())
	case !clusterWide(kind.Kind) && object.GetNamespace() == "":
		return fmt.Errorf("%s %s has no namespace: it would land in the one of whoever applies it; set it", kind.Kind, name)
	}
	return nil
}

// clusterWide says whether objects of a kind are in no namespace. A kind that it doesn't
// know is taken to be in one, so that forgetting to list it here is noticed.
func clusterWide(kind string) bool {
	switch kind {
	case "Namespace", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding", "PriorityClass", "StorageClass", "IngressClass":
		return true
	default:
		return false
	}
}
