package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

// agent is `k3s agent`.
type agent struct {
	url      *url.URL
	token    token
	greeting greeting
}

func join(ctx context.Context, args []string) error {
	read, err := readSettings(args)
	if err != nil {
		return err
	}
	a, err := newAgent(read)
	if err != nil {
		return err
	}
	up, err := readUpstream()
	if err != nil {
		return err
	}
	kubeconfig, err := up.kubeconfigFor("https://" + a.url.Host)
	if err != nil {
		return err
	}
	kube, err := newCluster(kubeconfig, a.url.Host)
	if err != nil {
		return err
	}
	if err := write(filepath.Join(dataFolder, "agent", "etc", "k3s-agent-load-balancer.json"), `{"ServerURL":"`+a.url.String()+`"}`, 0o600); err != nil {
		return err
	}
	sayf("level=info msg=%q", "Starting k3s agent "+release+" (standin)")
	notify("READY=1")
	if !a.keepTrying(ctx, func(ctx context.Context) error { return a.validate(ctx) }, "Failed to validate connection to cluster at "+a.url.String()) ||
		!a.keepTrying(ctx, func(ctx context.Context) error { return a.ask(ctx, "/join") }, "Waiting to retrieve agent configuration; server is not ready") {
		return nil
	}
	node, err := newNode(read, false)
	if err != nil {
		return err
	}
	if !a.keepTrying(ctx, func(ctx context.Context) error { return kube.register(ctx, node) }, "Unable to register node "+node.Name) {
		return nil
	}
	sayf("level=info msg=%q", "Successfully registered node "+node.Name)
	for {
		if err := a.ask(ctx, "/alive"); err != nil && ctx.Err() == nil {
			sayf("level=error msg=%q", "Remotedialer proxy error; reconnecting: "+err.Error())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

func newAgent(read settings) (*agent, error) {
	if read.last("server") == "" || read.last("token") == "" {
		return nil, errors.New("--server and --token are required")
	}
	a := &agent{}
	var err error
	if a.url, err = url.Parse(read.last("server")); err != nil || a.url.Scheme != "https" || a.url.Hostname() == "" {
		return nil, fmt.Errorf("invalid server url, failed to parse: %q", read.last("server"))
	}
	if a.url.Port() == "" {
		a.url.Host = net.JoinHostPort(a.url.Hostname(), "443")
	}
	if a.token, err = parseToken(read.last("token")); err != nil {
		return nil, err
	}
	own, err := password()
	if err != nil {
		return nil, err
	}
	name, err := read.nodeName()
	a.greeting = greeting{Node: name, Token: a.token.digest(), Password: digest(own)}
	return a, err
}

// keepTrying says why it must, as k3s does, until ctx is done; then it returns false.
func (a *agent) keepTrying(ctx context.Context, do func(context.Context) error, trouble string) bool {
	for {
		err := do(ctx)
		if err == nil {
			return true
		}
		if ctx.Err() == nil {
			sayf("level=error msg=%q", trouble+": "+err.Error())
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
		}
	}
}

// validate compares the hash of the cluster's authority, where the token has one.
func (a *agent) validate(ctx context.Context) error {
	found, err := a.send(ctx, http.MethodGet, "/authority", nil)
	if err != nil {
		return fmt.Errorf("failed to get CA certs: %w", err)
	}
	if a.token.authority != "" && found != a.token.authority {
		return fmt.Errorf("token CA hash does not match the Cluster CA certificate hash: %s != %s", a.token.authority, found)
	}
	return a.ask(ctx, "/alive")
}

func (a *agent) ask(ctx context.Context, path string) error {
	body, err := json.Marshal(a.greeting) //nolint:gosec // digests
	if err != nil {
		return fmt.Errorf("greeting the server: %w", err)
	}
	_, err = a.send(ctx, http.MethodPost, path, body)
	return err
}

func (a *agent) send(ctx context.Context, method, path string, body []byte) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, shortBound)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, "http://"+a.url.Host+path, bytes.NewReader(body))
	if err != nil {
		return "", fmt.Errorf("asking the server: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", fmt.Errorf("asking the server: %w", err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", a.url, strings.TrimSpace(string(content)))
	}
	return string(content), err
}
