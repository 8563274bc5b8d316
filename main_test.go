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
	"github.com/nullify005/manager-cluster-state/internal/fluxtest"
	"github.com/nullify005/manager-cluster-state/internal/pulumitest"
	"github.com/nullify005/manager-cluster-state/render"
	"github.com/nullify005/manager-cluster-state/seal"
)

const kustomizationType = "kubernetes:kustomize.toolkit.fluxcd.io/v1:Kustomization"

// canaries stand in for the secrets of a stack; each must only ever be seen as a secret.
const secrets = `{
	"intesis": {"username": "canary-username", "password": "canary-password"},
	"slack": {"appToken": "xapp-canary-app", "botToken": "xoxb-canary-bot"},
	"grafana": {"username": "canary-admin", "password": "canary-password"},
	"snmp": {"community": "canary-community"},
	"cloud": {"token": "canary-token"},
	"notifications": {"slackWebhook": "https://hooks.slack.com/services/canary", "githubToken": "canary-status"}
}`

// testStack is a stack to run the program on.
type testStack struct {
	*pulumi.RunInfo

	origin *origin
	api    *fluxtest.API
	warned warnings
}

const (
	// asOwned has the stack files as an owner has them: whatever those say, the program has to take.
	asOwned = "."
	// asSetOut has two stacks that no owner changes.
	asSetOut = "workloads/testdata"
)

// stack reads a stack file of a folder, and puts in what is physical or secret: the cluster, the
// Git host, the credentials, the keys.
func stack(t *testing.T, folder, name string) *testStack {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(folder, "Pulumi."+name+".yaml"))
	require.NoError(t, err)
	values, _, err := config.ReadStackFile(pulumitest.Project, content)
	require.NoError(t, err)
	root, err := os.Getwd()
	require.NoError(t, err)
	deployKey, authorizedKey, err := seal.NewDeployKey("")
	require.NoError(t, err)
	s := &testStack{
		RunInfo: &pulumi.RunInfo{Project: pulumitest.Project, Stack: name, RootDirectory: root, Config: values},
		origin:  newOrigin(t, authorizedKey), api: fluxtest.NewAPI(t),
	}

	path := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(path, []byte(s.api.Kubeconfig()), 0o600))
	key := func(name string) string { return pulumitest.Project + ":" + name }
	merge(t, values, key("cluster"), map[string]any{"kind": "existing", "kubeconfig": path})
	merge(t, values, key("sealing"), map[string]any{"keys": []any{sealingKey(t)}})
	merge(t, values, key("git"), map[string]any{
		"url":        "ssh://git@" + s.origin.SSHAddress() + "/" + repository + ".git",
		"knownHosts": s.origin.KnownHosts(), "githubURL": s.origin.URL(),
	})
	values[key("secrets")], values["github:token"] = secrets, githubToken
	merge(t, values, key("secrets"), map[string]any{"deployKey": deployKey})
	s.ConfigSecretKeys = []string{key("secrets"), key("sealing"), "github:token"}
	return s
}

// set changes a key of the stack's configuration.
func (s *testStack) set(key, value string) { s.Config[pulumitest.Project+":"+key] = value }

