package workloads

import (
	"errors"
	"fmt"
	"os"

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
	if file.Kind != types.ComponentKind {
		problems = append(problems, fmt.Errorf("kind is %q: the list is a kustomize Component; set it to %s", file.Kind, types.ComponentKind))
	}
	images := make(Images, len(file.Images))
	for i, image := range file.Images {
		path := fmt.Sprintf("images[%d]", i)
		reference := image.Name
		switch {
		case image.Name == "":
			problems = append(problems, fmt.Errorf("%s.name is empty: set it to the image's name without a tag", path))
		case images[image.Name] != "":
			problems = append(problems, fmt.Errorf("%s.name is %q: it is listed already; remove one of the two", path, image.Name))
		case image.NewName != "":
			problems = append(problems, fmt.Errorf("%s.newName is %q: an image keeps its name here; remove it", path, image.NewName))
		case image.Digest == "" && image.NewTag == "":
			problems = append(problems, fmt.Errorf("%s.newTag is empty: %s needs a tag or a digest", path, image.Name))
		case image.Digest == "" && image.NewTag == "latest":
			problems = append(problems, fmt.Errorf(`%s.newTag is "latest": it means another image each day; pin %s by a digest`, path, image.Name))
		}
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

// reference is what a container runs.
func (i Images) reference(name string) (string, error) {
	reference, ok := i[name]
	if !ok {
		return "", fmt.Errorf("the list of images has no %s: add it with its tag", name)
	}
	return reference, nil
}
