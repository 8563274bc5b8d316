package forge

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/gliderlabs/ssh"
	gossh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/nullify005/manager-cluster-state/rehearsal/forge/github"
)

// What GitHub says to those whom it doesn't serve.
const (
	saysNoShell   = "Hi! You've successfully authenticated, but this stand-in for GitHub does not provide shell access."
	saysInvalid   = "Invalid command: only git-upload-pack and git-receive-pack with a repository are run here."
	saysNotFound  = "ERROR: Repository not found."
	saysReadOnly  = "ERROR: The key you are authenticating with has been marked as read only."
	gitUser       = "git"
	gitUploadPack = "git-upload-pack"
	gitPush       = "git-receive-pack"
)

var (
	commitName      = regexp.MustCompile(`^[0-9a-f]{40}$`)
	protocolVersion = regexp.MustCompile(`^GIT_PROTOCOL=version=[0-2]$`)
)

// gitHost serves bare repositories over SSH with the system's git.
type gitHost struct {
	folder     string
	program    string
	github     *github.Server
	log        *slog.Logger
	paths      map[string]string // by name in lower case, as GitHub finds them in any
	names      map[string]string
	knownHosts string
}

// newGitHost makes the repositories that are missing.
func newGitHost(ctx context.Context, folder string, repositories []string, hub *github.Server, log *slog.Logger) (*gitHost, error) {
	program, err := exec.LookPath("git")
	if err != nil {
		return nil, fmt.Errorf("the Git host runs git: %w", err)
	}
	h := &gitHost{folder: folder, program: program, github: hub, log: log, paths: map[string]string{}, names: map[string]string{}}
	for _, name := range repositories {
		path := filepath.Join(folder, "git", filepath.FromSlash(name)+".git")
		h.paths[strings.ToLower(name)], h.names[strings.ToLower(name)] = path, name
		if _, err := os.Stat(filepath.Join(path, "HEAD")); err == nil {
			continue
		}
		if out, err := h.git(ctx, "init", "--quiet", "--bare", "--initial-branch=main", path).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("making the repository %s: %w: %s", name, err, bytes.TrimSpace(out))
		}
		log.Info("made a repository", "repository", name)
	}
	return h, nil
}

// git runs with no configuration but this: nothing in the background, and every commit may be
// asked for by its name, as at GitHub.
func (h *gitHost) git(ctx context.Context, args ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, h.program, append([]string{
		"-c", "receive.autogc=false", "-c", "uploadpack.allowAnySHA1InWant=true", "-c", "uploadpack.allowFilter=true",
	}, args...)...)
	command.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + h.folder, "LC_ALL=C", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull,
	}
	return command
}

func (h *gitHost) hasCommit(ctx context.Context, repository, sha string) bool {
	path, ok := h.paths[strings.ToLower(repository)]
	return ok && commitName.MatchString(sha) &&
		h.git(ctx, "-C", path, "cat-file", "-e", sha+"^{commit}").Run() == nil
}

func (h *gitHost) server(signer gossh.Signer) *ssh.Server {
	return &ssh.Server{
		HostSigners:      []ssh.Signer{signer},
		Handler:          h.serve,
		PublicKeyHandler: h.admit,
		PtyCallback:      func(ssh.Context, ssh.Pty) bool { return false },
	}
}

// admit lets a key in that may do anything here at all; serve decides what.
func (h *gitHost) admit(ctx ssh.Context, key ssh.PublicKey) bool {
	_, isDeployKey := h.deployKey(key)
	admitted := ctx.User() == gitUser && (isDeployKey || h.isOwner(key))
	if !admitted {
		h.log.Info("refused a key", "user", ctx.User(), "key", gossh.FingerprintSHA256(key))
	}
	return admitted
}

func (h *gitHost) deployKey(key ssh.PublicKey) (github.DeployKey, bool) {
	text := strings.TrimSpace(string(gossh.MarshalAuthorizedKey(key)))
	for _, registered := range h.github.DeployKeys("") {
		if registered.Key == text {
			return registered, true
		}
	}
	return github.DeployKey{}, false
}

// isOwner reads the file anew each time, so that a key counts as soon as it is written.
func (h *gitHost) isOwner(key ssh.PublicKey) bool {
	text, err := os.ReadFile(filepath.Join(h.folder, "authorized_keys"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.log.Error("reading authorized_keys", "error", err)
	}
	for len(text) > 0 {
		owner, _, _, rest, err := gossh.ParseAuthorizedKey(text)
		if err != nil {
			return false // nothing but comments is left
		}
		if ssh.KeysEqual(owner, key) {
			return true
		}
		text = rest
	}
	return false
}

// serve runs one command of a client that was let in.
func (h *gitHost) serve(session ssh.Session) {
	code, says := 1, ""
	command := session.Command()
	switch {
	case len(command) == 0:
		says = saysNoShell
	case len(command) != 2 || command[0] != gitUploadPack && command[0] != gitPush:
		says = saysInvalid
	default:
		// No path is ever made of what the client says: it names a repository, or nothing.
		name := strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(command[1], "/"), ".git"))
		if says = h.refusal(session.PublicKey(), command[0], name); says == "" {
			code = h.transfer(session, command[0], name)
		}
	}
	if says != "" {
		h.log.Info("refused a command", "reason", says)
		_, _ = fmt.Fprintln(session.Stderr(), says)
	}
	_ = session.Exit(code)
}

// refusal says why the key may not do that; nothing where it may.
func (h *gitHost) refusal(key ssh.PublicKey, command, name string) string {
	if _, exists := h.paths[name]; !exists {
		return saysNotFound
	}
	if h.isOwner(key) {
		return ""
	}
	registered, ok := h.deployKey(key)
	switch {
	case !ok || !strings.EqualFold(registered.Repository, name):
		return saysNotFound
	case command == gitPush && registered.ReadOnly:
		return saysReadOnly
	}
	if err := h.github.MarkUsed(registered.ID); err != nil {
		h.log.Error("noting the use of a deploy key", "error", err)
	}
	return ""
}

func (h *gitHost) transfer(session ssh.Session, verb, name string) int {
	command := h.git(session.Context(), strings.TrimPrefix(verb, "git-"), h.paths[name])
	for _, variable := range session.Environ() {
		if protocolVersion.MatchString(variable) {
			command.Env = append(command.Env, variable)
		}
	}
	command.Stdout, command.Stderr, command.WaitDelay = session, session.Stderr(), grace
	// A pipe of our own: given the session itself, Wait would wait for the client to end first.
	input, err := command.StdinPipe()
	if err == nil {
		err = command.Start()
	}
	if err == nil {
		go func() {
			_, _ = io.Copy(input, session) // ends with the session
			_ = input.Close()
		}()
		err = command.Wait()
	}
	h.log.Info(verb, "repository", h.names[name], "error", err)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode()
	default:
		return 1
	}
}

// hostKey is the one in the file, made where it is missing.
func hostKey(file string) (gossh.Signer, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = makeHostKey(file)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the SSH host key: %w", err)
	}
	signer, err := gossh.ParsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("reading the SSH host key from %s: %w", file, err)
	}
	return signer, nil
}

func makeHostKey(file string) ([]byte, error) {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	block, err := gossh.MarshalPrivateKey(private, "")
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(block)
	return text, os.WriteFile(file, text, 0o600)
}

func knownHostsLine(address string, signer gossh.Signer) string {
	return knownhosts.Line([]string{address}, signer.PublicKey()) + "\n"
}
