package githubapi_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/nullify005/manager-cluster-state/internal/githubapi"
	forge "github.com/nullify005/manager-cluster-state/rehearsal/forge/github"
	"github.com/nullify005/manager-cluster-state/seal"
)

const canary = "ghp_canary"

func serve(t *testing.T) (*forge.Server, *githubapi.Repository) {
	t.Helper()
	server, err := forge.New(forge.Options{Token: canary, Repositories: []string{"somebody/home"}})
	require.NoError(t, err)
	listener := httptest.NewServer(server)
	t.Cleanup(listener.Close)
	return server, &githubapi.Repository{BaseURL: listener.URL + "/", Owner: "somebody", Name: "home", Token: canary}
}

func newKey(t *testing.T) (line string, key ssh.PublicKey) {
	t.Helper()
	private, line, err := seal.NewDeployKey("comment")
	require.NoError(t, err)
	signer, err := ssh.ParsePrivateKey([]byte(private))
	require.NoError(t, err)
	return line, signer.PublicKey()
}

// register does what a plugin does.
func register(t *testing.T, r *githubapi.Repository, title, line string) {
	t.Helper()
	body := fmt.Sprintf(`{"title": %q, "key": %q, "read_only": true}`, title, line)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.BaseURL+"repos/somebody/home/keys", strings.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("Authorization", "token "+canary)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusCreated, response.StatusCode)
}

func TestDeployKeyOf_FindsItOnAnyPage(t *testing.T) {
	_, r := serve(t)
	line, key := newKey(t)
	found, err := r.DeployKeyOf(t.Context(), key)
	require.NoError(t, err)
	assert.Nil(t, found)

	for i := range 101 {
		other, _ := newKey(t)
		register(t, r, fmt.Sprint("other ", i), other)
	}
	register(t, r, "flux", line)
	found, err = r.DeployKeyOf(t.Context(), key)
	require.NoError(t, err)
	require.NotNil(t, found)
	assert.Equal(t, "flux", found.Title)
	assert.True(t, found.ReadOnly)
	assert.NotZero(t, found.ID)

	require.NoError(t, r.Delete(t.Context(), found))
	require.ErrorIs(t, r.Delete(t.Context(), found), githubapi.ErrDenied, "it is gone")
	found, err = r.DeployKeyOf(t.Context(), key)
	require.NoError(t, err)
	assert.Nil(t, found)
}

func TestCheckAdministers_SaysWhatTheTokenLacks(t *testing.T) {
	server, r := serve(t)
	require.NoError(t, r.CheckAdministers(t.Context()))

	server.Fail(forge.Fault{Kind: forge.BadCredentials})
	err := r.CheckAdministers(t.Context())
	require.ErrorIs(t, err, githubapi.ErrDenied)
	require.ErrorContains(t, err, "has expired or was revoked")
	require.ErrorContains(t, err, "Administration: read and write")
	assert.NotContains(t, err.Error(), canary)

	server.Fail(forge.Fault{Kind: forge.RateLimit})
	err = r.CheckAdministers(t.Context())
	require.Error(t, err)
	require.NotErrorIs(t, err, githubapi.ErrDenied, "that passes")
	r.Name = "other"
	require.ErrorContains(t, r.CheckAdministers(t.Context()), "there is no such repository, or the token may not see it")
}

func TestCheckAdministers_ATokenWithoutThePermissionIsDenied(t *testing.T) {
	refuses := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"message": "Resource not accessible by personal access token"}`)
	}))
	t.Cleanup(refuses.Close)
	r := &githubapi.Repository{BaseURL: refuses.URL + "/", Owner: "somebody", Name: "home", Token: canary}
	err := r.CheckAdministers(t.Context())
	require.ErrorIs(t, err, githubapi.ErrDenied)
	require.ErrorContains(t, err, "403 Resource not accessible by personal access token: the token lacks a permission")
}

func TestCheckAdministers_NobodyThereIsNoDenial(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	r := &githubapi.Repository{BaseURL: "http://" + listener.Addr().String() + "/", Owner: "somebody", Name: "home", Token: canary}
	err = r.CheckAdministers(t.Context())
	require.Error(t, err)
	require.NotErrorIs(t, err, githubapi.ErrDenied)
	assert.NotContains(t, err.Error(), canary)
}

func TestRepository_ARedirectGetsNoToken(t *testing.T) {
	var seen []string
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		seen = append(seen, request.Header.Get("Authorization"))
		fmt.Fprint(w, "[]")
	}))
	t.Cleanup(elsewhere.Close)
	here := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	t.Cleanup(here.Close)
	r := &githubapi.Repository{BaseURL: here.URL + "/", Owner: "somebody", Name: "home", Token: canary}
	require.NoError(t, r.CheckAdministers(t.Context()))
	assert.Equal(t, []string{""}, seen)
}