// ship turns the pivot.
func (s *testStack) ship(observability string) {
	s.set("observability", observability)
	s.set("cloud", `{
		"metrics": {"url": "https://prometheus.example.net/api/prom/push", "username": "1"},
		"logs": {"url": "https://logs.example.net/loki/api/v1/push", "username": "2"}
	}`)
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

// run runs the program as the engine would.
func (s *testStack) run(recorder *pulumitest.Recorder, preview bool) error {
	return recorder.Run(func(ctx *pulumi.Context) error {
		ctx.Log = &s.warned
		return run(ctx, s.RunInfo)
	}, preview, func(info *pulumi.RunInfo) {
		info.Stack, info.Config, info.ConfigSecretKeys = s.Stack, s.Config, s.ConfigSecretKeys
	})
}

// warnings are what a program warns of; what else it says is not kept.
type warnings struct{ strings.Builder }

func (w *warnings) Warn(message string, _ *pulumi.LogArgs) error {
	_, err := w.WriteString(message + "\n")
	return err
}

func (*warnings) Debug(string, *pulumi.LogArgs) error { return nil }
func (*warnings) Info(string, *pulumi.LogArgs) error  { return nil }
func (*warnings) Error(string, *pulumi.LogArgs) error { return nil }

// recording is what a run of the program on a stack registered.
type recording struct {
	*pulumitest.Recorder

	stack     *testStack
	delivery  config.Delivery
	preview   bool
	committed render.Files
}

// byFlux says whether Flux delivers what needn't be delivered by Pulumi.
func (r *recording) byFlux() bool { return r.delivery == config.FluxCD }

// recordings are those that there are: each is made by the first test that looks at it.
var recordings = map[string]*recording{}

// eachStack runs the program on every real stack file, as a preview and as an update, in either
// delivery; and so with its metrics and logs shipped away.
func eachStack(t *testing.T, check func(t *testing.T, r *recording)) {
	t.Helper()
	files, err := filepath.Glob("Pulumi.*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(file, "Pulumi."), ".yaml")
		for _, delivery := range []config.Delivery{config.Direct, config.FluxCD} {
			for _, observability := range []string{"local", "cloud"} {
				for _, mode := range []string{"preview", "update"} {
					id := strings.Join([]string{name, string(delivery), observability, mode}, "/")
					t.Run(id, func(t *testing.T) {
						if recordings[id] == nil {
							recordings[id] = record(t, name, delivery, observability, mode == "preview")
						}
						check(t, recordings[id])
					})
				}
			}
		}
	}
}

func record(t *testing.T, name string, delivery config.Delivery, observability string, preview bool) *recording {
	t.Helper()
	r := &recording{Recorder: &pulumitest.Recorder{}, stack: stack(t, asOwned, name), delivery: delivery, preview: preview}
	r.stack.ship(observability)
	r.stack.set("delivery", string(delivery))
	delete(r.stack.Config, pulumitest.Project+":suspend") // it is warned of, and refused in direct delivery
	if r.byFlux() {
		r.committed = r.stack.push(t)
	}
	require.NoError(t, r.stack.run(r.Recorder, preview))
	assert.Empty(t, r.stack.warned.String())
	return r
}

func TestProgram_RegistersEveryWorkloadUnderItsComponent(t *testing.T) {
	eachStack(t, func(t *testing.T, r *recording) {
		direct, pulled := r.OfType(components.TokenDeliveryDirect), r.OfType(components.TokenDeliveryPulled)
		assert.Contains(t, direct, "flux-system")
		for _, name := range []string{
			"sealed-secrets", "external-mdns", "snmp-exporter", "service-intesis", "exporter-weather", "chat-hvac",
		} {
			if r.byFlux() {
				assert.Contains(t, pulled, name)
				assert.NotContains(t, direct, name, "Pulumi and Flux both deliver it")
			} else {
				assert.Contains(t, direct, name)
			}
		}
		for _, one := range r.All() {
			if one.RPC.GetCustom() {
				assert.NotEmpty(t, one.Parent(), "%s %s has no component", one.Type, one.Name)
			}
			if strings.HasPrefix(one.Type, "kubernetes:") {
				assert.NotEmpty(t, one.RPC.GetProvider(), "%s %s uses a default provider", one.Type, one.Name)
			}
		}
	})
}

func TestProgram_ChatWaitsForTheServiceItTalksTo(t *testing.T) {
	eachStack(t, func(t *testing.T, r *recording) {
		first, on := r.OfType("kubernetes:core/v1:Namespace")["chat-hvac/chat-hvac-v1"], "Deployment:service-intesis/service-intesis"
		if r.byFlux() {
			first, on = r.OfType(kustomizationType)["chat-hvac/chat-hvac"], "Kustomization:service-intesis/service-intesis"
		}
		assert.Contains(t, first.DependsOn(), on)
	})
}

func TestProgram_SealingKeysAreThereBeforeTheController(t *testing.T) {
	eachStack(t, func(t *testing.T, r *recording) {
		cfg, _, _ := r.stack.catalog(t)
		var keys, waiting int
		for _, one := range r.All() {
			if one.Parent() == "sealing-keys" {
				keys++
				assert.Equal(t, cfg.Sealing.Protect, one.RPC.GetProtect(), "a root of trust is protected where the stack says so")
				assert.True(t, one.Inputs["data"].IsSecret())
			}
			if one.Parent() != "sealed-secrets" {
				continue
			}
			for _, on := range one.DependsOn() {
				if strings.HasPrefix(on, "Secret:sealing-keys/") {
					waiting++
				}
			}
		}
		assert.Equal(t, 1, keys)
		assert.Positive(t, waiting, "nothing of sealed-secrets waits for its keys")
	})
}

func TestProgram_GitHubKnowsTheDeployKeyBeforeFluxPulls(t *testing.T) {
	eachStack(t, func(t *testing.T, r *recording) {
		cfg, _, _ := r.stack.catalog(t)
		var waiting int
		for _, one := range r.All() {
			for _, on := range one.DependsOn() {
				if one.Parent() == "git-source" && strings.HasPrefix(on, "RepositoryDeployKey:deploy-key/") {
					waiting++
				}
			}
		}
		if !r.byFlux() {
			assert.Empty(t, r.OfType(components.TokenGitHubDeployKey), "a stack that pulls nothing has no deploy key")
			return
		}
		assert.Positive(t, waiting, "nothing of git-source waits for the deploy key")
		for _, key := range r.OfType("github:index/repositoryDeployKey:RepositoryDeployKey") {
			assert.Equal(t, !cfg.Flux.ImageAutomation, key.Inputs["readOnly"].BoolValue(), "image automation pushes with it")
		}
	})
}

func TestProgram_AnUpdateWaitsForWhatFluxPullsAndAPreviewForNothing(t *testing.T) {
	eachStack(t, func(t *testing.T, r *recording) {
		if r.preview || !r.byFlux() {
			assert.Empty(t, r.stack.api.Asked())
			return
		}
		want := []string{"GitRepository flux-system/manager-cluster-state"}
		for name := range r.OfType(components.TokenDeliveryPulled) {
			want = append(want, "Kustomization flux-system/"+name)
		}
		assert.ElementsMatch(t, want, r.stack.api.Asked())
		assert.Equal(t, want[:1], r.stack.api.Requested(), "the commit that Flux lacks is pulled at once")
	})
}

func TestProgram_NoSecretIsEverAPlainInput(t *testing.T) {
	eachStack(t, func(t *testing.T, r *recording) {
		seen := 0
		for _, one := range r.All() {
			walk(resource.NewProperty(one.Inputs), false, func(text string, secret bool) {
				if !strings.Contains(decoded(text), "canary") && !strings.Contains(decoded(text), "PRIVATE KEY") {
					return
				}
				seen++
				assert.True(t, secret, "%s %s has a secret in the clear", one.Type, one.Name)
			})
		}
		assert.Greater(t, seen, 3, "the canaries were not planted where secrets go")
	})
}

func TestProgram_AnAppsSecretsGoToFluxSealedAndNoOtherWay(t *testing.T) {
	eachStack(t, func(t *testing.T, r *recording) {
		registered := 0
		for _, one := range r.All() {
			walk(resource.NewProperty(one.Inputs), false, func(text string, _ bool) {
				if strings.Contains(decoded(text), "canary-username") {
					registered++
				}
			})
		}
		if !r.byFlux() {
			assert.Positive(t, registered)
			return
		}
		assert.Zero(t, registered, "Pulumi's state has a secret that Flux delivers")
		sealed := 0
		for file, content := range r.committed {
			assert.NotContains(t, string(content), "canary", file)
			if render.IsSealed(file) {
				sealed++
			}
		}
		assert.Greater(t, sealed, 2)
	})
}

func TestProgram_SaysWhatGitLacksBeforeAnythingIsRegistered(t *testing.T) {
	for name, lacking := range map[string]func(*testing.T, *testStack) string{
		"the branch": func(*testing.T, *testStack) string { return "there is no such branch" },
		"a file": func(t *testing.T, s *testStack) string {
			files := s.files(t)
			delete(files, "chat-hvac/deployment-chat-hvac.yaml")
			s.origin.push(t, s.Stack, files)
			return "chat-hvac/deployment-chat-hvac.yaml is missing"
		},
		"what changed since": func(t *testing.T, s *testStack) string {
			s.push(t)
			s.set("domain", "example.net")
			return "service-intesis/ingress-service-intesis.yaml is stale"
		},
		"a secret that changed since": func(t *testing.T, s *testStack) string {
			s.push(t)
			merge(t, s.Config, pulumitest.Project+":secrets", map[string]any{"snmp": map[string]any{"community": "canary-other"}})
			return "snmp-exporter/sealedsecret-snmp-exporter.yaml: "
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := stack(t, asSetOut, "production")
			want := lacking(t, s)
			const mend = "run make seal render STACK=production, commit and push"

			require.NoError(t, s.run(&pulumitest.Recorder{}, true), "a preview may be of what is not merged yet")
			warned := s.warned.String()
			assert.Contains(t, warned, want)
			assert.Contains(t, warned, mend)
			assert.NotContains(t, warned, "canary")

			recorder := &pulumitest.Recorder{}
			err := s.run(recorder, false)
			require.ErrorContains(t, err, want)
			require.ErrorContains(t, err, mend)
			assert.Empty(t, recorder.All())
		})
	}
}

