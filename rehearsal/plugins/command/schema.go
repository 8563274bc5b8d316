package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
)

const installOfficial = "install the official one for it: pulumi plugin install resource command"

// shape is the type of an input.
type shape int

const (
	text shape = iota
	truth
	number
	texts
	textMap
	anything // an array of whatever there is
	connection
	proxy
	source
)

func (s shape) String() string {
	return [...]string{
		"a string", "true or false", "a number", "a list of strings", "a map of strings", "a list",
		"an object", "an object", "an asset or an archive",
	}[s]
}

// field is an input; every input is an output too.
type field struct {
	shape    shape
	required bool
	secret   bool
	replaces bool // when it is added or taken away
	standard any  // what it is when it is not given
	refused  bool // by the stand-in alone
}

type fields map[resource.PropertyKey]field

func fieldsOf(kind tokens.Type) (fields, error) {
	switch kind {
	case localCommandTok:
		return merged(lifecycleFields(), localFields()), nil
	case remoteCommandTok:
		return merged(lifecycleFields(), fields{
			"connection": {shape: connection, required: true, secret: true},
			"stdin":      {}, "logging": {}, "environment": {shape: textMap}, "addPreviousOutputInEnv": {shape: truth},
		}), nil
	case copyToRemoteTok:
		return fields{
			"connection": {shape: connection, required: true, secret: true},
			"source":     {shape: source, required: true}, "remotePath": {required: true},
			"triggers": {shape: anything, replaces: true},
		}, nil
	default:
		return nil, unknownToken(string(kind))
	}
}

func lifecycleFields() fields {
	return fields{"create": {}, "update": {}, "delete": {}, "triggers": {shape: anything, replaces: true}}
}

func localFields() fields {
	return fields{
		"stdin": {}, "logging": {}, "interpreter": {shape: texts}, "dir": {}, "environment": {shape: textMap},
		"addPreviousOutputInEnv": {shape: truth},
		"assetPaths":             {shape: texts, refused: true}, "archivePaths": {shape: texts, refused: true},
	}
}

func localRunFields() fields { return merged(localFields(), fields{"command": {required: true}}) }

func proxyFields() fields {
	return fields{
		"host": {required: true}, "port": {shape: number, standard: 22}, "user": {standard: "root"},
		"password": {secret: true}, "privateKey": {secret: true}, "privateKeyPassword": {secret: true},
		"agentSocketPath": {}, "hostKey": {},
		"dialErrorLimit": {shape: number, standard: 10}, "perDialTimeout": {shape: number, standard: 15},
	}
}

func connectionFields() fields { return merged(proxyFields(), fields{"proxy": {shape: proxy}}) }

func merged(all ...fields) fields {
	sum := fields{}
	for _, some := range all {
		maps.Copy(sum, some)
	}
	return sum
}

