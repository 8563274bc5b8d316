package config_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/config"
)

// canary is what the fixtures and seeds have wherever a secret is.
const canary = "canary"

func TestErrors_NeverHoldASecret(t *testing.T) {
	t.Parallel()
	for _, f := range fixtures(t, "invalid") {
		values, secretKeys := asEngine(t, f.data)
		// What is a secret by its own tag stays hidden, whether the engine holds it so or not.
		inClear := slices.DeleteFunc(slices.Clone(secretKeys), func(key string) bool {
			return key == project+":secrets" || key == project+":sealing"
		})
		for _, keys := range [][]string{secretKeys, inClear} {
			_, err := config.Load(project, values, keys, testNow())
			require.Error(t, err, f.name)
			text := strings.ToLower(err.Error())
			require.NotContains(t, text, canary, f.name)
			require.NotContains(t, text, "19841984", f.name)
			require.NotRegexp(t, `-----|mii`, text, f.name)
		}
	}
}

func TestConfig_PrintsNoSecret(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"pi-with-secrets", "sealing-rotated", "cloud", "grafana-admin", "flux"} {
		cfg := load(t, name)
		text := fmt.Sprintf("%v %+v %#v %s %v %q %x", cfg, *cfg, cfg.Secrets, cfg.Sealing.Keys, &cfg.Secrets.Slack, cfg.Secrets, cfg.Secrets) +
			fmt.Sprintf("%v %+v %s %#v", &cfg.Secrets, cfg.Secrets, cfg.Secrets.Notifications, *cfg)
		require.NotContains(t, text, canary)
		require.NotContains(t, text, hex.EncodeToString([]byte(canary)))
		require.NotContains(t, text, "PRIVATE KEY")
		require.NotContains(t, text, hex.EncodeToString([]byte("PRIVATE KEY")))
	}
}

func FuzzLoad(f *testing.F) {
	for _, kind := range []string{"valid", "invalid"} {
		for _, x := range fixtures(f, kind) {
			values, _ := asEngine(f, x.data)
			get := func(key string) string { return values[project+":"+key] }
			f.Add(get("cluster"), get("hvac"), get("flux"), get("domain"), get("secrets"), get("sealing"), true)
		}
	}
	f.Add("", "null", "[]", "\x00", `{"slack":["canary"]}`, `{"keys":[{"certificate":"canary","privateKey":7}]}`, false)
	f.Add("{", `{"mock":`, `"`, "..", `{"slack":{"appToken":"canary`, `{"keys":{"0":"canary"}}`, false)

	f.Fuzz(func(t *testing.T, cluster, hvac, flux, domain, secrets, sealing string, encrypted bool) {
		values := map[string]string{
			project + ":cluster": cluster, project + ":hvac": hvac, project + ":flux": flux, project + ":domain": domain,
			project + ":secrets": secrets, project + ":sealing": sealing, project + ":stray": canary,
		}
		var secretKeys []string
		if encrypted {
			secretKeys = []string{project + ":secrets", project + ":sealing"}
		}
		_, err := config.Load(project, values, secretKeys, testNow())
		require.Error(t, err, "stray is unknown")
		if anyContains(cluster, hvac, flux, domain) || keysContain(secrets) || keysContain(sealing) {
			return // the name of a key is no secret, nor is what any other key holds
		}
		require.NotContains(t, strings.ToLower(err.Error()), canary)
	})
}

func FuzzReadStackFile(f *testing.F) {
	for _, kind := range []string{"valid", "invalid"} {
		for _, x := range fixtures(f, kind) {
			f.Add(x.data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		values, secretKeys, err := config.ReadStackFile(project, data)
		if err != nil {
			return
		}
		for _, key := range secretKeys {
			require.Contains(t, values, key)
		}
		_, _ = config.Load(project, values, secretKeys, testNow())
	})
}

func anyContains(texts ...string) bool {
	return strings.Contains(strings.ToLower(strings.Join(texts, " ")), canary)
}

// keysContain says whether the canary is in the name of a key of a JSON text.
func keysContain(text string) bool {
	var tree any
	if json.Unmarshal([]byte(text), &tree) != nil {
		return false
	}
	return treeKeysContain(tree)
}

func treeKeysContain(tree any) bool {
	switch value := tree.(type) {
	case map[string]any:
		for key, below := range value {
			if anyContains(key) || treeKeysContain(below) {
				return true
			}
		}
	case []any:
		if slices.ContainsFunc(value, treeKeysContain) {
			return true
		}
	}
	return false
}
