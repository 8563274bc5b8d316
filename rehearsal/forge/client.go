package forge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/nullify005/manager-cluster-state/rehearsal/forge/github"
)

// Client asks a forge in another process, and steers it.
type Client struct {
	url  string
	http *http.Client
}

// NewClient asks the forge at a URL such as http://127.0.0.1:3000.
func NewClient(url string) *Client {
	return &Client{url: strings.TrimSuffix(url, "/"), http: &http.Client{Timeout: 10 * time.Second}}
}

// Wait waits until the forge answers, or the context ends.
func (c *Client) Wait(ctx context.Context) (Health, error) {
	var problem error // the last that isn't the context's own
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		var health Health
		err := c.ask(ctx, http.MethodGet, "/-/healthz", nil, &health)
		if err == nil {
			return health, nil
		}
		if ctx.Err() == nil {
			problem = err
		}
		select {
		case <-ctx.Done():
			return Health{}, fmt.Errorf("waiting for the forge: %w", errors.Join(ctx.Err(), problem))
		case <-tick.C:
		}
	}
}

// SlackMessages are all that have come, oldest first.
func (c *Client) SlackMessages(ctx context.Context) (messages []Message, err error) {
	return messages, c.ask(ctx, http.MethodGet, "/-/slack", nil, &messages)
}

// Statuses are those of all commits, oldest first.
func (c *Client) Statuses(ctx context.Context) (statuses []github.Status, err error) {
	return statuses, c.ask(ctx, http.MethodGet, "/-/github/statuses", nil, &statuses)
}

// DeployKeys are those of all repositories, oldest first.
func (c *Client) DeployKeys(ctx context.Context) (keys []github.DeployKey, err error) {
	return keys, c.ask(ctx, http.MethodGet, "/-/github/keys", nil, &keys)
}

// DeleteDeployKey takes a key away from its repository, as somebody at GitHub's settings would.
func (c *Client) DeleteDeployKey(ctx context.Context, repository string, id int64) error {
	return c.ask(ctx, http.MethodDelete, fmt.Sprintf("/-/github/keys/%s/%d", repository, id), nil, nil)
}

// PushImage puts a tiny image into the registry.
func (c *Client) PushImage(ctx context.Context, image Image) error {
	return c.ask(ctx, http.MethodPost, "/-/images", image, nil)
}

// Fail makes the next requests to GitHub's API fail.
func (c *Client) Fail(ctx context.Context, fault github.Fault) error {
	return c.ask(ctx, http.MethodPost, "/-/faults", fault, nil)
}

// Heal takes back every fault that has not struck yet.
func (c *Client) Heal(ctx context.Context) error {
	return c.ask(ctx, http.MethodDelete, "/-/faults", nil, nil)
}

func (c *Client) ask(ctx context.Context, method, path string, body, into any) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("asking the forge for %s %s: %w", method, path, err)
		}
	}()
	var sent bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&sent).Encode(body); err != nil {
			return err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, c.url+path, &sent)
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode >= http.StatusMultipleChoices {
		said, _ := io.ReadAll(io.LimitReader(response.Body, maxBody))
		return fmt.Errorf("%s: %s", response.Status, bytes.TrimSpace(said))
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(response.Body).Decode(into)
}
