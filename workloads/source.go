package workloads

import (
	"errors"
	"fmt"
	"time"

	fluxmeta "github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"golang.org/x/crypto/ssh"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/config"
)

// The names that what pulls from Git is known by.
const (
	// SourceWorkload is the workload that every one that Flux delivers comes after.
	SourceWorkload = "git-source"
	// SourceName is the GitRepository, in FluxNamespace.
	SourceName = "manager-cluster-state"
	// FluxNamespace is where Flux and what tells it what to do live.
	FluxNamespace = fluxNamespace

	deployKeySecret = "deploy-key"
	delivering      = "delivery"
)

// gitTimeout is long enough for a Pi and a slow line.
const gitTimeout = 2 * time.Minute

var errDeployKey = errors.New("secrets.deployKey is no SSH private key in PEM; run: make keys")

// sources is where Flux pulls from; with direct delivery nothing is pulled.
func sources(cfg *config.Config) []builder {
	if cfg.Delivery != config.FluxCD {
		return nil
	}
	return []builder{gitSource}
}

// gitSource is the repository that Flux pulls from, and the key that it pulls with.
func gitSource(cfg *config.Config, _ Images) (Workload, error) {
	public, err := publicKey(cfg.Secrets.DeployKey)
	if err != nil {
		return Workload{}, fmt.Errorf("workload %s: %w", SourceWorkload, err)
	}
	meta := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: fluxNamespace, Name: name, Labels: ownLabels(name, delivering)}
	}
	return Workload{
		Name: SourceWorkload, Namespace: fluxNamespace, After: []string{fluxSystemName}, Direct: true,
		Objects: []client.Object{
			&corev1.Secret{
				TypeMeta: typeMeta("v1", "Secret"), ObjectMeta: meta(deployKeySecret), Type: corev1.SecretTypeOpaque,
				Data: map[string][]byte{
					"identity": []byte(cfg.Secrets.DeployKey), "identity.pub": public, "known_hosts": []byte(cfg.Git.HostKeys()),
				},
			},
			&sourcev1.GitRepository{
				TypeMeta: typeMeta(sourcev1.GroupVersion.String(), sourcev1.GitRepositoryKind), ObjectMeta: meta(SourceName),
				Spec: sourcev1.GitRepositorySpec{
					URL:       cfg.Git.URL,
					SecretRef: &fluxmeta.LocalObjectReference{Name: deployKeySecret},
					Interval:  metav1.Duration{Duration: cfg.Flux.Interval.Duration},
					Timeout:   &metav1.Duration{Duration: gitTimeout},
					Reference: &sourcev1.GitRepositoryRef{Branch: cfg.Git.Branch},
					// All that is rendered, for whatever stack, and nothing else.
					Ignore: new("/*\n!/manifests\n"),
				},
			},
		},
	}, nil
}

// publicKey is the public half of an SSH private key, in the form of authorized_keys. A key that
// can't be read is a configuration whose secrets are not there to be read.
func publicKey(privateKey string) ([]byte, error) {
	if privateKey == "" || privateKey == config.Encrypted {
		return nil, nil
	}
	signer, err := ssh.ParsePrivateKey([]byte(privateKey))
	if err != nil {
		return nil, errDeployKey
	}
	return ssh.MarshalAuthorizedKey(signer.PublicKey()), nil
}
