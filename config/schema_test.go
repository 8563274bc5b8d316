package config_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/config"
)

func TestSchema_DescribesEveryKey(t *testing.T) {
	t.Parallel()
	keys := config.Schema()
	seen := map[string]bool{}
	for _, key := range keys {
		require.False(t, seen[key.Path], key.Path)
		seen[key.Path] = true
		require.NotEmpty(t, key.Doc, key.Path)
		require.Contains(t, []string{"string", "integer", "boolean", "object", "array"}, key.Type, key.Path)
		require.False(t, key.Required && key.Default != "", "%s: a default makes a key optional", key.Path)
		require.False(t, key.Secret && key.Default != "", "%s: a secret has no default", key.Path)
		if key.Enum != nil && key.Default != "" {
			require.Contains(t, key.Enum, key.Default, key.Path)
		}
	}
	find := func(path string) config.Key {
		return keys[slices.IndexFunc(keys, func(k config.Key) bool { return k.Path == path })]
	}
	require.Equal(t, config.Key{
		Path: "cluster.nodes[].memory", Type: "string", Default: "4Gi", Doc: "memory of the machine, as a Kubernetes quantity",
	}, find("cluster.nodes[].memory"))
	require.Equal(t, "object", find("cluster.nodes").Items)
	require.Equal(t, []string{"k3d", "pi", "existing"}, find("cluster.kind").Enum)
	require.Equal(t, "string", find("hvac.interval").Type)
	require.Equal(t, "boolean", find("cluster.nodes[].workloads").Type)
	require.True(t, find("hvac").Required)
	require.False(t, find("sealing").Required)
	require.True(t, find("sealing.keys[].privateKey").Secret)
}

func TestMarkdownTable_HasARowForEveryKey(t *testing.T) {
	t.Parallel()
	table := config.MarkdownTable()
	rows := strings.Split(strings.TrimSuffix(table, "\n"), "\n")
	require.Len(t, rows, len(config.Schema())+2)
	require.Contains(t, rows, "| `cluster.nodes[].arch` | string: amd64 or arm64 | `amd64` | CPU architecture |")
	require.Contains(t, rows, `| `+"`domain`"+` | string | required | DNS suffix of every ingress host: service-intesis-v1.\<domain\> |`)
	require.Contains(t, rows, "| `secrets.slack.botToken` | string, secret |  | bot token, xoxb-… |")
}

func TestDuration_IsWrittenAsItIsRead(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"120s": "2m", "90s": "1m30s", "1h": "1h", "60m": "1h", "1h30m": "1h30m", "1h0m5s": "1h0m5s", "10m": "10m", "-2m": "-2m", "0s": "0s", "100ms": "100ms",
	} {
		var d config.Duration
		require.NoError(t, d.UnmarshalText([]byte(text)))
		require.Equal(t, want, d.String())
		written, err := d.MarshalText()
		require.NoError(t, err)
		var again config.Duration
		require.NoError(t, again.UnmarshalText(written))
		require.Equal(t, d, again)
	}
	var d config.Duration
	require.Error(t, d.UnmarshalText([]byte("120")))
}

func TestText_ReadsNumbersDigitByDigit(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]config.Text{
		"127934703953": "127934703953", `"0127"`: "0127", "12345678901234567890123": "12345678901234567890123", "-1": "-1",
	} {
		var text config.Text
		require.NoError(t, text.UnmarshalJSON([]byte(data)))
		require.Equal(t, want, text)
	}
	for _, data := range []string{"1.5", "1e3", "true", "null", "{}", "[1]"} {
		var text config.Text
		require.Error(t, text.UnmarshalJSON([]byte(data)), data)
	}
}

func TestNode_AllocatableIsWhatReservedLeaves(t *testing.T) {
	t.Parallel()
	left := config.Node{Memory: "1Gi", Reserved: "384Mi"}.Allocatable()
	require.Equal(t, "640Mi", left.String())
	none := config.Node{Memory: "much"}.Allocatable()
	require.True(t, none.IsZero())
	require.True(t, config.Node{}.RunsWorkloads())
}

func TestValidate_HoldsTheDayOfACertificateAgainstTheClock(t *testing.T) {
	t.Parallel()
	cfg := load(t, "sealing-rotated")
	end := time.Date(2036, time.January, 1, 0, 0, 0, 0, time.UTC)
	require.NoError(t, cfg.Validate(end.AddDate(0, 0, -30)))
	require.ErrorContains(t, cfg.Validate(end.AddDate(0, 0, -30).Add(time.Second)), "sealing.keys[1].certificate is near its end")
	require.ErrorContains(t, cfg.Validate(end), "sealing.keys[1].certificate is expired")
	require.NotContains(t, cfg.Validate(end).Error(), "sealing.keys[0]", "only the newest certificate seals")
}