func TestProgram_AKeyThatIsChangedByHandIsRefusedAtPreview(t *testing.T) {
	for was, is := range map[config.Delivery]config.Delivery{config.Direct: config.FluxCD, config.FluxCD: config.Direct} {
		s := stack(t, asSetOut, "production")
		s.set("delivery", string(is))
		recorder := &pulumitest.Recorder{Before: resource.PropertyMap{"delivered": resource.NewProperty(resource.PropertyMap{
			"chat-hvac": resource.NewProperty(string(was)), "grafana": resource.NewProperty(string(was)),
		})}}
		err := s.run(recorder, true)
		require.ErrorContains(t, err, "chat-hvac, grafana")
		require.ErrorContains(t, err, "make switch STACK=production DELIVERY="+string(is))
		assert.Empty(t, recorder.OfType(components.TokenDeliveryDirect))
		assert.Empty(t, recorder.OfType(components.TokenDeliveryPulled))
	}
}

func TestProgram_RefusesABadStackBeforeAnythingIsRegistered(t *testing.T) {
	for _, mode := range []bool{true, false} {
		s := stack(t, asSetOut, "production")
		delete(s.Config, pulumitest.Project+":secrets")
		s.set("domain", "http://local")
		recorder := &pulumitest.Recorder{}
		err := s.run(recorder, mode)
		require.Error(t, err)
		for _, want := range []string{
			"domain", "pulumi config set --secret --path secrets.intesis.username",
			"pulumi config set --secret --path secrets.slack.appToken", "secrets.deployKey is missing", "make keys STACK=production", "--path secrets.slack.botToken --stack production",
		} {
			require.ErrorContains(t, err, want)
		}
		assert.Empty(t, recorder.All())
	}
}

