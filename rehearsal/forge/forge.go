// Package forge is a local stand-in for what a rehearsal can't have of the world outside: a Git
// host over SSH, the part of GitHub's API that is asked here, Slack's incoming webhooks, and a
// container registry. None of it is the real thing, and none of it is for anything but
// rehearsals and tests.
//
// It is one process with one folder, and all that it knows is in that folder, so that it can be
// stopped and started again:
//
//	git/OWNER/NAME.git   the repositories, bare
//	authorized_keys      keys of people, who may push to every repository
//	host_key             the SSH host key, made once
//	known_hosts          what its clients have to know of that
//	github.json          deploy keys and commit statuses
//	slack.jsonl          messages, one a line
//	registry/            images
//
// Git lets in exactly the deploy keys that are registered at the GitHub stand-in, besides those
// of people. It listens on loopback addresses alone.
package forge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/gliderlabs/ssh"

	"github.com/nullify005/manager-cluster-state/rehearsal/forge/github"
)

const (
	// grace is how long requests and pushes that are under way may take to end.
	grace = 5 * time.Second
	// maxBody is more than any request has to say, but for a layer of an image.
	maxBody = 1 << 20
)

// Options are what a Forge is made of.
type Options struct {
	// Folder holds everything; it is made where it is missing.
	Folder string
	// SSHAddress and HTTPAddress are loopback addresses with a port; 0 takes a free one.
	SSHAddress, HTTPAddress string
	// Repositories are those that exist, as owner/name; new ones are made empty.
	Repositories []string
	// GitHubToken is the one token that GitHub's API takes.
	GitHubToken string
	// Log takes progress.
	Log *slog.Logger
}

// Forge is the stand-in. It listens from New on, and answers while it Runs.
type Forge struct {
	log    *slog.Logger
	folder string
	github *github.Server
	git    *gitHost
	ssh    *ssh.Server
	http   *http.Server
	sshAt  net.Listener
	httpAt net.Listener
	images *registry
	slack  *slack
}

// Health is what a forge that answers says of itself.
type Health struct {
	SSHAddress string `json:"sshAddress"`
	KnownHosts string `json:"knownHosts"`
}

// New makes a forge of what its folder holds, and listens.
func New(ctx context.Context, options Options) (forge *Forge, err error) {
	if err := options.validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(options.Folder, 0o700); err != nil {
		return nil, fmt.Errorf("making the forge's folder: %w", err)
	}
	f := &Forge{log: options.Log, folder: options.Folder}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	f.github, err = github.New(github.Options{
		Token:        options.GitHubToken,
		Repositories: options.Repositories,
		File:         filepath.Join(f.folder, "github.json"),
		HasCommit: func(ctx context.Context, repository, sha string) bool {
			return f.git.hasCommit(ctx, repository, sha)
		},
	})
	if err != nil {
		return nil, err
	}
	if f.git, err = newGitHost(ctx, f.folder, options.Repositories, f.github, f.log); err != nil {
		return nil, err
	}
	if f.slack, err = newSlack(filepath.Join(f.folder, "slack.jsonl")); err != nil {
		return nil, err
	}
	if f.images, err = newRegistry(ctx, filepath.Join(f.folder, "registry")); err != nil {
		return nil, err
	}
	if err := f.listen(ctx, options); err != nil {
		return nil, err
	}
	return f, nil
}

