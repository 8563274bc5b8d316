package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/nullify005/manager-cluster-state/config"
)

func TestLoad_AcceptsEveryValidStackFile(t *testing.T) {
	t.Parallel()
	for _, f := range fixtures(t, "valid") {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			values, secretKeys := asEngine(t, f.data)
			cfg, err := config.Load(project, values, secretKeys, testNow())
			require.NoError(t, err)
			require.NoError(t, cfg.Validate(testNow()), "what was loaded is valid")
		})
	}
}

func TestLoad_ReportsEveryProblemOfAnInvalidStackFile(t *testing.T) {
	t.Parallel()
	all := fixtures(t, "invalid")
	require.GreaterOrEqual(t, len(all), 200, "the corpus of bad input")
	for _, f := range all {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			values, secretKeys := asEngine(t, f.data)
			cfg, err := config.Load(project, values, secretKeys, testNow())
			require.Nil(t, cfg)
			var problems config.Problems
			require.ErrorAs(t, err, &problems)

			var got []string
			for _, p := range problems {
				require.NotEmpty(t, p.Mend, p.Path)
				got = append(got, p.Path+" | "+strings.TrimPrefix(p.String(), p.Path+" is "))
			}
			if *update {
				rewriteWants(t, f.path, got)
				return
			}
			require.Equal(t, wants(f.data), got)
		})
	}
}

func TestLoad_GivesDefaultsFromTheTags(t *testing.T) {
	t.Parallel()
	cfg := load(t, "k3d-least")
	require.Equal(t, config.Direct, cfg.Delivery)
	require.Equal(t, "manifests/images/kustomization.yaml", cfg.Images)
	require.Equal(t, 10*time.Minute, cfg.ReadyTimeout.Duration)
	require.Equal(t, 2*time.Minute, cfg.HVAC.Interval.Duration)
	require.Equal(t, 2*time.Minute, cfg.HVAC.WeatherInterval.Duration)
	require.Equal(t, "hvac", cfg.HVAC.SlackChannel)
	require.Equal(t, config.VXLAN, cfg.Cluster.Flannel)
	require.True(t, cfg.Cluster.ChecksMemory())
	require.Equal(t, config.Local, cfg.Observability)
	require.Empty(t, cfg.SNMP.Devices)
	require.True(t, cfg.Flux.Helm && cfg.Flux.Notifications && cfg.Flux.ImageAutomation)
	require.Equal(t, config.Standard, cfg.Flux.Profile)
	require.Equal(t, 30*time.Minute, cfg.Flux.Interval.Duration)
	require.Equal(t, 10*time.Minute, cfg.Flux.ImageInterval.Duration)
	require.False(t, cfg.Sealing.Protect)
	require.Empty(t, cfg.Sealing.Keys)
	for _, node := range cfg.Cluster.Nodes {
		require.Equal(t, "amd64", node.Arch)
		require.Equal(t, "4", node.CPU)
		allocatable := node.Allocatable()
		require.Equal(t, "3584Mi", allocatable.String())
		require.NotNil(t, node.Workloads)
		require.True(t, node.RunsWorkloads())
	}
}

func TestLoad_ReadsEveryKey(t *testing.T) {
	t.Parallel()
	cfg := load(t, "every-key")
	yes, no := true, false
	require.Equal(t, &config.Config{
		Cluster: config.Cluster{
			Kind: config.K3d, Name: "development", K3s: "v1.33.10+k3s2",
			Flannel: config.HostGateway, MemoryCheck: &no, Nodes: []config.Node{{
				Name: "server-0", Role: config.Server, Arch: "arm64", CPU: "8", Memory: "16Gi", Reserved: "1Gi", Workloads: &yes, Port: 22,
			}},
			SSH: config.SSH{
				Timeout: config.Duration{Duration: 15 * time.Second}, RebootTimeout: config.Duration{Duration: 10 * time.Minute},
				Jump: config.Jump{Port: 22},
			},
		},
		Delivery: config.Direct,
		Git:      config.Git{Branch: "main"},
		Domain:   "home.example.org",
		HVAC: config.HVAC{
			Device: "00127934703953", Interval: config.Duration{Duration: 10 * time.Second}, Location: "r3fup8",
			WeatherInterval: config.Duration{Duration: time.Hour}, Mock: true, SlackChannel: "hvac_2",
		},
		SNMP:          config.SNMP{Devices: []config.Device{{Name: "edgemax", Address: "172.16.10.1", Module: "ubiquiti_edgemax"}}},
		Observability: config.Local,
		Cloud: config.CloudEndpoints{
			Metrics: config.Endpoint{URL: "https://prometheus.example.net/api/prom/push", Username: "123456"},
			Logs:    config.Endpoint{URL: "https://logs.example.net/loki/api/v1/push", Username: "654321"},
		},
		Images: "other/kustomization.yaml",
		Flux: config.Flux{
			Version: "v2.9.4", Profile: config.LowMemory, Interval: config.Duration{Duration: time.Minute},
			ImageInterval: config.Duration{Duration: 24 * time.Hour}, SlackChannel: "cluster-status",
		},
		Sealing:      config.Sealing{Protect: true},
		ReadyTimeout: config.Duration{Duration: time.Hour},
	}, cfg)
}

