package workloads_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/seal"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// digests are those of a catalog: of Secrets, by namespace/name; and of pod templates, by the
// Deployment's.
func digests(catalog []workloads.Workload) (secrets, pods map[string]string) {
	secrets, pods = map[string]string{}, map[string]string{}
	for _, secret := range of[*corev1.Secret](catalog) {
		secrets[secret.Namespace+"/"+secret.Name] = secret.Annotations[seal.DigestAnnotation]
	}
	for _, deployment := range of[*appsv1.Deployment](catalog) {
		if digest, found := deployment.Spec.Template.Annotations["manager-cluster-state/secret-digest"]; found {
			pods[deployment.Namespace+"/"+deployment.Name] = digest
		}
	}
	return secrets, pods
}

// withKeys is production with sealing keys.
func withKeys(t *testing.T, keys ...config.SealingKey) *config.Config {
	t.Helper()
	cfg := *stacks(t)["production"]
	cfg.Sealing.Keys = keys
	return &cfg
}

func TestCatalog_DigestsOutliveARotationOfTheSealingKey(t *testing.T) {
	now := time.Now()
	older, err := seal.NewSealingKey(now)
	require.NoError(t, err)
	newer, err := seal.NewSealingKey(now.Add(time.Hour))
	require.NoError(t, err)

	before, podsBefore := digests(catalog(t, withKeys(t, older)))
	after, podsAfter := digests(catalog(t, withKeys(t, newer, older)))
	require.NotEmpty(t, before)
	require.NotEmpty(t, podsBefore)
	assert.Equal(t, before, after)
	assert.Equal(t, podsBefore, podsAfter, "no pod is rolled")
	for id, digest := range before {
		assert.Len(t, digest, 32, id)
	}
	others, otherPods := digests(catalog(t, withKeys(t, newer)))
	assert.NotEqual(t, before, others)
	assert.NotEqual(t, podsBefore, otherPods)
}

func TestCatalog_WithDigestsOfSealedFilesNeedsNoSecret(t *testing.T) {
	key, err := seal.NewSealingKey(time.Now())
	require.NoError(t, err)
	plain := withKeys(t, key)
	fromPlaintext, wantPods := digests(catalog(t, plain))

	hidden := *plain
	hidden.Sealing.Keys = []config.SealingKey{{Certificate: key.Certificate, PrivateKey: config.Encrypted}}
	hidden.Secrets.Intesis.Password = config.Encrypted
	made, err := workloads.Catalog(&hidden, images(t), workloads.WithDigests(fromPlaintext))
	require.NoError(t, err)
	secrets, pods := digests(made)
	assert.Equal(t, fromPlaintext, secrets)
	assert.Equal(t, wantPods, pods)
}

func TestCatalog_ASecretThatIsNotSealedSaysSo(t *testing.T) {
	made, err := workloads.Catalog(stacks(t)["production"], images(t), workloads.WithDigests(nil))
	require.NoError(t, err)
	secrets, _ := digests(made)
	require.NotEmpty(t, secrets)
	for id, digest := range secrets {
		assert.Equal(t, "unsealed", digest, id)
	}
	encrypted := withKeys(t, config.SealingKey{Certificate: "x", PrivateKey: config.Encrypted})
	made, err = workloads.Catalog(encrypted, images(t))
	require.NoError(t, err, "a stack file that can't be decrypted has a catalog all the same")
	ofEncrypted, _ := digests(made)
	assert.Equal(t, secrets, ofEncrypted)

	_, err = workloads.Catalog(withKeys(t, config.SealingKey{Certificate: "x", PrivateKey: "canary"}), images(t))
	require.ErrorContains(t, err, "making the digests of secrets: sealing.keys[0]")
	assert.NotContains(t, err.Error(), "canary")
}
