package seal_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/seal"
)

func TestDigest_ChangesWithAllThatASecretHolds(t *testing.T) {
	key := []byte("key")
	variants := map[string]*corev1.Secret{
		"as it is":            creds(),
		"another value":       creds(func(s *corev1.Secret) { s.Data["user"] = []byte("other") }),
		"another key":         creds(func(s *corev1.Secret) { s.Data = map[string][]byte{"username": s.Data["user"]} }),
		"another name":        creds(func(s *corev1.Secret) { s.Name = "other" }),
		"another namespace":   creds(func(s *corev1.Secret) { s.Namespace = "other" }),
		"shifted":             creds(func(s *corev1.Secret) { s.Namespace, s.Name = "app", "v1creds" }),
		"another type":        creds(func(s *corev1.Secret) { s.Type = corev1.SecretTypeBasicAuth }),
		"a value more":        creds(func(s *corev1.Secret) { s.StringData = map[string]string{"more": ""} }),
		"another that wins":   creds(func(s *corev1.Secret) { s.StringData = map[string]string{"user": "other-too"} }),
		"bytes of no UTF-8":   creds(func(s *corev1.Secret) { s.Data["binary"] = []byte{0, 254, 10} }),
		"other bytes of none": creds(func(s *corev1.Secret) { s.Data["binary"] = []byte{0, 253, 10} }),
	}
	seen := map[string]string{}
	for name, secret := range variants {
		digest := seal.Digest(key, secret)
		assert.Empty(t, seen[digest], name)
		seen[digest] = name
	}
}

func TestDigest_IgnoresHowASecretIsWritten(t *testing.T) {
	key := []byte("key")
	asText := creds(func(s *corev1.Secret) {
		s.StringData = map[string]string{"user": string(s.Data["user"])}
		delete(s.Data, "user")
		s.Type, s.Labels, s.Annotations = "", nil, nil
	})
	assert.Equal(t, seal.Digest(key, creds()), seal.Digest(key, asText))
	assert.NotEqual(t, seal.Digest(key, creds()), seal.Digest([]byte("another"), creds()), "no guess is confirmed without the key")
}

func TestDigest_WithNoKeySaysTooLittleToConfirmAGuess(t *testing.T) {
	none, err := seal.DigestKey(nil)
	require.NoError(t, err)
	require.Nil(t, none)
	digest := seal.Digest(none, creds())
	assert.Len(t, digest, 8, "32 bits in hex")
	assert.Equal(t, digest, seal.Digest(none, creds()))
	assert.NotEqual(t, digest, seal.Digest(none, creds(more)))
}

func TestDigestKey_IsOfTheOldestInWhateverOrder(t *testing.T) {
	a, b, c := sealingKey(t, 2024), sealingKey(t, 2025), sealingKey(t, 2026)
	want := digestKey(t, a)
	assert.Len(t, want, 32)
	for _, keys := range [][]config.SealingKey{{a, b, c}, {c, b, a}, {b, a, c}} {
		assert.Equal(t, want, digestKey(t, keys...))
	}
	assert.NotEqual(t, want, digestKey(t, b, c))
}
