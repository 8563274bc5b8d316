package config

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// decoder fills one top-level field from what its key holds.
type decoder struct {
	report *report
	// secret says that the engine keeps something below the key encrypted, so that no value
	// of it may be shown.
	secret       bool
	sawEncrypted bool
}

// topLevel decodes the value of a top-level key: strings come as they are, the rest as JSON,
// and a null as no text at all.
func (d *decoder) topLevel(path, text string, field reflect.Value, tag reflect.StructTag) {
	switch {
	case wantsText(field), d.secret && text == Encrypted:
		d.value(path, text, field, tag)
	case text == "":
		d.value(path, nil, field, tag)
	default:
		d.value(path, parseJSON(text), field, tag)
	}
}

// parseJSON keeps numbers as they are written. Text that is no JSON is a string of its own.
func parseJSON(text string) any {
	reader := json.NewDecoder(strings.NewReader(text))
	reader.UseNumber()
	var tree any
	if reader.Decode(&tree) != nil {
		return text
	}
	if _, err := reader.Token(); !errors.Is(err, io.EOF) {
		return text // there is more after its end
	}
	return tree
}

// wantsText says whether a field is written as a string.
func wantsText(field reflect.Value) bool { return schemaType(field.Type()) == typeString }

// value decodes tree into field. What doesn't fit is reported and tainted.
func (d *decoder) value(path string, tree any, field reflect.Value, tag reflect.StructTag) {
	if d.secret && tree == any(Encrypted) {
		d.encrypted(path, field, tag)
		return
	}
	if field.Kind() == reflect.Pointer {
		field.Set(reflect.New(field.Type().Elem()))
		d.value(path, tree, field.Elem(), tag)
		return
	}
	switch {
	case schemaType(field.Type()) == typeObject:
		object, ok := tree.(map[string]any)
		if !ok {
			d.misfit(path, tree, field, tag)
		}
		d.object(path, object, field)
	case field.Kind() == reflect.Slice:
		list, ok := tree.([]any)
		if !ok {
			d.misfit(path, tree, field, tag)
		}
		d.list(path, list, field, tag)
	default:
		d.scalar(path, tree, field, tag)
	}
}

// encrypted marks a value that can't be judged. A string holds the mark, anything else its
// default.
func (d *decoder) encrypted(path string, field reflect.Value, tag reflect.StructTag) {
	d.sawEncrypted = true
	d.report.taint(path)
	if field.Kind() == reflect.String {
		field.SetString(Encrypted)
		return
	}
	d.absent(path, field, tag)
}

func (d *decoder) object(path string, object map[string]any, into reflect.Value) {
	known := fieldNames(into.Type())
	d.report.unknownKeys(path, known, sortedKeys(object))
	for i, key := range known {
		field, tag := into.Field(i), into.Type().Field(i).Tag
		if tree, given := object[key]; given {
			d.value(joinPath(path, key), tree, field, tag)
		} else {
			d.absent(joinPath(path, key), field, tag)
		}
	}
}

func (d *decoder) list(path string, list []any, into reflect.Value, tag reflect.StructTag) {
	if len(list) == 0 {
		return
	}
	into.Set(reflect.MakeSlice(into.Type(), len(list), len(list)))
	for i, tree := range list {
		d.value(fmt.Sprintf("%s[%d]", path, i), tree, into.Index(i), tag)
	}
}

// absent gives a field its default, and the fields below it theirs.
func (d *decoder) absent(path string, field reflect.Value, tag reflect.StructTag) {
	if schemaType(field.Type()) == typeObject {
		d.object(path, nil, field)
		return
	}
	text, found := tag.Lookup("default")
	if !found {
		return
	}
	if kind := schemaType(field.Type()); kind == typeBoolean || kind == typeInteger {
		d.value(path, parseJSON(text), field, tag)
		return
	}
	d.value(path, text, field, tag)
}

