package workloads_test

import (
	"testing"

	notificationv1 "github.com/fluxcd/notification-controller/api/v1beta3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// told are the objects that say whom Flux tells, as "Kind name".
func told(t *testing.T, cfg *config.Config) []string {
	t.Helper()
	var names []string
	for _, workload := range catalog(t, cfg) {
		if workload.Name != "notifications" {
			continue
		}
		require.True(t, workload.Direct)
		for _, object := range workload.Objects {
			names = append(names, object.GetObjectKind().GroupVersionKind().Kind+" "+object.GetName())
		}
	}
	return names
}

func TestNotifications_TellThoseWhoseSecretIsGiven(t *testing.T) {
	slack := []string{"Secret slack-webhook", "Provider slack", "Alert slack"}
	github := []string{"Secret github-token", "Provider github", "Alert github"}
	for name, test := range map[string]struct {
		change func(*config.Config)
		want   []string
	}{
		"both":            {func(*config.Config) {}, append(append([]string{}, slack...), github...)},
		"direct delivery": {func(cfg *config.Config) { cfg.Delivery = config.Direct }, slack},
		"no status":       {func(cfg *config.Config) { cfg.Flux.CommitStatus = false }, slack},
		"no token":        {func(cfg *config.Config) { cfg.Secrets.Notifications.GitHubToken = "" }, slack},
		"no webhook":      {func(cfg *config.Config) { cfg.Secrets.Notifications.SlackWebhook = "" }, github},
		"neither":         {func(cfg *config.Config) { cfg.Secrets.Notifications = config.Notifications{} }, nil},
		"nobody to tell":  {func(cfg *config.Config) { cfg.Flux.Notifications = false }, nil},
	} {
		cfg := variants(t)["production"]
		test.change(cfg)
		assert.Equal(t, test.want, told(t, cfg), name)
	}
}

func TestNotifications_NameTheCluster(t *testing.T) {
	for _, stack := range []string{"development", "production"} {
		alerts := of[*notificationv1.Alert](catalog(t, fromGit(stacks(t)[stack])))
		require.Len(t, alerts, 2)
		for _, alert := range alerts {
			assert.Equal(t, "cluster "+stack, alert.Spec.EventMetadata["summary"])
			assert.Empty(t, alert.Spec.Summary, "it is deprecated")
		}
	}
}

// An Alert and what it sends to are in one namespace; the Secret of a Provider is in its own.
func TestNotifications_EveryAlertHasItsProviderAndEveryProviderItsSecret(t *testing.T) {
	made := catalog(t, variants(t)["production"])
	secrets, providers := map[string]map[string][]byte{}, map[string]string{}
	for _, secret := range of[*corev1.Secret](made) {
		secrets[secret.Namespace+"/"+secret.Name] = secret.Data
	}
	for _, provider := range of[*notificationv1.Provider](made) {
		data := secrets[provider.Namespace+"/"+provider.Spec.SecretRef.Name]
		key := map[string]string{"slack": "address", "github": "token"}[provider.Spec.Type]
		assert.Len(t, data, 1, provider.Name)
		assert.NotEmpty(t, data[key], "%s looks for %s", provider.Name, key)
		providers[provider.Namespace+"/"+provider.Name] = provider.Spec.Type
	}
	for _, alert := range of[*notificationv1.Alert](made) {
		assert.NotEmpty(t, providers[alert.Namespace+"/"+alert.Spec.ProviderRef.Name], alert.Name)
	}
}

func TestNotifications_TheRepositoryIsAtTheHostOfTheAPI(t *testing.T) {
	for api, want := range map[string]string{
		"":                                   "https://github.com/nullify005/manager-cluster-state",
		"https://api.github.com":             "https://github.com/nullify005/manager-cluster-state",
		"https://github.example.net/api/v3/": "https://github.example.net/nullify005/manager-cluster-state",
		"https://api.example.ghe.com/":       "https://api.example.ghe.com/nullify005/manager-cluster-state",
		"http://127.0.0.1:3000/":             "http://127.0.0.1:3000/nullify005/manager-cluster-state",
	} {
		cfg := variants(t)["production"]
		cfg.Git.GitHubURL = api
		provider := named[*notificationv1.Provider](t, catalog(t, cfg), "github")
		assert.Equal(t, "github", provider.Spec.Type)
		assert.Equal(t, want, provider.Spec.Address, api)
	}
}

// No wildcard stands for a namespace, so each that has a release is named.
func TestNotifications_HearOfEveryReleaseOfTheCatalog(t *testing.T) {
	made := catalog(t, variants(t)["production"])
	want := map[string]bool{"GitRepository flux-system": true, "Kustomization flux-system": true}
	for _, workload := range made {
		for _, object := range workload.Objects {
			if object.GetObjectKind().GroupVersionKind().Kind == "HelmRelease" {
				want["HelmRelease "+object.GetNamespace()] = true
			}
		}
	}
	for _, alert := range of[*notificationv1.Alert](made) {
		if alert.Name != "slack" {
			continue
		}
		heard := map[string]bool{}
		for _, source := range alert.Spec.EventSources {
			assert.Equal(t, "*", source.Name)
			heard[source.Kind+" "+source.Namespace] = true
		}
		assert.Equal(t, want, heard)
		return
	}
	t.Fatal("there is no Alert for Slack")
}

// The two credentials are in Secrets and nowhere else.
func TestNotifications_SecretsStayInSecrets(t *testing.T) {
	cfg := variants(t)["production"]
	cfg.Secrets.Notifications = config.Notifications{SlackWebhook: "https://hooks.example.net/canary-webhook", GitHubToken: "canary-token"}
	made := catalog(t, cfg)
	found := 0
	for object, flat := range fields(t, made) {
		for path, value := range flat {
			assert.NotContains(t, value, "canary-", "%s %s", object, path)
		}
	}
	for _, secret := range of[*corev1.Secret](made) {
		for _, value := range secret.Data {
			if string(value) == cfg.Secrets.Notifications.SlackWebhook || string(value) == cfg.Secrets.Notifications.GitHubToken {
				found++
			}
		}
	}
	assert.Equal(t, 2, found)
}

func TestNotifications_AndImageAutomationComeAfterFlux(t *testing.T) {
	names := map[string]workloads.Workload{}
	for _, workload := range catalog(t, variants(t)["production"]) {
		names[workload.Name] = workload
	}
	assert.Equal(t, []string{"flux-system"}, names["notifications"].After)
	assert.Equal(t, []string{"flux-system", "git-source"}, names["image-automation"].After)
	assert.True(t, names["image-automation"].Direct)
}
