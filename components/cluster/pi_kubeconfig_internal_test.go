package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/nullify005/manager-cluster-state/config"
)

func TestKubeconfig_EndsWithItsCertificate(t *testing.T) {
	now := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(0, 0, 29)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	written, err := clientcmd.Write(api.Config{
		Clusters:  map[string]*api.Cluster{"default": {Server: "https://127.0.0.1:6443"}},
		AuthInfos: map[string]*api.AuthInfo{"default": {ClientCertificateData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}},
	})
	require.NoError(t, err)

	text, end, err := addressed(string(written), "https://kiwipi.lan:6443")
	require.NoError(t, err)
	assert.Contains(t, text, "server: https://kiwipi.lan:6443\n")
	assert.Equal(t, template.NotAfter, end.UTC())

	pi := &Pi{name: "home", server: config.Node{Host: "kiwipi.lan", User: "pi"}}
	assert.Equal(t, "the certificate in the kubeconfig of home ends on 2026-12-24; renew it with: "+
		"ssh pi@kiwipi.lan sudo systemctl restart k3s, then pulumi up --target-replace 'urn:x', then pulumi up", pi.endsSoon(end, now, "urn:x"))
	assert.Empty(t, pi.endsSoon(end, now.AddDate(0, 0, -1), "urn:x"))
	assert.Empty(t, pi.endsSoon(time.Time{}, now, "urn:x"), "a token has no end that can be seen")
}
