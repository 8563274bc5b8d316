package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// ErrStackFile is the cause of every error of ReadStackFile.
var ErrStackFile = errors.New("reading a stack file")

var anchorPattern = regexp.MustCompile(`anchor '.*'`)

// ReadStackFile reads the configuration in a Pulumi.<stack>.yaml the way Pulumi does, for
// readers that come before the engine. The results are what Load takes: the values by
// project:key, and the keys with anything encrypted in them. Nothing is decrypted: each
// encrypted value is Encrypted. Environments that the file imports are not looked up. The
// errors hold no values.
func ReadStackFile(project string, data []byte) (values map[string]string, secretKeys []string, err error) {
	var file any
	if err := yaml.Unmarshal(data, &file); err != nil {
		// It may quote a value, in backticks, or one that was taken for an alias, since it begins with
		// an asterisk: so it isn't wrapped.
		reason, _, _ := strings.Cut(err.Error(), "`")
		reason = anchorPattern.ReplaceAllString(reason, "anchor")
		return nil, nil, fmt.Errorf("%w: %s", ErrStackFile, strings.TrimSpace(reason))
	}
	if file == nil {
		return map[string]string{}, nil, nil
	}
	if weigh(file, most) > most {
		return nil, nil, fmt.Errorf("%w: it holds more than %d MiB, once what its aliases stand for is written out", ErrStackFile, most>>20)
	}
	top, ok := stringKeys(file)
	if !ok {
		return nil, nil, fmt.Errorf("%w: it is no object with the key config", ErrStackFile)
	}
	if top["config"] == nil {
		return map[string]string{}, nil, nil
	}
	keys, ok := stringKeys(top["config"])
	if !ok {
		return nil, nil, fmt.Errorf("%w: config is no object of keys and values", ErrStackFile)
	}

	values = map[string]string{}
	for _, key := range sortedKeys(keys) {
		name, err := qualify(project, key)
		if err != nil {
			return nil, nil, err
		}
		if _, taken := values[name]; taken {
			return nil, nil, fmt.Errorf("%w: config has the key %s twice", ErrStackFile, name)
		}
		tree, secret := withoutCiphers(keys[key])
		text, ok := engineText(tree)
		if !ok {
			return nil, nil, fmt.Errorf("%w: the key %s holds a number that JSON has no form for", ErrStackFile, name)
		}
		values[name] = text
		if secret {
			secretKeys = append(secretKeys, name)
		}
	}
	return values, secretKeys, nil
}

// most is far above what any stack file holds, and far below what a machine does.
const most = 4 << 20

// weigh is about how long a tree is as text, and no more than a little above a limit: an alias costs
// the file two bytes, and may stand for all of the rest.
func weigh(tree any, limit int) int {
	total := 1
	add := func(part any) bool {
		total += weigh(part, limit-total)
		return total <= limit
	}
	switch value := tree.(type) {
	case string:
		total += len(value)
	case []any:
		for _, item := range value {
			if !add(item) {
				break
			}
		}
	case map[string]any:
		for key, item := range value {
			if !add(key) || !add(item) {
				break
			}
		}
	case map[any]any:
		for key, item := range value {
			if !add(key) || !add(item) {
				break
			}
		}
	}
	return total
}

// qualify gives a key its namespace, which is the project's if it has none. The older form
// namespace:config:key is the same as namespace:key.
func qualify(project, key string) (string, error) {
	switch parts := strings.Split(key, ":"); {
	case len(parts) == 1:
		return project + ":" + key, nil
	case len(parts) == 2:
		return key, nil
	case len(parts) == 3 && parts[1] == "config":
		return parts[0] + ":" + parts[2], nil
	default:
		return "", fmt.Errorf("%w: the key %q is not of the form namespace:key", ErrStackFile, key)
	}
}

// engineText is the form in which Pulumi hands a value to a program: a string as it is, a
// null as no text, anything else as JSON.
func engineText(tree any) (text string, ok bool) {
	switch value := tree.(type) {
	case string:
		return value, true
	case nil:
		return "", true
	}
	data, err := json.Marshal(tree)
	return string(data), err == nil
}

// withoutCiphers copies a tree in the form that JSON can hold, with Encrypted in place of
// every {secure: …}, and says whether there was one.
func withoutCiphers(tree any) (copied any, found bool) {
	if object, ok := stringKeys(tree); ok {
		if _, secure := object["secure"].(string); secure && len(object) == 1 {
			return Encrypted, true
		}
		for key, value := range object {
			plain, secret := withoutCiphers(value)
			object[key], found = plain, found || secret
		}
		return object, found
	}
	switch value := tree.(type) {
	case []any:
		list := make([]any, len(value))
		for i, element := range value {
			plain, secret := withoutCiphers(element)
			list[i], found = plain, found || secret
		}
		return list, found
	case time.Time:
		return value.String(), false
	case uint64: // one too large for the engine's integers
		return float64(value), false
	default:
		return value, false
	}
}

// stringKeys copies an object of YAML, whose keys need not be strings, into one of JSON.
func stringKeys(tree any) (map[string]any, bool) {
	switch object := tree.(type) {
	case map[string]any:
		return maps.Clone(object), true
	case map[any]any:
		named := make(map[string]any, len(object))
		for key, value := range object {
			named[fmt.Sprint(key)] = value
		}
		return named, true
	default:
		return nil, false
	}
}