func TestLoad_ReadsHowPisAreReachedAndWhatIsInstalled(t *testing.T) {
	t.Parallel()
	cfg := load(t, "pi-every-key")
	key := keyPairs()["ssh"].certificate
	require.Equal(t, config.SSH{
		Timeout: config.Duration{Duration: 5 * time.Second}, RebootTimeout: config.Duration{Duration: 20 * time.Minute},
		Jump: config.Jump{Host: "gate.example.net", Port: 2222, User: "me", HostKey: key},
	}, cfg.Cluster.SSH)
	require.Equal(t, config.Install{From: "downloads/k3s", Binary: strings.Repeat("0", 64), Script: strings.Repeat("A", 64)}, cfg.Cluster.Install)
	require.Equal(t, "kiwipi.lan", cfg.Cluster.Nodes[0].Host)
	require.Equal(t, 2022, cfg.Cluster.Nodes[0].Port)
	require.Equal(t, key, cfg.Cluster.Nodes[0].HostKey)
	require.True(t, cfg.Cluster.Nodes[1].Offline)
	require.Equal(t, keyPairs()["ssh"].privateKey, cfg.Secrets.SSHKey)
}

func TestLoad_ReadsFluxDelivery(t *testing.T) {
	t.Parallel()
	cfg := load(t, "flux")
	require.Equal(t, config.FluxCD, cfg.Delivery)
	require.True(t, cfg.Handover)
	require.Equal(t, []string{"chat-hvac"}, cfg.Suspend)
	require.Equal(t, "feature/tags", cfg.Git.Branch)
	require.Equal(t, "https://api.github.com/", cfg.Git.API())
	owner, name := cfg.Git.Repository()
	require.Equal(t, []string{"nullify005", "manager-cluster-state"}, []string{owner, name})
	require.Contains(t, cfg.Git.HostKeys(), keyPairs()["ssh"].certificate, "the file's own keys stand before what is built in")
	require.Equal(t, config.Flux{
		Profile: config.Standard, Helm: true, Notifications: true, ImageAutomation: true,
		Interval: config.Duration{Duration: time.Hour}, ImageInterval: config.Duration{Duration: 5 * time.Minute},
		ImageRegistry: "mirror.example.net", SlackChannel: "cluster_2", CommitStatus: true,
	}, cfg.Flux)
	require.Equal(t, keyPairs()["ssh"].privateKey, cfg.Secrets.DeployKey)
	require.Equal(t, config.Notifications{
		SlackWebhook: "https://hooks.slack.com/services/canary", GitHubToken: "canary-token",
	}, cfg.Secrets.Notifications)
	require.True(t, cfg.Pushes())

	least := load(t, "flux-least")
	require.Equal(t, "main", least.Git.Branch)
	require.Equal(t, "https://api.github.com/", least.Git.API())
	for line := range strings.Lines(least.Git.HostKeys()) {
		_, hosts, _, _, _, err := ssh.ParseKnownHosts([]byte(line))
		require.NoError(t, err)
		require.Equal(t, []string{"github.com"}, hosts)
	}
	require.Equal(t, 3, strings.Count(least.Git.HostKeys(), "\n"))
	require.False(t, load(t, "direct-with-all-of-flux").Pushes(), "nothing pulls, so nothing pushes")
	require.Empty(t, load(t, "flux-hosts-hashed").Git.API(), "of a host that is no GitHub's, nothing is guessed")
}

// What never leaves the machine needs no certificate.
func TestFlux_ARegistryIsPlainOnThisMachineAlone(t *testing.T) {
	t.Parallel()
	for registry, want := range map[string]bool{
		"127.0.0.1:5000": true, "localhost:5000": true, "[::1]:5000": true, "127.0.0.1": true,
		"mirror.example.net": false, "mirror.example.net:5000": false, "192.168.0.1:5000": false, "": false,
	} {
		require.Equal(t, want, config.Flux{ImageRegistry: registry}.PlainRegistry(), registry)
	}
}

