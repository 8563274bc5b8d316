package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"

	forge "github.com/nullify005/manager-cluster-state/rehearsal/forge/github"
)

const (
	token      = "ghp_canary-of-the-contract-tests"
	owner      = "somebody"
	repository = "home"
	urn        = "urn:pulumi:test::manager-cluster-state::github:index/repositoryDeployKey:RepositoryDeployKey::key"
	kind       = string(deployKeyTok)
	// officialVariable names the official plugin, where it is not among Pulumi's own.
	officialVariable = "MCS_GITHUB_PLUGIN"
	standIn          = "stand-in"
	official         = "official"
)

// standInPath is where TestMain has built the stand-in.
var standInPath string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "github-plugin")
	if err != nil {
		fmt.Fprintln(os.Stderr, "making a folder for the plugin:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	standInPath = filepath.Join(dir, "pulumi-resource-github")
	if out, err := exec.CommandContext(context.Background(), "go", "build", "-o", standInPath, "-ldflags", "-X main.version=v6.14.1", ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the plugin: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// officialPath finds the official plugin, if it is on this machine.
func officialPath() string {
	if path := os.Getenv(officialVariable); path != "" {
		return path
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	found, err := filepath.Glob(filepath.Join(home, ".pulumi", "plugins", "resource-github-v6*", "pulumi-resource-github"))
	if err != nil || len(found) == 0 {
		return ""
	}
	return found[len(found)-1]
}

// onEach runs a test of the contract with either plugin.
func onEach(t *testing.T, test func(t *testing.T, p *started)) {
	t.Helper()
	t.Run(standIn, func(t *testing.T) { test(t, start(t, standInPath)) })
	t.Run(official, func(t *testing.T) {
		path := officialPath()
		if path == "" {
			t.Skip("the official plugin is not installed: pulumi plugin install resource github, or name one in " + officialVariable)
		}
		test(t, start(t, path))
	})
}

// started is a plugin that runs, configured for a stand-in of GitHub's API.
type started struct {
	pulumirpc.ResourceProviderClient

	t        *testing.T
	standIn  bool
	api      *forge.Server
	baseURL  string
	requests *atomic.Int64
	said     *recorder
}

// recorder keeps what a plugin says, to its standard streams and to the engine.
type recorder struct {
	pulumirpc.UnimplementedEngineServer

	mutex sync.Mutex
	text  strings.Builder
}

func (r *recorder) Write(data []byte) (int, error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return r.text.Write(data)
}

func (r *recorder) Log(_ context.Context, request *pulumirpc.LogRequest) (*emptypb.Empty, error) {
	_, err := r.Write([]byte(request.GetMessage() + "\n"))
	return &emptypb.Empty{}, err
}

func (r *recorder) String() string {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return r.text.String()
}

// start runs a plugin as the engine does, and configures it with the right token.
func start(t *testing.T, path string) *started {
	t.Helper()
	api, err := forge.New(forge.Options{Token: token, Repositories: []string{owner + "/" + repository, owner + "/other"}})
	require.NoError(t, err)
	p := &started{t: t, standIn: path == standInPath, api: api, requests: &atomic.Int64{}, said: &recorder{}}
	listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/keys") {
			p.requests.Add(1)
		}
		api.ServeHTTP(w, r)
	}))
	t.Cleanup(listener.Close)
	p.baseURL = listener.URL + "/"

	engineGone := make(chan bool)
	engine, err := rpcutil.ServeWithOptions(rpcutil.ServeOptions{Cancel: engineGone, Init: func(server *grpc.Server) error {
		pulumirpc.RegisterEngineServer(server, p.said)
		return nil
	}})
	require.NoError(t, err)
	t.Cleanup(func() { close(engineGone) })

	cmd := exec.CommandContext(t.Context(), path, "127.0.0.1:"+strconv.Itoa(engine.Port))
	cmd.Env = slices.DeleteFunc(os.Environ(), func(entry string) bool { return strings.HasPrefix(entry, "GITHUB_") })
	cmd.Stderr = p.said
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { stop(t, cmd) })
	lines := bufio.NewReader(stdout)
	port, err := lines.ReadString('\n')
	require.NoError(t, err, "the plugin said no port: %s", p.said)
	go func() { _, _ = io.Copy(p.said, lines) }()

	connection, err := grpc.NewClient("127.0.0.1:"+strings.TrimSpace(port), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, connection.Close()) })
	p.ResourceProviderClient = pulumirpc.NewResourceProviderClient(connection)
	p.configure(resource.PropertyMap{"token": resource.MakeSecret(resource.NewProperty(token))})
	return p
}

// stop interrupts a plugin, as the engine does, and waits until it is gone.
func stop(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	_ = cmd.Process.Signal(os.Interrupt)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		_ = cmd.Process.Kill()
		t.Error("the plugin did not end within 10 s of an interrupt")
	}
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
		Args: p.marshal(all), AcceptSecrets: true, AcceptResources: true,
		Variables: variables, //nolint:staticcheck // the official plugin may read them
	})
	require.NoError(p.t, err)
}

func (p *started) marshal(properties resource.PropertyMap) *structpb.Struct {
	p.t.Helper()
	marshalled, err := plugin.MarshalProperties(properties, plugin.MarshalOptions{KeepUnknowns: true, KeepSecrets: true})
	require.NoError(p.t, err)
	return marshalled
}

func (p *started) unmarshal(properties *structpb.Struct) resource.PropertyMap {
	p.t.Helper()
	unmarshalled, err := plugin.UnmarshalProperties(properties, plugin.MarshalOptions{KeepUnknowns: true, KeepSecrets: true})
	require.NoError(p.t, err)
	return unmarshalled
}

func (p *started) check(news resource.PropertyMap) (resource.PropertyMap, []*pulumirpc.CheckFailure) {
	p.t.Helper()
	response, err := p.Check(p.t.Context(), &pulumirpc.CheckRequest{Urn: urn, Name: "key", Type: kind, News: p.marshal(news), RandomSeed: make([]byte, 32)})
	require.NoError(p.t, err)
	return p.unmarshal(response.GetInputs()), response.GetFailures()
}

// create registers a key, checked before as the engine does.
func (p *started) create(ctx context.Context, news resource.PropertyMap) (id string, state resource.PropertyMap, err error) {
	p.t.Helper()
	inputs, failures := p.check(news) //nolint:contextcheck // ctx ends the creation alone
	require.Empty(p.t, failures)
	response, err := p.Create(ctx, &pulumirpc.CreateRequest{Urn: urn, Name: "key", Type: kind, Properties: p.marshal(inputs)})
	if err != nil {
		return "", nil, err
	}
	return response.GetId(), p.unmarshal(response.GetProperties()), nil
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
		request.Inputs, request.Properties = p.marshal(inputs), p.marshal(state)
	}
	return p.Read(p.t.Context(), request)
}

func (p *started) delete(id string, state resource.PropertyMap) error {
	p.t.Helper()
	_, err := p.Delete(p.t.Context(), &pulumirpc.DeleteRequest{
		Id: id, Urn: urn, Name: "key", Type: kind, Properties: p.marshal(state), OldInputs: p.marshal(state),
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

// within fails the test when something takes longer than it may.
func within(t *testing.T, bound time.Duration, do func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-time.After(bound):
		t.Fatalf("not done within %s", bound)
		return errors.New("too late")
	}
}
