package github_test

import (
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/nullify005/manager-cluster-state/components"
	"github.com/nullify005/manager-cluster-state/components/github"
	"github.com/nullify005/manager-cluster-state/internal/pulumitest"
	forge "github.com/nullify005/manager-cluster-state/rehearsal/forge/github"
)

const (
	keyType      = "github:index/repositoryDeployKey:RepositoryDeployKey"
	providerType = "pulumi:providers:github"
	canary       = "ghp_canary"
)

// keyPair is made from a seed, so that a name that is derived from it is the same every time.
func keyPair(t *testing.T, seed byte) (private string, public ssh.PublicKey) {
	t.Helper()
	key := ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(seed)), ed25519.SeedSize)))
	block, err := ssh.MarshalPrivateKey(key, "")
	require.NoError(t, err)
	public, err = ssh.NewPublicKey(key.Public())
	require.NoError(t, err)
	return string(pem.EncodeToMemory(block)), public
}

func someArgs(t *testing.T) *github.DeployKeyArgs {
	t.Helper()
	private, _ := keyPair(t, 'a')
	return &github.DeployKeyArgs{PrivateKey: private, Owner: "somebody", Repository: "home"}
}

// inConfig sets github:token as the engine hands it to a program.
func inConfig(token string, secret bool) pulumi.RunOption {
	return func(info *pulumi.RunInfo) {
		info.Config = map[string]string{"github:token": token}
		if secret {
			info.ConfigSecretKeys = []string{"github:token"}
		}
	}
}

// inEarnest makes it no preview.
func inEarnest(info *pulumi.RunInfo) { info.DryRun = false }

func register(recorder *pulumitest.Recorder, args *github.DeployKeyArgs, options ...pulumi.RunOption) error {
	return recorder.Run(func(ctx *pulumi.Context) error {
		_, err := github.NewDeployKey(ctx, "deploy-key", args)
		return err
	}, true, options...)
}

func only(t *testing.T, recorder *pulumitest.Recorder, typeToken string) pulumitest.Registration {
	t.Helper()
	found := recorder.OfType(typeToken)
	require.Len(t, found, 1, typeToken)
	for _, registration := range found {
		return registration
	}
	return pulumitest.Registration{}
}

func TestDeployKey_RegistersThePublicHalfUnderItself(t *testing.T) {
	t.Setenv("GITHUB_TOKEN", canary)
	recorder := &pulumitest.Recorder{}
	require.NoError(t, register(recorder, someArgs(t)))

	key := only(t, recorder, keyType)
	assert.Equal(t, "deploy-key/somebody/home/3047e5ce6cba8650", key.Name)
	assert.Equal(t, "deploy-key", key.Parent())
	assert.Contains(t, key.RPC.GetProvider(), "::deploy-key/somebody::")
	assert.Equal(t, "home", key.Inputs["repository"].StringValue())
	assert.Equal(t, pulumitest.Project+" "+pulumitest.Stack, key.Inputs["title"].StringValue())
	_, public := keyPair(t, 'a')
	assert.Equal(t, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public))), key.Inputs["key"].StringValue())

	provider := only(t, recorder, providerType)
	assert.Equal(t, "deploy-key/somebody", provider.Name)
	assert.Equal(t, "deploy-key", provider.Parent())
	assert.Equal(t, "somebody", provider.Inputs["owner"].StringValue())
	assert.Equal(t, github.DefaultBaseURL, provider.Inputs["baseUrl"].StringValue())
	assert.NotEmpty(t, provider.RPC.GetVersion(), "the SDK's own options were lost")
}

func TestDeployKey_IsReadOnlyUnlessItMayWrite(t *testing.T) {
	t.Setenv("GITHUB_TOKEN", canary)
	for _, writable := range []bool{false, true} {
		recorder, args := &pulumitest.Recorder{}, someArgs(t)
		args.Writable = writable
		require.NoError(t, register(recorder, args))
		key := only(t, recorder, keyType)
		assert.Equal(t, !writable, key.Inputs["readOnly"].BoolValue())
		assert.True(t, key.RPC.GetDeleteBeforeReplace(), "GitHub refuses a key that it has")
	}
}

func TestDeployKey_AnotherKeyOrRepositoryIsAnotherResource(t *testing.T) {
	t.Setenv("GITHUB_TOKEN", canary)
	names := map[string]bool{}
	for _, change := range []func(*github.DeployKeyArgs){
		func(*github.DeployKeyArgs) {},
		func(a *github.DeployKeyArgs) { a.PrivateKey, _ = keyPair(t, 'b') },
		func(a *github.DeployKeyArgs) { a.Repository = "other" },
		func(a *github.DeployKeyArgs) { a.Owner = "other" },
	} {
		recorder, args := &pulumitest.Recorder{}, someArgs(t)
		change(args)
		require.NoError(t, register(recorder, args))
		names[only(t, recorder, keyType).Name] = true
	}
	assert.Len(t, names, 4)

	recorder, args := &pulumitest.Recorder{}, someArgs(t)
	args.Writable, args.Title, args.BaseURL = true, "other", "https://github.example.net/"
	require.NoError(t, register(recorder, args))
	assert.Contains(t, names, only(t, recorder, keyType).Name)
}

