package seal

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bitnami/sealed-secrets/pkg/crypto"
	"golang.org/x/crypto/ssh"

	"github.com/nullify005/manager-cluster-state/config"
)

// The kinds of PEM blocks.
const (
	certificateBlock = "CERTIFICATE"
	privateKeyBlock  = "RSA PRIVATE KEY"
)

// NewSealingKey makes a key pair as sealed-secrets makes its own, which seals from now on, for
// ten years.
func NewSealingKey(now time.Time) (config.SealingKey, error) {
	const bits, years = 4096, 10
	private, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return config.SealingKey{}, fmt.Errorf("making a sealing key: %w", err)
	}
	return certify(private, now, now.AddDate(years, 0, 0))
}

func certify(private *rsa.PrivateKey, from, until time.Time) (config.SealingKey, error) {
	certificate, err := crypto.SignKeyWithNotBefore(rand.Reader, private, from, until.Sub(from), "")
	if err != nil {
		return config.SealingKey{}, fmt.Errorf("making the certificate of a sealing key: %w", err)
	}
	return config.SealingKey{
		Certificate: block(certificateBlock, certificate.Raw),
		PrivateKey:  block(privateKeyBlock, x509.MarshalPKCS1PrivateKey(private)),
	}, nil
}

func block(kind string, content []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}))
}

// NewDeployKey makes an ed25519 key: the private half in OpenSSH's PEM, the public one as a line
// of authorized_keys that ends with the comment.
func NewDeployKey(comment string) (privatePEM, authorizedKey string, err error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", "", fmt.Errorf("making a deploy key: %w", err)
	}
	encoded, err := ssh.MarshalPrivateKey(private, comment)
	if err != nil {
		return "", "", fmt.Errorf("encoding a deploy key: %w", err)
	}
	privatePEM = string(pem.EncodeToMemory(encoded))
	line, err := AuthorizedKey(privatePEM)
	if err != nil {
		return "", "", err
	}
	return privatePEM, strings.TrimSpace(line + " " + comment), nil
}

// AuthorizedKey is the public half of an SSH private key, as a line of authorized_keys.
func AuthorizedKey(privatePEM string) (string, error) {
	key, err := ssh.ParsePrivateKey([]byte(privatePEM))
	if err != nil {
		return "", errors.New("reading a deploy key: it is no SSH private key in PEM, or it has a passphrase")
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey()))), nil
}

// Fingerprint names a certificate: the first 8 bytes of its SHA-256, in hex.
func Fingerprint(certificate string) (string, error) {
	block, _ := pem.Decode([]byte(certificate))
	if block == nil {
		return "", errors.New("the certificate is not PEM")
	}
	return fingerprint(block.Bytes), nil
}

func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:8])
}

// Newest is the index of the key whose certificate seals, or -1 for no keys.
func Newest(keys []config.SealingKey) (int, error) {
	pairs, err := parse(keys)
	if err != nil {
		return -1, err
	}
	return newest(pairs), nil
}

// Certificate decodes the public half of a sealing key.
func Certificate(key config.SealingKey) (*x509.Certificate, error) {
	decoded, _ := pem.Decode([]byte(key.Certificate))
	if decoded == nil {
		return nil, errors.New("the certificate is not PEM")
	}
	certificate, err := x509.ParseCertificate(decoded.Bytes)
	if err != nil {
		return nil, errors.New("the certificate is no X.509 certificate")
	}
	return certificate, nil
}

// pair is a key pair, decoded.
type pair struct {
	certificate *x509.Certificate
	private     *rsa.PrivateKey
}

func (p pair) fingerprint() string { return fingerprint(p.certificate.Raw) }

// newest is the first of those whose certificates begin last: as config judges it.
func newest(pairs []pair) int {
	found := -1
	for i, p := range pairs {
		if found < 0 || p.certificate.NotBefore.After(pairs[found].certificate.NotBefore) {
			found = i
		}
	}
	return found
}

// parse decodes key pairs. Its error has nothing of them.
func parse(keys []config.SealingKey) ([]pair, error) {
	pairs := make([]pair, len(keys))
	var problems []error
	for i, key := range keys {
		p, err := parsePair(key)
		if err != nil {
			problems = append(problems, fmt.Errorf("sealing.keys[%d]: %w", i, err))
		}
		pairs[i] = p
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return pairs, nil
}

func parsePair(key config.SealingKey) (pair, error) {
	certificate, err := Certificate(key)
	if err != nil {
		return pair{}, err
	}
	if key.PrivateKey == config.Encrypted {
		return pair{}, errors.New("the private key is encrypted, and only the engine can decrypt it")
	}
	decoded, _ := pem.Decode([]byte(key.PrivateKey))
	if decoded == nil {
		return pair{}, errors.New("the private key is not PEM")
	}
	private, err := x509.ParsePKCS1PrivateKey(decoded.Bytes)
	if err != nil {
		parsed, err := x509.ParsePKCS8PrivateKey(decoded.Bytes)
		isRSA := false
		if private, isRSA = parsed.(*rsa.PrivateKey); err != nil || !isRSA {
			return pair{}, errors.New("the private key is no RSA key in PKCS #1 or PKCS #8")
		}
	}
	if !private.PublicKey.Equal(certificate.PublicKey) {
		return pair{}, errors.New("the private key is not the one of the certificate beside it")
	}
	return pair{certificate, private}, nil
}
