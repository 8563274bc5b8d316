package render

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/seal"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// Seal is the sealed secrets that a catalog needs, made with its plaintext. One that is there
// already stays, byte for byte, unless the plaintext or the key that seals changed.
func Seal(catalog []workloads.Workload, keys []config.SealingKey, have Files) (Files, error) {
	digestKey, err := seal.DigestKey(keys)
	if err != nil {
		return nil, fmt.Errorf("reading the sealing keys: %w", err)
	}
	sealed := Files{}
	for _, workload := range catalog {
		if workload.Direct {
			continue
		}
		for _, object := range workload.Objects {
			secret, isSecret := object.(*corev1.Secret)
			if !isSecret {
				continue
			}
			file := SealedFile(workload, secret.Namespace, secret.Name)
			if sealed[file], err = seal.Update(have[file], secret, keys, digestKey); err != nil {
				return nil, err
			}
		}
	}
	return sealed, nil
}

// Useless lists the sealed secrets that nothing needs any more.
func Useless(sealed, have Files) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(have)), func(name string) bool {
		_, needed := sealed[name]
		return needed || !IsSealed(name)
	})
}
