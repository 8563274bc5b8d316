package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

const (
	configFile        = "/etc/rancher/k3s/config.yaml"
	defaultKubeconfig = "/etc/rancher/k3s/k3s.yaml"
	dataFolder        = "/var/lib/rancher/k3s"
	nodePassword      = "/etc/rancher/node/password" //nolint:gosec // where k3s has it
)

// settings are k3s's by the long names of its flags, each with all its values.
type settings map[string][]string

// readSettings has flags before config.yaml, and that before the environment.
func readSettings(args []string) (settings, error) {
	found := settings{}
	for name, variable := range map[string]string{ //nolint:gosec // names of variables
		"token": "K3S_TOKEN", "server": "K3S_URL", "node-name": "K3S_NODE_NAME",
		"write-kubeconfig": "K3S_KUBECONFIG_OUTPUT", "write-kubeconfig-mode": "K3S_KUBECONFIG_MODE",
		"token-file": "K3S_TOKEN_FILE",
	} {
		if value := os.Getenv(variable); value != "" {
			found[name] = []string{value}
		}
	}
	flags := parseFlags(args)
	path := configFile
	for _, other := range []string{os.Getenv("K3S_CONFIG_FILE"), flags.last("config")} {
		if other != "" {
			path = other
		}
	}
	file, err := readConfig(path)
	if err != nil {
		return nil, err
	}
	maps.Copy(found, file)
	maps.Copy(found, flags)
	if path := found.last("token-file"); path != "" && found.last("token") == "" {
		token, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("reading the token: %w", err)
		}
		found["token"] = []string{strings.TrimSpace(string(token))}
	}
	found.record()
	return found, nil
}

// readConfig reads a config.yaml. It may have keys that the stand-in doesn't know.
func readConfig(path string) (settings, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return settings{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	var keys map[string]any
	if err := yaml.Unmarshal(content, &keys); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	found := settings{}
	for key, value := range keys {
		list, isList := value.([]any)
		if !isList {
			list = []any{value}
		}
		for _, one := range list {
			found[key] = append(found[key], fmt.Sprint(one))
		}
	}
	return found, nil
}

// parseFlags takes a flag's value from after "=", or from the next argument if that is no flag.
func parseFlags(args []string) settings {
	found := settings{}
	short := map[string]string{"t": "token", "s": "server", "o": "write-kubeconfig", "c": "config", "d": "data-dir"}
	for i := 0; i < len(args); i++ {
		name, isFlag := strings.CutPrefix(args[i], "-")
		if !isFlag {
			continue
		}
		name, value, joined := strings.Cut(strings.TrimPrefix(name, "-"), "=")
		if long, isShort := short[name]; isShort {
			name = long
		}
		if !joined {
			value = "true"
			if i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") {
				i++
				value = args[i]
			}
		}
		found[name] = append(found[name], value)
	}
	return found
}

func (s settings) last(name string) string {
	if values := s[name]; len(values) > 0 {
		return values[len(values)-1]
	}
	return ""
}

// record keeps what k3s was told, for tests, without its secrets.
func (s settings) record() {
	told := maps.Clone(s)
	for name := range told {
		if isSecret(name) {
			told[name] = []string{hidden}
		}
	}
	record(map[string]any{"settings": told})
}

// nodeName is the machine's unless it is told another.
func (s settings) nodeName() (string, error) {
	name := s.last("node-name")
	if name == "" {
		var err error
		if name, err = os.Hostname(); err != nil {
			return "", fmt.Errorf("asking for the machine's name: %w", err)
		}
	}
	return strings.ToLower(name), nil
}

// pairs are the settings of the form name=value of a flag that may be given more than once, or
// with commas.
func (s settings) pairs(flag string) map[string]string {
	found := map[string]string{}
	for _, text := range s[flag] {
		for one := range strings.SplitSeq(text, ",") {
			name, value, _ := strings.Cut(one, "=")
			found[name] = value
		}
	}
	return found
}

// kubelet is an argument of the kubelet.
func (s settings) kubelet(name string) string {
	for _, arg := range slices.Backward(s["kubelet-arg"]) {
		if value, found := strings.CutPrefix(arg, name+"="); found {
			return value
		}
	}
	return ""
}
