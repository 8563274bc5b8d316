package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/components"
	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/internal/pulumitest"
)

const kubeconfig = `apiVersion: v1
kind: Config
current-context: home
contexts: [{name: home, context: {cluster: home, user: admin}}]
clusters: [{name: home, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: admin, user: {token: canary-kubeconfig}}]
`

// canaries stand in for the secrets of a stack; each must only ever be seen as a secret.
const secrets = `{
	"intesis": {"username": "canary-username", "password": "canary-password"},
	"slack": {"appToken": "xapp-canary-app", "botToken": "xoxb-canary-bot"},
	"grafana": {"username": "canary-admin", "password": "canary-password"},
	"snmp": {"community": "canary-community"},
	"cloud": {"token": "canary-token"}
}`

// stack reads a real stack file, and puts in what is physical or secret: the cluster, the
// credentials, a sealing key.
func stack(t *testing.T, name string) *pulumi.RunInfo {
	t.Helper()
	content, err := os.ReadFile("Pulumi." + name + ".yaml")
	require.NoError(t, err)
	values, _, err := config.ReadStackFile(pulumitest.Project, content)
	require.NoError(t, err)

	path := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(path, []byte(kubeconfig), 0o600))
	key := func(name string) string { return pulumitest.Project + ":" + name }
	merge(t, values, key("cluster"), map[string]any{"kind": "existing", "kubeconfig": path})
	merge(t, values, key("sealing"), map[string]any{"keys": []any{sealingKey(t)}})
	values[key("secrets")] = secrets
	root, err := os.Getwd()
	require.NoError(t, err)
	return &pulumi.RunInfo{
		Project: pulumitest.Project, Stack: name, RootDirectory: root,
		Config: values, ConfigSecretKeys: []string{key("secrets"), key("sealing")},
	}
}

// ship turns the pivot.
func ship(info *pulumi.RunInfo, observability string) {
	info.Config[pulumitest.Project+":observability"] = observability
	info.Config[pulumitest.Project+":cloud"] = `{
		"metrics": {"url": "https://prometheus.example.net/api/prom/push", "username": "1"},
		"logs": {"url": "https://logs.example.net/loki/api/v1/push", "username": "2"}
	}`
}

func merge(t *testing.T, values map[string]string, key string, with map[string]any) {
	t.Helper()
	object := map[string]any{}
	if values[key] != "" {
		require.NoError(t, json.Unmarshal([]byte(values[key]), &object))
	}
	maps.Copy(object, with)
	content, err := json.Marshal(object)
	require.NoError(t, err)
	values[key] = string(content)
}

func sealingKey(t *testing.T) map[string]any {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sealing"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(5, 0, 0),
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return map[string]any{
		"certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})),
		"privateKey":  string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})),
	}
}

func program(info *pulumi.RunInfo) pulumi.RunFunc {
	return func(ctx *pulumi.Context) error { return run(ctx, info) }
}

// eachStack runs the program on every real stack file, as a preview and as an update; and so
// with its metrics and logs shipped away.
func eachStack(t *testing.T, check func(t *testing.T, info *pulumi.RunInfo, recorder *pulumitest.Recorder)) {
	t.Helper()
	files, err := filepath.Glob("Pulumi.*.yaml")
	require.NoError(t, err)
	require.Len(t, files, 2, "a new stack is tested too: nothing else to do here but this number")
	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(file, "Pulumi."), ".yaml")
		for _, mode := range []string{"preview", "update"} {
			for _, observability := range []string{"local", "cloud"} {
				t.Run(name+"/"+observability+"/"+mode, func(t *testing.T) {
					recorder, info := &pulumitest.Recorder{}, stack(t, name)
					ship(info, observability)
					require.NoError(t, recorder.Run(program(info), mode == "preview"))
					check(t, info, recorder)
				})
			}
		}
	}
}

func TestProgram_RegistersEveryWorkloadUnderItsComponent(t *testing.T) {
	eachStack(t, func(t *testing.T, _ *pulumi.RunInfo, recorder *pulumitest.Recorder) {
		workloads := recorder.OfType(components.TokenDeliveryDirect)
		for _, name := range []string{
			"flux-system", "sealed-secrets", "external-mdns", "snmp-exporter", "service-intesis", "exporter-weather", "chat-hvac",
		} {
			assert.Contains(t, workloads, name)
		}
		for _, r := range recorder.All() {
			if r.RPC.GetCustom() {
				assert.NotEmpty(t, r.Parent(), "%s %s has no component", r.Type, r.Name)
			}
			if strings.HasPrefix(r.Type, "kubernetes:") {
				assert.NotEmpty(t, r.RPC.GetProvider(), "%s %s uses a default provider", r.Type, r.Name)
			}
		}
	})
}

func TestProgram_ChatWaitsForTheServiceItTalksTo(t *testing.T) {
	eachStack(t, func(t *testing.T, _ *pulumi.RunInfo, recorder *pulumitest.Recorder) {
		first := recorder.OfType("kubernetes:core/v1:Namespace")["chat-hvac/chat-hvac-v1"]
		assert.Contains(t, first.DependsOn(), "Deployment:service-intesis/service-intesis")
	})
}

