package rehearsal_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/seal"
)

// canaries are the secrets of a stack by their paths in the config, each with the forms in which it
// could be in the clear somewhere.
type canaries map[string][][]byte

// newCanaries has what a config holds at each key that is marked secret, in lists too: a key that is
// new among them is covered by itself.
func newCanaries(t *testing.T, cfg *config.Config) canaries {
	t.Helper()
	data, err := json.Marshal(cfg)
	require.NoError(t, err)
	var tree any
	require.NoError(t, json.Unmarshal(data, &tree))
	found := canaries{}
	for _, key := range config.Schema() {
		if !key.Secret {
			continue
		}
		for i, value := range valuesAt(tree, strings.Split(key.Path, ".")) {
			if value != "" {
				found[fmt.Sprintf("%s#%d", key.Path, i)] = formsOf(value)
			}
		}
	}
	return found
}

// assertComplete: every key that is marked secret has one, at least.
func (c canaries) assertComplete(t *testing.T) {
	t.Helper()
	for _, key := range config.Schema() {
		if key.Secret {
			assert.NotEmpty(t, c[key.Path+"#0"], key.Path)
		}
	}
}

// valuesAt are the texts at a path of JSON, in which [] stands for every item of a list.
func valuesAt(tree any, path []string) []string {
	if len(path) == 0 {
		text, _ := tree.(string)
		return []string{text}
	}
	object, _ := tree.(map[string]any)
	name, inList := strings.CutSuffix(path[0], "[]")
	if !inList {
		return valuesAt(object[name], path[1:])
	}
	var values []string
	list, _ := object[name].([]any)
	for _, item := range list {
		values = append(values, valuesAt(item, path[1:])...)
	}
	return values
}

// formsOf are the ways in which a text may be written. Of a PEM block a line from the middle tells
// enough; what is before that may be public.
func formsOf(value string) [][]byte {
	texts := []string{value}
	if block, _ := pem.Decode([]byte(value)); block != nil {
		lines := strings.Split(strings.TrimSpace(value), "\n")
		texts = []string{lines[len(lines)/2], string(block.Bytes[len(block.Bytes)/2:])}
	}
	forms := map[string]bool{}
	for _, text := range texts {
		inner := inJSON(text)
		inHex := hex.EncodeToString([]byte(text))
		for _, form := range slices.Concat(
			[]string{text, inner, strings.Trim(strconv.Quote(text), `"`), url.QueryEscape(text), url.PathEscape(text), inHex, strings.ToUpper(inHex)},
			inBase64(text), inBase64(inner),
		) {
			forms[form] = true
		}
	}
	var all [][]byte
	for _, form := range slices.Sorted(maps.Keys(forms)) {
		all = append(all, []byte(form))
	}
	return all
}

// inBase64 is what a text looks like in the middle of another that is in base64, at each of the three
// places where it can begin, in both alphabets.
func inBase64(text string) []string {
	var forms []string
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		for offset := range 3 {
			encoded := encoding.EncodeToString(append(make([]byte, offset), text...))
			// The first and the last four characters depend on what is around.
			if len(encoded) > 16 {
				forms = append(forms, encoded[4:len(encoded)-4])
			}
		}
	}
	return forms
}

// What is long enough to hold something compressed: base64 of plain text is among the forms.
var longBase64 = regexp.MustCompile(`[A-Za-z0-9+/_-]{40,}={0,2}`)

// in are the paths of the secrets that are in a content in any form, also within what is compressed,
// or compressed and then in base64.
func (c canaries) in(content []byte) []string {
	found := map[string]bool{}
	c.search(content, 0, found)
	return slices.Sorted(maps.Keys(found))
}

func (c canaries) search(content []byte, depth int, found map[string]bool) {
	for path, forms := range c {
		if !found[path] && slices.ContainsFunc(forms, func(form []byte) bool { return bytes.Contains(content, form) }) {
			found[path] = true
		}
	}
	const deepest = 3
	if depth == deepest {
		return
	}
	magic := []byte{0x1f, 0x8b, 0x08}
	for rest := content; ; {
		start := bytes.Index(rest, magic)
		if start < 0 {
			break
		}
		rest = rest[start:]
		if reader, err := gzip.NewReader(bytes.NewReader(rest)); err == nil {
			const most = 64 << 20
			plain, _ := io.ReadAll(io.LimitReader(reader, most)) // what can be read of what is cut off
			c.search(plain, depth+1, found)
		}
		rest = rest[len(magic):]
	}
	for _, text := range longBase64.FindAll(content, -1) {
		for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding, base64.RawURLEncoding} {
			if plain, err := encoding.DecodeString(string(text)); err == nil {
				c.search(plain, depth+1, found)
				break
			}
		}
	}
}

