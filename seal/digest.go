package seal

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"

	"golang.org/x/crypto/argon2"
	corev1 "k8s.io/api/core/v1"

	"github.com/nullify005/manager-cluster-state/config"
)

// The annotations that a secret's object and its sealed file carry.
const (
	// DigestAnnotation holds the Digest of the plaintext.
	DigestAnnotation = "manager-cluster-state/digest"
	// SealedWithAnnotation holds the Fingerprint of the certificate that sealed the file.
	SealedWithAnnotation = "manager-cluster-state/sealed-with"
)

// Unsealed stands for the digest of a secret that has none, because it is not sealed yet.
const Unsealed = "unsealed"

// DigestKey is the key of digests. It comes from the oldest of the sealing keys, so that a
// rotation, which adds a newer one, changes no digest. It is nil for no keys.
func DigestKey(keys []config.SealingKey) ([]byte, error) {
	pairs, err := parse(keys)
	if err != nil || len(pairs) == 0 {
		return nil, err
	}
	oldest := pairs[0]
	for _, p := range pairs[1:] {
		if p.certificate.NotBefore.Before(oldest.certificate.NotBefore) {
			oldest = p
		}
	}
	key, err := hkdf.Key(sha256.New, x509.MarshalPKCS1PrivateKey(oldest.private), nil,
		"manager-cluster-state: digests of secrets, version 1", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("deriving the key of digests: %w", err)
	}
	return key, nil
}

// Digest tells whether a secret changed, and may stand in the clear: whoever lacks the key can't
// confirm a guess with it. With no key it is a weaker one, which never leaves the cluster.
func Digest(key []byte, secret *corev1.Secret) string {
	if key == nil {
		return guarded(canonical(secret), secret.Namespace+"/"+secret.Name)
	}
	const size = 16
	mac := hmac.New(sha256.New, key)
	mac.Write(canonical(secret))
	return hex.EncodeToString(mac.Sum(nil)[:size])
}

// guarded takes a slow and memory-hard function to compute, and it is cut to 32 bits: enough to
// notice a change, too little to tell a right guess from the many wrong ones that fit as well.
func guarded(plaintext []byte, salt string) string {
	const passes, memoryKiB, threads, size = 2, 19 * 1024, 1, 4
	return hex.EncodeToString(argon2.IDKey(plaintext, []byte(salt), passes, memoryKiB, threads, size))
}

// canonical is JSON, whose maps are written in the order of their keys.
func canonical(secret *corev1.Secret) []byte {
	content, err := json.Marshal([]any{secret.Namespace, secret.Name, typeOf(secret), data(secret)})
	if err != nil {
		panic(err) // texts, and maps of bytes, always encode
	}
	return content
}

// data is what the API server stores: stringData is merged into data, and wins.
func data(secret *corev1.Secret) map[string][]byte {
	merged := make(map[string][]byte, len(secret.Data)+len(secret.StringData))
	maps.Copy(merged, secret.Data)
	for name, text := range secret.StringData {
		merged[name] = []byte(text)
	}
	return merged
}

// typeOf has the API server's default.
func typeOf(secret *corev1.Secret) corev1.SecretType {
	if secret.Type == "" {
		return corev1.SecretTypeOpaque
	}
	return secret.Type
}
