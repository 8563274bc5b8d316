package render_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/internal/stacktest"
	"github.com/nullify005/manager-cluster-state/render"
	"github.com/nullify005/manager-cluster-state/workloads"
)

func secret(namespace, name, value string) *corev1.Secret {
	return &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Data:       map[string][]byte{"value": []byte(value)},
	}
}

func withSecrets(name string, secrets ...client.Object) workloads.Workload {
	return workloads.Workload{Name: name, Namespace: name, Objects: append(secrets, &corev1.Namespace{})}
}

func sealingKeys(t *testing.T) []config.SealingKey {
	t.Helper()
	return []config.SealingKey{stacktest.SealingKey(t, time.Now())}
}

func TestSeal_SealsWhatFluxPullsAndNothingElse(t *testing.T) {
	direct := withSecrets("flux-system", secret("flux-system", "token", "x"))
	direct.Direct = true
	catalog := []workloads.Workload{
		direct, withSecrets("app", secret("app", "creds", "one"), secret("other", "creds", "two")), withSecrets("plain"),
	}
	keys := sealingKeys(t)
	rendered := render.Files{"app/deployment-app.yaml": []byte("x")}
	sealed, err := render.Seal(catalog, keys, rendered)
	require.NoError(t, err)
	require.Len(t, sealed, 2)
	require.Contains(t, sealed, "app/sealedsecret-creds.yaml")
	require.Contains(t, sealed, "app/sealedsecret-other-creds.yaml")
	assert.Empty(t, render.Useless(sealed, rendered), "what is rendered is not sealed")

	problems, err := render.CheckSealed(catalog, keys, sealed)
	require.NoError(t, err)
	assert.Empty(t, problems)
	again, err := render.Seal(catalog, keys, sealed)
	require.NoError(t, err)
	assert.Equal(t, sealed, again, "byte for byte")
}

func TestSeal_RefusesTwoSecretsForOneFile(t *testing.T) {
	catalog := []workloads.Workload{withSecrets("app", secret("app", "b-c", "one"), secret("b", "c", "two"))}
	_, err := render.Seal(catalog, sealingKeys(t), nil)
	require.ErrorContains(t, err, "workload app: secrets app/b-c and b/c would both be sealed in app/sealedsecret-b-c.yaml; rename one")
}

func TestSeal_NamesEverySecretThatCanNotBeSealed(t *testing.T) {
	catalog := []workloads.Workload{withSecrets("app", secret("app", "one", "1"), secret("app", "two", "2"))}
	_, err := render.Seal(catalog, nil, nil)
	require.ErrorContains(t, err, "sealing app/one: sealing.keys is missing")
	require.ErrorContains(t, err, "sealing app/two: sealing.keys is missing")
}

func TestCheckSealed_ReportsEveryProblemWithItsFile(t *testing.T) {
	catalog := []workloads.Workload{withSecrets("app", secret("app", "one", "1"), secret("app", "two", "2"))}
	problems, err := render.CheckSealed(catalog, sealingKeys(t), render.Files{
		"app/sealedsecret-two.yaml":   []byte("kind: Secret"),
		"app/deployment-app.yaml":     []byte("x"),
		"gone/sealedsecret-gone.yaml": []byte("x"),
	})
	require.NoError(t, err)
	require.Len(t, problems, 3)
	assert.Contains(t, problems[0], "app/sealedsecret-one.yaml: the sealed file of secret app/one: it is missing; run: make seal")
	assert.Contains(t, problems[1], `app/sealedsecret-two.yaml: the sealed file of secret app/two: it is a "Secret"`)
	assert.Contains(t, problems[2], "gone/sealedsecret-gone.yaml: no workload has that secret; run: make seal")
}
