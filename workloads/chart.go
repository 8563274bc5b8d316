package workloads

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"regexp"
	"strings"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/seal"
)

// What Flux knows by these labels and annotations.
const (
	// watchLabel has helm-controller reconcile a release as soon as what it reads changes: an
	// edit of its values alone is no new generation of it.
	watchLabel   = "reconcile.fluxcd.io/watch"
	watchEnabled = "Enabled"
	// requestedAt has a release reconciled when it changes, and its status repeats it when that
	// is done. Here it is a digest of the values, so that who waits for the release knows whether
	// its readiness is that of these values or of the ones before.
	requestedAt = "reconcile.fluxcd.io/requestedAt"
	// patchForce has Pulumi take back what the flux CLI wrote: it sets requestedAt too.
	patchForce = "pulumi.com/patchForce"
)

const (
	valuesKey = "values.yaml"

	chartLayer = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"

	// maxReleaseName is Helm's own bound.
	maxReleaseName = 53
	// chartRetry is how long a release that failed waits for its next attempt.
	chartRetry = time.Minute
)

// Chart is a Helm chart as a workload. Flux's helm-controller installs it, in either delivery,
// into a namespace of its own. What fails is tried again, unchanged, until it works; what someone
// else changed in the cluster is put right.
//
// The namespace has no default-deny policy: whom a chart's pods talk to, only the chart knows,
// and many bring policies of their own. Its pods pass the restricted Pod Security Standard all
// the same, and aren't counted by the memory budget.
type Chart struct {
	// Name is the workload's, and that of the release: a DNS label of 53 characters at most.
	Name string
	// Namespace is the release's own.
	Namespace string
	// After names the workloads that must be ready before it; flux-system always must.
	After []string
	// Repository has the chart: https://charts.example.net, or oci://registry.example.net/charts.
	// For tests it may be http:// on this very machine.
	Repository string
	// Insecure talks to an oci:// repository without TLS, on this very machine.
	Insecure bool
	// ChartName is the chart's name in the repository.
	ChartName string
	// Version is the chart's, or a range of versions: 1.2.3, or 1.2.x, whose newest is taken.
	Version string
	// ValuesFile is a values file's YAML. What it sets applies above the chart's own values.
	ValuesFile string
	// Values apply above the file's.
	Values map[string]any
	// SecretValues apply above all others. They are kept in a Secret.
	SecretValues map[string]any
	// Interval is how often the repository is asked for a new version, and the cluster for drift;
	// flux.interval unless it is set.
	Interval time.Duration
	// Timeout bounds one attempt; unless it is set, a little less than an update waits, so that
	// Helm's own message is there to be told.
	Timeout time.Duration
	// RetryInterval is how long a failed attempt waits for the next; a minute unless it is set.
	RetryInterval time.Duration
	// URLs are where a person reaches it, if anywhere.
	URLs []string
}

// Workload makes the chart's objects. Its error lists every problem.
func (c Chart) Workload(cfg *config.Config) (Workload, error) {
	values, err := c.values()
	if err := errors.Join(append(c.problems(cfg), err)...); err != nil {
		return Workload{}, fmt.Errorf("workload %s: %w", c.Name, err)
	}
	c.Interval = cmp.Or(c.Interval, cfg.Flux.Interval.Duration)
	c.Timeout = cmp.Or(c.Timeout, (cfg.ReadyTimeout.Duration * 9 / 10).Truncate(time.Second))
	c.RetryInterval = cmp.Or(c.RetryInterval, chartRetry)

	objects := []client.Object{
		namespace(c.Namespace, c.Name),
		&corev1.ConfigMap{
			TypeMeta: typeMeta("v1", "ConfigMap"), ObjectMeta: c.watched(),
			Data: map[string]string{valuesKey: values},
		},
	}
	release := c.release()
	requested := short([]byte(values))
	if len(c.SecretValues) > 0 {
		secret, err := c.secret(cfg)
		if err != nil {
			return Workload{}, fmt.Errorf("workload %s: %w", c.Name, err)
		}
		objects = append(objects, secret)
		release.Spec.ValuesFrom = append(release.Spec.ValuesFrom, helmv2.ValuesReference{Kind: "Secret", Name: secret.Name})
		requested += "-" + secret.Annotations[seal.DigestAnnotation]
	}
	release.Annotations = map[string]string{requestedAt: requested, patchForce: "true"}
	return Workload{
		Name: c.Name, Namespace: c.Namespace, Direct: true, URLs: c.URLs,
		// Whatever it comes after, Flux must be there for it, and for its end too.
		After:   append([]string{fluxSystemName}, c.After...),
		Objects: append(objects, c.source(release), release),
	}, nil
}

