package config_test

import (
	"encoding/hex"
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
