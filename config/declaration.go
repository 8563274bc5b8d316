package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Declaration renders the config block of Pulumi.yaml. Pulumi declares top-level keys only,
// so an object's description has a line for each key in it. A key that may be left out has a
// default there, or the engine would ask for it.
func Declaration() []byte { return declareAll(Schema()) }

func declareAll(keys []Key) []byte {
	var text strings.Builder
	text.WriteString("config:\n")
	for i, key := range keys {
		if isNested(key) {
			continue
		}
		below := keys[i+1:]
		if end := slices.IndexFunc(below, func(k Key) bool { return !isNested(k) }); end >= 0 {
			below = below[:end]
		}
		declare(&text, key, below)
	}
	return []byte(text.String())
}

func isNested(key Key) bool { return strings.Contains(key.Path, ".") }

func declare(text *strings.Builder, key Key, below []Key) {
	fmt.Fprintf(text, "  %s:\n    type: %s\n", key.Path, key.Type)
	if key.Type == typeArray {
		fmt.Fprintf(text, "    items:\n      type: %s\n", key.Items)
	}
	text.WriteString("    description: |-\n")
	for _, line := range describe(key, below) {
		text.WriteString("      " + line + "\n")
	}
	if !key.Required {
		text.WriteString("    default: " + declaredDefault(key) + "\n")
	}
}

func declaredDefault(key Key) string {
	switch key.Type {
	case typeObject:
		return "{}"
	case typeArray:
		return "[]"
	case typeString:
		return strconv.Quote(key.Default)
	default:
		return key.Default
	}
}

// describe is the doc of a key, then one line for each key below it.
func describe(key Key, below []Key) []string {
	lines := []string{key.Doc}
	if len(key.Enum) > 1 {
		lines[0] += " (" + enumerate(key.Enum, "or") + ")"
	}
	for _, k := range below {
		lines = append(lines, fmt.Sprintf("%s (%s): %s", k.Path, strings.Join(traits(k), ", "), k.Doc))
	}
	return lines
}

// traits are what to know of a key besides its doc.
func traits(key Key) []string {
	words := []string{key.Type}
	if key.Required {
		words = append(words, "required")
	}
	if key.Secret {
		words = append(words, "secret")
	}
	if key.Enum != nil {
		words = append(words, enumerate(key.Enum, "or"))
	}
	if key.Default != "" {
		words = append(words, "default "+key.Default)
	}
	return words
}

// MarkdownTable renders every key as a row: key, type, default, what.
func MarkdownTable() string {
	var text strings.Builder
	text.WriteString("| key | type | default | what |\n| --- | --- | --- | --- |\n")
	for _, key := range Schema() {
		fmt.Fprintf(&text, "| `%s` | %s | %s | %s |\n", key.Path, markdownType(key), markdownDefault(key), markdownText(key.Doc))
	}
	return text.String()
}

func markdownType(key Key) string {
	words := key.Type
	if key.Secret {
		words += ", secret"
	}
	if key.Enum != nil {
		words += ": " + enumerate(key.Enum, "or")
	}
	return words
}

func markdownDefault(key Key) string {
	switch {
	case key.Default != "":
		return "`" + key.Default + "`"
	case key.Required && key.Type != typeObject:
		return "required"
	default:
		return ""
	}
}

// markdownText keeps a phrase from being read as markup.
func markdownText(text string) string {
	return strings.NewReplacer("|", `\|`, "<", `\<`, ">", `\>`, "*", `\*`).Replace(text)
}