func TestCanaries_AreFoundInEveryForm(t *testing.T) {
	const secret, community = `it's a "secret" of 32+ characters/&<>ü`, "community"
	pair, err := seal.NewSealingKey(time.Now())
	require.NoError(t, err)
	key := pair.PrivateKey
	all := canaries{"text": formsOf(secret), "key": formsOf(key), "short": formsOf(community)}
	quoted, err := json.Marshal(map[string]string{"a": secret, "b": key})
	require.NoError(t, err)
	twice, err := json.Marshal(string(quoted))
	require.NoError(t, err)
	both := secret + "\n" + key
	for name, content := range map[string]string{
		"as it is": both, "JSON": string(quoted),
		"URL, of a query": url.QueryEscape(secret) + key, "URL, of a path": url.PathEscape(secret) + key,
		"hex": hex.EncodeToString([]byte(secret)) + key, "HEX": strings.ToUpper(hex.EncodeToString([]byte(secret))) + key,
		"base64 at 0": base64.StdEncoding.EncodeToString([]byte(both)), "base64 at 1": base64.StdEncoding.EncodeToString([]byte("x" + both)),
		"base64 at 2": base64.URLEncoding.EncodeToString([]byte("xx" + both)), "base64 of JSON": base64.StdEncoding.EncodeToString(quoted),
		"base64 of base64":  base64.StdEncoding.EncodeToString([]byte(base64.StdEncoding.EncodeToString([]byte(both)))),
		"gzip":              "before" + zipped(both) + "after",
		"base64 of gzip":    base64.StdEncoding.EncodeToString([]byte(zipped(both))),
		"gzip of base64":    zipped(base64.StdEncoding.EncodeToString([]byte(both))),
		"a release of Helm": base64.StdEncoding.EncodeToString([]byte(base64.StdEncoding.EncodeToString([]byte(zipped(both))))),
	} {
		assert.Equal(t, []string{"key", "text"}, all.in([]byte("noise "+content+" noise")), name)
	}
	assert.Equal(t, []string{"key"}, all.in(twice)[:1], "JSON in JSON")
	block, _ := pem.Decode([]byte(key))
	assert.Equal(t, []string{"key"}, all.in(block.Bytes), "DER")
	assert.Equal(t, []string{"short"}, all.in([]byte("snmp://community@host")))
	assert.Empty(t, all.in([]byte("-----BEGIN PRIVATE KEY-----\nnoise "+zipped("noise")+base64.StdEncoding.EncodeToString([]byte("noise, and more of it, until it is long enough")))))
}

func TestCanaries_EveryKeyThatIsMarkedSecretHasOne(t *testing.T) {
	cfg, count := &config.Config{}, 0
	fill(reflect.ValueOf(cfg).Elem(), &count)
	all := newCanaries(t, cfg)
	all.assertComplete(t)
	assert.NotEmpty(t, all["sealing.keys[].privateKey#1"], "the second of a list")
	for path := range all {
		assert.Equal(t, []string{path}, all.in(all[path][0]), "each has a value of its own")
	}
}

// fill gives every text of a struct a value of its own, and every list two items.
func fill(value reflect.Value, count *int) {
	switch value.Kind() {
	case reflect.Struct:
		for _, field := range value.Fields() {
			fill(field, count)
		}
	case reflect.Slice:
		value.Set(reflect.MakeSlice(value.Type(), 2, 2))
		for i := range value.Len() {
			fill(value.Index(i), count)
		}
	case reflect.String:
		*count++
		value.SetString(fmt.Sprintf("value %03d of them", *count))
	default: // no secret is anything else
	}
}

func zipped(text string) string {
	var out bytes.Buffer
	writer := gzip.NewWriter(&out)
	_, err := writer.Write([]byte(text))
	if err != nil || writer.Close() != nil {
		panic("a buffer takes everything")
	}
	return out.String()
}

// inJSON is a text as it stands in JSON, without its quotes.
func inJSON(text string) string {
	var out strings.Builder
	if err := json.NewEncoder(&out).Encode(text); err != nil {
		panic(err) // a text always can be
	}
	return strings.Trim(strings.TrimSpace(out.String()), `"`)
}