func TestLoad_KeepsEveryDigitOfANumber(t *testing.T) {
	t.Parallel()
	cfg := load(t, "numbers-where-text-is-meant")
	require.Equal(t, config.Text("127934703953"), cfg.HVAC.Device)
	require.Equal(t, "4294967296", cfg.Cluster.Nodes[1].Memory)

	values, secretKeys := asEngine(t, fixtureNamed(t, "k3d-least").data)
	const digits = "12345678901234567890"
	values[project+":hvac"] = `{"device":` + digits + `,"location":"r3fup88","mock":true}`
	cfg, err := config.Load(project, values, secretKeys, testNow())
	require.NoError(t, err)
	require.Equal(t, config.Text(digits), cfg.HVAC.Device)
}

func TestLoad_ReadsSecrets(t *testing.T) {
	t.Parallel()
	cfg := load(t, "pi-with-secrets")
	require.True(t, cfg.Secrets.Slack.Given())
	require.True(t, cfg.Secrets.Intesis.Given())
	require.Equal(t, "canary-password", cfg.Secrets.Intesis.Password)
	require.False(t, cfg.Cluster.Nodes[0].RunsWorkloads())

	require.False(t, load(t, "k3d-least").Secrets.Slack.Given())
}

func TestLoad_SkipSecretsDemandsNone(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"secrets-missing", "secrets-one-token", "secrets-in-the-clear", "sealing-expired", "sealing-private-key-missing",
		"secrets-deploy-key-missing", "secrets-deploy-key-no-pem", "secrets-deploy-key-in-the-clear", "sealing-missing-with-flux",
		"flux-commit-status-without-token", "secrets-webhook-without-tls",
	} {
		values, secretKeys := asEngine(t, invalidNamed(t, name).data)
		_, err := config.Load(project, values, secretKeys, testNow(), config.SkipSecrets())
		require.NoError(t, err, name)
	}
	values, secretKeys := asEngine(t, invalidNamed(t, "unknown-in-secrets").data)
	_, err := config.Load(project, values, secretKeys, testNow(), config.SkipSecrets())
	require.ErrorContains(t, err, "secrets.intesis.pasword is unknown", "keys and types are still checked")
}

func TestLoad_IgnoresOtherProjects(t *testing.T) {
	t.Parallel()
	values, secretKeys := asEngine(t, fixtureNamed(t, "k3d-least").data)
	values["kubernetes:cluster"] = "not ours"
	values[project+"-too:cluster"] = "not ours"
	_, err := config.Load(project, values, secretKeys, testNow())
	require.NoError(t, err)
}

func TestProblems_AreOneLineEachUnderACount(t *testing.T) {
	t.Parallel()
	values, secretKeys := asEngine(t, invalidNamed(t, "unknown-agents").data)
	values[project+":domain"] = "localtest.me."
	_, err := config.Load(project, values, secretKeys, testNow())
	require.EqualError(t, err, "the stack's configuration has 2 problems:\n"+
		"  cluster.agents is unknown: there is no such key; the keys of cluster are kind, name, k3s, flannel, kubeconfig, context, memoryCheck, ssh, install and nodes\n"+
		"  domain is \"localtest.me.\": it must be a DNS suffix: labels of lower-case letters, digits and hyphens, joined by dots; "+
		"run: pulumi config set domain localtest.me")
}

func TestValidate_JudgesAConfigMadeInGo(t *testing.T) {
	t.Parallel()
	cfg := load(t, "k3d-least")
	require.NoError(t, cfg.Validate(testNow()))
	cfg.Cluster.Nodes[1].Memory = "much"
	cfg.HVAC.Mock = false
	var problems config.Problems
	require.ErrorAs(t, cfg.Validate(testNow()), &problems)
	require.Len(t, problems, 5)

	require.NotPanics(t, func() { require.ErrorAs(t, (&config.Config{}).Validate(testNow()), &problems) })
}

func load(t *testing.T, name string) *config.Config {
	t.Helper()
	values, secretKeys := asEngine(t, fixtureNamed(t, name).data)
	cfg, err := config.Load(project, values, secretKeys, testNow())
	require.NoError(t, err)
	return cfg
}

func fixtureNamed(tb testing.TB, name string) fixture {
	tb.Helper()
	return named(tb, "valid", name)
}

func invalidNamed(tb testing.TB, name string) fixture {
	tb.Helper()
	return named(tb, "invalid", name)
}

func named(tb testing.TB, kind, name string) fixture {
	tb.Helper()
	for _, f := range fixtures(tb, kind) {
		if f.name == name {
			return f
		}
	}
	require.Fail(tb, "no fixture "+name)
	return fixture{}
}
