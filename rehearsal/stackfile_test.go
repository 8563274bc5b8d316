package rehearsal

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
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

func TestPlaceholders_CoverEverySecretOfTheConfig(t *testing.T) {
	values := placeholders(noForge())
	for _, path := range []string{"secrets.intesis.username", "secrets.intesis.password", "secrets.slack.appToken", "secrets.slack.botToken"} {
		assert.NotEmpty(t, values[path], path)
	}
	assert.Regexp(t, "^xapp-", values["secrets.slack.appToken"])
	assert.Regexp(t, "^xoxb-", values["secrets.slack.botToken"])
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
