// Command pulumi-resource-github is a stand-in for Pulumi's official plugin of that name, for
// rehearsals and tests on machines where the official one can't be installed. It is not the
// official plugin, and no real stack is meant to run with it: where the official one is
// there, it is the one that is used.
//
// It knows one resource, github:index/repositoryDeployKey:RepositoryDeployKey, by the
// official token, with the inputs, outputs, IDs and replacements of version 6, and of the
// provider's configuration owner, token, baseUrl, maxRetries and retryDelayMs. It differs in
// this: to delete a key that is gone succeeds, an owner must be given, a refusal says what to
// do about it, and a token from the environment is never in the state.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/blang/semver"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
)

// version is that of the SDK whose plugin this stands in for; the build sets it.
var version = "6.0.0"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pulumi-resource-github, the stand-in:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to stop
	}
}

// serve answers the engine until it goes away. The engine reads the port from standard output.
func serve(ctx context.Context, args []string) error {
	parsed, err := semver.ParseTolerant(version)
	if err != nil {
		return fmt.Errorf("reading the version %q that the plugin was built with: %w", version, err)
	}
	ctx, gone := context.WithCancel(ctx)
	defer gone()
	// The last argument is the engine's address; those before it are about tracing.
	if len(args) > 0 && !strings.HasPrefix(args[len(args)-1], "-") {
		if err := rpcutil.Healthcheck(ctx, args[len(args)-1], 5*time.Second, gone); err != nil {
			return fmt.Errorf("watching the engine: %w", err)
		}
	}
	answers := newProvider(parsed, os.Getenv)
	cancel := make(chan bool)
	context.AfterFunc(ctx, func() {
		answers.stop()
		close(cancel)
	})
	handle, err := rpcutil.ServeWithOptions(rpcutil.ServeOptions{
		Cancel: cancel,
		Init: func(server *grpc.Server) error {
			pulumirpc.RegisterResourceProviderServer(server, plugin.NewProviderServer(answers))
			return nil
		},
	})
	if err != nil {
		return fmt.Errorf("serving: %w", err)
	}
	fmt.Fprintln(os.Stdout, handle.Port)
	return <-handle.Done
}
