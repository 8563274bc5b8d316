package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/blang/semver"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	packageName      = "command"
	localCommandTok  = tokens.Type("command:local:Command")
	remoteCommandTok = tokens.Type("command:remote:Command")
	copyToRemoteTok  = tokens.Type("command:remote:CopyToRemote")
	localRunTok      = tokens.ModuleMember("command:local:run")
)

// commandProvider answers the engine. What the resources' inputs are is in schema.go; how
// commands are run is in local.go and remote.go, how files are copied in copy.go.
type commandProvider struct {
	plugin.UnimplementedProvider

	version semver.Version
	engine  pulumirpc.EngineClient // nil where nobody gave its address
	// stopping ends when the engine is interrupted, which ends every call under way.
	stopping context.Context //nolint:containedctx // the engine's interrupt is a call of its own
	stop     context.CancelFunc
}

func newProvider(version semver.Version, engine string) (*commandProvider, error) {
	p := &commandProvider{version: version}
	if engine != "" {
		connection, err := grpc.NewClient(engine, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, fmt.Errorf("reaching the engine at %s: %w", engine, err)
		}
		p.engine = pulumirpc.NewEngineClient(connection)
	}
	p.stopping, p.stop = context.WithCancel(context.Background())
	return p, nil
}

func (p *commandProvider) Handshake(context.Context, plugin.ProviderHandshakeRequest) (*plugin.ProviderHandshakeResponse, error) {
	return &plugin.ProviderHandshakeResponse{AcceptSecrets: true, AcceptResources: true}, nil
}

func (p *commandProvider) GetPluginInfo(context.Context) (plugin.PluginInfo, error) {
	return plugin.PluginInfo{Version: &p.version}, nil
}

// GetSchema says what there is, and that this is a stand-in.
func (p *commandProvider) GetSchema(context.Context, plugin.GetSchemaRequest) (plugin.GetSchemaResponse, error) {
	schema, err := json.Marshal(map[string]any{
		"name": packageName, "version": p.version.String(),
		"description": "A stand-in for Pulumi's command plugin; for rehearsals and tests.",
		"types":       typeSchemas(), "resources": resourceSchemas(), "functions": functionSchemas(),
	})
	return plugin.GetSchemaResponse{Schema: schema}, err
}

// CheckConfig takes whatever there is: there is nothing to configure.
func (p *commandProvider) CheckConfig(_ context.Context, request plugin.CheckConfigRequest) (plugin.CheckConfigResponse, error) {
	return plugin.CheckConfigResponse{Properties: request.News}, nil
}

func (p *commandProvider) DiffConfig(context.Context, plugin.DiffConfigRequest) (plugin.DiffConfigResponse, error) {
	return plugin.DiffResult{Changes: plugin.DiffNone}, nil
}

func (p *commandProvider) Configure(context.Context, plugin.ConfigureRequest) (plugin.ConfigureResponse, error) {
	return plugin.ConfigureResponse{}, nil
}

func (p *commandProvider) Check(_ context.Context, request plugin.CheckRequest) (plugin.CheckResponse, error) {
	fields, err := fieldsOf(request.Type)
	if err != nil {
		return plugin.CheckResponse{}, err
	}
	inputs, failures := check(fields, request.News)
	return plugin.CheckResponse{Properties: inputs, Failures: failures}, nil
}

// Diff compares inputs with inputs. A change within the triggers is told as a change: it is
// the SDK that has the engine replace for it.
func (p *commandProvider) Diff(_ context.Context, request plugin.DiffRequest) (plugin.DiffResponse, error) {
	fields, err := fieldsOf(request.Type)
	if err != nil {
		return plugin.DiffResult{}, err
	}
	news := ignoring(request.NewInputs, request.OldOutputs, request.IgnoreChanges)
	for key := range news {
		if ofTheEngine(key) {
			delete(news, key)
		}
	}
	changes := request.OldInputs.Diff(news)
	if changes == nil {
		return plugin.DiffResult{Changes: plugin.DiffNone}, nil
	}
	detailed := plugin.NewDetailedDiffFromObjectDiff(changes, false)
	for path, change := range detailed {
		if fields[resource.PropertyKey(path)].replaces {
			change.Kind = change.Kind.AsReplace()
			detailed[path] = change
		}
	}
	return plugin.DiffResult{Changes: plugin.DiffSome, ChangedKeys: changes.ChangedKeys(), DetailedDiff: detailed}, nil
}

