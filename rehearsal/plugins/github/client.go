package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-github/v74/github"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

const (
	defaultBaseURL    = "https://api.github.com/"
	defaultRetries    = 3
	defaultRetryDelay = time.Second
	// longestWait bounds the wait for a rate limit: what takes longer is told instead.
	longestWait = 5 * time.Minute
	// longestAnswer bounds one attempt.
	longestAnswer = 30 * time.Second
)

// settings are the provider's configuration.
type settings struct {
	owner, token string
	baseURL      *url.URL
	retries      int
	retryDelay   time.Duration
}

func readSettings(inputs resource.PropertyMap, environment func(string) string) (settings, error) {
	text := func(key resource.PropertyKey, variable string) string {
		if value := plain(inputs[key]); value.IsString() && value.StringValue() != "" {
			return value.StringValue()
		}
		return environment(variable)
	}
	var problems []error
	number := func(key resource.PropertyKey, byDefault int) int {
		value := plain(inputs[key])
		if value.IsNull() {
			return byDefault
		}
		// The engine hands numbers on as text.
		read, err := strconv.Atoi(fmt.Sprint(value.V))
		if err != nil || read < 0 {
			problems = append(problems, fmt.Errorf("github:%s is no number of 0 or more", key))
		}
		return read
	}
	read := settings{
		owner: text("owner", "GITHUB_OWNER"), token: text("token", "GITHUB_TOKEN"),
		retries:    number("maxRetries", defaultRetries),
		retryDelay: time.Duration(number("retryDelayMs", int(defaultRetryDelay.Milliseconds()))) * time.Millisecond,
	}
	if read.owner == "" {
		problems = append(problems, errors.New("the owner of the repositories is missing: set github:owner, or export GITHUB_OWNER=…"))
	}
	target, err := url.Parse(cmp.Or(text("baseUrl", "GITHUB_BASE_URL"), defaultBaseURL))
	if err != nil || target.Host == "" || target.User != nil {
		problems = append(problems, errors.New("github:baseUrl is no URL of a GitHub API: it is of the form https://HOST/, with no user or password in it"))
	}
	read.baseURL = target
	return read, errors.Join(problems...)
}

// client asks GitHub's API.
type client struct {
	owner, token string
	github       *github.Client
}

func newClient(s settings) (*client, error) {
	base, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		base = &http.Transport{}
	}
	base = base.Clone()
	base.ResponseHeaderTimeout = longestAnswer
	asks := github.NewClient(&http.Client{Transport: &retrier{
		next: base, token: s.token, host: s.baseURL.Host, retries: s.retries, delay: s.retryDelay,
	}})
	// The limits are the retrier's to know: the client would remember them, and not even ask.
	asks.DisableRateLimitCheck = true
	if s.baseURL.String() != defaultBaseURL {
		var err error
		if asks, err = asks.WithEnterpriseURLs(s.baseURL.String(), s.baseURL.String()); err != nil {
			return nil, fmt.Errorf("making a client for GitHub: %w", err)
		}
	}
	return &client{owner: s.owner, token: s.token, github: asks}, nil
}

