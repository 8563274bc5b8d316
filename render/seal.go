package render

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/seal"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// Secrets are those of a catalog that Flux is to bring, by the files that seal them.
func Secrets(catalog []workloads.Workload) (map[string]*corev1.Secret, error) {
	secrets := map[string]*corev1.Secret{}
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
			if other, taken := secrets[file]; taken {
				return nil, fmt.Errorf("workload %s: secrets %s/%s and %s/%s would both be sealed in %s; rename one",
					workload.Name, other.Namespace, other.Name, secret.Namespace, secret.Name, file)
			}
			secrets[file] = secret
		}
	}
	return secrets, nil
}

// Seal is the sealed secrets that a catalog needs, made with its plaintext. One that is there
// already stays, byte for byte, unless the plaintext or the key that seals changed.
func Seal(catalog []workloads.Workload, keys []config.SealingKey, have Files) (Files, error) {
	secrets, digestKey, err := sealing(catalog, keys)
	if err != nil {
		return nil, err
	}
	sealed := Files{}
	var problems []error
	for _, file := range slices.Sorted(maps.Keys(secrets)) {
		content, err := seal.Update(have[file], secrets[file], keys, digestKey)
		sealed[file], problems = content, append(problems, err)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return sealed, nil
}

// CheckSealed says, a line each, what of the sealed secrets that there are would not become the
// Secrets of the catalog: each must be there, for the right name and namespace, open with a key,
// and hold what the catalog has.
func CheckSealed(catalog []workloads.Workload, keys []config.SealingKey, have Files) ([]string, error) {
	secrets, digestKey, err := sealing(catalog, keys)
	if err != nil {
		return nil, err
	}
	var problems []string
	for _, file := range slices.Sorted(maps.Keys(secrets)) {
		if err := seal.Check(have[file], secrets[file], keys, digestKey); err != nil {
			problems = append(problems, file+": "+err.Error())
		}
	}
	for _, file := range useless(secrets, have) {
		problems = append(problems, file+": no workload has that secret; "+seal.Mend)
	}
	return problems, nil
}

func sealing(catalog []workloads.Workload, keys []config.SealingKey) (map[string]*corev1.Secret, []byte, error) {
	secrets, err := Secrets(catalog)
	if err != nil {
		return nil, nil, err
	}
	digestKey, err := seal.DigestKey(keys)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the sealing keys: %w", err)
	}
	return secrets, digestKey, nil
}

// Useless lists the sealed secrets that nothing needs any more.
func Useless(sealed, have Files) []string { return useless(sealed, have) }

func useless[V any](needed map[string]V, have Files) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(have)), func(file string) bool {
		_, isNeeded := needed[file]
		return isNeeded || !IsSealed(file)
	})
}
