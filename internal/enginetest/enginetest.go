// Package enginetest runs a Pulumi program of a test with the real engine: the program runs in the
// test's own process, and the engine and its plugins as they do for a real stack.
package enginetest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/nullify005/manager-cluster-state/rehearsal/plugins"
)

// Engine has one stack of a program, in a folder that goes with the test.
type Engine struct {
	// Folder is that of Pulumi.yaml.
	Folder string

	program pulumi.RunFunc
	tool    string
}

// New makes a stack of the program. The project is the folder of go.mod, whose tools and plugins
// are used.
func New(t *testing.T, project string, program pulumi.RunFunc, wanted ...string) *Engine {
	t.Helper()
	project, err := filepath.Abs(project)
	require.NoError(t, err)
	e := &Engine{Folder: t.TempDir(), program: program, tool: filepath.Join(project, ".tools", "bin", "pulumi")}
	if _, err := exec.LookPath(e.tool); err != nil {
		t.Skip("there is no Pulumi among the tools of the project: make tools")
	}
	for _, plugin := range wanted {
		_, err = plugins.Target{Project: project, Home: e.home()}.Ensure(t.Context(), plugin)
		require.NoError(t, err)
	}
	require.NoError(t, os.MkdirAll(filepath.Join(e.Folder, "state"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(e.Folder, "Pulumi.yaml"), []byte("name: manager-cluster-state\nruntime: go\n"), 0o600))
	e.Must(t, "stack", "init", "test")
	return e
}

func (e *Engine) home() string { return filepath.Join(e.Folder, "home") }

// Run runs a command of Pulumi, and returns all that it said.
func (e *Engine) Run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	gone := make(chan bool)
	defer close(gone)
	if args[0] == "up" || args[0] == "preview" {
		server, err := rpcutil.ServeWithOptions(rpcutil.ServeOptions{Cancel: gone, Init: func(server *grpc.Server) error {
			pulumirpc.RegisterLanguageRuntimeServer(server, &language{program: e.program})
			return nil
		}})
		require.NoError(t, err)
		args = append(args, fmt.Sprintf("--client=127.0.0.1:%d", server.Port), "--exec-kind=auto.inline")
	}
	cmd := exec.CommandContext(ctx, e.tool, append(args, "--non-interactive", "--color=never")...)
	cmd.Dir = e.Folder
	cmd.Env = slices.DeleteFunc(os.Environ(), func(entry string) bool {
		return strings.HasPrefix(entry, "PULUMI_") || strings.HasPrefix(entry, "SSH_AUTH_SOCK=")
	})
	cmd.Env = append(cmd.Env,
		"PULUMI_HOME="+e.home(), "PULUMI_BACKEND_URL=file://"+filepath.Join(e.Folder, "state"), "PULUMI_STACK=test",
		"PULUMI_CONFIG_PASSPHRASE=test", "PULUMI_SKIP_UPDATE_CHECK=true", "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION=true")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Must is Run of what does not fail.
func (e *Engine) Must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := e.Run(t, args...)
	require.NoError(t, err, out)
	return out
}

// Up is an update that does not fail.
func (e *Engine) Up(t *testing.T) string {
	t.Helper()
	return e.Must(t, "up", "--yes", "--skip-preview", "--suppress-progress")
}

// Fails is an update that does.
func (e *Engine) Fails(t *testing.T) string {
	t.Helper()
	out, err := e.Run(t, "up", "--yes", "--skip-preview", "--suppress-progress")
	require.Error(t, err, out)
	return out
}

// Plan is what an update would do, as a preview has it: the names of resources, by operation.
func (e *Engine) Plan(t *testing.T) map[string][]string {
	t.Helper()
	var preview struct {
		Steps []struct {
			Op  string `json:"op"`
			URN string `json:"urn"`
		} `json:"steps"`
	}
	out := e.Must(t, "preview", "--json")
	_, object, _ := strings.Cut(out, "{") // a warning may come before it
	require.NoError(t, json.Unmarshal([]byte("{"+object), &preview), out)
	plan := map[string][]string{}
	for _, step := range preview.Steps {
		if step.Op != "same" {
			plan[step.Op] = append(plan[step.Op], step.URN[strings.LastIndex(step.URN, "::")+2:])
		}
	}
	for _, names := range plan {
		slices.Sort(names)
	}
	return plan
}

// language is what runs a program for the engine.
type language struct {
	pulumirpc.UnimplementedLanguageRuntimeServer

	program pulumi.RunFunc
}

func (*language) GetPluginInfo(context.Context, *emptypb.Empty) (*pulumirpc.PluginInfo, error) {
	return &pulumirpc.PluginInfo{Version: "1.0.0"}, nil
}

func (*language) GetRequiredPlugins(context.Context, *pulumirpc.GetRequiredPluginsRequest) (*pulumirpc.GetRequiredPluginsResponse, error) {
	return &pulumirpc.GetRequiredPluginsResponse{}, nil
}

func (l *language) Run(ctx context.Context, request *pulumirpc.RunRequest) (*pulumirpc.RunResponse, error) {
	inside, err := pulumi.NewContext(ctx, pulumi.RunInfo{
		EngineAddr: request.GetArgs()[0], MonitorAddr: request.GetMonitorAddress(), Project: request.GetProject(), Stack: request.GetStack(),
		Parallel: request.GetParallel(), DryRun: request.GetDryRun(), Organization: request.GetOrganization(),
		Config: request.GetConfig(), ConfigSecretKeys: request.GetConfigSecretKeys(),
	})
	if err != nil {
		return nil, fmt.Errorf("beginning the program of the test: %w", err)
	}
	defer func() { _ = inside.Close() }() // what it could not send, the engine misses
	if err := pulumi.RunWithContext(inside, l.program); err != nil {
		return &pulumirpc.RunResponse{Error: err.Error()}, nil
	}
	return &pulumirpc.RunResponse{}, nil
}