// explain says what GitHub's refusal means here, and what to do about it.
func (c *client) explain(ctx context.Context, doing, repository string, err error) error {
	repository = c.owner + "/" + repository
	doing += " of " + repository
	if ctx.Err() != nil {
		return fmt.Errorf("%s: interrupted: %w", doing, ctx.Err())
	}
	const (
		permission = "the permission Administration: read and write of that repository"
		setToken   = "export GITHUB_TOKEN=…, or pulumi config set --secret github:token" //nolint:gosec // says how, and holds none
	)
	status, said := 0, ""
	if refused, ok := errors.AsType[*github.ErrorResponse](err); ok {
		words := []string{refused.Message}
		for _, detail := range refused.Errors {
			words = append(words, detail.Message)
		}
		status, said = refused.Response.StatusCode, strings.Join(words, ": ")
	}
	mend := ""
	switch {
	case status == http.StatusUnauthorized && c.token == "":
		mend = "no token is set; set one with " + permission + ": " + setToken
	case status == http.StatusUnauthorized:
		mend = "the token is wrong, has expired or was revoked; set another with " + permission + ": " + setToken
	case status == http.StatusForbidden:
		mend = "the token lacks " + permission
	case status == http.StatusNotFound:
		mend = "there is no such repository, or the token may not see it; check git.url, and that the token has " + permission
	case status == http.StatusUnprocessableEntity && strings.Contains(said, "already in use"):
		mend = "a key is registered once at all of GitHub, and this one is in use elsewhere; make another, or delete it where it is: " +
			"in the settings of that repository, under Deploy keys, or in those of an account, under SSH keys"
	}
	if status != 0 {
		err = fmt.Errorf("GitHub answers %d %s", status, said)
	}
	err = withoutToken(err, c.token)
	if mend != "" {
		err = fmt.Errorf("%w: %s", err, mend)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// withoutToken makes sure of what should never be: that somebody quoted the token.
func withoutToken(err error, token string) error {
	if token == "" || !strings.Contains(err.Error(), token) {
		return err
	}
	return errors.New(strings.ReplaceAll(err.Error(), token, "[token]")) //nolint:err113 // the chain is what quotes it
}

// retrier logs in, and asks again where GitHub says that this helps: when a limit is over, and
// a few times, ever later, after an answer of 500 or more or none at all.
type retrier struct {
	next        http.RoundTripper
	token, host string
	retries     int
	delay       time.Duration
}

// limitError says that a rate limit lasts longer than anybody waits.
type limitError struct{ until time.Time }

func (e *limitError) Error() string {
	return "GitHub's rate limit for this token is used up until " + e.until.Format(time.RFC3339) + ": try again then"
}

func (r *retrier) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Body != nil {
		defer request.Body.Close()
	}
	delay := r.delay
	for attempt := 0; ; attempt++ {
		again := request.Clone(request.Context())
		if request.GetBody != nil { // go-github's always have it
			body, err := request.GetBody()
			if err != nil {
				return nil, fmt.Errorf("reading the request again: %w", err)
			}
			again.Body = body
		}
		// Whoever else a redirect leads to gets no token.
		if r.token != "" && again.URL.Host == r.host {
			again.Header.Set("Authorization", "Bearer "+r.token)
		}
		response, err := r.next.RoundTrip(again)
		wait, worth := delay, err != nil || response.StatusCode >= http.StatusInternalServerError
		if err == nil {
			if limit, limited := limitOf(response, time.Now()); limited {
				if limit > longestWait {
					_ = response.Body.Close()
					return nil, &limitError{until: time.Now().Add(limit)}
				}
				wait, worth = limit, true
			}
		}
		if !worth || attempt >= r.retries {
			return response, err
		}
		if err == nil {
			// Read to its end, the connection serves again.
			_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 1<<20))
			_ = response.Body.Close()
		}
		select {
		case <-request.Context().Done():
			return nil, request.Context().Err()
		case <-time.After(wait):
		}
		delay *= 2
	}
}

// limitOf is how long a limit lasts that an answer speaks of.
func limitOf(response *http.Response, now time.Time) (time.Duration, bool) {
	if response.StatusCode != http.StatusForbidden && response.StatusCode != http.StatusTooManyRequests {
		return 0, false
	}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds >= 0 {
		return time.Duration(seconds) * time.Second, true
	}
	if response.Header.Get("X-Ratelimit-Remaining") == "0" {
		if reset, err := strconv.ParseInt(response.Header.Get("X-Ratelimit-Reset"), 10, 64); err == nil {
			return max(0, time.Unix(reset, 0).Sub(now)), true
		}
	}
	// GitHub asks for a minute where it names no time.
	return time.Minute, response.StatusCode == http.StatusTooManyRequests
}
