package config

import (
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// sample has the kinds of field that Config could have and, today, hasn't.
type sample struct {
	Count  int      `json:"count" default:"3" doc:"how many"`
	Hosts  []string `json:"hosts" doc:"where"`
	On     bool     `json:"on" default:"true" doc:"whether"`
	Colour string   `json:"colour" default:"red" enum:"red,blue" doc:"which"`
}

func decodeSample(text string) (sample, error) {
	var into sample
	d := decoder{report: newReport()}
	d.topLevel("sample", text, reflect.ValueOf(&into).Elem(), "")
	return into, d.report.err()
}

func TestDecoder_ReadsEveryKindOfField(t *testing.T) {
	t.Parallel()
	got, err := decodeSample(`{"count": 7, "hosts": ["a", "b"], "on": false}`)
	require.NoError(t, err)
	require.Equal(t, sample{7, []string{"a", "b"}, false, "red"}, got)

	got, err = decodeSample(`{}`)
	require.NoError(t, err)
	require.Equal(t, sample{3, nil, true, "red"}, got)

	_, err = decodeSample(`{"count": 1.5, "hosts": ["a", 1], "on": 0}`)
	require.EqualError(t, err, "the stack's configuration has 3 problems:\n"+
		"  sample.count is 1.5: it must be an integer; write it without a fraction or quotes\n"+
		"  sample.hosts[1] is 1: it must be a string; put it in quotes\n"+
		"  sample.on is 0: it must be a boolean; write true or false, without quotes")

	_, err = decodeSample(`{"count": "7"}`)
	require.ErrorContains(t, err, `sample.count is "7": it must be an integer`)
	_, err = decodeSample(`{} {}`)
	require.ErrorContains(t, err, `sample is "{} {}": it must be an object`)
	_, err = decodeSample(``)
	require.ErrorContains(t, err, "sample is null: it must be an object; give it a value, or remove the key")
}

func TestDecoder_NamesKeysThatHaveNoPlainName(t *testing.T) {
	t.Parallel()
	_, err := decodeSample(`{"two\nlines": 1, "` + strings.Repeat("x", 100) + `": 1}`)
	require.EqualError(t, err, "the stack's configuration has 2 problems:\n"+
		"  sample."+strings.Repeat("x", 100)+" is unknown: there is no such key; the keys of sample are count, hosts, on and colour\n"+
		`  sample["two\nlines"] is unknown: there is no such key; the keys of sample are count, hosts, on and colour`)
}

func TestDecoder_ShortensWhatIsLong(t *testing.T) {
	t.Parallel()
	_, err := decodeSample(`{"hosts": "` + strings.Repeat("ä", 100) + `"}`)
	require.ErrorContains(t, err, `sample.hosts is "`+strings.Repeat("ä", 80)+`…": it must be a list`)
}

func TestDeclareAll_DeclaresEveryKindOfKey(t *testing.T) {
	t.Parallel()
	require.Equal(t, `config:
  count:
    type: integer
    description: |-
      how many
    default: 3
  hosts:
    type: array
    items:
      type: string
    description: |-
      where
    default: []
  on:
    type: boolean
    description: |-
      whether
    default: true
  colour:
    type: string
    description: |-
      which (red or blue)
    default: "red"
`, string(declareAll(appendKeys(nil, reflect.TypeFor[sample](), ""))))
}

func TestComparePaths_CountsIndices(t *testing.T) {
	t.Parallel()
	inOrder := []string{"a", "a.b", "a.nodes", "a.nodes[1]", "a.nodes[2].x", "a.nodes[02].y", "a.nodes[10]", "b"}
	for i, a := range inOrder {
		for j, b := range inOrder {
			require.Equal(t, i < j, comparePaths(a, b) < 0, "%s, %s", a, b)
		}
	}
}

func TestSetCommand_IsSafeToPaste(t *testing.T) {
	t.Parallel()
	require.Equal(t, "pulumi config set domain local", setCommand("domain", false, "local"))
	require.Equal(t, "pulumi config set --secret --path secrets.slack.botToken", setCommand("secrets.slack.botToken", true, ""))
	require.Equal(t, `pulumi config set --path 'cluster.nodes[0].name' 'it'\''s $HOME'`,
		setCommand("cluster.nodes[0].name", false, "it's $HOME"))
}
