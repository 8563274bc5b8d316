package seal_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/seal"
)

// kubeseal runs the real one on a file, and returns what it prints.
func kubeseal(t *testing.T, stdin []byte, args ...string) []byte {
	t.Helper()
	program, err := filepath.Abs(filepath.Join("..", ".tools", "bin", "kubeseal"))
	require.NoError(t, err)
	if _, err := os.Stat(program); err != nil {
		t.Skip("needs the real kubeseal: go run ./tools/build sealed-secrets")
	}
	cmd := exec.CommandContext(t.Context(), program, append(args, "--format", "yaml")...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(stdin), &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	return out
}

func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.pem")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func TestKubeseal_SealsWithOurCertificateAndOurKeyOpensIt(t *testing.T) {
	key, err := seal.NewSealingKey(time.Now())
	require.NoError(t, err)
	plain, err := yaml.Marshal(creds())
	require.NoError(t, err)
	content := kubeseal(t, plain, "--cert", file(t, key.Certificate))
	opened, err := seal.Open(content, []config.SealingKey{sealingKey(t, 2020), key})
	require.NoError(t, err)
	assert.Equal(t, "canary-user", string(opened.Data["user"]))
	assert.Equal(t, []byte{0, 255, 10}, opened.Data["binary"])
	err = seal.Check(content, creds(), []config.SealingKey{key}, digestKey(t, key))
	require.ErrorContains(t, err, "its digest is not the one", "what kubeseal makes has no digest")
}

func TestKubeseal_OpensWithOurKeyWhatWeSealed(t *testing.T) {
	older, newer := sealingKey(t, 2025), sealingKey(t, 2026)
	opens := func(content []byte, key config.SealingKey) {
		secret := &corev1.Secret{}
		require.NoError(t, yaml.Unmarshal(
			kubeseal(t, content, "--recovery-unseal", "--recovery-private-key", file(t, key.PrivateKey)), secret))
		assert.Equal(t, "canary-user", string(secret.Data["user"]))
		assert.Equal(t, []byte{0, 255, 10}, secret.Data["binary"])
		assert.Equal(t, creds().Labels, secret.Labels)
		assert.Equal(t, "app-v1/creds", secret.Namespace+"/"+secret.Name)
	}
	before := sealed(t, creds(), []config.SealingKey{older})
	opens(before, older)
	after, err := seal.Update(before, creds(), []config.SealingKey{older, newer}, digestKey(t, older, newer))
	require.NoError(t, err)
	opens(after, newer)
	opens(before, older)
}

func TestKubeseal_OpensWithBothKeysOfARotation(t *testing.T) {
	older, newer := sealingKey(t, 2025), sealingKey(t, 2026)
	for _, content := range [][]byte{sealed(t, creds(), []config.SealingKey{older}), sealed(t, creds(), []config.SealingKey{older, newer})} {
		out := kubeseal(t, content, "--recovery-unseal", "--recovery-private-key", file(t, older.PrivateKey)+","+file(t, newer.PrivateKey))
		assert.Contains(t, string(out), "name: creds")
	}
}