func (d *decoder) scalar(path string, tree any, field reflect.Value, tag reflect.StructTag) {
	text, isText := tree.(string)
	number, isNumber := tree.(json.Number)
	switch target := field.Addr().Interface().(type) {
	case encoding.TextUnmarshaler:
		if !isText || target.UnmarshalText([]byte(text)) != nil {
			d.misfit(path, tree, field, tag)
		}
		return
	case json.Unmarshaler:
		data, err := json.Marshal(tree)
		if err != nil || target.UnmarshalJSON(data) != nil {
			d.misfit(path, tree, field, tag)
		}
		return
	}
	flag, isFlag := tree.(bool)
	count, err := strconv.ParseInt(number.String(), 10, 0)
	switch kind := schemaType(field.Type()); {
	case kind == typeString && isText:
		field.SetString(text)
	case kind == typeString && isNumber && has(tag, "quantity"):
		field.SetString(number.String())
	case kind == typeBoolean && isFlag:
		field.SetBool(flag)
	case kind == typeInteger && err == nil:
		field.SetInt(count)
	default:
		d.misfit(path, tree, field, tag)
	}
}

// misfit reports a value of the wrong type.
func (d *decoder) misfit(path string, tree any, field reflect.Value, tag reflect.StructTag) {
	problem := Problem{Path: path, Value: secretValue}
	if !d.secret && !holdsSecret(field.Type(), tag) {
		problem.Value = show(tree)
	}
	problem.Reason, problem.Mend = wanted(path, field, tag)
	if tree == nil {
		problem.Value, problem.Mend = "null", "give it a value, or remove the key"
	}
	d.report.fail(problem)
}

// wanted says what a field takes, and how to write that.
func wanted(path string, field reflect.Value, tag reflect.StructTag) (reason, mend string) {
	if _, ok := reflect.TypeAssert[encoding.TextUnmarshaler](field.Addr()); ok {
		return "it must be a duration", "write a number and a unit, for example 90s or 2m"
	}
	switch schemaType(field.Type()) {
	case typeObject:
		return "it must be an object", "the keys of " + path + " are " + enumerate(fieldNames(field.Type()), "and")
	case typeArray:
		return "it must be a list", "write a list, each entry with a - before it"
	case typeBoolean:
		return "it must be a boolean", "write true or false, without quotes"
	case typeInteger:
		return "it must be an integer", "write it without a fraction or quotes"
	}
	if has(tag, "secret") {
		return "it must be a string", setCommand(path, true, "")
	}
	return "it must be a string", "put it in quotes"
}

// holdsSecret says whether a type has a secret anywhere in it.
func holdsSecret(t reflect.Type, tag reflect.StructTag) bool {
	if has(tag, "secret") {
		return true
	}
	if kind := t.Kind(); kind == reflect.Pointer || kind == reflect.Slice {
		return holdsSecret(t.Elem(), "")
	}
	if schemaType(t) != typeObject {
		return false
	}
	for field := range t.Fields() {
		if holdsSecret(field.Type, field.Tag) {
			return true
		}
	}
	return false
}

// secretLeaves are the fields tagged secret, at any depth, with their paths.
func secretLeaves(value reflect.Value, path string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		walk(value, path, "", func(path string, field leaf) bool {
			return !has(field.tag, "secret") || yield(path, field.value.String())
		})
	}
}

// leaf is a field below which there is nothing more.
type leaf struct {
	value reflect.Value
	tag   reflect.StructTag
}

// leaves are all such fields of a struct in their order, with their paths.
func leaves(value reflect.Value) iter.Seq2[string, leaf] {
	return func(yield func(string, leaf) bool) { walk(value, "", "", yield) }
}

// walk goes on for as long as yield wants more.
func walk(value reflect.Value, path string, tag reflect.StructTag, yield func(string, leaf) bool) bool {
	switch {
	case schemaType(value.Type()) == typeObject:
		for i, name := range fieldNames(value.Type()) {
			if !walk(value.Field(i), joinPath(path, name), value.Type().Field(i).Tag, yield) {
				return false
			}
		}
		return true
	case value.Kind() == reflect.Slice:
		for i := range value.Len() {
			if !walk(value.Index(i), fmt.Sprintf("%s[%d]", path, i), tag, yield) {
				return false
			}
		}
		return true
	default:
		return yield(path, leaf{value, tag})
	}
}

// fieldNames are the keys of a struct, in the order of its fields.
func fieldNames(t reflect.Type) []string {
	names := make([]string, t.NumField())
	for i := range names {
		names[i] = t.Field(i).Tag.Get("json")
	}
	return names
}

func sortedKeys[V any](object map[string]V) []string { return slices.Sorted(maps.Keys(object)) }
