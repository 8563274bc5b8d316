package config

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"time"
)

const (
	smallestRSA = 2048
	// lastDays is how long before its end a certificate stops being good enough to seal with.
	lastDays = 30

	newPair = "make a new key pair of RSA with 4096 bits"
	noPEM   = "it is no single PEM block"
)

// sealing judges the key pairs. The newest certificate seals, so only that one may not be
// near its end; the others are kept to open what they sealed once.
func (v *validator) sealing() {
	certificates := make([]*x509.Certificate, len(v.Sealing.Keys))
	newest := -1
	for i, key := range v.Sealing.Keys {
		path := fmt.Sprintf("sealing.keys[%d]", i)
		certificate := v.certificate(path+".certificate", key.Certificate)
		v.privateKey(path+".privateKey", key.PrivateKey, certificate)
		if certificates[i] = certificate; certificate == nil {
			continue
		}
		v.copies(certificates[:i+1])
		if newest < 0 || certificate.NotBefore.After(certificates[newest].NotBefore) {
			newest = i
		}
	}
	if newest >= 0 {
		v.end(fmt.Sprintf("sealing.keys[%d].certificate", newest), certificates[newest])
	}
}

// certificate is nil if there is none that can be read. What is there is never shown: it may
// be the private key by mistake.
func (v *validator) certificate(path, text string) *x509.Certificate {
	if text == "" {
		return nil
	}
	const whole = "paste the whole file, from BEGIN to END"
	block := onlyBlock(text)
	if block == nil {
		v.say(path, "unreadable", noPEM, whole)
		return nil
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil || block.Type != "CERTIFICATE" {
		v.say(path, "unreadable", "it is no X.509 certificate", whole)
		return nil
	}
	switch public, isRSA := certificate.PublicKey.(*rsa.PublicKey); {
	case !isRSA:
		v.say(path, "of "+certificate.PublicKeyAlgorithm.String(), "sealed-secrets seals with RSA", newPair)
	case public.N.BitLen() < smallestRSA:
		v.say(path, fmt.Sprintf("of %d bits", public.N.BitLen()), "an RSA key has 2048 bits or more", newPair)
	}
	if certificate.NotBefore.After(v.now) {
		v.say(path, "not valid yet", "it begins on "+day(certificate.NotBefore), "check this machine's clock, or make a new key pair")
	}
	return certificate
}

func (v *validator) end(path string, certificate *x509.Certificate) {
	const mend = "add a new key pair to sealing.keys; this one still opens what it sealed"
	left := certificate.NotAfter.Sub(v.now)
	switch {
	case left <= 0:
		v.say(path, "expired", "it ended on "+day(certificate.NotAfter), mend)
	case left < lastDays*24*time.Hour:
		v.say(path, "near its end", fmt.Sprintf("it ends on %s, in less than %d days", day(certificate.NotAfter), lastDays), mend)
	}
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

func (v *validator) privateKey(path, text string, certificate *x509.Certificate) {
	if text == "" || !v.report.sound(path) {
		return
	}
	key, wrong := parsePrivateKey(text)
	if key == nil {
		v.say(path, secretValue, wrong, setCommand(path, true, ""))
		return
	}
	if key.N.BitLen() < smallestRSA {
		v.say(path, secretValue, fmt.Sprintf("it is of %d bits, and an RSA key has 2048 bits or more", key.N.BitLen()),
			newPair)
	}
	if certificate != nil && !key.PublicKey.Equal(certificate.PublicKey) {
		v.say(path, secretValue, "it is not the key of the certificate beside it", setCommand(path, true, ""))
	}
}

// parsePrivateKey reads PKCS #1 or PKCS #8, or says what is wrong with the text.
func parsePrivateKey(text string) (*rsa.PrivateKey, string) {
	block := onlyBlock(text)
	if block == nil {
		return nil, noPEM
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, ""
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, "it is no private key in PKCS #1 or PKCS #8, or it has a passphrase"
	}
	key, isRSA := parsed.(*rsa.PrivateKey)
	if !isRSA {
		return nil, "it is no RSA key, and sealed-secrets opens with RSA"
	}
	return key, ""
}

// onlyBlock decodes a text of exactly one PEM block.
func onlyBlock(text string) *pem.Block {
	block, rest := pem.Decode([]byte(strings.TrimSpace(text) + "\n"))
	if strings.TrimSpace(string(rest)) != "" {
		return nil
	}
	return block
}

// copies reports the last certificate if an earlier one has the same key.
func (v *validator) copies(certificates []*x509.Certificate) {
	last := len(certificates) - 1
	for i, earlier := range certificates[:last] {
		if earlier != nil && samePublicKey(earlier, certificates[last]) {
			path := fmt.Sprintf("sealing.keys[%d]", last)
			v.say(path, fmt.Sprintf("a copy of sealing.keys[%d]", i), "each key pair is listed once", removeCommand(path))
			return
		}
	}
}

func samePublicKey(a, b *x509.Certificate) bool {
	return string(a.RawSubjectPublicKeyInfo) == string(b.RawSubjectPublicKeyInfo)
}
