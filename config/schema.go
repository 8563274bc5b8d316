package config

import (
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
)

// The types of a key, by the names that Pulumi has for them.
const (
	typeString  = "string"
	typeInteger = "integer"
	typeBoolean = "boolean"
	typeObject  = "object"
	typeArray   = "array"
)

// Key is one key of a stack's configuration, as the tags of Config's fields describe it.
type Key struct {
	// Path of the key: cluster.nodes[].memory.
	Path string
	// Type is string, integer, boolean, object or array. A duration is a string.
	Type string
	// Items is the type of an array's elements, and empty otherwise.
	Items string
	// Default is the text of the default, if there is one.
	Default string
	// Required says that the key has to be set; of an object, that one of its keys has to.
	Required bool
	// Enum lists the values that are allowed, if not all are.
	Enum []string
	// Secret says that the value is kept encrypted and never shown.
	Secret bool
	// Doc says what the key is for, in a phrase.
	Doc string
}

// Schema lists every key, each object before the keys in it, in the order of the fields.
func Schema() []Key { return appendKeys(nil, reflect.TypeFor[Config](), "") }

func appendKeys(keys []Key, t reflect.Type, prefix string) []Key {
	for i, name := range fieldNames(t) {
		field := t.Field(i)
		key := Key{
			Path:     joinPath(prefix, name),
			Type:     schemaType(field.Type),
			Default:  field.Tag.Get("default"),
			Required: isRequired(field),
			Enum:     enumOf(field.Tag),
			Secret:   has(field.Tag, "secret"),
			Doc:      field.Tag.Get("doc"),
		}
		switch key.Type {
		case typeObject:
			keys = appendKeys(append(keys, key), field.Type, key.Path)
		case typeArray:
			key.Items = schemaType(field.Type.Elem())
			keys = append(keys, key)
			if key.Items == typeObject {
				keys = appendKeys(keys, field.Type.Elem(), key.Path+"[]")
			}
		default:
			keys = append(keys, key)
		}
	}
	return keys
}

func isRequired(field reflect.StructField) bool {
	if schemaType(field.Type) != typeObject {
		return has(field.Tag, "required")
	}
	for field0 := range field.Type.Fields() {
		if isRequired(field0) {
			return true
		}
	}
	return false
}

// schemaType is how a Go type is written in a stack file.
func schemaType(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	pointer := reflect.PointerTo(t)
	switch {
	case pointer.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()),
		pointer.Implements(reflect.TypeFor[json.Unmarshaler]()):
		return typeString
	case t.Kind() == reflect.Bool:
		return typeBoolean
	case t.Kind() == reflect.Int:
		return typeInteger
	case t.Kind() == reflect.Struct:
		return typeObject
	case t.Kind() == reflect.Slice:
		return typeArray
	default:
		return typeString
	}
}

// has says whether a tag is true.
func has(tag reflect.StructTag, name string) bool { return tag.Get(name) == "true" }

func enumOf(tag reflect.StructTag) []string {
	text, found := tag.Lookup("enum")
	if !found {
		return nil
	}
	return strings.Split(text, ",")
}

// defaultOf is the default of a path of a stack file.
func defaultOf(path string) string {
	if key := findKey(path); key != nil {
		return key.Default
	}
	return ""
}

// findKey looks a path of a stack file up: cluster.nodes[1].memory.
func findKey(path string) *Key {
	keys := Schema()
	path = indexPattern.ReplaceAllString(path, "[]")
	if i := slices.IndexFunc(keys, func(k Key) bool { return k.Path == path }); i >= 0 {
		return &keys[i]
	}
	return nil
}