// check tells everything that is wrong with inputs, fills in what is not given, and marks what
// is secret. An unknown may still become anything.
func check(known fields, news resource.PropertyMap) (resource.PropertyMap, []plugin.CheckFailure) {
	inputs := news.Copy()
	var failures []plugin.CheckFailure
	for _, key := range inputs.StableKeys() {
		if _, there := known[key]; !there {
			failures = append(failures, failure(key, "there is no input %q", key))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(known)) {
		field := known[key]
		value, wrong := field.check(key, inputs[key])
		failures = append(failures, wrong...)
		if value.IsNull() {
			delete(inputs, key)
			continue
		}
		if field.secret && !value.IsSecret() {
			value = resource.MakeSecret(value)
		}
		inputs[key] = value
	}
	return inputs, failures
}

func failure(key resource.PropertyKey, format string, args ...any) plugin.CheckFailure {
	return plugin.CheckFailure{Property: key, Reason: fmt.Sprintf(format, args...)}
}

// check is an input's value with what it lacks, and what is wrong with it.
func (f field) check(key resource.PropertyKey, given resource.PropertyValue) (resource.PropertyValue, []plugin.CheckFailure) {
	fail := func(format string, args ...any) (resource.PropertyValue, []plugin.CheckFailure) {
		return given, []plugin.CheckFailure{failure(key, format, args...)}
	}
	switch value := plain(given); {
	case value.IsNull() && f.required:
		return fail("%q is missing", key)
	case value.IsNull() && f.standard != nil:
		return resource.NewPropertyValue(f.standard), nil
	case value.IsNull(), value.IsComputed():
		return given, nil
	case f.refused:
		return fail("the stand-in of the command plugin does not know %q; %s", key, installOfficial)
	case !f.shape.fits(value):
		return fail("%q must be %s", key, f.shape)
	case f.shape == source:
		if reason := unfitSource(value); reason != "" {
			return fail("%s", reason)
		}
		return given, nil
	case f.shape.within() != nil:
		checked, failures := check(f.shape.within(), value.ObjectValue())
		for i := range failures {
			failures[i].Property = key + "." + failures[i].Property
		}
		return likewise(given, resource.NewProperty(checked)), failures
	default:
		return given, nil
	}
}

// within are the fields of a shape that has some.
func (s shape) within() fields {
	switch s {
	case connection:
		return connectionFields()
	case proxy:
		return proxyFields()
	default:
		return nil
	}
}

func (s shape) fits(value resource.PropertyValue) bool {
	every := func(values []resource.PropertyValue) bool {
		return !slices.ContainsFunc(values, func(value resource.PropertyValue) bool {
			value = plain(value)
			return !value.IsString() && !value.IsComputed()
		})
	}
	switch s {
	case truth:
		return value.IsBool()
	case number:
		return value.IsNumber()
	case texts:
		return value.IsArray() && every(value.ArrayValue())
	case textMap:
		return value.IsObject() && every(slices.Collect(maps.Values(value.ObjectValue())))
	case anything:
		return value.IsArray()
	case connection, proxy:
		return value.IsObject()
	case source:
		return value.IsAsset() || value.IsArchive()
	default:
		return value.IsString()
	}
}

// planned is what a creation will come to, as far as it can be told before.
func planned(kind tokens.Type, inputs resource.PropertyMap) resource.PropertyMap {
	if kind == copyToRemoteTok {
		return inputs
	}
	state := inputs.Copy()
	for _, key := range []resource.PropertyKey{stdoutKey, stderrKey} {
		state[key] = resource.MakeComputed(resource.NewProperty(""))
	}
	return state
}

// plannedUpdate knows the old output as long as no input of before has changed.
func plannedUpdate(kind tokens.Type, known fields, olds, news resource.PropertyMap) resource.PropertyMap {
	for key := range known {
		old, there := olds[key]
		if news[key].ContainsUnknowns() || there && !open(old).DeepEquals(open(news[key])) {
			return planned(kind, news)
		}
	}
	if kind == copyToRemoteTok {
		return news
	}
	return outcomeOf(olds).into(news)
}

// inputs are those of every resource, without their secrecy.
type inputs struct {
	Create                 *string           `json:"create"`
	Update                 *string           `json:"update"`
	Delete                 *string           `json:"delete"`
	Command                string            `json:"command"` // of the function
	Stdin                  string            `json:"stdin"`
	Logging                string            `json:"logging"`
	Dir                    string            `json:"dir"`
	Interpreter            []string          `json:"interpreter"`
	Environment            map[string]string `json:"environment"`
	AddPreviousOutputInEnv *bool             `json:"addPreviousOutputInEnv"`
	Connection             endpoint          `json:"connection"`
	RemotePath             string            `json:"remotePath"`
}

func decode(properties resource.PropertyMap) (inputs, error) {
	simple := properties.Copy()
	// Whatever they hold, nothing is done with them here.
	delete(simple, "triggers")
	delete(simple, "source")
	content, err := json.Marshal(open(resource.NewProperty(simple)).ObjectValue().Mappable())
	if err != nil {
		return inputs{}, fmt.Errorf("reading the inputs: %w", err)
	}
	var decoded inputs
	if err := json.Unmarshal(content, &decoded); err != nil {
		return inputs{}, fmt.Errorf("reading the inputs: %w", err)
	}
	return decoded, nil
}

// command is the one for an action, if there is one.
func (i inputs) command(what action) (string, bool) {
	chosen := i.Create
	switch {
	case what == deletes:
		chosen = i.Delete
	case what == updates && i.Update != nil:
		chosen = i.Update
	}
	if chosen == nil {
		return "", false
	}
	return *chosen, true
}

// plain is a value without its secrecy.
func plain(value resource.PropertyValue) resource.PropertyValue {
	for value.IsSecret() {
		value = value.SecretValue().Element
	}
	return value
}

// open is a value without its secrecy, or that of what is in it.
func open(value resource.PropertyValue) resource.PropertyValue {
	value = plain(value)
	switch {
	case value.IsObject():
		opened := resource.PropertyMap{}
		for key, inner := range value.ObjectValue() {
			opened[key] = open(inner)
		}
		return resource.NewProperty(opened)
	case value.IsArray():
		opened := make([]resource.PropertyValue, len(value.ArrayValue()))
		for i, inner := range value.ArrayValue() {
			opened[i] = open(inner)
		}
		return resource.NewProperty(opened)
	default:
		return value
	}
}

// likewise makes a value secret if another one is.
func likewise(secret, value resource.PropertyValue) resource.PropertyValue {
	if secret.IsSecret() {
		return resource.MakeSecret(value)
	}
	return value
}

func typeSchemas() map[string]any {
	object := func(of fields) map[string]any {
		properties, required := propertySchemas(of)
		return map[string]any{"type": "object", "properties": properties, "required": required}
	}
	return map[string]any{
		"command:remote:Connection":      object(connectionFields()),
		"command:remote:ProxyConnection": object(proxyFields()),
	}
}

func resourceSchemas() map[tokens.Type]any {
	schemas := map[tokens.Type]any{}
	for _, kind := range []tokens.Type{localCommandTok, remoteCommandTok, copyToRemoteTok} {
		fields, _ := fieldsOf(kind)
		inputs, required := propertySchemas(fields)
		outputs := maps.Clone(inputs)
		all := slices.Clone(required)
		if kind != copyToRemoteTok {
			outputs[stdoutKey], outputs[stderrKey] = property("string"), property("string")
			all = append(all, stderrKey, stdoutKey)
		}
		schemas[kind] = map[string]any{"inputProperties": inputs, "requiredInputs": required, "properties": outputs, "required": all}
	}
	return schemas
}

func functionSchemas() map[tokens.ModuleMember]any {
	inputs, required := propertySchemas(localRunFields())
	outputs := maps.Clone(inputs)
	outputs[stdoutKey], outputs[stderrKey] = property("string"), property("string")
	return map[tokens.ModuleMember]any{localRunTok: map[string]any{
		"inputs":  map[string]any{"type": "object", "properties": inputs, "required": required},
		"outputs": map[string]any{"type": "object", "properties": outputs, "required": append(slices.Clone(required), stderrKey, stdoutKey)},
	}}
}

func propertySchemas(of fields) (properties map[string]any, required []string) {
	properties = map[string]any{}
	for _, key := range slices.Sorted(maps.Keys(of)) {
		field := of[key]
		if field.refused {
			continue
		}
		properties[string(key)] = field.schema()
		if field.required {
			required = append(required, string(key))
		}
	}
	return properties, required
}

func (f field) schema() map[string]any {
	schema := map[shape]map[string]any{
		text: property("string"), truth: property("boolean"), number: property("number"),
		texts:      {"type": "array", "items": property("string")},
		textMap:    {"type": "object", "additionalProperties": property("string")},
		anything:   {"type": "array", "items": map[string]any{"$ref": "pulumi.json#/Any"}},
		connection: {"$ref": "#/types/command:remote:Connection"},
		proxy:      {"$ref": "#/types/command:remote:ProxyConnection"},
		source:     {"$ref": "pulumi.json#/Asset"},
	}[f.shape]
	if f.secret {
		schema["secret"] = true
	}
	if f.replaces {
		schema["replaceOnChanges"] = true
	}
	if f.standard != nil {
		schema["default"] = f.standard
	}
	return schema
}

func property(kind string) map[string]any { return map[string]any{"type": kind} }
