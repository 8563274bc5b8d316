package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// token is what nodes join with: K10<hash of the cluster's authority>::server:<password>, or the
// password alone.
type token struct{ authority, password string }

func parseToken(text string) (token, error) {
	full, isFull := strings.CutPrefix(text, "K10")
	if !isFull {
		return token{password: text}, nil
	}
	authority, credentials, found := strings.Cut(full, "::")
	if _, err := hex.DecodeString(authority); err != nil || !found || len(authority) != 2*sha256.Size {
		return token{}, errors.New("failed to parse token: it is not K10<64 hex digits>::<user>:<password>")
	}
	_, password, found := strings.Cut(credentials, ":")
	if !found {
		password = credentials
	}
	return token{authority, password}, nil
}

func (t token) String() string { return "K10" + t.authority + "::server:" + t.password }

// digest stands for the password where it would be seen.
func (t token) digest() string { return digest(t.password) }

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func random(bytes int) string {
	text := make([]byte, bytes)
	_, _ = rand.Read(text) // it never fails
	return hex.EncodeToString(text)
}

// clusterToken is that of the data here, or makes it; fresh says that there were no data.
func clusterToken(given string) (made token, fresh bool, err error) {
	wanted, err := parseToken(given)
	if err != nil {
		return token{}, false, err
	}
	path := filepath.Join(dataFolder, "server", "node-token")
	before, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		made = token{authority: random(sha256.Size), password: wanted.password}
		if made.password == "" {
			made.password = random(16)
		}
		return made, true, write(path, made.String()+"\n", 0o600)
	}
	if err != nil {
		return token{}, false, fmt.Errorf("reading the token: %w", err)
	}
	made, err = parseToken(strings.TrimSpace(string(before)))
	if err == nil && wanted.password != "" && wanted.password != made.password {
		err = errors.New("starting kubernetes: preparing server: bootstrap data already found and encrypted with different token")
	}
	return made, false, err
}

// password is the node's own, by which a server knows it again.
func password() (string, error) {
	content, err := os.ReadFile(nodePassword)
	if err == nil {
		return strings.TrimSpace(string(content)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("reading the node's password: %w", err)
	}
	made := random(16)
	return made, write(nodePassword, made+"\n", 0o600)
}

// write writes a file whole, and makes its folders.
func write(path, content string, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	next := path + ".tmp"
	if err := os.WriteFile(next, []byte(content), mode); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
