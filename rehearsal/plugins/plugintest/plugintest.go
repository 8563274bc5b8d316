// Package plugintest runs plugins as the engine does, for the contract tests that a stand-in
// and the official plugin of its name both have to pass.
package plugintest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/semver"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// Contract is what the plugins of a name are held to.
type Contract struct {
	// Name of the plugin, as github.
	Name string
	// Version of the official plugin that the stand-in stands in for, as v6.14.1.
	Version string

	standIn string
}

// Run builds the stand-in, which is the package that is tested, runs the tests, and returns
// the exit code; it is for TestMain.
func (c *Contract) Run(m *testing.M) int {
	dir, err := os.MkdirTemp("", c.Name+"-plugin")
	if err != nil {
		fmt.Fprintln(os.Stderr, "making a folder for the plugin:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	c.standIn = filepath.Join(dir, c.file())
	build := exec.CommandContext(context.Background(), "go", "build", "-o", c.standIn, "-ldflags", "-X main.version="+c.Version, ".")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the plugin: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

func (c *Contract) file() string { return "pulumi-resource-" + c.Name }

// variable of the environment that names the official plugin, where it is not among Pulumi's own.
func (c *Contract) variable() string { return "MCS_" + strings.ToUpper(c.Name) + "_PLUGIN" }

// official finds the official plugin, if it is on this machine.
func (c *Contract) official() string {
	if path := os.Getenv(c.variable()); path != "" {
		return path
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	found, err := filepath.Glob(filepath.Join(home, ".pulumi", "plugins", "resource-"+c.Name+"-"+semver.Major(c.Version)+".*", c.file()))
	if err != nil || len(found) == 0 {
		return ""
	}
	return found[len(found)-1]
}

// StandIn runs the stand-in.
func (c *Contract) StandIn(t *testing.T, environment ...string) *Plugin {
	t.Helper()
	return start(t, c.standIn, true, environment)
}

// OnEach runs a test of the contract with either plugin.
func (c *Contract) OnEach(t *testing.T, environment []string, test func(t *testing.T, p *Plugin)) {
	t.Helper()
	t.Run("stand-in", func(t *testing.T) { test(t, c.StandIn(t, environment...)) })
	t.Run("official", func(t *testing.T) {
		path := c.official()
		if path == "" {
			t.Skipf("the official plugin is not installed: pulumi plugin install resource %s, or name one in %s", c.Name, c.variable())
		}
		test(t, start(t, path, false, environment))
	})
}

// Plugin is one that runs.
type Plugin struct {
	pulumirpc.ResourceProviderClient

	// IsStandIn tells that it is not the official one.
	IsStandIn bool
	// Said is all that it says, to its standard streams and to the engine.
	Said *Said

	t *testing.T
}

// Said keeps what a plugin says.
type Said struct {
	pulumirpc.UnimplementedEngineServer

	mutex sync.Mutex
	text  strings.Builder
}

func (s *Said) Write(data []byte) (int, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.text.Write(data)
}

// Log is what the engine is told.
func (s *Said) Log(_ context.Context, request *pulumirpc.LogRequest) (*emptypb.Empty, error) {
	_, err := s.Write([]byte(request.GetMessage() + "\n"))
	return &emptypb.Empty{}, err
}

func (s *Said) String() string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.text.String()
}

// start runs a plugin as the engine does. Entries of the environment replace those of their
// name; one with no value takes it away.
func start(t *testing.T, path string, standIn bool, environment []string) *Plugin {
	t.Helper()
	p := &Plugin{IsStandIn: standIn, Said: &Said{}, t: t}
	engineGone := make(chan bool)
	engine, err := rpcutil.ServeWithOptions(rpcutil.ServeOptions{Cancel: engineGone, Init: func(server *grpc.Server) error {
		pulumirpc.RegisterEngineServer(server, p.Said)
		return nil
	}})
	require.NoError(t, err)
	t.Cleanup(func() { close(engineGone) })

	cmd := exec.CommandContext(t.Context(), path, "127.0.0.1:"+strconv.Itoa(engine.Port))
	cmd.Env = os.Environ()
	for _, entry := range environment {
		name, value, _ := strings.Cut(entry, "=")
		cmd.Env = slices.DeleteFunc(cmd.Env, func(entry string) bool { return strings.HasPrefix(entry, name+"=") })
		if value != "" {
			cmd.Env = append(cmd.Env, entry)
		}
	}
	cmd.Stderr = p.Said
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { stop(t, cmd) })
	lines := bufio.NewReader(stdout)
	port, err := lines.ReadString('\n')
	require.NoError(t, err, "the plugin said no port: %s", p.Said)
	go func() { _, _ = io.Copy(p.Said, lines) }()

	connection, err := grpc.NewClient("127.0.0.1:"+strings.TrimSpace(port), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, connection.Close()) })
	p.ResourceProviderClient = pulumirpc.NewResourceProviderClient(connection)
	return p
}

// stop interrupts a plugin, as the engine does, and waits until it is gone.
func stop(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	_ = cmd.Process.Signal(os.Interrupt)
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ends is its own matter
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		_ = cmd.Process.Kill()
		t.Error("the plugin did not end within 10 s of an interrupt")
	}
}

// Marshal is how the engine sends properties.
func (p *Plugin) Marshal(properties resource.PropertyMap) *structpb.Struct {
	p.t.Helper()
	marshalled, err := plugin.MarshalProperties(properties, plugin.MarshalOptions{KeepUnknowns: true, KeepSecrets: true})
	require.NoError(p.t, err)
	return marshalled
}

// Unmarshal is how the engine reads properties.
func (p *Plugin) Unmarshal(properties *structpb.Struct) resource.PropertyMap {
	p.t.Helper()
	unmarshalled, err := plugin.UnmarshalProperties(properties, plugin.MarshalOptions{KeepUnknowns: true, KeepSecrets: true})
	require.NoError(p.t, err)
	return unmarshalled
}

// Within fails the test when something takes longer than it may.
func Within(t *testing.T, bound time.Duration, do func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-time.After(bound):
		require.FailNow(t, "too late", "not done within %s", bound)
		return nil
	}
}