// Create runs nothing in a preview.
func (p *commandProvider) Create(ctx context.Context, request plugin.CreateRequest) (plugin.CreateResponse, error) {
	if _, err := fieldsOf(request.Type); err != nil {
		return plugin.CreateResponse{}, err
	}
	if request.Preview {
		return plugin.CreateResponse{Properties: planned(request.Type, request.Properties), Status: resource.StatusOK}, nil
	}
	prefix := request.URN.Name()
	if request.Type == copyToRemoteTok {
		prefix = ""
	}
	id, err := resource.NewUniqueHex(prefix, 8, 0)
	if err != nil {
		return plugin.CreateResponse{}, err
	}
	ctx, done := p.call(ctx, request.Timeout)
	defer done()
	state, err := p.apply(ctx, request.URN, request.Type, creates, nil, request.Properties)
	if err != nil {
		return plugin.CreateResponse{}, err
	}
	return plugin.CreateResponse{ID: resource.ID(id), Properties: state, Status: resource.StatusOK}, nil
}

// Read asks nobody: what a command has made can't be seen.
func (p *commandProvider) Read(_ context.Context, request plugin.ReadRequest) (plugin.ReadResponse, error) {
	if _, err := fieldsOf(request.Type); err != nil {
		return plugin.ReadResponse{}, err
	}
	// With nothing to say of an import, it is there all the same.
	inputs, state := resource.PropertyMap{}, resource.PropertyMap{}
	maps.Copy(inputs, request.Inputs)
	maps.Copy(state, request.State)
	return plugin.ReadResponse{
		ReadResult: plugin.ReadResult{ID: request.ID, Inputs: inputs, Outputs: state},
		Status:     resource.StatusOK,
	}, nil
}

func (p *commandProvider) Update(ctx context.Context, request plugin.UpdateRequest) (plugin.UpdateResponse, error) {
	fields, err := fieldsOf(request.Type)
	if err != nil {
		return plugin.UpdateResponse{}, err
	}
	news := ignoring(request.NewInputs, request.OldOutputs, request.IgnoreChanges)
	if request.Preview {
		return plugin.UpdateResponse{Properties: plannedUpdate(request.Type, fields, request.OldOutputs, news), Status: resource.StatusOK}, nil
	}
	ctx, done := p.call(ctx, request.Timeout)
	defer done()
	state, err := p.apply(ctx, request.URN, request.Type, updates, request.OldOutputs, news)
	if err != nil {
		return plugin.UpdateResponse{}, err
	}
	return plugin.UpdateResponse{Properties: state, Status: resource.StatusOK}, nil
}

func (p *commandProvider) Delete(ctx context.Context, request plugin.DeleteRequest) (plugin.DeleteResponse, error) {
	if _, err := fieldsOf(request.Type); err != nil {
		return plugin.DeleteResponse{}, err
	}
	ctx, done := p.call(ctx, request.Timeout)
	defer done()
	_, err := p.apply(ctx, request.URN, request.Type, deletes, request.Outputs, request.Outputs)
	return plugin.DeleteResponse{Status: resource.StatusOK}, err
}

