package config

import (
	"reflect"
	"strings"
	"time"
)

// Encrypted stands in the values of ReadStackFile for a value that only the engine can
// decrypt. Load takes it for a value that is given and that no rule can judge, so long as
// the key is among the secret ones.
const Encrypted = "[encrypted]"

// Option changes what Load demands.
type Option func(*loader)

// SkipSecrets leaves out every rule about secrets and sealing but those on keys and types:
// none need be given, and what is given is not judged. It is for readers of a stack file that
// want the cluster's shape and can't decrypt the rest.
func SkipSecrets() Option { return func(l *loader) { l.skipSecrets = true } }

// ForStack has the commands that mend a problem name the stack.
func ForStack(name string) Option { return func(l *loader) { l.stack = name } }

type loader struct {
	stack       string
	report      *report
	skipSecrets bool
	// encrypted holds each top-level key that Encrypted was seen below.
	encrypted map[string]bool
}

// Load decodes, defaults and validates the configuration of a stack. The values are
// pulumi.RunInfo's Config: keys are project:key, and other namespaces are left alone; each
// value is a plain string, or JSON for objects, lists, numbers and booleans. The secretKeys
// are its ConfigSecretKeys. now is what certificates are judged by. The error is a Problems
// with every problem there is.
func Load(project string, values map[string]string, secretKeys []string, now time.Time, options ...Option) (*Config, error) {
	l := &loader{report: newReport(), encrypted: map[string]bool{}}
	for _, option := range options {
		option(l)
	}
	mine := namespace(project, values)
	secret := map[string]bool{}
	for _, key := range secretKeys {
		if name, found := strings.CutPrefix(key, project+":"); found {
			secret[name] = true
		}
	}

	cfg := &Config{}
	l.decode(cfg, mine, secret)
	if !l.skipSecrets {
		l.findClearSecrets(reflect.ValueOf(cfg).Elem(), "", secret)
	}
	v := validator{Config: cfg, now: now, report: l.report, hidden: secret, skipSecrets: l.skipSecrets}
	v.validate()
	if l.stack != "" {
		l.report.nameStack(l.stack)
	}
	if err := l.report.err(); err != nil {
		return nil, err
	}
	return cfg, nil
}

// namespace keeps the values of one namespace, by their names in it.
func namespace(project string, values map[string]string) map[string]string {
	mine := map[string]string{}
	for key, value := range values {
		if name, found := strings.CutPrefix(key, project+":"); found {
			mine[name] = value
		}
	}
	return mine
}

// decode fills cfg from the top-level keys.
func (l *loader) decode(cfg *Config, values map[string]string, secret map[string]bool) {
	root := reflect.ValueOf(cfg).Elem()
	known := fieldNames(root.Type())
	l.report.unknownKeys("", known, sortedKeys(values))
	for i, name := range known {
		d := decoder{report: l.report, secret: secret[name]}
		field, tag := root.Field(i), root.Type().Field(i).Tag
		if text, given := values[name]; given {
			d.topLevel(name, text, field, tag)
		} else {
			d.absent(name, field, tag)
		}
		l.encrypted[name] = d.sawEncrypted
	}
}

// findClearSecrets reports each secret that is given and that the engine doesn't hold
// encrypted. The engine tells that of a top-level key as a whole; a stack file tells more:
// there, what isn't Encrypted beside something that is, is in the clear.
func (l *loader) findClearSecrets(value reflect.Value, path string, secret map[string]bool) {
	for leaf, text := range secretLeaves(value, path) {
		top := topLevel(leaf)
		inClear := !secret[top] || l.encrypted[top] && text != Encrypted
		if text == "" || !inClear {
			continue
		}
		l.report.add(Problem{
			Path: leaf, Value: secretValue, Reason: "it is stored in the clear",
			Mend: setCommand(leaf, true, ""),
		})
	}
}
