package github_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	gogithub "github.com/google/go-github/v74/github"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/nullify005/manager-cluster-state/rehearsal/forge/github"
)

const (
	owner      = "nullify005"
	name       = "manager-cluster-state"
	repository = owner + "/" + name
	other      = owner + "/service-intesis"
	token      = "not-a-real-token"
	sha        = "0123456789012345678901234567890123456789"
)

func options() github.Options {
	return github.Options{Token: token, Repositories: []string{repository, other}}
}

func start(t *testing.T, options github.Options) (*github.Server, string) {
	t.Helper()
	server, err := github.New(options)
	require.NoError(t, err)
	listener := httptest.NewServer(server)
	t.Cleanup(listener.Close)
	return server, listener.URL
}

// client is GitHub's own, as whoever talks to an enterprise host makes it.
func client(t *testing.T, url, token string) *gogithub.Client {
	t.Helper()
	c := gogithub.NewClient(nil)
	if token != "" {
		c = c.WithAuthToken(token)
	}
	c, err := c.WithEnterpriseURLs(url, url)
	require.NoError(t, err)
	return c
}

// publicKey is in the form of authorized_keys, without a comment.
func publicKey(t *testing.T) string {
	t.Helper()
	public, _, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	key, err := ssh.NewPublicKey(public)
	require.NoError(t, err)
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

func failure(t *testing.T, err error) *gogithub.ErrorResponse {
	t.Helper()
	var response *gogithub.ErrorResponse
	require.ErrorAs(t, err, &response)
	return response
}

func TestKeys_AreMadeReadListedAndDeleted(t *testing.T) {
	server, url := start(t, options())
	c, ctx, text := client(t, url, token), t.Context(), publicKey(t)

	made, response, err := c.Repositories.CreateKey(ctx, owner, name, &gogithub.Key{
		Title: new("flux"), Key: new(text + " flux@somewhere\n"), ReadOnly: new(true),
	})
	require.NoError(t, err)
	assert.Equal(t, http.StatusCreated, response.StatusCode)
	assert.Equal(t, text, made.GetKey(), "the comment is left out, as GitHub does")
	assert.True(t, made.GetReadOnly())
	assert.True(t, made.GetVerified())
	assert.Equal(t, "flux", made.GetTitle())
	assert.WithinDuration(t, time.Now(), made.GetCreatedAt().Time, time.Minute)

	read, _, err := c.Repositories.GetKey(ctx, owner, name, made.GetID())
	require.NoError(t, err)
	assert.Equal(t, made, read)
	assert.Equal(t, []github.DeployKey{{
		ID: made.GetID(), Repository: repository, Title: "flux", Key: text, ReadOnly: true, CreatedAt: made.GetCreatedAt().Time,
	}}, server.DeployKeys(repository))
	require.NoError(t, server.MarkUsed(made.GetID()))
	read, _, err = c.Repositories.GetKey(ctx, owner, name, made.GetID())
	require.NoError(t, err)
	assert.False(t, read.GetLastUsed().IsZero())

	_, response, err = c.Repositories.GetKey(ctx, owner, "service-intesis", made.GetID())
	require.Error(t, err)
	assert.Equal(t, http.StatusNotFound, response.StatusCode, "a key belongs to one repository")

	response, err = c.Repositories.DeleteKey(ctx, owner, name, made.GetID())
	require.NoError(t, err)
	assert.Equal(t, http.StatusNoContent, response.StatusCode)
	response, err = c.Repositories.DeleteKey(ctx, owner, name, made.GetID())
	require.Error(t, err)
	assert.Equal(t, http.StatusNotFound, response.StatusCode)
	assert.Empty(t, server.DeployKeys(""))

	again, _, err := c.Repositories.CreateKey(ctx, owner, name, &gogithub.Key{Key: new(text)})
	require.NoError(t, err)
	assert.False(t, again.GetReadOnly(), "a key may write unless it is said that it may not")
	assert.Greater(t, again.GetID(), made.GetID(), "no id is given twice")
}

func TestKeys_AreListedInPages(t *testing.T) {
	_, url := start(t, options())
	c, ctx := client(t, url, token), t.Context()
	for i := range 5 {
		_, _, err := c.Repositories.CreateKey(ctx, owner, name, &gogithub.Key{Title: new(strconv.Itoa(i)), Key: new(publicKey(t))})
		require.NoError(t, err)
	}
	var titles []string
	var pages int
	for listing := new(gogithub.ListOptions{PerPage: 2}); ; pages++ {
		keys, response, err := c.Repositories.ListKeys(ctx, owner, name, listing)
		require.NoError(t, err)
		for _, key := range keys {
			titles = append(titles, key.GetTitle())
		}
		if response.NextPage == 0 {
			break
		}
		assert.Equal(t, 3, response.LastPage)
		listing.Page = response.NextPage
	}
	assert.Equal(t, []string{"0", "1", "2", "3", "4"}, titles)
	assert.Equal(t, 2, pages)

	keys, _, err := c.Repositories.ListKeys(ctx, owner, name, &gogithub.ListOptions{Page: 9})
	require.NoError(t, err)
	assert.Empty(t, keys)
}

func TestKeys_AreRefusedInGitHubsWords(t *testing.T) {
	_, url := start(t, options())
	c, ctx, text := client(t, url, token), t.Context(), publicKey(t)
	_, _, err := c.Repositories.CreateKey(ctx, owner, name, &gogithub.Key{Key: new(text)})
	require.NoError(t, err)

	for said, refused := range map[string]string{
		"a duplicate":                 text,
		"with another comment":        text + " other",
		"no key":                      "ssh-ed25519 nonsense",
		"an empty one":                "",
		"a second line with another ": publicKey(t) + "\n" + publicKey(t),
	} {
		t.Run(said, func(t *testing.T) {
			_, _, err := c.Repositories.CreateKey(ctx, owner, "service-intesis", &gogithub.Key{Key: new(refused)})
			problem := failure(t, err)
			assert.Equal(t, http.StatusUnprocessableEntity, problem.Response.StatusCode)
			assert.Equal(t, "Validation Failed", problem.Message)
			message := "key is invalid. You must supply a key in OpenSSH public key format"
			if strings.HasPrefix(refused, text) {
				message = "key is already in use"
			}
			assert.Equal(t, []gogithub.Error{{Resource: "PublicKey", Field: "key", Code: "custom", Message: message}}, problem.Errors)
		})
	}
}

func TestServer_LetsNobodyInWithoutItsToken(t *testing.T) {
	_, url := start(t, options())
	for given, message := range map[string]string{"wrong": "Bad credentials", "": "Requires authentication"} {
		_, _, err := client(t, url, given).Repositories.Get(t.Context(), owner, name)
		problem := failure(t, err)
		assert.Equal(t, http.StatusUnauthorized, problem.Response.StatusCode)
		assert.Equal(t, message, problem.Message)
	}
	for _, authorization := range []string{"token " + token, "Bearer " + token, "bearer " + token} {
		status, _ := ask(t, url+"/repos/"+repository, authorization, "")
		assert.Equal(t, http.StatusOK, status, authorization)
	}
	status, _ := ask(t, url+"/repos/"+repository, "Basic "+token, "")
	assert.Equal(t, http.StatusUnauthorized, status)
}

// ask is for what the client doesn't do.
func ask(t *testing.T, url, authorization, tag string) (status int, newTag string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	request.Header.Set("Authorization", authorization)
	request.Header.Set("If-None-Match", tag)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return response.StatusCode, response.Header.Get("ETag")
}

func TestServer_KnowsItsRepositoriesAlone(t *testing.T) {
	_, url := start(t, options())
	c := client(t, url, token)
	found, _, err := c.Repositories.Get(t.Context(), "Nullify005", "Manager-Cluster-State")
	require.NoError(t, err, "names are found in any case")
	assert.Equal(t, repository, found.GetFullName())

	_, _, err = c.Repositories.Get(t.Context(), owner, "nothing")
	assert.Equal(t, http.StatusNotFound, failure(t, err).Response.StatusCode)
	_, _, err = c.Repositories.CreateKey(t.Context(), owner, "nothing", &gogithub.Key{Key: new(publicKey(t))})
	assert.Equal(t, "Not Found", failure(t, err).Message)
	status, _ := ask(t, url+"/no/such/thing", "token "+token, "")
	assert.Equal(t, http.StatusNotFound, status)
}

func TestNew_SaysEveryProblemAtOnce(t *testing.T) {
	_, err := github.New(github.Options{Repositories: []string{"no-owner", "../up"}})
	require.ErrorContains(t, err, "no token")
	require.ErrorContains(t, err, `"no-owner"`)
	require.ErrorContains(t, err, `"../up"`)
}

func TestStatuses_ComeNewestFirstAndCombine(t *testing.T) {
	server, url := start(t, options())
	c, ctx := client(t, url, token), t.Context()
	for _, status := range []gogithub.RepoStatus{
		{State: new("pending"), Context: new("kustomization/apps"), Description: new("progressing")},
		{State: new("success"), Context: new("kustomization/apps"), Description: new("ready"), TargetURL: new("http://example.com")},
		{State: new("success")},
	} {
		_, _, err := c.Repositories.CreateStatus(ctx, owner, name, sha, &status)
		require.NoError(t, err)
	}
	listed, _, err := c.Repositories.ListStatuses(ctx, owner, name, sha, nil)
	require.NoError(t, err)
	require.Len(t, listed, 3)
	assert.Equal(t, "default", listed[0].GetContext())
	assert.Equal(t, "ready", listed[1].GetDescription())
	assert.Equal(t, "http://example.com", listed[1].GetTargetURL())

	combined, _, err := c.Repositories.GetCombinedStatus(ctx, owner, name, sha, nil)
	require.NoError(t, err)
	assert.Equal(t, "success", combined.GetState())
	assert.Len(t, combined.Statuses, 2)
	_, _, err = c.Repositories.CreateStatus(ctx, owner, name, sha, &gogithub.RepoStatus{State: new("failure")})
	require.NoError(t, err)
	combined, _, err = c.Repositories.GetCombinedStatus(ctx, owner, name, sha, nil)
	require.NoError(t, err)
	assert.Equal(t, "failure", combined.GetState())
	assert.Len(t, server.Statuses(repository, sha), 4)
	assert.Empty(t, server.Statuses(other, sha))
}

func TestStatuses_AreOfCommitsThatExist(t *testing.T) {
	o := options()
	o.HasCommit = func(_ context.Context, repo, commit string) bool { return repo == repository && commit == sha }
	_, url := start(t, o)
	c := client(t, url, token)
	_, _, err := c.Repositories.CreateStatus(t.Context(), owner, name, sha, &gogithub.RepoStatus{State: new("success")})
	require.NoError(t, err)
	_, _, err = c.Repositories.CreateStatus(t.Context(), owner, name, "ffff", &gogithub.RepoStatus{State: new("success")})
	assert.Equal(t, "No commit found for SHA: ffff", failure(t, err).Message)
	_, _, err = c.Repositories.CreateStatus(t.Context(), owner, name, sha, &gogithub.RepoStatus{State: new("fine")})
	assert.Equal(t, "state is not included in the list", failure(t, err).Errors[0].Message)
	_, _, err = c.Repositories.CreateStatus(t.Context(), owner, name, sha,
		&gogithub.RepoStatus{State: new("success"), Description: new(strings.Repeat("x", 141))})
	assert.Equal(t, http.StatusUnprocessableEntity, failure(t, err).Response.StatusCode)
}

func TestServer_KeepsItsStateOverARestart(t *testing.T) {
	o := options()
	o.File = filepath.Join(t.TempDir(), "github.json")
	before, url := start(t, o)
	c := client(t, url, token)
	key, _, err := c.Repositories.CreateKey(t.Context(), owner, name, &gogithub.Key{Key: new(publicKey(t))})
	require.NoError(t, err)
	_, _, err = c.Repositories.CreateStatus(t.Context(), owner, name, sha, &gogithub.RepoStatus{State: new("success")})
	require.NoError(t, err)

	after, url := start(t, o)
	assert.Equal(t, before.DeployKeys(""), after.DeployKeys(""))
	assert.Equal(t, before.Statuses("", ""), after.Statuses("", ""))
	next, _, err := client(t, url, token).Repositories.CreateKey(t.Context(), owner, name, &gogithub.Key{Key: new(publicKey(t))})
	require.NoError(t, err)
	assert.Greater(t, next.GetID(), key.GetID())
}

func TestServer_ChangesNothingThatItCantKeep(t *testing.T) {
	o := options()
	o.File = filepath.Join(t.TempDir(), "gone", "github.json")
	server, url := start(t, o)
	_, _, err := client(t, url, token).Repositories.CreateKey(t.Context(), owner, name, &gogithub.Key{Key: new(publicKey(t))})
	assert.Equal(t, http.StatusInternalServerError, failure(t, err).Response.StatusCode)
	assert.Empty(t, server.DeployKeys(""))
}

func TestServer_SaysThatNothingHasChanged(t *testing.T) {
	_, url := start(t, options())
	status, tag := ask(t, url+"/repos/"+repository, "token "+token, "")
	assert.Equal(t, http.StatusOK, status)
	status, _ = ask(t, url+"/repos/"+repository, "token "+token, tag)
	assert.Equal(t, http.StatusNotModified, status)
}

func TestFaults_FailAsGitHubDoes(t *testing.T) {
	get := func(ctx context.Context, c *gogithub.Client) error {
		_, _, err := c.Repositories.Get(ctx, owner, name)
		return err
	}
	// A client that was told of a limit asks nothing before its reset, so each has its own.
	fresh := func(t *testing.T, fault github.Fault) (*github.Server, *gogithub.Client, error) {
		t.Helper()
		server, url := start(t, options())
		server.Fail(fault)
		return server, client(t, url, token), get(t.Context(), client(t, url, token))
	}

	t.Run("rate limit", func(t *testing.T) {
		_, c, err := fresh(t, github.Fault{Kind: github.RateLimit, RetryAfter: 30})
		var limit *gogithub.RateLimitError
		require.ErrorAs(t, err, &limit)
		assert.Equal(t, http.StatusForbidden, limit.Response.StatusCode)
		assert.Equal(t, "30", limit.Response.Header.Get("Retry-After"))
		assert.WithinDuration(t, time.Now().Add(30*time.Second), limit.Rate.Reset.Time, 5*time.Second)
		assert.Equal(t, 5000, limit.Rate.Limit)
		require.NoError(t, get(t.Context(), c), "one request is all that fails")
	})
	t.Run("too many requests", func(t *testing.T) {
		_, _, err := fresh(t, github.Fault{Kind: github.TooManyRequests, RetryAfter: 2})
		response := failure(t, err).Response
		assert.Equal(t, http.StatusTooManyRequests, response.StatusCode)
		assert.Equal(t, "2", response.Header.Get("Retry-After"))
		assert.Equal(t, "0", response.Header.Get("X-Ratelimit-Remaining"))
	})
	t.Run("secondary limit", func(t *testing.T) {
		_, _, err := fresh(t, github.Fault{Kind: github.SecondaryLimit, RetryAfter: 7})
		var limit *gogithub.AbuseRateLimitError
		require.ErrorAs(t, err, &limit)
		assert.Equal(t, 7*time.Second, limit.GetRetryAfter())
	})
	t.Run("server error, for a count of requests", func(t *testing.T) {
		_, c, err := fresh(t, github.Fault{Kind: github.ServerError, Times: 2, Status: 503})
		assert.Equal(t, 503, failure(t, err).Response.StatusCode)
		require.Error(t, get(t.Context(), c))
		require.NoError(t, get(t.Context(), c))
	})
	t.Run("bad credentials", func(t *testing.T) {
		_, _, err := fresh(t, github.Fault{Kind: github.BadCredentials})
		assert.Equal(t, http.StatusUnauthorized, failure(t, err).Response.StatusCode)
	})
	t.Run("a method and a path, until healed", func(t *testing.T) {
		server, c, err := fresh(t, github.Fault{Kind: github.ServerError, Times: 9, Method: http.MethodPost, Path: "/keys"})
		require.NoError(t, err)
		_, _, err = c.Repositories.CreateKey(t.Context(), owner, name, &gogithub.Key{Key: new(publicKey(t))})
		require.Error(t, err)
		assert.Empty(t, server.DeployKeys(""))
		server.Heal()
		_, _, err = c.Repositories.CreateKey(t.Context(), owner, name, &gogithub.Key{Key: new(publicKey(t))})
		require.NoError(t, err)
	})
	t.Run("an answer that is lost", func(t *testing.T) {
		server, c, err := fresh(t, github.Fault{Kind: github.ServerError, Method: http.MethodPost, AnswerLost: true})
		require.NoError(t, err)
		_, _, err = c.Repositories.CreateKey(t.Context(), owner, name, &gogithub.Key{Key: new(publicKey(t))})
		assert.Equal(t, http.StatusBadGateway, failure(t, err).Response.StatusCode)
		assert.Len(t, server.DeployKeys(""), 1)
	})
}

func TestAdmin_AnswersThisMachineAlone(t *testing.T) {
	server, err := github.New(options())
	require.NoError(t, err)
	post := func(from, body string) *httptest.ResponseRecorder {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/-/faults", strings.NewReader(body))
		request.RemoteAddr = from
		recorder := httptest.NewRecorder()
		server.ServeHTTP(recorder, request)
		return recorder
	}
	assert.Equal(t, http.StatusForbidden, post("192.0.2.1:4711", `{"kind":"rate-limit"}`).Code)
	assert.Equal(t, http.StatusNoContent, post("127.0.0.1:4711", `{"kind":"rate-limit"}`).Code)
	assert.Equal(t, http.StatusNoContent, post("[::1]:4711", `{"kind":"rate-limit"}`).Code)

	wrong := post("127.0.0.1:4711", `{"kind":"bad-luck"}`)
	assert.Equal(t, http.StatusBadRequest, wrong.Code)
	var body struct {
		Message string `json:"message"`
	}
	require.NoError(t, json.Unmarshal(wrong.Body.Bytes(), &body))
	assert.Contains(t, body.Message, `"bad-luck"`)
	assert.Equal(t, http.StatusBadRequest, post("127.0.0.1:4711", `{"kind":"server-error","status":200}`).Code)
}