func TestProgram_SealingKeysAreThereBeforeTheController(t *testing.T) {
	eachStack(t, func(t *testing.T, info *pulumi.RunInfo, recorder *pulumitest.Recorder) {
		var keys, waiting int
		for _, r := range recorder.All() {
			if r.Parent() == "sealing-keys" {
				keys++
				assert.Equal(t, info.Stack == "production", r.RPC.GetProtect(), "a root of trust is protected in production")
				assert.True(t, r.Inputs["data"].IsSecret())
			}
			if r.Parent() != "sealed-secrets" {
				continue
			}
			for _, on := range r.DependsOn() {
				if strings.HasPrefix(on, "Secret:sealing-keys/") {
					waiting++
				}
			}
		}
		assert.Equal(t, 1, keys)
		assert.Positive(t, waiting, "nothing of sealed-secrets waits for its keys")
	})
}

func TestProgram_NoSecretIsEverAPlainInput(t *testing.T) {
	eachStack(t, func(t *testing.T, info *pulumi.RunInfo, recorder *pulumitest.Recorder) {
		seen := 0
		for _, r := range recorder.All() {
			walk(resource.NewProperty(r.Inputs), false, func(text string, secret bool) {
				if !strings.Contains(decoded(text), "canary") && !strings.Contains(decoded(text), "PRIVATE KEY") {
					return
				}
				seen++
				assert.True(t, secret, "%s %s has a secret in the clear", r.Type, r.Name)
			})
		}
		assert.Greater(t, seen, 3, "the canaries were not planted where secrets go")
	})
}

func TestProgram_RefusesABadStackBeforeAnythingIsRegistered(t *testing.T) {
	for _, mode := range []bool{true, false} {
		info := stack(t, "production")
		delete(info.Config, pulumitest.Project+":secrets")
		info.Config[pulumitest.Project+":domain"] = "http://local"
		recorder := &pulumitest.Recorder{}
		err := recorder.Run(program(info), mode)
		require.Error(t, err)
		for _, want := range []string{
			"domain", "pulumi config set --secret --path secrets.intesis.username",
			"pulumi config set --secret --path secrets.slack.appToken",
		} {
			require.ErrorContains(t, err, want)
		}
		assert.Empty(t, recorder.All())
	}
}

func TestProgram_RefusesPodsWithoutRoomBeforeAnythingIsRegistered(t *testing.T) {
	for check, want := range map[bool]string{true: "cluster.memoryCheck: false, which leaves it to the scheduler", false: ""} {
		info, recorder := stack(t, "production"), &pulumitest.Recorder{}
		nodes := []any{
			map[string]any{"name": "kiwipi", "role": "server", "arch": "arm64", "memory": "1Gi", "reserved": "896Mi", "workloads": false},
			map[string]any{"name": "orangepi", "role": "agent", "arch": "arm64", "memory": "1Gi", "reserved": "384Mi"},
		}
		merge(t, info.Config, pulumitest.Project+":cluster", map[string]any{"nodes": nodes, "memoryCheck": check})
		err := recorder.Run(program(info), true)
		if want == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, want)
		assert.Empty(t, recorder.All())
	}
}

// The fixtures of config, run through the whole program: whatever is wrong with a stack file
// is told before anything is registered.
func TestProgram_RefusesEveryBadStackFileBeforeAnythingIsRegistered(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("config", "testdata", "invalid", "*.yaml"))
	require.NoError(t, err)
	ran := 0
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		if strings.Contains(string(content), "{{") || strings.Contains(string(content), "secure:") {
			continue // config's own tests fill in keys, and decrypt
		}
		values, secretKeys, err := config.ReadStackFile(pulumitest.Project, content)
		if err != nil {
			continue // no stack file at all: the engine itself refuses it
		}
		ran++
		root, err := os.Getwd()
		require.NoError(t, err)
		recorder := &pulumitest.Recorder{}
		info := &pulumi.RunInfo{
			Project: pulumitest.Project, Stack: "test", RootDirectory: root, Config: values, ConfigSecretKeys: secretKeys,
		}
		err = recorder.Run(program(info), true)
		require.Error(t, err, file)
		var problems config.Problems
		require.ErrorAs(t, err, &problems, file)
		assert.Zero(t, len(recorder.All()), file) //nolint:testifylint // its list of registrations would fill pages
	}
	assert.Greater(t, ran, 40)
}

func TestProgram_DevelopmentNeedsNoSecretAndNoPreparation(t *testing.T) {
	content, err := os.ReadFile("Pulumi.development.yaml")
	require.NoError(t, err)
	values, secretKeys, err := config.ReadStackFile(pulumitest.Project, content)
	require.NoError(t, err)
	assert.Empty(t, secretKeys)
	root, err := os.Getwd()
	require.NoError(t, err)
	recorder := &pulumitest.Recorder{}
	info := &pulumi.RunInfo{Project: pulumitest.Project, Stack: "development", RootDirectory: root, Config: values}
	require.NoError(t, recorder.Run(program(info), false))
	assert.Contains(t, recorder.OfType("command:local:Command"), "development")
}

// edges are the workloads, each with the names of the ones it comes after.
func edges(recorder *pulumitest.Recorder) map[string][]string {
	found := map[string][]string{}
	for name, workload := range recorder.OfType(components.TokenDeliveryDirect) {
		found[name] = []string{}
		for _, before := range workload.Inputs["after"].ArrayValue() {
			found[name] = append(found[name], before.StringValue())
		}
	}
	return found
}
