package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/blang/semver"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
)

const (
	packageName  = "github"
	deployKeyTok = tokens.Type("github:index/repositoryDeployKey:RepositoryDeployKey")
)

// githubProvider answers the engine. The resource's own rules are in deploykey.go, GitHub's
// API is in client.go.
type githubProvider struct {
	plugin.UnimplementedProvider

	version     semver.Version
	environment func(string) string
	// stopping ends when the engine is interrupted, which ends every call under way.
	stopping context.Context //nolint:containedctx // the engine's interrupt is a call of its own
	stop     context.CancelFunc

	mutex  sync.Mutex
	client *client
}

func newProvider(version semver.Version, environment func(string) string) *githubProvider {
	stopping, stop := context.WithCancel(context.Background())
	return &githubProvider{version: version, environment: environment, stopping: stopping, stop: stop}
}

func (p *githubProvider) Handshake(context.Context, plugin.ProviderHandshakeRequest) (*plugin.ProviderHandshakeResponse, error) {
	return &plugin.ProviderHandshakeResponse{AcceptSecrets: true}, nil
}

func (p *githubProvider) GetPluginInfo(context.Context) (plugin.PluginInfo, error) {
	return plugin.PluginInfo{Version: &p.version}, nil
}

// GetSchema says what there is, and that this is a stand-in.
func (p *githubProvider) GetSchema(context.Context, plugin.GetSchemaRequest) (plugin.GetSchemaResponse, error) {
	schema, err := json.Marshal(map[string]any{
		"name": packageName, "version": p.version.String(),
		"description": "A stand-in for Pulumi's github plugin, with deploy keys alone; for rehearsals and tests.",
		"config":      map[string]any{"variables": configSchema()},
		"provider":    map[string]any{"inputProperties": configSchema()},
		"resources":   map[tokens.Type]any{deployKeyTok: deployKeySchema()},
	})
	return plugin.GetSchemaResponse{Schema: schema}, err
}

func configSchema() map[string]any {
	return map[string]any{
		"owner": property("string"), "baseUrl": property("string"),
		"token":      map[string]any{"type": "string", "secret": true},
		"maxRetries": property("integer"), "retryDelayMs": property("integer"),
	}
}

func property(kind string) map[string]any { return map[string]any{"type": kind} }

// CheckConfig leaves the environment out of the inputs: what comes from there is not for the
// state. The token is secret, whatever the program made of it.
func (p *githubProvider) CheckConfig(_ context.Context, request plugin.CheckConfigRequest) (plugin.CheckConfigResponse, error) {
	inputs := request.News.Copy()
	var failures []plugin.CheckFailure
	for _, key := range inputs.StableKeys() {
		if _, known := configSchema()[string(key)]; !known && key != "version" && key != "pluginDownloadURL" {
			failures = append(failures, plugin.CheckFailure{
				Property: key, Reason: fmt.Sprintf("the stand-in of the github plugin does not know %q; install the official one for it", key),
			})
		}
	}
	if token, given := inputs["token"]; given && !token.IsSecret() && !token.IsComputed() {
		inputs["token"] = resource.MakeSecret(token)
	}
	return plugin.CheckConfigResponse{Properties: inputs, Failures: failures}, nil
}

// DiffConfig: every change of the configuration is an update.
func (p *githubProvider) DiffConfig(_ context.Context, request plugin.DiffConfigRequest) (plugin.DiffConfigResponse, error) {
	var changed []resource.PropertyKey
	for key := range configSchema() {
		key := resource.PropertyKey(key)
		if !plain(request.OldInputs[key]).DeepEquals(plain(request.NewInputs[key])) {
			changed = append(changed, key)
		}
	}
	slices.Sort(changed)
	if len(changed) == 0 {
		return plugin.DiffResult{Changes: plugin.DiffNone}, nil
	}
	return plugin.DiffResult{Changes: plugin.DiffSome, ChangedKeys: changed}, nil
}

