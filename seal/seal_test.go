package seal_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/bitnami/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	"github.com/bitnami/sealed-secrets/pkg/crypto"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/seal"
)

// sealingKey is a small pair whose certificate begins in a year.
func sealingKey(t *testing.T, year int) config.SealingKey {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	from := time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)
	certificate, err := crypto.SignKeyWithNotBefore(rand.Reader, private, from, 20*365*24*time.Hour, "")
	require.NoError(t, err)
	text := func(kind string, content []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}))
	}
	return config.SealingKey{
		Certificate: text("CERTIFICATE", certificate.Raw),
		PrivateKey:  text("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(private)),
	}
}

func digestKey(t *testing.T, keys ...config.SealingKey) []byte {
	t.Helper()
	key, err := seal.DigestKey(keys)
	require.NoError(t, err)
	return key
}

// creds is a secret of the sort that the catalog has.
func creds(changes ...func(*corev1.Secret)) *corev1.Secret {
	secret := &corev1.Secret{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "app-v1", Name: "creds", Labels: map[string]string{"app.kubernetes.io/name": "app"},
			Annotations: map[string]string{"example.org/kept": "yes"},
		},
		Type: corev1.SecretTypeOpaque,
		Data: map[string][]byte{"user": []byte("canary-user"), "binary": {0, 255, 10}, "empty": {}},
	}
	for _, change := range changes {
		change(secret)
	}
	return secret
}

// sealed is the file of a secret, changed as a person might.
func sealed(t *testing.T, secret *corev1.Secret, keys []config.SealingKey, changes ...func(*v1alpha1.SealedSecret)) []byte {
	t.Helper()
	content, err := seal.Seal(secret, keys, digestKey(t, keys...))
	require.NoError(t, err)
	if len(changes) == 0 {
		return content
	}
	object := &v1alpha1.SealedSecret{}
	require.NoError(t, yaml.UnmarshalStrict(content, object))
	for _, change := range changes {
		change(object)
	}
	content, err = yaml.Marshal(object)
	require.NoError(t, err)
	return content
}

func fingerprint(t *testing.T, key config.SealingKey) string {
	t.Helper()
	name, err := seal.Fingerprint(key.Certificate)
	require.NoError(t, err)
	return name
}

func TestSeal_HoldsTheSecretAndShowsNothingOfIt(t *testing.T) {
	older, newer := sealingKey(t, 2025), sealingKey(t, 2026)
	keys := []config.SealingKey{newer, older}
	secret := creds(func(s *corev1.Secret) { s.StringData = map[string]string{"text": "canary-text", "user": "canary-wins"} })
	before := secret.DeepCopy()
	content := sealed(t, secret, keys)

	assert.Equal(t, before, secret, "what is sealed stays as it is")
	for _, unwanted := range []string{"canary", "creationTimestamp", "status", "null"} {
		assert.NotContains(t, string(content), unwanted)
	}
	object := &v1alpha1.SealedSecret{}
	require.NoError(t, yaml.UnmarshalStrict(content, object))
	assert.Equal(t, "bitnami.com/v1alpha1", object.APIVersion)
	digest := seal.Digest(digestKey(t, older), secret)
	assert.Len(t, digest, 32, "16 bytes in hex")
	assert.Equal(t, map[string]string{
		seal.DigestAnnotation: digest, seal.SealedWithAnnotation: fingerprint(t, newer),
	}, object.Annotations)
	assert.Equal(t, map[string]string{seal.DigestAnnotation: digest, "example.org/kept": "yes"}, object.Spec.Template.Annotations)

	opened, err := seal.Open(content, []config.SealingKey{newer})
	require.NoError(t, err, "the newest seals")
	assert.Equal(t, map[string][]byte{
		"user": []byte("canary-wins"), "text": []byte("canary-text"), "binary": {0, 255, 10}, "empty": nil,
	}, opened.Data)
	assert.Equal(t, secret.Labels, opened.Labels)
	assert.Equal(t, corev1.SecretTypeOpaque, opened.Type)
	assert.Equal(t, "app-v1/creds", opened.Namespace+"/"+opened.Name)
}