// Invoke runs a local command, in a preview too.
func (p *commandProvider) Invoke(ctx context.Context, request plugin.InvokeRequest) (plugin.InvokeResponse, error) {
	if request.Tok != localRunTok {
		return plugin.InvokeResponse{}, unknownToken(string(request.Tok))
	}
	checked, failures := check(localRunFields(), request.Args)
	if len(failures) > 0 {
		return plugin.InvokeResponse{Failures: failures}, nil
	}
	inputs, err := decode(checked)
	if err != nil {
		return plugin.InvokeResponse{}, err
	}
	ctx, done := p.call(ctx, 0)
	defer done()
	result, err := runLocal(ctx, inputs, inputs.Command, outcome{}, p.speaker(ctx, ""))
	if err != nil {
		return plugin.InvokeResponse{}, err
	}
	return plugin.InvokeResponse{Properties: result.into(checked)}, nil
}

// SignalCancellation is the engine's interrupt.
func (p *commandProvider) SignalCancellation(context.Context) error {
	p.stop()
	return nil
}

// Close ends with the process.
func (p *commandProvider) Close() error {
	p.stop()
	return nil
}

// action is what a call is about.
type action int

const (
	creates action = iota
	updates
	deletes
)

// apply does what a resource is for, and returns its new state.
func (p *commandProvider) apply(ctx context.Context, urn resource.URN, kind tokens.Type, what action, state, properties resource.PropertyMap) (resource.PropertyMap, error) {
	inputs, err := decode(properties)
	if err != nil {
		return nil, err
	}
	say := p.speaker(ctx, urn)
	if kind == copyToRemoteTok {
		if what == deletes || what == updates && sameCopy(state, properties) {
			return properties, nil
		}
		return properties, copyToRemote(ctx, inputs, properties["source"], say)
	}
	previous := outcomeOf(state)
	command, given := inputs.command(what)
	if !given {
		return previous.into(properties), nil
	}
	run := runLocal
	if kind == remoteCommandTok {
		run = runRemote
	}
	result, err := run(ctx, inputs, command, previous, say)
	if err != nil {
		return nil, err
	}
	return result.into(properties), nil
}

// call is the context of one that runs something: it ends when the engine is interrupted, and
// after the time that the resource's options give it in seconds, if any.
func (p *commandProvider) call(ctx context.Context, timeout float64) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	if timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(timeout*float64(time.Second)))
	}
	unlink := context.AfterFunc(p.stopping, cancel)
	return ctx, func() { unlink(); cancel() }
}

// speaker says things about a resource to the engine.
type speaker struct {
	ctx    context.Context //nolint:containedctx // it lives as long as one call
	engine pulumirpc.EngineClient
	urn    resource.URN
}

func (p *commandProvider) speaker(ctx context.Context, urn resource.URN) speaker {
	// What a command said before it was ended is worth hearing.
	return speaker{ctx: context.WithoutCancel(ctx), engine: p.engine, urn: urn}
}

// status is shown while it is the latest.
func (s speaker) status(message string) {
	s.log(&pulumirpc.LogRequest{Severity: pulumirpc.LogSeverity_INFO, Message: message, Ephemeral: true})
}

// lasting is shown in the end, too.
func (s speaker) lasting(severity pulumirpc.LogSeverity, message string) {
	s.log(&pulumirpc.LogRequest{Severity: severity, Message: message})
}

func (s speaker) log(request *pulumirpc.LogRequest) {
	if s.engine != nil {
		request.Urn = string(s.urn)
		_, _ = s.engine.Log(s.ctx, request)
	}
}

// ignoring has the old values of what a resource's options say to ignore.
func ignoring(news, olds resource.PropertyMap, ignored []string) resource.PropertyMap {
	news = news.Copy()
	for _, key := range ignored {
		if value, there := olds[resource.PropertyKey(key)]; there {
			news[resource.PropertyKey(key)] = value
		}
	}
	return news
}

// ofTheEngine tells what the engine and SDKs add to inputs.
func ofTheEngine(key resource.PropertyKey) bool {
	return key == "version" || strings.HasPrefix(string(key), "__")
}

func unknownToken(token string) error {
	return fmt.Errorf("the stand-in of the command plugin knows no %s; %s", token, installOfficial)
}