// meta is the metadata of the source and the release.
func (c Chart) meta() metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: c.Namespace, Name: c.Name, Labels: ownLabels(c.Name, c.Name)}
}

// watched is the metadata of what the release reads.
func (c Chart) watched() metav1.ObjectMeta {
	meta := c.meta()
	meta.Name += "-values"
	meta.Labels[watchLabel] = watchEnabled
	return meta
}

func (c Chart) secret(cfg *config.Config) (*corev1.Secret, error) {
	content, err := yaml.Marshal(c.SecretValues)
	if err != nil {
		return nil, fmt.Errorf("writing its SecretValues: %w", err)
	}
	digest, err := digests(cfg, nil)
	if err != nil {
		return nil, err
	}
	secret := &corev1.Secret{
		TypeMeta: typeMeta("v1", "Secret"), ObjectMeta: c.watched(),
		Type: corev1.SecretTypeOpaque, Data: map[string][]byte{valuesKey: content},
	}
	annotate(&secret.ObjectMeta, seal.DigestAnnotation, digest(secret))
	return secret, nil
}

// release is the HelmRelease, but for its chart and its secret values.
func (c Chart) release() *helmv2.HelmRelease {
	const retryOnFailure = string(helmv2.ActionStrategyRetryOnFailure)
	retry := &metav1.Duration{Duration: c.RetryInterval}
	const forever = -1
	return &helmv2.HelmRelease{
		TypeMeta: typeMeta(helmv2.GroupVersion.String(), helmv2.HelmReleaseKind), ObjectMeta: c.meta(),
		Spec: helmv2.HelmReleaseSpec{
			Interval:       metav1.Duration{Duration: c.Interval},
			Timeout:        &metav1.Duration{Duration: c.Timeout},
			DriftDetection: &helmv2.DriftDetection{Mode: helmv2.DriftDetectionEnabled},
			// Retries count although nothing is remediated: a release that failed and was then
			// uninstalled by hand would never be installed again.
			Install: &helmv2.Install{
				Strategy:    &helmv2.InstallStrategy{Name: retryOnFailure, RetryInterval: retry},
				Remediation: &helmv2.InstallRemediation{Retries: forever},
				CRDs:        helmv2.CreateReplace,
			},
			Upgrade: &helmv2.Upgrade{
				Strategy:    &helmv2.UpgradeStrategy{Name: retryOnFailure, RetryInterval: retry},
				Remediation: &helmv2.UpgradeRemediation{Retries: forever},
				CRDs:        helmv2.CreateReplace,
			},
			// It runs the chart's hooks and waits, so that what is below it goes after it.
			Uninstall:  &helmv2.Uninstall{DeletionPropagation: new("foreground")},
			ValuesFrom: []helmv2.ValuesReference{{Kind: "ConfigMap", Name: c.watched().Name}},
		},
	}
}

// source is where the chart is pulled from; the release gets to know it. A Helm repository lists
// its charts in an index, a registry has one repository for each.
func (c Chart) source(release *helmv2.HelmRelease) client.Object {
	interval := metav1.Duration{Duration: c.Interval}
	if !strings.HasPrefix(c.Repository, sourcev1.OCIRepositoryPrefix) {
		// No valuesFiles: with them the chart's own values.yaml would not apply.
		release.Spec.Chart = &helmv2.HelmChartTemplate{Spec: helmv2.HelmChartTemplateSpec{
			Chart: c.ChartName, Version: c.Version,
			SourceRef: helmv2.CrossNamespaceObjectReference{Kind: sourcev1.HelmRepositoryKind, Name: c.Name},
		}}
		return &sourcev1.HelmRepository{
			TypeMeta: typeMeta(sourcev1.GroupVersion.String(), sourcev1.HelmRepositoryKind), ObjectMeta: c.meta(),
			Spec: sourcev1.HelmRepositorySpec{URL: c.Repository, Interval: interval},
		}
	}
	release.Spec.ChartRef = &helmv2.CrossNamespaceSourceReference{Kind: sourcev1.OCIRepositoryKind, Name: c.Name}
	reference := &sourcev1.OCIRepositoryRef{SemVer: c.Version}
	if exactVersion.MatchString(c.Version) {
		// A tag has no +: Helm writes _ for it.
		reference = &sourcev1.OCIRepositoryRef{Tag: strings.ReplaceAll(c.Version, "+", "_")}
	}
	return &sourcev1.OCIRepository{
		TypeMeta: typeMeta(sourcev1.GroupVersion.String(), sourcev1.OCIRepositoryKind), ObjectMeta: c.meta(),
		Spec: sourcev1.OCIRepositorySpec{
			URL: strings.TrimSuffix(c.Repository, "/") + "/" + c.ChartName, Interval: interval, Insecure: c.Insecure,
			Reference:     reference,
			LayerSelector: &sourcev1.OCILayerSelector{MediaType: chartLayer, Operation: sourcev1.OCILayerCopy},
		},
	}
}

