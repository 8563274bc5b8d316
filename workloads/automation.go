package workloads

import (
	"errors"
	"fmt"
	"path"
	"strings"

	imagev1 "github.com/fluxcd/image-automation-controller/api/v1"
	reflectorv1 "github.com/fluxcd/image-reflector-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/config"
)

const (
	imageAutomationName = "image-automation"
	// appRegistry is where the images of our own apps are.
	appRegistry = "ghcr.io"
)

// commitMessage is a template of Go, with the functions of sprig; what it is given has the name
// of a marker (flux-system:chat-hvac:tag) for each change.
const commitMessage = `Images:{{ range $i, $change := .Changed.Changes }}{{ if $i }},{{ end }} {{ index (splitList ":" $change.Setter) 1 }} {{ $change.NewValue }}{{ end }}

{{ range .Changed.Changes -}}
- {{ index (splitList ":" .Setter) 1 }}: {{ .OldValue }} -> {{ .NewValue }}
{{ end -}}
`

// scanned are our own apps: images that others make are raised by Renovate, which asks first.
func scanned() []string { return []string{"service-intesis", "exporter-weather", "chat-hvac"} }

// imageAutomation has Flux look for new tags of our apps and commit them to the list of images,
// in which a comment marks the field that each policy sets.
func imageAutomation(cfg *config.Config, images Images) (Workload, error) {
	var objects []client.Object
	var problems []error
	for _, name := range scanned() {
		image := appRegistry + "/nullify005/" + name
		if _, err := images.reference(image); err != nil {
			problems = append(problems, fmt.Errorf("workload %s: %w", imageAutomationName, err))
		}
		objects = append(objects, imageRepository(cfg, name, image), imagePolicy(name))
	}
	if err := errors.Join(problems...); err != nil {
		return Workload{}, err
	}
	return Workload{
		Name: imageAutomationName, Namespace: fluxNamespace, After: []string{fluxSystemName, SourceWorkload}, Direct: true,
		Objects: append(objects, imageUpdates(cfg)),
	}, nil
}

func imageRepository(cfg *config.Config, name, image string) client.Object {
	if cfg.Flux.ImageRegistry != "" {
		image = cfg.Flux.ImageRegistry + strings.TrimPrefix(image, appRegistry)
	}
	return &reflectorv1.ImageRepository{
		TypeMeta:   typeMeta(reflectorv1.GroupVersion.String(), reflectorv1.ImageRepositoryKind),
		ObjectMeta: fluxMeta(name),
		Spec: reflectorv1.ImageRepositorySpec{
			Image: image, Interval: metav1.Duration{Duration: cfg.Flux.ImageInterval.Duration}, Insecure: cfg.Flux.PlainRegistry(),
		},
	}
}

// imagePolicy takes the newest release. One of a fork, or one that is tried out, has a tag with
// more to it than three numbers: the range leaves that out.
func imagePolicy(name string) client.Object {
	return &reflectorv1.ImagePolicy{
		TypeMeta:   typeMeta(reflectorv1.GroupVersion.String(), reflectorv1.ImagePolicyKind),
		ObjectMeta: fluxMeta(name),
		Spec: reflectorv1.ImagePolicySpec{
			ImageRepositoryRef: meta.NamespacedObjectReference{Name: name},
			FilterTags:         &reflectorv1.TagFilter{Pattern: `^v(?P<release>.*)`, Extract: "$release"},
			Policy:             reflectorv1.ImagePolicyChoice{SemVer: &reflectorv1.SemVerPolicy{Range: ">=v0.1.0"}},
		},
	}
}

// imageUpdates sees no more of the repository than the folder of the list.
func imageUpdates(cfg *config.Config) client.Object {
	return &imagev1.ImageUpdateAutomation{
		TypeMeta:   typeMeta(imagev1.GroupVersion.String(), imagev1.ImageUpdateAutomationKind),
		ObjectMeta: fluxMeta(imageAutomationName),
		Spec: imagev1.ImageUpdateAutomationSpec{
			SourceRef: imagev1.CrossNamespaceSourceReference{Kind: sourcev1.GitRepositoryKind, Name: SourceName},
			Interval:  metav1.Duration{Duration: cfg.Flux.Interval.Duration},
			Update:    &imagev1.UpdateStrategy{Strategy: imagev1.UpdateStrategySetters, Path: "./" + path.Dir(cfg.Images)},
			GitSpec: &imagev1.GitSpec{
				Checkout: &imagev1.GitCheckoutSpec{Reference: sourcev1.GitRepositoryRef{Branch: cfg.Git.Branch}},
				Commit: imagev1.CommitSpec{
					Author:          imagev1.CommitUser{Name: "fluxbot", Email: "fluxbot@users.noreply.github.com"},
					MessageTemplate: commitMessage,
				},
				Push: &imagev1.PushSpec{Branch: cfg.Git.Branch},
			},
		},
	}
}

// fluxMeta names an object that tells Flux what to do.
func fluxMeta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: fluxNamespace, Name: name, Labels: ownLabels(name, "flux")}
}
