// Package serve is what every stand-in of a Pulumi plugin needs to be run by the engine.
package serve

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/blang/semver"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
)

// StandIn makes the answers of a stand-in, whose Close ends every call under way. The engine's
// address is empty where nobody gave one.
type StandIn func(version semver.Version, engine string) (plugin.Provider, error)

// Main runs a stand-in until the engine goes away or interrupts it, and returns the process's
// exit code. The version is that of the SDK whose plugin it stands in for.
func Main(name, version string, standIn StandIn) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, os.Args[1:], os.Stdout, version, standIn); err != nil {
		fmt.Fprintf(os.Stderr, "pulumi-resource-%s, the stand-in: %v\n", name, err)
		return 1
	}
	return 0
}

// serve says its port on stdout, where the engine reads it.
func serve(ctx context.Context, args []string, stdout io.Writer, version string, standIn StandIn) error {
	parsed, err := semver.ParseTolerant(version)
	if err != nil {
		return fmt.Errorf("reading the version %q that the plugin was built with: %w", version, err)
	}
	ctx, gone := context.WithCancel(ctx)
	defer gone()
	// The last argument is the engine's address; those before it are about tracing.
	engine := ""
	if len(args) > 0 && !strings.HasPrefix(args[len(args)-1], "-") {
		engine = args[len(args)-1]
		if err := rpcutil.Healthcheck(ctx, engine, 5*time.Second, gone); err != nil {
			return fmt.Errorf("watching the engine: %w", err)
		}
	}
	answers, err := standIn(parsed, engine)
	if err != nil {
		return err
	}
	cancel := make(chan bool)
	context.AfterFunc(ctx, func() {
		_ = answers.Close()
		close(cancel)
	})
	handle, err := rpcutil.ServeWithOptions(rpcutil.ServeOptions{
		Cancel: cancel,
		Init: func(server *grpc.Server) error {
			pulumirpc.RegisterResourceProviderServer(server, detailed{plugin.NewProviderServer(answers)})
			return nil
		},
	})
	if err != nil {
		return fmt.Errorf("serving: %w", err)
	}
	fmt.Fprintln(stdout, handle.Port)
	return <-handle.Done
}

// detailed says of a diff what the SDK's server leaves out: that there are details, and that
// what is taken away can replace. Without, the engine sees neither.
type detailed struct {
	pulumirpc.ResourceProviderServer
}

func (d detailed) Diff(ctx context.Context, request *pulumirpc.DiffRequest) (*pulumirpc.DiffResponse, error) {
	response, err := d.ResourceProviderServer.Diff(ctx, request)
	if err != nil || len(response.GetDetailedDiff()) == 0 {
		return response, err
	}
	response.HasDetailedDiff = true
	for _, path := range response.GetReplaces() {
		if change := response.GetDetailedDiff()[path]; change.GetKind() == pulumirpc.PropertyDiff_DELETE {
			change.Kind = pulumirpc.PropertyDiff_DELETE_REPLACE
		}
	}
	response.Diffs, response.Replaces = properties(response.GetDiffs()), properties(response.GetReplaces())
	return response, nil
}

// properties are those that paths begin with.
func properties(paths []string) []string {
	var names []string
	for _, path := range paths {
		if parsed, err := resource.ParsePropertyPath(path); err == nil && len(parsed) > 0 {
			if name, ok := parsed[0].(string); ok {
				path = name
			}
		}
		names = append(names, path)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