func TestSeal_AllButTheCiphertextIsTheSameEachTime(t *testing.T) {
	keys := []config.SealingKey{sealingKey(t, 2026)}
	one, two := sealed(t, creds(), keys), sealed(t, creds(), keys)
	assert.NotEqual(t, string(one), string(two))
	without := func(content []byte) string {
		object := &v1alpha1.SealedSecret{}
		require.NoError(t, yaml.UnmarshalStrict(content, object))
		text := string(content)
		for _, ciphertext := range object.Spec.EncryptedData {
			text = strings.ReplaceAll(text, ciphertext, "…")
		}
		return text
	}
	assert.Equal(t, without(one), without(two))
}

func TestSeal_RefusesWhatWouldTellTooMuch(t *testing.T) {
	_, err := seal.Seal(creds(), nil, []byte("key"))
	require.ErrorContains(t, err, "make keys")
	key := sealingKey(t, 2026)
	_, err = seal.Seal(creds(), []config.SealingKey{key}, nil)
	require.ErrorContains(t, err, "its digest has no key")
	object := &v1alpha1.SealedSecret{}
	wide := creds(func(s *corev1.Secret) { s.Annotations[v1alpha1.SealedSecretClusterWideAnnotation] = "true" })
	require.NoError(t, yaml.Unmarshal(sealed(t, wide, []config.SealingKey{key}), object))
	assert.Equal(t, v1alpha1.StrictScope, object.Scope())
}

