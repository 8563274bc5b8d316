package rehearsal

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/nullify005/manager-cluster-state/config"
)

func testRehearsal() *Rehearsal {
	return &Rehearsal{project: "p", stack: "s", folder: "/f"}
}

func merged(t *testing.T, r *Rehearsal, previous string) (text string, complete bool) {
	t.Helper()
	before, err := parseStackFile("p", []byte(previous))
	require.NoError(t, err)
	data, complete, err := r.rehearsalFile([]byte(productionFile), before)
	require.NoError(t, err)
	return string(data), complete
}

const productionFile = `# a comment
secretsprovider: awskms://real
encryptionsalt: real
config:
  p:cluster:
    kind: pi
    k3s: v1.35.0+k3s1
    nodes:
      - {name: a, role: server, memory: 1Gi}
  p:hvac:
    device: 127934703953
    location: "0123"
  p:readyTimeout: 20m
  p:secrets:
    intesis:
      username:
        secure: REAL
  p:sealing:
    protect: true
    keys:
      - certificate: PEM
        privateKey:
          secure: REAL
  aws:token:
    secure: REAL
`

func TestRehearsalFile_ReplacesOnlyWhatIsPhysical(t *testing.T) {
	text, complete := merged(t, testRehearsal(), "")
	assert.False(t, complete, "the placeholders are yet to be encrypted")
	assert.Equal(t, `config:
  p:cluster:
    kind: existing
    k3s: v1.35.0+k3s1
    nodes:
      - {name: a, role: server, memory: 1Gi}
    context: rehearsal-s
    kubeconfig: /f/kubeconfig
  p:hvac:
    device: 127934703953
    location: "0123"
  p:readyTimeout: 60s
  p:secrets:
    intesis: {}
  p:sealing:
    protect: true
  p:flux:
    imageRegistry: 127.0.0.1:1
  p:git:
    githubURL: http://127.0.0.1:1/
    knownHosts: '[127.0.0.1]:1 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'
    url: ssh://git@127.0.0.1:1/rehearsal/p.git
`, withoutComments(t, text))
}

func TestRehearsalFile_HasNothingThatTheRealSaltEncrypted(t *testing.T) {
	text, _ := merged(t, testRehearsal(), "")
	assert.NotContains(t, text, "REAL")
	assert.NotContains(t, text, "encryptionsalt")
	assert.NotContains(t, text, "secretsprovider")
}

func TestRehearsalFile_KeepsItsOwnPlaceholders(t *testing.T) {
	previous := "encryptionsalt: ours\nconfig:\n  p:secrets:\n"
	values := map[string]any{sealingKeys: []any{map[string]any{
		"certificate": "ours", "privateKey": map[string]string{"secure": "OURS"},
	}}}
	for path := range placeholders(noForge()) {
		values[path] = map[string]string{"secure": "OURS " + path}
	}
	for path, value := range values {
		file, err := parseStackFile("p", []byte(previous))
		require.NoError(t, err)
		require.NoError(t, file.set(path, value))
		data, err := file.bytes()
		require.NoError(t, err)
		previous = string(data)
	}
	text, complete := merged(t, testRehearsal(), previous)
	assert.True(t, complete, "nothing is left to encrypt")
	assert.Contains(t, text, "encryptionsalt: ours")
	assert.Contains(t, text, "OURS secrets.intesis.username")
	assert.NotContains(t, text, "REAL")

	again, complete := merged(t, testRehearsal(), text)
	assert.True(t, complete)
	assert.Equal(t, text, again, "a second run writes the same file")
}

func TestRehearsalFile_OverridesWin(t *testing.T) {
	r := testRehearsal()
	r.Set("hvac.interval", "5m")
	r.Set("readyTimeout", "5s")
	text, _ := merged(t, r, "")
	assert.Contains(t, text, "interval: 5m")
	assert.Contains(t, text, "p:readyTimeout: 5s")
}

// A key that is new among the secret ones is covered by itself; one in a list is not, and has to be
// made as the sealing keys are.
func TestPlaceholders_CoverEverySecretOfTheConfig(t *testing.T) {
	values := placeholders(noForge())
	seen := map[string]string{}
	for _, key := range config.Schema() {
		if !key.Secret || key.Path == sealingKeys+"[].privateKey" {
			continue
		}
		value := values[key.Path]
		require.NotEmpty(t, value, key.Path)
		assert.Empty(t, seen[value], "%s has a value of its own", key.Path)
		seen[value] = key.Path
	}
	assert.Len(t, values, len(seen))
	assert.Regexp(t, "^xapp-", values["secrets.slack.appToken"])
	assert.Regexp(t, "^xoxb-", values["secrets.slack.botToken"])
}

func TestEncrypter_WritesWhatItsPassphraseOpens(t *testing.T) {
	passphrase := filepath.Join(t.TempDir(), "passphrase")
	require.NoError(t, os.WriteFile(passphrase, []byte("of a test"), 0o600))
	file, err := parseStackFile("p", nil)
	require.NoError(t, err)
	first, err := newEncrypter(t.Context(), file, passphrase)
	require.NoError(t, err)
	require.NoError(t, first.set(t.Context(), "secrets.snmp.community", "canary"))
	data, err := file.bytes()
	require.NoError(t, err)
	assert.NotContains(t, string(data), "canary")

	again, err := parseStackFile("p", data)
	require.NoError(t, err)
	second, err := newEncrypter(t.Context(), again, passphrase)
	require.NoError(t, err)
	plain, err := second.crypter.DecryptValue(t.Context(), child(again.get("secrets.snmp.community"), "secure").Value)
	require.NoError(t, err)
	assert.Equal(t, "canary", plain)
	salt := child(again.root, saltKey).Value
	word, err := second.crypter.DecryptValue(t.Context(), strings.SplitN(salt, ":", 3)[2])
	require.NoError(t, err)
	assert.Equal(t, saltWord, word, "Pulumi knows the passphrase by it")

	for _, broken := range []string{"v2:AAAA:v1:b:c", "v1:?:v1:b:c", "v1"} {
		setChild(again.root, saltKey, &yaml.Node{Kind: yaml.ScalarNode, Value: broken})
		_, err = newEncrypter(t.Context(), again, passphrase)
		require.ErrorIs(t, err, errSalt, broken)
	}
}

func withoutComments(t *testing.T, text string) string {
	t.Helper()
	var node yaml.Node
	require.NoError(t, yaml.Unmarshal([]byte(text), &node))
	var strip func(*yaml.Node)
	strip = func(n *yaml.Node) {
		n.HeadComment, n.LineComment, n.FootComment = "", "", ""
		for _, c := range n.Content {
			strip(c)
		}
	}
	strip(&node)
	data, err := (&stackFile{root: node.Content[0]}).bytes()
	require.NoError(t, err)
	return string(data)
}