func TestDeployKey_ATokenOfTheEnvironmentIsLeftThere(t *testing.T) {
	t.Setenv("GITHUB_TOKEN", canary)
	t.Setenv("GITHUB_BASE_URL", "https://elsewhere.example.net/")
	recorder := &pulumitest.Recorder{}
	require.NoError(t, register(recorder, someArgs(t)))
	provider := only(t, recorder, providerType)
	assert.NotContains(t, provider.Inputs, "token")
	assert.Equal(t, github.DefaultBaseURL, provider.Inputs["baseUrl"].StringValue(), "the token would go elsewhere")
	for _, registration := range recorder.All() {
		assert.NotContains(t, registration.RPC.String(), canary, registration.Name)
	}
}

func TestDeployKey_ATokenOfTheConfigurationIsASecretOfTheProvider(t *testing.T) {
	t.Setenv("GITHUB_TOKEN", "")
	recorder, args := &pulumitest.Recorder{}, someArgs(t)
	args.BaseURL = "https://github.example.net/"
	require.NoError(t, register(recorder, args, inConfig(canary, true)))
	provider := only(t, recorder, providerType)
	require.True(t, provider.Inputs["token"].IsSecret())
	assert.Equal(t, canary, provider.Inputs["token"].SecretValue().Element.StringValue())
	assert.Equal(t, args.BaseURL, provider.Inputs["baseUrl"].StringValue())
	for _, typeToken := range []string{keyType, components.TokenGitHubDeployKey} {
		assert.NotContains(t, only(t, recorder, typeToken).RPC.String(), canary)
	}
}

func TestDeployKey_ThePrivateHalfGoesNowhere(t *testing.T) {
	t.Setenv("GITHUB_TOKEN", canary)
	recorder, args := &pulumitest.Recorder{}, someArgs(t)
	require.NoError(t, register(recorder, args))
	middle := strings.Split(args.PrivateKey, "\n")[2]
	for _, registration := range recorder.All() {
		assert.NotContains(t, registration.RPC.String(), middle, registration.Name)
	}
}

func TestDeployKey_ItsOutputsAreKnownBeforeGitHubIsAsked(t *testing.T) {
	t.Setenv("GITHUB_TOKEN", canary)
	recorder, args := &pulumitest.Recorder{}, someArgs(t)
	_, public := keyPair(t, 'a')
	seen := make(chan string, 2)
	require.NoError(t, recorder.Run(func(ctx *pulumi.Context) error {
		key, err := github.NewDeployKey(ctx, "deploy-key", args)
		if err != nil {
			return err
		}
		pulumi.All(key.PublicKey, key.Fingerprint).ApplyT(func(values []any) error {
			seen <- values[0].(string)
			seen <- values[1].(string)
			return nil
		})
		other := &struct{ pulumi.CustomResourceState }{}
		return ctx.RegisterResource("test:index:Secret", "secret", pulumi.Map{"public": key.PublicKey}, other, pulumi.DependsOn(key.Resources))
	}, true))
	assert.Equal(t, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public))), <-seen)
	assert.Equal(t, ssh.FingerprintSHA256(public), <-seen)

	secret := recorder.OfType("test:index:Secret")["secret"]
	assert.Equal(t, []string{"RepositoryDeployKey:" + only(t, recorder, keyType).Name}, secret.DependsOn())
	assert.Empty(t, secret.RPC.GetPropertyDependencies()["public"].GetUrns(), "it would be replaced with the key")
}

func TestDeployKey_EveryProblemIsToldBeforeAnythingIsRegistered(t *testing.T) {
	t.Setenv("GITHUB_TOKEN", "")
	recorder := &pulumitest.Recorder{}
	err := register(recorder, &github.DeployKeyArgs{PrivateKey: "canary", BaseURL: "https://somebody:canary@github.example.net/"}, inEarnest)
	require.Error(t, err)
	for _, want := range []string{
		`the repository "" of ""`,
		"git.githubURL is no URL of a GitHub API",
		"secrets.deployKey is no SSH private key",
		"there is no GitHub token",
	} {
		require.ErrorContains(t, err, want)
	}
	assert.NotContains(t, err.Error(), "canary")
	assert.Empty(t, recorder.All())
}

func TestDeployKey_WithoutATokenItSaysWhichOneToSet(t *testing.T) {
	t.Setenv("GITHUB_TOKEN", "")
	recorder := &pulumitest.Recorder{}
	err := register(recorder, someArgs(t), inEarnest)
	require.ErrorContains(t, err, "there is no GitHub token to register the deploy key of somebody/home with: run export GITHUB_TOKEN=… "+
		"or pulumi config set --secret github:token; a fine-grained token of that one repository will do, "+
		"with the permission Administration: read and write")
	assert.Empty(t, recorder.All())
}

