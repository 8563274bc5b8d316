package rehearsal

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"

	pulumiconfig "github.com/pulumi/pulumi/sdk/v3/go/common/resource/config"
	"go.yaml.in/yaml/v3"
)

// saltKey is where a stack file has the salt of its passphrase: v1, the salt, and a known word,
// encrypted, by which Pulumi tells whether a passphrase is the right one.
const (
	saltKey  = "encryptionsalt"
	saltWord = "pulumi"
)

var errSalt = errors.New("its encryptionsalt is not of the form that is known")

// encrypter writes secrets into a stack file as Pulumi does. Its command line could do it too, but
// what is on one, everybody on the machine may read; and each call of it takes a second.
type encrypter struct {
	file    *stackFile
	crypter pulumiconfig.Crypter
}

// newEncrypter takes the file's salt, or gives it one.
func newEncrypter(ctx context.Context, file *stackFile, passphraseFile string) (*encrypter, error) {
	passphrase, err := os.ReadFile(passphraseFile)
	if err != nil {
		return nil, fmt.Errorf("reading the passphrase of the rehearsal's secrets: %w", err)
	}
	salt := []byte(rand.Text())
	node := child(file.root, saltKey)
	if node != nil {
		parts := strings.SplitN(node.Value, ":", 3)
		if len(parts) != 3 || parts[0] != "v1" {
			return nil, errSalt
		}
		if salt, err = base64.StdEncoding.DecodeString(parts[1]); err != nil {
			return nil, errSalt
		}
	}
	e := &encrypter{file: file, crypter: pulumiconfig.NewSymmetricCrypterFromPassphrase(strings.TrimSpace(string(passphrase)), salt)}
	if node == nil {
		word, err := e.crypter.EncryptValue(ctx, saltWord)
		if err != nil {
			return nil, fmt.Errorf("encrypting: %w", err)
		}
		value := "v1:" + base64.StdEncoding.EncodeToString(salt) + ":" + word
		setChild(file.root, saltKey, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value})
	}
	return e, nil
}

// secret is what a stack file has in place of a value.
func (e *encrypter) secret(ctx context.Context, value string) (map[string]string, error) {
	text, err := e.crypter.EncryptValue(ctx, value)
	if err != nil {
		return nil, fmt.Errorf("encrypting: %w", err)
	}
	return map[string]string{"secure": text}, nil
}

// set writes a secret at a path of the config.
func (e *encrypter) set(ctx context.Context, path, value string) error {
	secret, err := e.secret(ctx, value)
	if err != nil {
		return err
	}
	return e.file.set(path, secret)
}
