package seal

import (
	"bytes"
	"crypto/rsa"
	"errors"
	"fmt"
	"maps"

	"github.com/bitnami/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	"github.com/bitnami/sealed-secrets/pkg/crypto"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/yaml"

	"github.com/nullify005/manager-cluster-state/config"
)

const kind = "SealedSecret"

// Mend is what to do about a sealed file that is missing or wrong.
const Mend = "run: make seal STACK=…, then commit and push"

// Seal makes the sealed file of a secret, for the newest certificate. Each call has another
// ciphertext; all else is the same.
func Seal(secret *corev1.Secret, keys []config.SealingKey, digestKey []byte) ([]byte, error) {
	name := secret.Namespace + "/" + secret.Name
	pairs, err := parse(keys)
	switch {
	case err != nil:
		return nil, fmt.Errorf("sealing %s: %w", name, err)
	case len(pairs) == 0:
		return nil, fmt.Errorf("sealing %s: sealing.keys is missing; run: make keys STACK=…", name)
	case digestKey == nil:
		return nil, fmt.Errorf("sealing %s: its digest has no key, and would tell too much in Git", name)
	}
	with := pairs[newest(pairs)]
	sealed, err := v1alpha1.NewSealedSecret(serializer.NewCodecFactory(runtime.NewScheme()), &with.private.PublicKey, plain(secret))
	if err != nil {
		return nil, fmt.Errorf("sealing %s: %w", name, err)
	}
	return write(sealed.Spec.EncryptedData, secret, with, digestKey)
}

// Update is the file as it should be now. What is there stays, byte for byte, unless the secret
// or the key that seals changed; where only labels or annotations did, the ciphertext stays.
func Update(existing []byte, secret *corev1.Secret, keys []config.SealingKey, digestKey []byte) ([]byte, error) {
	if !Current(existing, secret, keys, digestKey) {
		return Seal(secret, keys, digestKey)
	}
	sealed, err := read(existing)
	if err != nil {
		return nil, err
	}
	pairs, err := parse(keys)
	if err != nil {
		return nil, err
	}
	return write(sealed.Spec.EncryptedData, secret, pairs[newest(pairs)], digestKey)
}

// Current says whether a sealed file holds the secret, sealed with the newest certificate.
func Current(existing []byte, secret *corev1.Secret, keys []config.SealingKey, digestKey []byte) bool {
	pairs, err := parse(keys)
	if err != nil || len(pairs) == 0 || digestKey == nil {
		return false
	}
	with := pairs[newest(pairs)]
	sealed, err := read(existing)
	if err != nil || holds(sealed, secret, digestKey) != nil || sealed.Annotations[SealedWithAnnotation] != with.fingerprint() {
		return false
	}
	opened, err := open(sealed, []pair{with})
	return err == nil && sameData(opened, secret)
}

// Open is what the controller would make of a sealed file: it opens with any of the keys.
func Open(content []byte, keys []config.SealingKey) (*corev1.Secret, error) {
	sealed, err := read(content)
	if err != nil {
		return nil, err
	}
	pairs, err := parse(keys)
	if err != nil {
		return nil, err
	}
	return open(sealed, pairs)
}

// Check finds what would keep a sealed file from becoming the wanted secret. A nil content is a
// file that is not there.
func Check(content []byte, want *corev1.Secret, keys []config.SealingKey, digestKey []byte) error {
	if err := check(content, want, keys, digestKey); err != nil {
		return fmt.Errorf("the sealed file of secret %s/%s: %w; %s", want.Namespace, want.Name, err, Mend)
	}
	return nil
}

func check(content []byte, want *corev1.Secret, keys []config.SealingKey, digestKey []byte) error {
	if content == nil {
		return errors.New("it is missing")
	}
	sealed, err := read(content)
	if err != nil {
		return err
	}
	if err := addressed(sealed, want); err != nil {
		return err
	}
	pairs, err := parse(keys)
	if err != nil {
		return err
	}
	opened, err := open(sealed, pairs)
	if err != nil {
		return err
	}
	if !sameData(opened, want) {
		return errors.New("it holds another value than the stack's config")
	}
	if err := holds(sealed, want, digestKey); err != nil {
		return err
	}
	if !equality.Semantic.DeepEqual(sealed.Spec.Template, template(want, Digest(digestKey, want))) || !maps.Equal(sealed.Labels, want.Labels) {
		return errors.New("its labels or annotations are not those of the catalog")
	}
	return nil
}

// addressed says whether a file is for a secret of this name, namespace and no other.
func addressed(sealed *v1alpha1.SealedSecret, want *corev1.Secret) error {
	for _, meta := range []*metav1.ObjectMeta{&sealed.ObjectMeta, &sealed.Spec.Template.ObjectMeta} {
		switch {
		case meta.Name != want.Name:
			return fmt.Errorf("it is for a secret named %q", meta.Name)
		case meta.Namespace != want.Namespace:
			return fmt.Errorf("it is for namespace %q", meta.Namespace)
		}
		if scope := v1alpha1.SecretScope(meta); scope != v1alpha1.StrictScope {
			return fmt.Errorf("its scope is %s, so it could be opened elsewhere; strict is wanted", scope.String())
		}
	}
	return nil
}

