// Command mcs is the helper of manager-cluster-state: what is not `pulumi` itself.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/nullify005/manager-cluster-state/rehearsal"
)

// The exit codes of mcs.
const (
	exitFailure     = 1
	exitInterrupted = 130 // as a shell reports Ctrl-C
)

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	// What the Kubernetes client would log is in its errors too.
	ctrllog.SetLogger(logr.Discard())
	// Buffered for both: the first Ctrl-C stops in good order, the second at once.
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	app := &application{stdout: os.Stdout, log: newLogger(os.Stderr)}
	command := app.command()
	go func() {
		<-signals
		app.log.Info("stopping in good order; Ctrl-C again stops at once")
		cancel()
		<-signals
		// A real stack's update that is left alone would go on behind the prompt.
		for app.interrupt() {
			app.log.Info("pulumi drops what it has begun, and saves its state")
			<-signals
		}
		app.kill()
		os.Exit(exitInterrupted)
	}()

	command.SetArgs(args)
	err := command.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errSilent):
		return exitFailure
	case errors.Is(err, rehearsal.ErrInterrupted) || ctx.Err() != nil:
		if !errors.Is(err, rehearsal.ErrInterrupted) && err != context.Canceled { //nolint:errorlint // what is around it says more
			fmt.Fprintln(os.Stderr, "mcs: "+err.Error())
		}
		app.log.Info("interrupted: run the same command again to go on")
		return exitInterrupted
	default:
		fmt.Fprintln(os.Stderr, "mcs: "+err.Error())
		return exitFailure
	}
}

// errSilent ends a command whose output has said it all.
var errSilent = errors.New("failed")

// newLogger writes progress for people: no time, and the level only where it matters.
func newLogger(out *os.File) *slog.Logger {
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{
		ReplaceAttr: func(groups []string, attr slog.Attr) slog.Attr {
			if len(groups) == 0 && (attr.Key == slog.TimeKey || attr.Key == slog.LevelKey && attr.Value.Any() == slog.LevelInfo) {
				return slog.Attr{}
			}
			return attr
		},
	}))
}

func (a *application) command() *cobra.Command {
	root := &cobra.Command{
		Use:           "mcs",
		Short:         "Helper of manager-cluster-state",
		Long:          "mcs does what is not `pulumi` itself for the cluster of this repository.",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(a.rehearseCommand())
	root.AddCommand(a.renderCommand(), a.manifestsDiffCommand(), a.graphCommand(), a.switchCommand())
	root.AddCommand(a.fluxStatusCommand(), a.suspendCommand(), a.resumeCommand(), a.reconcileCommand(), a.clearFinalizersCommand())
	root.AddCommand(a.keysCommand(), a.restoreStateCommand())
	root.AddCommand(a.sealCommand(), a.pinCommand(), a.bootstrapCommand())
	root.AddCommand(a.hostsCommand())
	return root
}
