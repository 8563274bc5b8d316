package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func noEnvironment(string) string { return "" }

func TestSettings_TheConfigurationComesBeforeTheEnvironment(t *testing.T) {
	environment := func(name string) string {
		return map[string]string{
			"GITHUB_OWNER": "env-owner", "GITHUB_TOKEN": "env-token", "GITHUB_BASE_URL": "https://env.example.net/",
		}[name]
	}
	read, err := readSettings(resource.PropertyMap{}, environment)
	require.NoError(t, err)
	assert.Equal(t, []any{"env-owner", "env-token", "https://env.example.net/", 3, time.Second},
		[]any{read.owner, read.token, read.baseURL.String(), read.retries, read.retryDelay})

	read, err = readSettings(resource.PropertyMap{
		"owner": resource.NewProperty("me"), "token": resource.MakeSecret(resource.NewProperty("mine")),
		"baseUrl": resource.NewProperty("https://mine.example.net/"), "maxRetries": resource.NewProperty("0"), "retryDelayMs": resource.NewProperty(20.0),
	}, environment)
	require.NoError(t, err)
	assert.Equal(t, []any{"me", "mine", "https://mine.example.net/", 0, 20 * time.Millisecond},
		[]any{read.owner, read.token, read.baseURL.String(), read.retries, read.retryDelay})

	read, err = readSettings(resource.PropertyMap{"owner": resource.NewProperty("me")}, noEnvironment)
	require.NoError(t, err)
	assert.Equal(t, defaultBaseURL, read.baseURL.String())
}

func TestSettings_EveryProblemIsTold(t *testing.T) {
	_, err := readSettings(resource.PropertyMap{
		"baseUrl": resource.NewProperty("https://me:canary@github.example.net/"), "maxRetries": resource.NewProperty("many"),
	}, noEnvironment)
	require.ErrorContains(t, err, "github:maxRetries is no number")
	require.ErrorContains(t, err, "set github:owner")
	require.ErrorContains(t, err, "github:baseUrl is no URL")
	assert.NotContains(t, err.Error(), "canary")
}

func TestClient_AsksWhereGitHubHasItsAPI(t *testing.T) {
	for given, want := range map[string]string{
		defaultBaseURL:                       defaultBaseURL,
		"https://github.example.net/":        "https://github.example.net/api/v3/",
		"https://github.example.net/api/v3/": "https://github.example.net/api/v3/",
		"http://127.0.0.1:8080":              "http://127.0.0.1:8080/api/v3/",
	} {
		read, err := readSettings(resource.PropertyMap{"owner": resource.NewProperty("me"), "baseUrl": resource.NewProperty(given)}, noEnvironment)
		require.NoError(t, err)
		made, err := newClient(read)
		require.NoError(t, err)
		assert.Equal(t, want, made.github.BaseURL.String())
	}
}

func TestClient_ARedirectElsewhereGetsNoToken(t *testing.T) {
	seen := make(chan string, 1)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Get("Authorization")
	}))
	defer elsewhere.Close()
	first := make(chan string, 1)
	home := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		first <- r.Header.Get("Authorization")
		http.Redirect(w, r, elsewhere.URL, http.StatusMovedPermanently)
	}))
	defer home.Close()
	target, err := url.Parse(home.URL)
	require.NoError(t, err)
	made, err := newClient(settings{owner: "me", token: "canary", baseURL: target})
	require.NoError(t, err)
	_, err = readDeployKey(t.Context(), made, "home:1", nil)
	require.NoError(t, err)
	assert.Equal(t, "Bearer canary", <-first)
	assert.Empty(t, <-seen)
}

func TestExplain_NeverQuotesTheToken(t *testing.T) {
	c := &client{owner: "me", token: "canary"}
	err := c.explain(t.Context(), "reading a key", "home", fmt.Errorf("somebody said %w", errors.New("Bearer canary")))
	assert.EqualError(t, err, "reading a key of me/home: somebody said Bearer [token]")
}

func TestLimitOf_IsWhatTheAnswerSays(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for name, test := range map[string]struct {
		status  int
		header  map[string]string
		want    time.Duration
		limited bool
	}{
		"no limit":                {200, map[string]string{"X-Ratelimit-Remaining": "0", "Retry-After": "9"}, 0, false},
		"no permission":           {403, map[string]string{"X-Ratelimit-Remaining": "17"}, 0, false},
		"a time to wait":          {403, map[string]string{"Retry-After": "9"}, 9 * time.Second, true},
		"a reset":                 {403, map[string]string{"X-Ratelimit-Remaining": "0", "X-Ratelimit-Reset": strconv.Itoa(1_000_030)}, 30 * time.Second, true},
		"a reset that is past":    {429, map[string]string{"X-Ratelimit-Remaining": "0", "X-Ratelimit-Reset": strconv.Itoa(999_999)}, 0, true},
		"too many, with no times": {429, nil, time.Minute, true},
	} {
		t.Run(name, func(t *testing.T) {
			response := &http.Response{StatusCode: test.status, Header: http.Header{}}
			for key, value := range test.header {
				response.Header.Set(key, value)
			}
			limit, limited := limitOf(response, now)
			assert.Equal(t, test.limited, limited)
			if limited {
				assert.Equal(t, test.want, limit)
			}
		})
	}
}
