package review

import (
	"fmt"

	"sigs.k8s.io/yaml"
)

// object is one of Kubernetes', nil where there is none.
type object map[string]any

func (o object) text() ([]byte, error) {
	if o == nil {
		return nil, nil
	}
	content, err := yaml.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("writing it: %w", err)
	}
	return content, nil
}

// What is shown in place of a ciphertext, which nobody can review and which fills a screen.
const (
	sealed   = "(sealed)"
	resealed = "(re-sealed)"
)

// mask hides the ciphertexts of sealed secrets, and leaves to see which of them are others.
func mask(before, after map[string]object) {
	for name, now := range after {
		was, is := before[name].ciphertexts(), now.ciphertexts()
		for key, text := range is {
			if old, had := was[key]; had && old != text {
				is[key] = resealed
			} else {
				is[key] = sealed
			}
		}
	}
	for _, was := range before {
		texts := was.ciphertexts()
		for key := range texts {
			texts[key] = sealed
		}
	}
}

// ciphertexts are those of a sealed secret, and of nothing else.
func (o object) ciphertexts() map[string]any {
	if o["kind"] != "SealedSecret" {
		return nil
	}
	spec, _ := o["spec"].(map[string]any)
	texts, _ := spec["encryptedData"].(map[string]any)
	return texts
}
