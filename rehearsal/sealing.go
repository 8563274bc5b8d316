package rehearsal

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	"github.com/nullify005/manager-cluster-state/seal"
)

// sealingPair makes a key pair as sealed-secrets has them, both halves PEM.
func sealingPair(now time.Time) (certificate, privateKey string, err error) {
	const bits, years = 2048, 10
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return "", "", fmt.Errorf("making the rehearsal's sealing key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: "rehearsal"},
		NotBefore:    now.Add(-time.Minute),
		NotAfter:     now.AddDate(years, 0, 0),
		KeyUsage:     x509.KeyUsageKeyEncipherment,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return "", "", fmt.Errorf("making the rehearsal's sealing certificate: %w", err)
	}
	block := func(kind string, content []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}))
	}
	return block("CERTIFICATE", der), block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)), nil
}

// RotateSealingKey adds a key pair, which seals from the next update on, as make
// rotate-sealing-key does with a real stack.
func (r *Rehearsal) RotateSealingKey(ctx context.Context) error {
	return r.locked(ctx, func() error {
		if err := r.engine.prepare(ctx); err != nil {
			return err
		}
		key, err := seal.NewSealingKey(time.Now())
		if err != nil {
			return err
		}
		return r.pulumiStack().AppendSealingKey(ctx, key)
	})
}
