package config_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/encoding"
	pulumiconfig "github.com/pulumi/pulumi/sdk/v3/go/common/resource/config"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
	"github.com/pulumi/pulumi/sdk/v3/go/common/workspace"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
)

const project = "manager-cluster-state"

var update = flag.Bool("update", false, "rewrite Pulumi.yaml and the wants of testdata/invalid")

// testNow is the day on which every fixture is judged.
func testNow() time.Time { return time.Date(2026, time.July, 1, 12, 0, 0, 0, time.UTC) }

// fixture is a whole stack file.
type fixture struct {
	path string
	name string
	data []byte
}

// fixtures reads testdata/<kind>, with PEM in place of {{pair.certificate}} and
// {{pair.privateKey}}.
func fixtures(tb testing.TB, kind string) []fixture {
	tb.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", kind, "*.yaml"))
	require.NoError(tb, err)
	require.NotEmpty(tb, paths)
	all := make([]fixture, len(paths))
	for i, path := range paths {
		data, err := os.ReadFile(path)
		require.NoError(tb, err)
		all[i] = fixture{path, strings.TrimSuffix(filepath.Base(path), ".yaml"), withPEM(tb, data)}
	}
	return all
}

func withPEM(tb testing.TB, data []byte) []byte {
	tb.Helper()
	return regexp.MustCompile(`\{\{(\w+)\.(\w+)\}\}`).ReplaceAllFunc(data, func(mark []byte) []byte {
		name, half, _ := strings.Cut(strings.Trim(string(mark), "{}"), ".")
		pair, known := keyPairs()[name]
		require.True(tb, known, "no key pair %s", name)
		text := pair.certificate
		if half == "privateKey" {
			text = pair.privateKey
		}
		return []byte(strings.Trim(strconv.Quote(text), `"`))
	})
}

// asEngine reads a stack file with Pulumi's own code, as it would be handed to a program.
// What a fixture has under secure is taken for its own plain text.
func asEngine(tb testing.TB, data []byte) (values map[string]string, secretKeys []string) {
	tb.Helper()
	stack, err := workspace.LoadProjectStackBytes(nil, &workspace.Project{Name: tokens.PackageName(project)},
		data, "Pulumi.test.yaml", encoding.YAML)
	require.NoError(tb, err)
	return engineValues(tb, stack.Config, plain{})
}

func engineValues(tb testing.TB, m pulumiconfig.Map, decrypter pulumiconfig.Decrypter) (values map[string]string, secretKeys []string) {
	tb.Helper()
	texts, err := m.Decrypt(decrypter)
	require.NoError(tb, err)
	values = map[string]string{}
	for key, text := range texts {
		values[key.String()] = text
	}
	for _, key := range m.SecureKeys() {
		secretKeys = append(secretKeys, key.String())
	}
	return values, secretKeys
}

// plain decrypts a text to itself.
type plain struct{}

func (plain) DecryptValue(_ context.Context, text string) (string, error) { return text, nil }

func (plain) BatchDecrypt(_ context.Context, texts []string) ([]string, error) { return texts, nil }

// marked decrypts every text to the mark that ReadStackFile leaves.
type marked struct{ mark string }

func (m marked) DecryptValue(context.Context, string) (string, error) { return m.mark, nil }

func (m marked) BatchDecrypt(_ context.Context, texts []string) ([]string, error) {
	marks := make([]string, len(texts))
	for i := range marks {
		marks[i] = m.mark
	}
	return marks, nil
}

type keyPair struct{ certificate, privateKey string }

// keyPairs are made once, and never written to a file.
var keyPairs = sync.OnceValue(func() map[string]keyPair {
	a, b, c := rsaKey(2048), rsaKey(2048), rsaKey(2048)
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	return map[string]keyPair{
		"good":         {certify(a, "2026-01-01", "2036-01-01"), pkcs1(a)},
		"pkcs8":        {certify(a, "2026-01-01", "2036-01-01"), pkcs8(a)},
		"other":        {certify(b, "2025-01-01", "2035-01-01"), pkcs1(b)},
		"older":        {certify(b, "2024-01-01", "2034-01-01"), pkcs1(b)},
		"expiredOther": {certify(b, "2016-01-01", "2026-06-01"), pkcs1(b)},
		"expired":      {certify(c, "2016-01-01", "2026-06-01"), pkcs1(c)},
		"ending":       {certify(c, "2026-02-01", "2026-07-20"), pkcs1(c)},
		"future":       {certify(c, "2026-08-01", "2036-08-01"), pkcs1(c)},
		"small":        smallPair(),
		"elliptic":     {certify(curve, "2026-01-01", "2036-01-01"), pkcs8(curve)},
		"ssh":          sshPair(edKey(), ""),
		"sshLocked":    sshPair(edKey(), "passphrase"),
		"sshRSA":       sshPair(a, ""),
	}
})

func smallPair() keyPair {
	key := rsaKey(1024)
	return keyPair{certify(key, "2026-01-01", "2036-01-01"), pkcs1(key)}
}

// sshPair has a line of authorized_keys for its certificate.
func sshPair(key crypto.Signer, passphrase string) keyPair {
	public, err := ssh.NewPublicKey(key.Public())
	must(err)
	private, err := ssh.MarshalPrivateKey(key, canary)
	if passphrase != "" {
		private, err = ssh.MarshalPrivateKeyWithPassphrase(key, canary, []byte(passphrase))
	}
	must(err)
	return keyPair{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public))), string(pem.EncodeToMemory(private))}
}

func edKey() ed25519.PrivateKey {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(err)
	return key
}

func rsaKey(bits int) *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	must(err)
	return key
}

func certify(key crypto.Signer, from, to string) string {
	begin, err := time.Parse(time.DateOnly, from)
	must(err)
	end, err := time.Parse(time.DateOnly, to)
	must(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: begin, NotAfter: end,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(err)
	return block("CERTIFICATE", der)
}

func pkcs1(key *rsa.PrivateKey) string {
	return block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))
}

func pkcs8(key crypto.Signer) string {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	return block("PRIVATE KEY", der)
}

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// wants reads the comments at the head of a fixture: # want: path | value: reason; mend.
func wants(data []byte) []string {
	var lines []string
	for line := range bytes.Lines(data) {
		want, found := strings.CutPrefix(string(line), "# want: ")
		if !found {
			break
		}
		lines = append(lines, strings.TrimSpace(want))
	}
	return lines
}

// rewriteWants puts the wants of a run at the head of a fixture.
func rewriteWants(t *testing.T, path string, lines []string) {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	var head strings.Builder
	for _, line := range lines {
		head.WriteString("# want: " + line + "\n")
	}
	rest := regexp.MustCompile(`(?m)\A(# want: .*\n)+`).ReplaceAll(data, nil)
	require.NoError(t, os.WriteFile(path, append([]byte(head.String()), rest...), 0o600))
}
