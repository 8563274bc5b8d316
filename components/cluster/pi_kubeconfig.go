package cluster

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"k8s.io/client-go/tools/clientcmd"
)

// renewBefore is how long before the end of the admin's certificate there is a warning.
const renewBefore = 30 * 24 * time.Hour

// kubeconfig is the admin's, with the address that the server has from here.
func (p *Pi) kubeconfig(ctx *pulumi.Context) pulumi.StringOutput {
	read := pulumi.All(p.admin.Stdout, p.admin.URN()).ApplyT(func(read []any) (string, error) {
		content, _ := read[0].(string)
		urn, _ := read[1].(pulumi.URN)
		text, end, err := addressed(content, p.apiURL())
		if err != nil {
			return "", fmt.Errorf("the kubeconfig of %s: %w", p.server.Name, err)
		}
		if warning := p.endsSoon(end, time.Now(), urn); warning != "" {
			err = ctx.Log.Warn(warning, &pulumi.LogArgs{Resource: p})
		}
		return text, err
	})
	return secret(read.(pulumi.StringOutput)) //nolint:forcetypeassert // what the function returns
}

// endsSoon is a warning, or nothing. k3s renews the certificate when it starts within 90 days of its
// end, and the step reads it again when it is replaced, or the release changes.
func (p *Pi) endsSoon(end, now time.Time, urn pulumi.URN) string {
	if end.IsZero() || end.Sub(now) >= renewBefore {
		return ""
	}
	return fmt.Sprintf("the certificate in the kubeconfig of %s ends on %s; renew it with: "+
		"ssh %s@%s sudo systemctl restart k3s, then pulumi up --target-replace '%s', then pulumi up",
		p.name, end.UTC().Format(time.DateOnly), p.server.User, p.server.Host, urn)
}

// addressed sets the address of a kubeconfig's clusters, and finds when its certificate ends. No
// error of it quotes what it has read.
func addressed(content, url string) (text string, end time.Time, err error) {
	kubeconfig, err := clientcmd.Load([]byte(content))
	if err != nil || len(kubeconfig.Clusters) == 0 {
		return "", end, errors.New("it can't be read; see what is in /etc/rancher/k3s/k3s.yaml there")
	}
	for _, cluster := range kubeconfig.Clusters {
		cluster.Server = url
	}
	for _, user := range kubeconfig.AuthInfos {
		block, _ := pem.Decode(user.ClientCertificateData)
		if block == nil {
			continue
		}
		if certificate, err := x509.ParseCertificate(block.Bytes); err == nil {
			end = certificate.NotAfter
		}
	}
	written, err := clientcmd.Write(*kubeconfig)
	if err != nil {
		return "", end, errors.New("it can't be written")
	}
	return string(written), end, nil
}