// listen takes both addresses or none.
func (f *Forge) listen(ctx context.Context, options Options) (err error) {
	signer, err := hostKey(filepath.Join(f.folder, "host_key"))
	if err != nil {
		return err
	}
	var listen net.ListenConfig
	if f.sshAt, err = listen.Listen(ctx, "tcp", options.SSHAddress); err != nil {
		return fmt.Errorf("listening for SSH: %w", err)
	}
	if f.httpAt, err = listen.Listen(ctx, "tcp", options.HTTPAddress); err != nil {
		return errors.Join(fmt.Errorf("listening for HTTP: %w", err), f.sshAt.Close())
	}
	f.ssh = f.git.server(signer)
	f.http = &http.Server{Handler: f.routes(), ReadHeaderTimeout: 10 * time.Second}
	f.git.knownHosts = knownHostsLine(f.SSHAddress(), signer)
	if err := os.WriteFile(filepath.Join(f.folder, "known_hosts"), []byte(f.KnownHosts()), 0o600); err != nil {
		return errors.Join(fmt.Errorf("writing known_hosts: %w", err), f.sshAt.Close(), f.httpAt.Close())
	}
	return nil
}

// Run answers until the context ends, then lets what is under way come to its end.
func (f *Forge) Run(ctx context.Context) error {
	failed := make(chan error, 2)
	go func() { failed <- f.ssh.Serve(f.sshAt) }()
	go func() { failed <- f.http.Serve(f.httpAt) }()
	f.log.Info("the forge answers", "ssh", f.SSHAddress(), "http", f.URL())

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		err = fmt.Errorf("serving: %w", err)
	}
	f.log.Info("the forge stops")
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if f.ssh.Shutdown(ending) != nil {
		_ = f.ssh.Close()
	}
	if f.http.Shutdown(ending) != nil {
		_ = f.http.Close()
	}
	// A server that was told to end before it began has not taken its listener yet.
	_, _ = f.sshAt.Close(), f.httpAt.Close()
	return err
}

// URL is where HTTP is answered: GitHub's API, Slack's webhooks, and what Client asks.
func (f *Forge) URL() string { return "http://" + f.httpAt.Addr().String() }

// Registry is the host and port that images of the registry are named after.
func (f *Forge) Registry() string { return f.httpAt.Addr().String() }

// SSHAddress is where Git is answered.
func (f *Forge) SSHAddress() string { return f.sshAt.Addr().String() }

// KnownHosts is the line of known_hosts for the Git host.
func (f *Forge) KnownHosts() string { return f.git.knownHosts }

// GitHub is the stand-in for its API.
func (f *Forge) GitHub() *github.Server { return f.github }

// PushImage puts a tiny image into the registry.
func (f *Forge) PushImage(ctx context.Context, image Image) error {
	return f.images.push(ctx, f.Registry(), image)
}

func (f *Forge) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", f.github)
	mux.Handle("/v2/", f.images)
	mux.HandleFunc("POST /slack/", f.slack.receive)
	mux.HandleFunc("GET /-/slack", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, f.slack.all()) })
	mux.HandleFunc("POST /-/images", f.pushImage)
	mux.HandleFunc("GET /-/healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, Health{SSHAddress: f.SSHAddress(), KnownHosts: f.KnownHosts()})
	})
	return mux
}

func (f *Forge) pushImage(w http.ResponseWriter, r *http.Request) {
	var image Image
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&image); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := f.PushImage(r.Context(), image); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	f.log.Info("pushed an image", "name", image.Name, "tag", image.Tag)
	w.WriteHeader(http.StatusNoContent)
}

func writeJSON(w http.ResponseWriter, value any) {
	text, err := json.Marshal(value)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text) // the client has gone: nobody is left to tell
}

func (o Options) validate() error {
	var folder error
	if o.Folder == "" {
		folder = errors.New("the forge has no folder: everything that it knows is in it")
	}
	return errors.Join(folder, loopback("SSH", o.SSHAddress), loopback("HTTP", o.HTTPAddress))
}

// loopback refuses an address that other machines can reach.
func loopback(of, address string) error {
	parsed, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("the %s address %q is no address with a port, such as 127.0.0.1:0: %w", of, address, err)
	}
	if !parsed.Addr().Unmap().IsLoopback() {
		return fmt.Errorf("the %s address is %s: a stand-in listens on loopback alone; make it 127.0.0.1:%d", of, address, parsed.Port())
	}
	return nil
}
