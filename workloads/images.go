package workloads

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"

	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/yaml"
)

// Images maps an image's name to its full reference: name:tag, name@digest, or
// name:tag@digest.
type Images map[string]string

// LoadImages reads the list of images from a file.
func LoadImages(path string) (Images, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the list of images (config key images): %w", err)
	}
	images, err := ParseImages(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return images, nil
}

// ParseImages reads a kustomize Component that has images and nothing else. Its error
// lists every problem.
func ParseImages(content []byte) (Images, error) {
	var file types.Kustomization
	if err := yaml.UnmarshalStrict(content, &file); err != nil {
		return nil, fmt.Errorf("decoding a kustomize Component: %w", err)
	}
	var problems []error
	if file.APIVersion != types.ComponentVersion || file.Kind != types.ComponentKind {
		problems = append(problems, fmt.Errorf("apiVersion is %q and kind is %q: the list is a kustomize Component; set them to %s and %s",
			file.APIVersion, file.Kind, types.ComponentVersion, types.ComponentKind))
	}
	if !reflect.DeepEqual(file, types.Kustomization{TypeMeta: file.TypeMeta, Images: file.Images}) {
		problems = append(problems, errMoreThanImages)
	}
	images := make(Images, len(file.Images))
	for i, image := range file.Images {
		_, taken := images[image.Name]
		for _, problem := range imageProblems(image, taken) {
			problems = append(problems, fmt.Errorf("images[%d].%w", i, problem))
		}
		reference := image.Name
		if image.NewTag != "" {
			reference += ":" + image.NewTag
		}
		if image.Digest != "" {
			reference += "@" + image.Digest
		}
		images[image.Name] = reference
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return images, nil
}

var errMoreThanImages = errors.New("it has more than images, which nothing here would see; move that elsewhere")

func imageProblems(image types.Image, taken bool) []error {
	var problems []error
	add := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	lastPart := image.Name[strings.LastIndex(image.Name, "/")+1:] // before it, a host may have a port
	switch {
	case image.Name == "":
		add("name is empty: set it to the image's name without a tag")
	case strings.ContainsAny(lastPart, ":@"):
		add("name is %q: a tag or a digest has a key of its own; move it to newTag or digest", image.Name)
	case taken:
		add("name is %q: it is listed already; remove one of the two", image.Name)
	}
	if image.NewName != "" {
		add("newName is %q: an image keeps its name here; remove it", image.NewName)
	}
	if image.TagSuffix != "" {
		add("tagSuffix is %q: a tag is written in full here; move it to newTag", image.TagSuffix)
	}
	switch {
	case image.Digest != "":
	case image.NewTag == "":
		add("newTag is empty: %s needs a tag or a digest", image.Name)
	case image.NewTag == "latest":
		add(`newTag is "latest": it means another image each day; pin %s by a digest`, image.Name)
	}
	return problems
}

// reference is what a container runs.
func (i Images) reference(name string) (string, error) {
	reference, ok := i[name]
	if !ok {
		return "", fmt.Errorf("the list of images has no %s: add it with its tag", name)
	}
	return reference, nil
}