// holds compares what needs no key.
func holds(sealed *v1alpha1.SealedSecret, want *corev1.Secret, digestKey []byte) error {
	if err := addressed(sealed, want); err != nil {
		return err
	}
	kind := sealed.Spec.Template.Type
	if kind == "" {
		kind = corev1.SecretTypeOpaque
	}
	digest := Digest(digestKey, want)
	switch {
	case kind != typeOf(want):
		return fmt.Errorf("it is for a secret of type %q, and the catalog's is %q", kind, typeOf(want))
	case sealed.Annotations[DigestAnnotation] != digest, sealed.Spec.Template.Annotations[DigestAnnotation] != digest:
		return errors.New("its digest is not the one of the stack's config")
	}
	return nil
}

// open decrypts, as the controller does.
func open(sealed *v1alpha1.SealedSecret, pairs []pair) (*corev1.Secret, error) {
	private := map[string]*rsa.PrivateKey{}
	known := false
	for _, p := range pairs {
		id, err := crypto.PublicKeyFingerprint(&p.private.PublicKey)
		if err != nil {
			return nil, fmt.Errorf("naming a sealing key: %w", err)
		}
		private[id] = p.private
		known = known || p.fingerprint() == sealed.Annotations[SealedWithAnnotation]
	}
	secret, err := sealed.Unseal(serializer.NewCodecFactory(runtime.NewScheme()), private)
	switch with := sealed.Annotations[SealedWithAnnotation]; {
	case err == nil:
	case known:
		return nil, fmt.Errorf("it was sealed for another name or namespace, or it is damaged: %w", err)
	case with != "":
		return nil, fmt.Errorf("it was sealed with the certificate %s, which is not among sealing.keys: %w", with, err)
	default:
		return nil, fmt.Errorf("none of sealing.keys opens it: %w", err)
	}
	secret.OwnerReferences = nil // the controller's, of an object that is not in a cluster
	secret.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}
	return secret, nil
}

func sameData(a, b *corev1.Secret) bool {
	return maps.EqualFunc(data(a), data(b), bytes.Equal)
}

func read(content []byte) (*v1alpha1.SealedSecret, error) {
	sealed := &v1alpha1.SealedSecret{}
	if err := yaml.UnmarshalStrict(content, sealed); err != nil {
		return nil, fmt.Errorf("it is no YAML of a SealedSecret: %w", err)
	}
	switch {
	case sealed.APIVersion != v1alpha1.SchemeGroupVersion.String() || sealed.Kind != kind:
		return nil, fmt.Errorf("it is a %q of %q, and no SealedSecret of %s", sealed.Kind, sealed.APIVersion, v1alpha1.SchemeGroupVersion)
	case sealed.Spec.Data != nil:
		return nil, errors.New("its spec.data is of an old form that the controller refuses")
	case len(sealed.Spec.Template.Data) > 0:
		return nil, errors.New("its spec.template.data would change what it holds")
	}
	return sealed, nil
}

// plain is what of a secret goes into the template and under seal.
func plain(secret *corev1.Secret) *corev1.Secret {
	annotations := map[string]string{}
	maps.Copy(annotations, secret.Annotations)
	v1alpha1.StripLastAppliedAnnotations(annotations)
	v1alpha1.UpdateScopeAnnotations(annotations, v1alpha1.StrictScope)
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name: secret.Name, Namespace: secret.Namespace, Labels: maps.Clone(secret.Labels), Annotations: annotations,
		},
		Type: typeOf(secret), Immutable: secret.Immutable, Data: data(secret),
	}
}

func template(secret *corev1.Secret, digest string) v1alpha1.SecretTemplateSpec {
	made := plain(secret)
	made.Annotations[DigestAnnotation] = digest
	return v1alpha1.SecretTemplateSpec{ObjectMeta: made.ObjectMeta, Type: made.Type, Immutable: made.Immutable}
}

func write(ciphertexts map[string]string, secret *corev1.Secret, with pair, digestKey []byte) ([]byte, error) {
	digest := Digest(digestKey, secret)
	content, err := yaml.Marshal(&v1alpha1.SealedSecret{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: kind},
		ObjectMeta: metav1.ObjectMeta{
			Name: secret.Name, Namespace: secret.Namespace, Labels: secret.Labels,
			Annotations: map[string]string{DigestAnnotation: digest, SealedWithAnnotation: with.fingerprint()},
		},
		Spec: v1alpha1.SealedSecretSpec{Template: template(secret, digest), EncryptedData: ciphertexts},
	})
	if err != nil {
		return nil, fmt.Errorf("writing the sealed secret %s/%s: %w", secret.Namespace, secret.Name, err)
	}
	return content, nil
}
