// Package stacktest gives tests the stacks of this project, with secrets that can be searched for.
package stacktest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bitnami/sealed-secrets/pkg/crypto"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/seal"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// Project is the name of the project.
const Project = "manager-cluster-state"

// Canary is in every secret that Config has, but for keys.
const Canary = "canary"

// Names are the stacks of a project: those that have a file.
func Names(t *testing.T, projectDir string) []string {
	t.Helper()
	files, err := fs.Glob(os.DirFS(projectDir), "Pulumi.*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files, "no stack has a file in %s", projectDir)
	names := make([]string, len(files))
	for i, file := range files {
		names[i] = strings.TrimSuffix(strings.TrimPrefix(file, "Pulumi."), ".yaml")
	}
	return names
}

// Config is that of a stack's file, with a secret in every place and a sealing key.
func Config(t *testing.T, projectDir, stack string) *config.Config {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(projectDir, "Pulumi."+stack+".yaml"))
	require.NoError(t, err)
	values, secretKeys, err := config.ReadStackFile(Project, content)
	require.NoError(t, err)
	cfg, err := config.Load(Project, values, secretKeys, time.Now(), config.SkipSecrets())
	require.NoError(t, err)
	cfg.Sealing.Keys = []config.SealingKey{SealingKey(t, time.Now().Add(-time.Hour))}
	deployKey, _, err := seal.NewDeployKey("")
	require.NoError(t, err)
	cfg.Secrets = config.Secrets{
		DeployKey:     deployKey,
		Notifications: config.Notifications{SlackWebhook: "https://hooks.slack.com/services/canary", GitHubToken: "canary-token"},
		Intesis:       config.Intesis{Username: "canary-user", Password: "canary-password"},
		Slack:         config.Slack{AppToken: "xapp-canary", BotToken: "xoxb-canary"}, //nolint:gosec // they open nothing
		Grafana:       config.GrafanaAdmin{Username: "canary-admin", Password: "canary-password"},
		SNMP:          config.SNMPAuth{Community: "canary-community"},
		Cloud:         config.CloudAuth{Token: "canary-cloud"},
	}
	return cfg
}

// File is what the stack's file would be with the secrets of a configuration, encrypted.
func File(t *testing.T, projectDir, stack string, cfg *config.Config) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(projectDir, "Pulumi."+stack+".yaml"))
	require.NoError(t, err)
	var file struct {
		Config map[string]any `json:"config"`
	}
	require.NoError(t, yaml.Unmarshal(content, &file))
	text, err := yaml.Marshal(cfg.Secrets)
	require.NoError(t, err)
	var secrets map[string]any
	require.NoError(t, yaml.Unmarshal(text, &secrets))
	file.Config[Project+":secrets"] = encrypted(secrets)
	keys := make([]any, len(cfg.Sealing.Keys))
	for i, key := range cfg.Sealing.Keys {
		keys[i] = map[string]any{"certificate": key.Certificate, "privateKey": encrypted(key.PrivateKey)}
	}
	sealing, _ := file.Config[Project+":sealing"].(map[string]any)
	if sealing == nil {
		sealing = map[string]any{}
	}
	sealing["keys"] = keys
	file.Config[Project+":sealing"] = sealing
	content, err = yaml.Marshal(file)
	require.NoError(t, err)
	return content
}

// encrypted has each text as Pulumi writes a secret one; what is in it can't be told.
func encrypted(value any) any {
	object, isObject := value.(map[string]any)
	if !isObject {
		return map[string]any{"secure": "v1:ciphertext"}
	}
	for key, inner := range object {
		object[key] = encrypted(inner)
	}
	return object
}

// SealingKey is a small pair whose certificate begins then.
func SealingKey(t *testing.T, begins time.Time) config.SealingKey {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	certificate, err := crypto.SignKeyWithNotBefore(rand.Reader, private, begins, 20*365*24*time.Hour, "")
	require.NoError(t, err)
	text := func(kind string, content []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}))
	}
	return config.SealingKey{
		Certificate: text("CERTIFICATE", certificate.Raw),
		PrivateKey:  text("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(private)),
	}
}

// Images are those of a stack's list.
func Images(t *testing.T, projectDir string, cfg *config.Config) workloads.Images {
	t.Helper()
	images, err := workloads.LoadImages(filepath.Join(projectDir, cfg.Images))
	require.NoError(t, err)
	return images
}

// Catalog is that of a configuration.
func Catalog(t *testing.T, projectDir string, cfg *config.Config) []workloads.Workload {
	t.Helper()
	catalog, err := workloads.Catalog(cfg, Images(t, projectDir, cfg))
	require.NoError(t, err)
	return catalog
}