// Whoever previews need not be who may administer the repository.
func TestDeployKey_APreviewNeedsNoToken(t *testing.T) {
	t.Setenv("GITHUB_TOKEN", "")
	recorder := &pulumitest.Recorder{}
	require.NoError(t, register(recorder, someArgs(t)))
	assert.NotContains(t, only(t, recorder, providerType).Inputs, "token")
	only(t, recorder, keyType)
}

func TestDeployKey_ATokenInTheClearIsRefused(t *testing.T) {
	t.Setenv("GITHUB_TOKEN", canary)
	recorder := &pulumitest.Recorder{}
	err := register(recorder, someArgs(t), inConfig(canary, false))
	require.ErrorContains(t, err, "github:token is stored in the clear: run pulumi config set --secret github:token")
	assert.NotContains(t, err.Error(), canary)
	assert.Empty(t, recorder.All())
}

func TestDeployKey_ARefusedResourceIsAnError(t *testing.T) {
	t.Setenv("GITHUB_TOKEN", canary)
	for _, refused := range []string{components.TokenGitHubDeployKey, providerType, keyType} {
		recorder := &pulumitest.Recorder{FailOn: func(typeToken, _ string) error {
			if typeToken == refused {
				return errors.New("refused by the test")
			}
			return nil
		}}
		assert.ErrorContains(t, register(recorder, someArgs(t)), "refused by the test", refused)
	}
}

// registered is a GitHub that has the key already.
func registered(t *testing.T, args *github.DeployKeyArgs, title string, readOnly bool) (*forge.Server, *int) {
	t.Helper()
	t.Setenv("GITHUB_TOKEN", canary)
	server, err := forge.New(forge.Options{Token: canary, Repositories: []string{args.Owner + "/" + args.Repository}})
	require.NoError(t, err)
	asked := 0
	listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		server.ServeHTTP(w, r)
	}))
	t.Cleanup(listener.Close)
	args.BaseURL = listener.URL + "/"
	_, public := keyPair(t, 'a')
	body := fmt.Sprintf(`{"title": %q, "key": %q, "read_only": %t}`, title, ssh.MarshalAuthorizedKey(public), readOnly)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, args.BaseURL+"repos/somebody/home/keys", strings.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+canary)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusCreated, response.StatusCode)
	asked = 0
	return server, &asked
}

func update(recorder *pulumitest.Recorder, args *github.DeployKeyArgs) error {
	return recorder.Run(func(ctx *pulumi.Context) error {
		_, err := github.NewDeployKey(ctx, "deploy-key", args)
		return err
	}, false)
}

func TestDeployKey_OneThatGitHubHasIsAdopted(t *testing.T) {
	args := someArgs(t)
	server, asked := registered(t, args, pulumitest.Project+" "+pulumitest.Stack, true)
	id := fmt.Sprintf("home:%d", server.DeployKeys("somebody/home")[0].ID)

	recorder := &pulumitest.Recorder{}
	require.NoError(t, register(recorder, args))
	assert.Empty(t, only(t, recorder, keyType).RPC.GetImportId())
	assert.Zero(t, *asked, "a preview asks nobody")

	recorder = &pulumitest.Recorder{}
	require.NoError(t, update(recorder, args))
	assert.Equal(t, id, only(t, recorder, keyType).RPC.GetImportId())

	recorder = &pulumitest.Recorder{Before: resource.PropertyMap{github.RegisteredOutput: resource.NewProperty(id)}}
	require.NoError(t, update(recorder, args))
	assert.Empty(t, only(t, recorder, keyType).RPC.GetImportId(), "the state has it")
	assert.Len(t, server.DeployKeys("somebody/home"), 1)
}

func TestDeployKey_OneWithAnotherTitleOrAccessIsRegisteredAnew(t *testing.T) {
	title := pulumitest.Project + " " + pulumitest.Stack
	for name, with := range map[string]struct {
		title    string
		readOnly bool
	}{"title": {"other", true}, "access": {title, false}} {
		t.Run(name, func(t *testing.T) {
			args := someArgs(t)
			server, _ := registered(t, args, with.title, with.readOnly)
			id := fmt.Sprintf("home:%d", server.DeployKeys("somebody/home")[0].ID)
			recorder := &pulumitest.Recorder{Before: resource.PropertyMap{github.RegisteredOutput: resource.NewProperty(id)}}
			require.NoError(t, update(recorder, args))
			assert.Len(t, server.DeployKeys("somebody/home"), 1, "the engine replaces what the state has")

			recorder = &pulumitest.Recorder{}
			require.NoError(t, update(recorder, args))
			assert.Empty(t, only(t, recorder, keyType).RPC.GetImportId())
			assert.Empty(t, server.DeployKeys("somebody/home"), "GitHub would refuse it")
		})
	}
}

func TestDeployKey_AGitHubThatDoesNotAnswerIsForTheEngineToTell(t *testing.T) {
	args := someArgs(t)
	server, _ := registered(t, args, "other", true)
	server.Fail(forge.Fault{Kind: forge.ServerError})
	recorder := &pulumitest.Recorder{}
	require.NoError(t, update(recorder, args))
	assert.Empty(t, only(t, recorder, keyType).RPC.GetImportId())
}
