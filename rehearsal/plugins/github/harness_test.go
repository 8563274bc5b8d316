package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"github.com/stretchr/testify/require"

	forge "github.com/nullify005/manager-cluster-state/rehearsal/forge/github"
	"github.com/nullify005/manager-cluster-state/rehearsal/plugins/plugintest"
)

const (
	token      = "ghp_canary-of-the-contract-tests"
	owner      = "somebody"
	repository = "home"
	urn        = "urn:pulumi:test::manager-cluster-state::github:index/repositoryDeployKey:RepositoryDeployKey::key"
	kind       = string(deployKeyTok)
)

var contract = &plugintest.Contract{Name: packageName, Version: "v6.14.1"}

func TestMain(m *testing.M) { os.Exit(contract.Run(m)) }

// onEach runs a test of the contract with either plugin.
func onEach(t *testing.T, test func(t *testing.T, p *started)) {
	t.Helper()
	contract.OnEach(t, environment(), func(t *testing.T, p *plugintest.Plugin) { test(t, start(t, p)) })
}

func startStandIn(t *testing.T) *started {
	t.Helper()
	return start(t, contract.StandIn(t, environment()...))
}

// environment has nothing of the user's own GitHub.
func environment() []string {
	var without []string
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "GITHUB_") {
			without = append(without, name)
		}
	}
	return without
}

// started is a plugin that runs, configured for a stand-in of GitHub's API.
type started struct {
	*plugintest.Plugin

	t        *testing.T
	api      *forge.Server
	baseURL  string
	requests *atomic.Int64
}

// start configures a plugin with the right token.
func start(t *testing.T, plugin *plugintest.Plugin) *started {
	t.Helper()
	api, err := forge.New(forge.Options{Token: token, Repositories: []string{owner + "/" + repository, owner + "/other"}})
	require.NoError(t, err)
	p := &started{Plugin: plugin, t: t, api: api, requests: &atomic.Int64{}}
	listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/keys") {
			p.requests.Add(1)
		}
		api.ServeHTTP(w, r)
	}))
	t.Cleanup(listener.Close)
	p.baseURL = listener.URL + "/"
	p.configure(resource.PropertyMap{"token": resource.MakeSecret(resource.NewProperty(token))})
	return p
}

// configure configures the plugin anew.
func (p *started) configure(inputs resource.PropertyMap) {
	p.t.Helper()
	all := resource.PropertyMap{
		"owner": resource.NewProperty(owner), "baseUrl": resource.NewProperty(p.baseURL),
		"retryDelayMs": resource.NewProperty("10"), "maxRetries": resource.NewProperty("3"),
	}
	maps.Copy(all, inputs)
	variables := map[string]string{}
	for key, value := range all {
		if text := plain(value); text.IsString() {
			variables["github:config:"+string(key)] = text.StringValue()
		}
	}
	_, err := p.Configure(p.t.Context(), &pulumirpc.ConfigureRequest{
		Args: p.Marshal(all), AcceptSecrets: true, AcceptResources: true,
		Variables: variables, //nolint:staticcheck // the official plugin may read them
	})
	require.NoError(p.t, err)
}

func (p *started) check(news resource.PropertyMap) (resource.PropertyMap, []*pulumirpc.CheckFailure) {
	p.t.Helper()
	response, err := p.Check(p.t.Context(), &pulumirpc.CheckRequest{Urn: urn, Name: "key", Type: kind, News: p.Marshal(news), RandomSeed: make([]byte, 32)})
	require.NoError(p.t, err)
	return p.Unmarshal(response.GetInputs()), response.GetFailures()
}

// create registers a key, checked before as the engine does.
func (p *started) create(ctx context.Context, news resource.PropertyMap) (id string, state resource.PropertyMap, err error) {
	p.t.Helper()
	inputs, failures := p.check(news) //nolint:contextcheck // ctx ends the creation alone
	require.Empty(p.t, failures)
	response, err := p.Create(ctx, &pulumirpc.CreateRequest{Urn: urn, Name: "key", Type: kind, Properties: p.Marshal(inputs)})
	if err != nil {
		return "", nil, err
	}
	return response.GetId(), p.Unmarshal(response.GetProperties()), nil
}

func (p *started) mustCreate(news resource.PropertyMap) (id string, state resource.PropertyMap) {
	p.t.Helper()
	id, state, err := p.create(p.t.Context(), news)
	require.NoError(p.t, err)
	return id, state
}

func (p *started) read(id string, inputs, state resource.PropertyMap) (*pulumirpc.ReadResponse, error) {
	p.t.Helper()
	request := &pulumirpc.ReadRequest{Id: id, Urn: urn, Name: "key", Type: kind}
	if inputs != nil {
		request.Inputs, request.Properties = p.Marshal(inputs), p.Marshal(state)
	}
	return p.Read(p.t.Context(), request)
}

func (p *started) delete(id string, state resource.PropertyMap) error {
	p.t.Helper()
	_, err := p.Delete(p.t.Context(), &pulumirpc.DeleteRequest{
		Id: id, Urn: urn, Name: "key", Type: kind, Properties: p.Marshal(state), OldInputs: p.Marshal(state),
	})
	return err
}

// byHand deletes a key as its owner does, at GitHub.
func (p *started) byHand(number int64) {
	p.t.Helper()
	request, err := http.NewRequestWithContext(p.t.Context(), http.MethodDelete,
		fmt.Sprintf("%srepos/%s/%s/keys/%d", p.baseURL, owner, repository, number), nil)
	require.NoError(p.t, err)
	request.Header.Set("Authorization", "token "+token)
	response, err := http.DefaultClient.Do(request)
	require.NoError(p.t, err)
	require.NoError(p.t, response.Body.Close())
	require.Equal(p.t, http.StatusNoContent, response.StatusCode)
}
