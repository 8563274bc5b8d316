package config_test

import (
	"encoding/json"
	"maps"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/config"
)

// Far above what any file takes, far below what a machine has.
const (
	mostBytes = 1 << 30
	longest   = time.Minute
)

// FuzzLoad has a text for each key that holds an object, and one for all others: lines of key=value.
func FuzzLoad(f *testing.F) {
	for _, kind := range []string{"valid", "invalid"} {
		for _, x := range fixtures(f, kind) {
			values, _ := asEngine(f, x.data)
			take := func(key string) string {
				text := values[project+":"+key]
				delete(values, project+":"+key)
				return text
			}
			texts := make([]string, len(objectKeys()))
			for i, key := range objectKeys() {
				texts[i] = take(key)
			}
			var rest []string
			for _, key := range slices.Sorted(maps.Keys(values)) {
				rest = append(rest, strings.TrimPrefix(key, project+":")+"="+values[key])
			}
			f.Add(texts[0], texts[1], texts[2], texts[3], texts[4], texts[5], texts[6], texts[7], strings.Join(rest, "\n"), true)
		}
	}
	f.Add("", "null", "[]", "\x00", "{}", "7", `{"slack":["canary"]}`, `{"keys":[{"certificate":"canary","privateKey":7}]}`, "=", false)
	f.Add("{", `{"mock":`, `"`, "..", "", "", `{"slack":{"appToken":"canary`, `{"keys":{"0":"canary"}}`, "domain", false)

	f.Fuzz(func(t *testing.T, cluster, hvac, flux, git, snmp, cloud, secrets, sealing, rest string, encrypted bool) {
		values := map[string]string{}
		for i, text := range []string{cluster, hvac, flux, git, snmp, cloud, secrets, sealing} {
			if text != "" {
				values[project+":"+objectKeys()[i]] = text
			}
		}
		for line := range strings.SplitSeq(rest, "\n") {
			if key, value, found := strings.Cut(line, "="); found {
				values[project+":"+key] = value
			}
		}
		var secretKeys []string
		if encrypted {
			secretKeys = []string{project + ":secrets", project + ":sealing"}
		}
		judge(t, values, secretKeys)
		// The name of a key is no secret, nor is what any other key holds.
		if _, err := config.Load(project, values, secretKeys, testNow()); err != nil &&
			!anyContains(cluster, hvac, flux, git, snmp, cloud, rest) && !keysContain(secrets) && !keysContain(sealing) {
			require.NotContains(t, strings.ToLower(err.Error()), canary)
		}
	})
}

// objectKeys are in the order of FuzzLoad's arguments.
func objectKeys() []string {
	return []string{"cluster", "hvac", "flux", "git", "snmp", "cloud", "secrets", "sealing"}
}

func FuzzReadStackFile(f *testing.F) {
	for _, kind := range []string{"valid", "invalid", "unreadable"} {
		for _, x := range fixtures(f, kind) {
			f.Add(x.data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var values map[string]string
		var secretKeys []string
		var err error
		within(t, func() { values, secretKeys, err = config.ReadStackFile(project, data) })
		if err != nil {
			require.ErrorIs(t, err, config.ErrStackFile)
			return
		}
		for _, key := range secretKeys {
			require.Contains(t, values, key)
		}
		judge(t, values, secretKeys)
	})
}

// judge holds Load to what it promises of any values: it ends, its problems have all that a person
// needs, and what it accepts is valid and loads to the same again.
func judge(t *testing.T, values map[string]string, secretKeys []string) {
	t.Helper()
	var cfg *config.Config
	var err error
	within(t, func() { cfg, err = config.Load(project, values, secretKeys, testNow()) })
	if err != nil {
		var problems config.Problems
		require.ErrorAs(t, err, &problems)
		require.Nil(t, cfg)
		for _, problem := range problems {
			require.NotEmpty(t, problem.Path)
			require.NotEmpty(t, problem.Value, problem.Path)
			require.NotEmpty(t, problem.Reason, problem.Path)
			require.NotEmpty(t, problem.Mend, problem.Path)
			require.NotContains(t, problem.String(), "\n", "one line each")
			require.Less(t, len(problem.String()), 4096, "for people")
		}
		return
	}
	for _, value := range values {
		if strings.Contains(value, config.Encrypted) {
			return // what a value is, only Load knows: no rule judges it
		}
	}
	require.NoError(t, cfg.Validate(testNow()))
	again, err := config.Load(project, written(t, cfg), []string{project + ":secrets", project + ":sealing"}, testNow())
	require.NoError(t, err)
	require.True(t, reflect.DeepEqual(cfg, again), "what it was written as loads to the same")
}

// within runs something that has to end, and not to take all memory.
func within(t *testing.T, do func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		do()
	}()
	select {
	case <-ended:
	case <-time.After(longest):
		t.Fatal("it doesn't end")
	}
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(mostBytes), "bytes allocated")
}

// written is a configuration as values of a stack, without what is empty.
func written(t *testing.T, cfg *config.Config) map[string]string {
	t.Helper()
	data, err := json.Marshal(cfg)
	require.NoError(t, err)
	var tree map[string]any
	require.NoError(t, json.Unmarshal(data, &tree))
	withoutNulls(tree)
	values := map[string]string{}
	for key, value := range tree {
		if text, isText := value.(string); isText {
			values[project+":"+key] = text
			continue
		}
		text, err := json.Marshal(value)
		require.NoError(t, err)
		values[project+":"+key] = string(text)
	}
	return values
}

func withoutNulls(tree map[string]any) {
	for key, value := range tree {
		switch value := value.(type) {
		case nil:
			delete(tree, key)
		case map[string]any:
			withoutNulls(value)
		}
	}
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