func TestSeal_ABrokenKeyIsNamedAndNotShown(t *testing.T) {
	good, other := sealingKey(t, 2026), sealingKey(t, 2025)
	for name, c := range map[string]struct {
		key  config.SealingKey
		want string
	}{
		"no certificate":  {config.SealingKey{Certificate: "canary", PrivateKey: good.PrivateKey}, "the certificate is not PEM"},
		"another's":       {config.SealingKey{Certificate: good.Certificate, PrivateKey: other.PrivateKey}, "is not the one of the certificate"},
		"encrypted":       {config.SealingKey{Certificate: good.Certificate, PrivateKey: config.Encrypted}, "only the engine can decrypt it"},
		"no private key":  {config.SealingKey{Certificate: good.Certificate, PrivateKey: "canary"}, "the private key is not PEM"},
		"halves swapped":  {config.SealingKey{Certificate: good.PrivateKey, PrivateKey: good.Certificate}, "no X.509 certificate"},
		"certificate too": {config.SealingKey{Certificate: good.Certificate, PrivateKey: good.Certificate}, "no RSA key"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := seal.Seal(creds(), []config.SealingKey{good, c.key}, []byte("key"))
			require.ErrorContains(t, err, "sealing app-v1/creds: sealing.keys[1]: ")
			require.ErrorContains(t, err, c.want)
			assert.NotContains(t, err.Error(), "canary")
			assert.NotContains(t, err.Error(), "PRIVATE")
			_, err = seal.DigestKey([]config.SealingKey{c.key})
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestUpdate_ChangesOnlyWhatDid(t *testing.T) {
	keys := []config.SealingKey{sealingKey(t, 2026)}
	rotated := append([]config.SealingKey{sealingKey(t, 2027)}, keys...)
	content := sealed(t, creds(), keys)
	update := func(secret *corev1.Secret, keys []config.SealingKey) string {
		updated, err := seal.Update(content, secret, keys, digestKey(t, keys...))
		require.NoError(t, err)
		require.NoError(t, seal.Check(updated, secret, keys, digestKey(t, keys...)))
		return string(updated)
	}
	ciphertexts := func(content string) map[string]string {
		object := &v1alpha1.SealedSecret{}
		require.NoError(t, yaml.Unmarshal([]byte(content), object))
		return object.Spec.EncryptedData
	}

	assert.Equal(t, string(content), update(creds(), keys), "byte for byte")
	assert.Equal(t, string(content), update(creds(func(s *corev1.Secret) {
		s.StringData = map[string]string{"user": "canary-user"}
		delete(s.Data, "user")
	}), keys), "the same secret, written in another way")

	assert.NotEqual(t, ciphertexts(string(content)), ciphertexts(update(creds(more), keys)))
	assert.NotEqual(t, ciphertexts(string(content)), ciphertexts(update(creds(), rotated)), "rotation seals again")

	labelled := update(creds(func(s *corev1.Secret) { s.Labels["app.kubernetes.io/part-of"] = "hvac" }), keys)
	assert.NotEqual(t, string(content), labelled)
	assert.Equal(t, ciphertexts(string(content)), ciphertexts(labelled), "labels are not sealed")
}

// more is a change of what a secret holds.
func more(s *corev1.Secret) { s.Data["password"] = []byte("other") }

func TestCurrent_IsTheSecretOfNowSealedWithTheKeyOfNow(t *testing.T) {
	key := sealingKey(t, 2026)
	keys, other := []config.SealingKey{key}, sealingKey(t, 2027)
	content, digests := sealed(t, creds(), keys), digestKey(t, key)
	current := func(content []byte, secret *corev1.Secret, keys ...config.SealingKey) bool {
		return seal.Current(content, secret, keys, digests)
	}
	assert.True(t, current(content, creds(), key))
	assert.False(t, current(content, creds(), key, other), "a newer key seals")
	assert.False(t, current(content, creds()), "no key")
	assert.False(t, current(content, creds(more), key))
	assert.False(t, current(content, creds(func(s *corev1.Secret) { s.Type = corev1.SecretTypeBasicAuth }), key))
	assert.False(t, current(nil, creds(), key))
	assert.False(t, current([]byte("kind: ConfigMap"), creds(), key))
	assert.False(t, seal.Current(content, creds(), keys, []byte("another key of digests")))
	assert.False(t, seal.Current(content, creds(), keys, nil))

	lies := sealed(t, creds(), []config.SealingKey{other}, func(s *v1alpha1.SealedSecret) {
		s.Annotations[seal.SealedWithAnnotation] = fingerprint(t, key)
		s.Annotations[seal.DigestAnnotation] = seal.Digest(digests, creds())
		s.Spec.Template.Annotations[seal.DigestAnnotation] = seal.Digest(digests, creds())
	})
	assert.False(t, current(lies, creds(), key), "annotations alone prove nothing")
}

func TestRotation_TheOldFileStillOpensAndIsStillRight(t *testing.T) {
	older, newer := sealingKey(t, 2025), sealingKey(t, 2026)
	before := []config.SealingKey{older}
	content := sealed(t, creds(), before)
	after := []config.SealingKey{newer, older}
	assert.Equal(t, digestKey(t, before...), digestKey(t, after...))
	assert.NotEqual(t, digestKey(t, older), digestKey(t, newer))
	require.NoError(t, seal.Check(content, creds(), after, digestKey(t, after...)))
	opened, err := seal.Open(content, after)
	require.NoError(t, err)
	assert.Equal(t, "canary-user", string(opened.Data["user"]))
}

func TestCheck_FindsWhatWouldFailInTheCluster(t *testing.T) {
	key, stranger := sealingKey(t, 2026), sealingKey(t, 2027)
	keys := []config.SealingKey{key}
	forged := func(digest *corev1.Secret, change func(*v1alpha1.SealedSecret)) func(*v1alpha1.SealedSecret) {
		return func(s *v1alpha1.SealedSecret) {
			s.Annotations[seal.DigestAnnotation] = seal.Digest(digestKey(t, key), digest)
			s.Spec.Template.Annotations[seal.DigestAnnotation] = s.Annotations[seal.DigestAnnotation]
			if change != nil {
				change(s)
			}
		}
	}
	renamed := func(name, namespace string) func(*v1alpha1.SealedSecret) {
		return func(s *v1alpha1.SealedSecret) {
			s.Name, s.Namespace = name, namespace
			s.Spec.Template.Name, s.Spec.Template.Namespace = name, namespace
		}
	}
	for name, c := range map[string]struct {
		content []byte
		want    string
	}{
		"missing":  {nil, "it is missing"},
		"empty":    {[]byte{}, "no SealedSecret"},
		"no YAML":  {[]byte("\tx"), "it is no YAML of a SealedSecret"},
		"a Secret": {[]byte("apiVersion: v1\nkind: Secret\n"), `it is a "Secret" of "v1"`},
		"an unknown field": {
			append(sealed(t, creds(), keys), "extra: 1\n"...), "it is no YAML of a SealedSecret",
		},
		"a conflict of Git's": {append([]byte("<<<<<<< HEAD\n"), sealed(t, creds(), keys)...), "it is no YAML of a SealedSecret"},
		"another name":        {sealed(t, creds(func(s *corev1.Secret) { s.Name = "other" }), keys), `it is for a secret named "other"`},
		"another namespace":   {sealed(t, creds(func(s *corev1.Secret) { s.Namespace = "other-v1" }), keys), `it is for namespace "other-v1"`},
		"another name inside": {
			sealed(t, creds(), keys, func(s *v1alpha1.SealedSecret) { s.Spec.Template.Name = "other" }), `it is for a secret named "other"`,
		},
		"another namespace inside": {
			sealed(t, creds(), keys, func(s *v1alpha1.SealedSecret) { s.Spec.Template.Namespace = "other-v1" }), `it is for namespace "other-v1"`,
		},
		"renamed by hand": {
			sealed(t, creds(func(s *corev1.Secret) { s.Name = "other" }), keys, renamed("creds", "app-v1")),
			"it was sealed for another name or namespace",
		},
		"moved by hand": {
			sealed(t, creds(func(s *corev1.Secret) { s.Namespace = "other-v1" }), keys, renamed("creds", "app-v1")),
			"it was sealed for another name or namespace",
		},
		"cluster-wide": {
			sealed(t, creds(), keys, func(s *v1alpha1.SealedSecret) {
				s.Annotations[v1alpha1.SealedSecretClusterWideAnnotation] = "true"
			}), "its scope is cluster-wide",
		},
		"namespace-wide inside": {
			sealed(t, creds(), keys, func(s *v1alpha1.SealedSecret) {
				s.Spec.Template.Annotations[v1alpha1.SealedSecretNamespaceWideAnnotation] = "true"
			}), "its scope is namespace-wide",
		},
		"damaged": {
			sealed(t, creds(), keys, func(s *v1alpha1.SealedSecret) {
				text := s.Spec.EncryptedData["user"]
				s.Spec.EncryptedData["user"] = text[:len(text)-8] + "AAAAAAAA"
			}), "or it is damaged",
		},
		"no base64": {
			sealed(t, creds(), keys, func(s *v1alpha1.SealedSecret) { s.Spec.EncryptedData["user"] = "!" }), "or it is damaged",
		},
		"another key": {sealed(t, creds(), []config.SealingKey{stranger}), "sealed with the certificate " + fingerprint(t, stranger)},
		"another key, and no mark of it": {
			sealed(t, creds(), []config.SealingKey{stranger}, func(s *v1alpha1.SealedSecret) { s.Annotations = nil }),
			"none of sealing.keys opens it",
		},
		"another value": {sealed(t, creds(more), keys), "it holds another value than the stack's config"},
		"another value, with the digest of the right one": {
			sealed(t, creds(more), keys, forged(creds(), nil)), "it holds another value",
		},
		"a value short": {
			sealed(t, creds(), keys, func(s *v1alpha1.SealedSecret) { delete(s.Spec.EncryptedData, "empty") }), "it holds another value",
		},
		"the digest of another": {sealed(t, creds(), keys, forged(creds(more), nil)), "its digest is not the one"},
		"no digest inside": {
			sealed(t, creds(), keys, func(s *v1alpha1.SealedSecret) { delete(s.Spec.Template.Annotations, seal.DigestAnnotation) }),
			"its digest is not the one",
		},
		"another type": {
			sealed(t, creds(), keys, func(s *v1alpha1.SealedSecret) { s.Spec.Template.Type = corev1.SecretTypeBasicAuth }),
			"it is for a secret of type",
		},
		"other labels": {
			sealed(t, creds(), keys, func(s *v1alpha1.SealedSecret) { s.Spec.Template.Labels["a"] = "b" }), "its labels or annotations",
		},
		"plain text beside it": {
			sealed(t, creds(), keys, func(s *v1alpha1.SealedSecret) { s.Spec.Template.Data = map[string]*string{"user": new("x")} }),
			"its spec.template.data",
		},
		"the old form": {
			sealed(t, creds(), keys, func(s *v1alpha1.SealedSecret) { s.Spec.Data = []byte("x") }), "its spec.data is of an old form",
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := seal.Check(c.content, creds(), keys, digestKey(t, key))
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, "secret app-v1/creds")
			require.ErrorContains(t, err, "make seal STACK=…, then commit and push")
			assert.NotContains(t, err.Error(), "canary")
		})
	}
	require.NoError(t, seal.Check(sealed(t, creds(), keys), creds(), keys, digestKey(t, key)))
}
