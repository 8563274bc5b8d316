// Package pin says what the files of a k3s release are, so that nothing else is ever installed: it
// asks for their checksums, and fetches them for a house with a slow line.
package pin

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/nullify005/manager-cluster-state/internal/k3s"
)

// largest is more than any text that is read into memory.
const largest = 4 << 20

// IsRelease says whether a release of k3s can be called so.
func IsRelease(name string) bool {
	return regexp.MustCompile(`^v1\.[0-9]+\.[0-9]+\+k3s[0-9]+$`).MatchString(name)
}

// Pins are the SHA-256 of a release's files, in hex.
type Pins struct {
	Binary, Script string
}

// Source is where the files of a release are.
type Source struct {
	// From is a folder, or an http(s) URL, that holds both; empty is k3s's release at GitHub.
	From string
	// Releases and Scripts stand in for GitHub's URLs of releases and of k3s's source; its own if empty.
	Releases, Scripts string
	// Progress is told how far a large file is; nobody if nil.
	Progress func(line string)
}

// Pins finds out what the files of a release are. At GitHub the release says it of the binary; a folder
// and a URL are taken at their word.
func (s *Source) Pins(ctx context.Context, release string) (*Pins, error) {
	if s.local() {
		return s.inFolder(release)
	}
	script, err := s.sumOf(ctx, k3s.ScriptFile, s.scriptURL(release))
	if err != nil {
		return nil, err
	}
	if s.From != "" {
		binary, err := s.sumOf(ctx, k3s.BinaryFile, s.binaryURL(release))
		if err != nil {
			return nil, err
		}
		return &Pins{Binary: binary, Script: script}, nil
	}
	target := s.origin().Sums(release)
	var text strings.Builder
	if err := s.get(ctx, target, 0, func(_ *http.Response, body io.Reader) error {
		_, err := io.Copy(&text, io.LimitReader(body, largest))
		return err
	}); err != nil {
		return nil, fmt.Errorf("asking for the checksum of k3s %s: %w", release, err)
	}
	binary, err := listed(text.String(), k3s.BinaryFile)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", target, err)
	}
	return &Pins{Binary: binary, Script: script}, nil
}

// local says whether the files are in a folder of this machine.
func (s *Source) local() bool { return s.From != "" && !strings.Contains(s.From, "://") }

func (s *Source) inFolder(release string) (*Pins, error) {
	sum := func(file string) (string, error) {
		opened, err := os.Open(filepath.Join(s.From, file))
		if err != nil {
			return "", fmt.Errorf("reading %s of k3s %s: %w", file, release, err)
		}
		defer opened.Close()
		return hashOf(opened)
	}
	binary, err := sum(k3s.BinaryFile)
	script, scriptErr := sum(k3s.ScriptFile)
	if err := errors.Join(err, scriptErr); err != nil {
		return nil, err
	}
	return &Pins{Binary: binary, Script: script}, nil
}

func (s *Source) sumOf(ctx context.Context, file, target string) (sum string, err error) {
	err = s.get(ctx, target, 0, func(response *http.Response, body io.Reader) error {
		sum, err = hashOf(s.counted(file, body, 0, response.ContentLength))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("asking what %s is: %w", file, err)
	}
	return sum, nil
}

// hashOf is the SHA-256 of all that can be read.
func hashOf(from io.Reader) (string, error) {
	hash := sha256.New()
	if _, err := io.Copy(hash, from); err != nil {
		return "", fmt.Errorf("reading: %w", err)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// listed finds a file among the lines of sha256sum.
func listed(sums, file string) (string, error) {
	lines := bufio.NewScanner(strings.NewReader(sums))
	for lines.Scan() {
		sum, name, _ := strings.Cut(lines.Text(), " ")
		if strings.TrimLeft(name, " *") != file {
			continue
		}
		if decoded, err := hex.DecodeString(sum); err == nil && len(decoded) == sha256.Size {
			return sum, nil
		}
	}
	return "", fmt.Errorf("it has no checksum of %s", file)
}

// origin is GitHub, or what stands in for it.
func (s *Source) origin() k3s.Origin {
	github := k3s.GitHub()
	return k3s.Origin{Releases: cmp.Or(s.Releases, github.Releases), Source: cmp.Or(s.Scripts, github.Source)}
}

func (s *Source) binaryURL(release string) string {
	if s.From == "" {
		return s.origin().Binary(release)
	}
	binary, _ := k3s.URLs(s.From, release)
	return binary
}

func (s *Source) scriptURL(release string) string {
	if s.From == "" {
		return s.origin().Script(release)
	}
	_, script := k3s.URLs(s.From, release)
	return script
}

// Verify says whether a folder holds the files of a release, and nothing else under their names.
func (p *Pins) Verify(folder string) error {
	var problems []error
	for file, want := range map[string]string{k3s.BinaryFile: p.Binary, k3s.ScriptFile: p.Script} {
		opened, err := os.Open(filepath.Join(folder, file))
		if err != nil {
			problems = append(problems, err)
			continue
		}
		sum, err := hashOf(opened)
		if err == nil && sum != want {
			err = fmt.Errorf("%s is %s: it should be %s", filepath.Join(folder, file), sum, want)
		}
		problems = append(problems, err, opened.Close())
	}
	return errors.Join(problems...)
}

// isThere says whether a file has a checksum.
func isThere(path, want string) (bool, error) {
	opened, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer opened.Close()
	sum, err := hashOf(opened)
	return sum == want, err
}