func TestProgram_RefusesPodsWithoutRoomBeforeAnythingIsRegistered(t *testing.T) {
	for check, want := range map[bool]string{true: "cluster.memoryCheck: false, which leaves it to the scheduler", false: ""} {
		s, recorder := stack(t, asSetOut, "production"), &pulumitest.Recorder{}
		nodes := []any{
			map[string]any{"name": "kiwipi", "role": "server", "arch": "arm64", "memory": "1Gi", "reserved": "896Mi", "workloads": false},
			map[string]any{"name": "orangepi", "role": "agent", "arch": "arm64", "memory": "1Gi", "reserved": "384Mi"},
		}
		merge(t, s.Config, pulumitest.Project+":cluster", map[string]any{"nodes": nodes, "memoryCheck": check})
		err := s.run(recorder, true)
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
	root, err := os.Getwd()
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
		s := &testStack{RunInfo: &pulumi.RunInfo{
			Project: pulumitest.Project, Stack: "test", RootDirectory: root, Config: values, ConfigSecretKeys: secretKeys,
		}}
		recorder := &pulumitest.Recorder{}
		err = s.run(recorder, true)
		require.Error(t, err, file)
		var problems config.Problems
		require.ErrorAs(t, err, &problems, file)
		assert.Zero(t, len(recorder.All()), file) //nolint:testifylint // its list of registrations would fill pages
	}
	assert.Greater(t, ran, 40)
}

func TestProgram_DevelopmentNeedsNoSecretAndNoPreparation(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(asSetOut, "Pulumi.development.yaml"))
	require.NoError(t, err)
	values, secretKeys, err := config.ReadStackFile(pulumitest.Project, content)
	require.NoError(t, err)
	require.Empty(t, secretKeys)
	root, err := os.Getwd()
	require.NoError(t, err)
	recorder := &pulumitest.Recorder{Outputs: map[string]resource.PropertyMap{
		"command:local:Command": {"stdout": resource.NewProperty("a kubeconfig")},
	}}
	s := &testStack{RunInfo: &pulumi.RunInfo{Project: pulumitest.Project, Stack: "development", RootDirectory: root, Config: values}}
	require.NoError(t, s.run(recorder, true), "a preview asks for neither Docker nor k3d")
	assert.Contains(t, recorder.OfType("command:local:Command"), "development")
}