// Configure asks nobody: a preview works with no network.
func (p *githubProvider) Configure(_ context.Context, request plugin.ConfigureRequest) (plugin.ConfigureResponse, error) {
	settings, err := readSettings(request.Inputs, p.environment)
	if err != nil {
		return plugin.ConfigureResponse{}, err
	}
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.client, err = newClient(settings)
	return plugin.ConfigureResponse{}, err
}

func (p *githubProvider) Check(_ context.Context, request plugin.CheckRequest) (plugin.CheckResponse, error) {
	if err := known(request.Type); err != nil {
		return plugin.CheckResponse{}, err
	}
	inputs, failures := checkDeployKey(request.News)
	return plugin.CheckResponse{Properties: inputs, Failures: failures}, nil
}

func (p *githubProvider) Diff(_ context.Context, request plugin.DiffRequest) (plugin.DiffResponse, error) {
	if err := known(request.Type); err != nil {
		return plugin.DiffResult{}, err
	}
	return diffDeployKey(request.OldOutputs, request.NewInputs, request.IgnoreChanges), nil
}

func (p *githubProvider) Create(ctx context.Context, request plugin.CreateRequest) (plugin.CreateResponse, error) {
	if err := known(request.Type); err != nil {
		return plugin.CreateResponse{}, err
	}
	if request.Preview {
		return plugin.CreateResponse{Properties: plannedDeployKey(request.Properties), Status: resource.StatusOK}, nil
	}
	ctx, done, api, err := p.call(ctx)
	if err != nil {
		return plugin.CreateResponse{}, err
	}
	defer done()
	id, state, err := createDeployKey(ctx, api, request.Properties)
	return plugin.CreateResponse{ID: id, Properties: state, Status: resource.StatusOK}, err
}

func (p *githubProvider) Read(ctx context.Context, request plugin.ReadRequest) (plugin.ReadResponse, error) {
	if err := known(request.Type); err != nil {
		return plugin.ReadResponse{}, err
	}
	ctx, done, api, err := p.call(ctx)
	if err != nil {
		return plugin.ReadResponse{}, err
	}
	defer done()
	result, err := readDeployKey(ctx, api, request.ID, request.Inputs)
	return plugin.ReadResponse{ReadResult: result, Status: resource.StatusOK}, err
}

// Update is never right: every change of a deploy key is a replacement.
func (p *githubProvider) Update(context.Context, plugin.UpdateRequest) (plugin.UpdateResponse, error) {
	return plugin.UpdateResponse{}, errors.New("GitHub can't change a deploy key: it is to be replaced")
}

func (p *githubProvider) Delete(ctx context.Context, request plugin.DeleteRequest) (plugin.DeleteResponse, error) {
	if err := known(request.Type); err != nil {
		return plugin.DeleteResponse{}, err
	}
	ctx, done, api, err := p.call(ctx)
	if err != nil {
		return plugin.DeleteResponse{}, err
	}
	defer done()
	return plugin.DeleteResponse{Status: resource.StatusOK}, deleteDeployKey(ctx, api, request.ID)
}

// SignalCancellation is the engine's interrupt.
func (p *githubProvider) SignalCancellation(context.Context) error {
	p.stop()
	return nil
}

// Close ends with the process.
func (p *githubProvider) Close() error {
	p.stop()
	return nil
}

// call is what a call to GitHub needs: a context that the engine's interrupt ends too.
func (p *githubProvider) call(ctx context.Context) (context.Context, func(), *client, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.client == nil {
		return nil, nil, nil, errors.New("the github provider is not configured yet")
	}
	ctx, cancel := context.WithCancel(ctx)
	unlink := context.AfterFunc(p.stopping, cancel)
	return ctx, func() { unlink(); cancel() }, p.client, nil
}

func known(kind tokens.Type) error {
	if kind != deployKeyTok {
		return fmt.Errorf("the stand-in of the github plugin knows no %s; install the official one: pulumi plugin install resource github", kind)
	}
	return nil
}

// plain is a value without its secrecy.
func plain(value resource.PropertyValue) resource.PropertyValue {
	for value.IsSecret() {
		value = value.SecretValue().Element
	}
	return value
}
