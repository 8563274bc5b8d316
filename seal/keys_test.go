package seal_test

import (
	"crypto/rsa"
	"crypto/x509"
	"testing"
	"time"

	"github.com/bitnami/sealed-secrets/pkg/crypto"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/seal"
)

func TestNewSealingKey_IsAsSealedSecretsMakesItsOwn(t *testing.T) {
	now := time.Date(2026, 2, 28, 12, 0, 0, 0, time.UTC)
	key, err := seal.NewSealingKey(now)
	require.NoError(t, err)
	certificate, err := seal.Certificate(key)
	require.NoError(t, err)
	_, theirs, err := crypto.GeneratePrivateKeyAndCert(2048, time.Hour, "")
	require.NoError(t, err)

	assert.Equal(t, 4096, certificate.PublicKey.(*rsa.PublicKey).N.BitLen())
	assert.Equal(t, now, certificate.NotBefore)
	assert.Equal(t, now.AddDate(10, 0, 0), certificate.NotAfter)
	assert.Equal(t, theirs.Subject, certificate.Subject)
	assert.Equal(t, theirs.KeyUsage, certificate.KeyUsage)
	assert.Equal(t, x509.SHA256WithRSA, certificate.SignatureAlgorithm)
	assert.Equal(t, theirs.IsCA, certificate.IsCA)
	assert.Contains(t, key.PrivateKey, "-----BEGIN RSA PRIVATE KEY-----", "PKCS #1, as the controller's")
	_, err = seal.DigestKey([]config.SealingKey{key})
	require.NoError(t, err, "its halves fit")
}

func TestNewestSealingKey_IsTheLastToBegin(t *testing.T) {
	a, b := sealingKey(t, 2024), sealingKey(t, 2025)
	for want, keys := range map[int][]config.SealingKey{-1: {}, 0: {b, a}, 1: {a, b}} {
		got, err := seal.Newest(keys)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	_, err := seal.Newest([]config.SealingKey{{Certificate: "x"}})
	require.ErrorContains(t, err, "sealing.keys[0]")
}

func TestNewDeployKey_IsAnEd25519KeyOfOpenSSH(t *testing.T) {
	private, public, err := seal.NewDeployKey("flux of production")
	require.NoError(t, err)
	assert.Contains(t, private, "-----BEGIN OPENSSH PRIVATE KEY-----")
	key, err := ssh.ParsePrivateKey([]byte(private))
	require.NoError(t, err)
	parsed, comment, _, _, err := ssh.ParseAuthorizedKey([]byte(public))
	require.NoError(t, err)
	assert.Equal(t, ssh.KeyAlgoED25519, parsed.Type())
	assert.Equal(t, key.PublicKey().Marshal(), parsed.Marshal())
	assert.Equal(t, "flux of production", comment)

	again, _, err := seal.NewDeployKey("flux of production")
	require.NoError(t, err)
	assert.NotEqual(t, private, again)
	_, err = seal.AuthorizedKey("canary")
	require.ErrorContains(t, err, "no SSH private key")
	assert.NotContains(t, err.Error(), "canary")
}

func TestFingerprint_NamesACertificate(t *testing.T) {
	a, b := sealingKey(t, 2024), sealingKey(t, 2024)
	assert.Len(t, fingerprint(t, a), 16)
	assert.NotEqual(t, fingerprint(t, a), fingerprint(t, b))
	_, err := seal.Fingerprint("canary")
	require.ErrorContains(t, err, "not PEM")
}
