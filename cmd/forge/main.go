// Command forge runs the local stand-in of a rehearsal for a Git host, GitHub's API, Slack and
// a container registry. See package rehearsal/forge.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/nullify005/manager-cluster-state/rehearsal/forge"
)

// tokenVariable is where the token comes from: a command line is everybody's to read.
const tokenVariable = "FORGE_GITHUB_TOKEN" //nolint:gosec // its name, not the token

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "forge: "+err.Error())
		os.Exit(1)
	}
}

func command() *cobra.Command {
	options := forge.Options{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	c := &cobra.Command{
		Use:   "forge",
		Short: "A rehearsal's local stand-in for a Git host, GitHub's API, Slack and a container registry",
		Long: "forge answers for a Git host over SSH, GitHub's API, Slack's webhooks and a container registry,\n" +
			"on this machine alone. The token that GitHub's API takes is read from " + tokenVariable + ".",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if options.GitHubToken = os.Getenv(tokenVariable); options.GitHubToken == "" {
				return errors.New(tokenVariable + " is not set: it is the token that the GitHub stand-in takes")
			}
			f, err := forge.New(cmd.Context(), options)
			if err != nil {
				return err
			}
			return f.Run(cmd.Context())
		},
	}
	flags := c.Flags()
	flags.StringVar(&options.Folder, "folder", "", "where everything is kept")
	flags.StringVar(&options.SSHAddress, "ssh-address", "127.0.0.1:0", "loopback address of the Git host")
	flags.StringVar(&options.HTTPAddress, "http-address", "127.0.0.1:0", "loopback address of everything else")
	flags.StringArrayVar(&options.Repositories, "repository", nil, "OWNER/NAME of a repository that exists; repeatable")
	return c
}