var exactVersion = regexp.MustCompile(`^v?[0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.+-]+)?$`)

// problems are all that is wrong with the chart, but for its values.
func (c Chart) problems(cfg *config.Config) []error {
	var problems []error
	add := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if !cfg.Flux.Helm {
		add("flux.helm is false: workload %s is a chart; run: pulumi config set --path flux.helm true", c.Name)
	}
	label := func(what, name string) {
		if wrong := validation.IsDNS1123Label(name); len(wrong) > 0 {
			add("its %s %q is no DNS label: %s", what, name, strings.Join(wrong, "; "))
		}
	}
	label("Name", c.Name)
	label("Namespace", c.Namespace)
	if len(c.Name) > maxReleaseName {
		add("its Name has %d characters: a release's has %d at most", len(c.Name), maxReleaseName)
	}
	if c.ChartName == "" {
		add("it has no ChartName: name the chart in %s", c.Repository)
	}
	if c.Version == "" {
		add("it has no Version: whatever is newest would be installed; name one, as 1.2.3, or a range, as 1.2.x")
	}
	if min(c.Interval, c.Timeout, c.RetryInterval) < 0 {
		add("its Interval, Timeout and RetryInterval are %s, %s and %s: none may be negative", c.Interval, c.Timeout, c.RetryInterval)
	}
	target, err := url.Parse(c.Repository)
	switch {
	case err != nil || target.Host == "" || target.Scheme != "https" && target.Scheme != "http" && target.Scheme != "oci":
		add("its Repository %q is no URL of a chart repository: https://… or oci://…", c.Repository)
	case (c.Insecure || target.Scheme == "http") && !onLoopback(target.Hostname()):
		add("its Repository %q is not on this machine: a chart from elsewhere comes with TLS", c.Repository)
	case c.Insecure && target.Scheme != "oci":
		add("Insecure is for oci:// repositories: %s says by itself whether there is TLS", c.Repository)
	}
	return problems
}

func onLoopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// values are the file's with the map's above them, as YAML.
func (c Chart) values() (string, error) {
	file, err := decodeValues([]byte(c.ValuesFile))
	if err != nil {
		return "", fmt.Errorf("reading its ValuesFile: %w", err)
	}
	content, err := yaml.Marshal(c.Values)
	if err != nil {
		return "", fmt.Errorf("writing its Values: %w", err)
	}
	own, err := decodeValues(content)
	if err != nil {
		return "", fmt.Errorf("reading its Values: %w", err)
	}
	merged, err := yaml.Marshal(above(own, file))
	if err != nil {
		return "", fmt.Errorf("writing its values: %w", err)
	}
	return string(merged), nil
}

// decodeValues keeps every digit of a number.
func decodeValues(content []byte) (map[string]any, error) {
	values := map[string]any{}
	err := yaml.UnmarshalStrict(content, &values, func(decoder *json.Decoder) *json.Decoder {
		decoder.UseNumber()
		return decoder
	})
	return values, err
}

// above merges as Helm does: maps key by key, anything else as a whole. A null stays, for Helm
// takes the chart's own value away by it.
func above(upper, lower map[string]any) map[string]any {
	merged := maps.Clone(lower)
	if merged == nil {
		merged = map[string]any{}
	}
	for key, value := range upper {
		inner, isMap := value.(map[string]any)
		below, wasMap := merged[key].(map[string]any)
		if isMap && wasMap {
			value = above(inner, below)
		}
		merged[key] = value
	}
	return merged
}
