// Command k3s is a stand-in of k3s for tests and rehearsals, where the real one can't be had. It
// speaks the part of k3s's command line that this project uses, keeps its files where k3s keeps
// them, and refuses what k3s refuses; but it has no control plane and no kubelet of its own. Its
// server forwards the API's port to the control plane that its upstream file names, and its nodes
// are registered there, for kwok to play their kubelets.
//
// What is as with k3s: flags, config.yaml and environment; the token and who may join with it;
// passwords of nodes; the kubeconfig; labels and taints, which a node has from its first
// registration only; the kubelet's version; what its log says when it is up; readiness told to
// systemd. What is not: containers, networking, the datastore. A server that starts with no data
// removes the nodes of the server before, and leaves all other objects of that control plane.
//
// Agents ask at the same port as with k3s, but without TLS: they send digests, and get no secret.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// release is what the stand-in says that it is; the build sets it with -ldflags "-X main.release=…".
var release = "v1.35.0+k3s1"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx, filepath.Base(os.Args[0]), os.Args[1:])
	stop()
	if err != nil {
		sayf("level=fatal msg=%q", "Error: "+err.Error())
		os.Exit(1)
	}
}

// run does what the name says that it was called by, or else the first argument.
func run(ctx context.Context, name string, args []string) error {
	record(map[string]any{"args": append([]string{name}, concealed(args)...), "env": names(os.Environ())})
	command := name
	if name != "kubectl" && len(args) > 0 {
		command, args = args[0], args[1:]
	}
	switch command {
	case "--version", "-v":
		fmt.Fprintf(os.Stdout, "k3s version %s (standin)\n", release)
		return nil
	case "kubectl":
		return kubectl(args)
	case "server":
		return serve(ctx, args)
	case "agent":
		return join(ctx, args)
	}
	return fmt.Errorf("the stand-in of k3s knows server, agent, kubectl and --version, and not %q", command)
}

// sayf is the stand-in's log: of the service on a Pi, of the container in k3d.
func sayf(format string, values ...any) {
	fmt.Fprintf(os.Stderr, "time=%q %s\n", time.Now().UTC().Format(time.RFC3339), fmt.Sprintf(format, values...))
}

// record appends a line to the log of calls; that there is none is no reason not to go on.
func record(line map[string]any) {
	path := os.Getenv("K3S_STANDIN_LOG")
	if path == "" {
		path = "/var/log/k3s-standin.jsonl"
	}
	line["time"] = time.Now().UTC().Format(time.RFC3339Nano)
	text, err := json.Marshal(line)
	if err != nil {
		return
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644) //nolint:gosec // tests read it
	if err != nil {
		return
	}
	_, _ = file.Write(append(text, '\n'))
	_ = file.Close()
}

const hidden = "(hidden)"

// concealed leaves out the value of each flag of a token.
func concealed(args []string) []string {
	args = slices.Clone(args)
	for i, arg := range args {
		name, _, joined := strings.Cut(arg, "=")
		switch {
		case !isSecret(strings.TrimLeft(name, "-")) || !strings.HasPrefix(arg, "-"):
		case joined:
			args[i] = name + "=" + hidden
		case i+1 < len(args):
			args[i+1] = hidden
		}
	}
	return args
}

func isSecret(name string) bool { return name == "t" || strings.HasSuffix(name, "token") }

// names are those of the variables that k3s or its stand-in reads.
func names(environment []string) []string {
	var found []string
	for _, entry := range environment {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "K3S_") || name == "KUBECONFIG" {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return found
}

// kubectl becomes the real one, with the kubeconfig of a server that runs here.
func kubectl(args []string) error {
	program := os.Getenv("K3S_STANDIN_KUBECTL")
	if program == "" {
		up, err := readUpstream()
		if err != nil {
			return err
		}
		program = up.Kubectl
	}
	if program == "" {
		return errors.New("the stand-in of k3s has no kubectl: set K3S_STANDIN_KUBECTL, or kubectl in " + upstreamPath())
	}
	environment := os.Environ()
	if os.Getenv("KUBECONFIG") == "" {
		path := defaultKubeconfig
		if output := os.Getenv("K3S_KUBECONFIG_OUTPUT"); output != "" {
			path = output
		}
		if _, err := os.ReadFile(path); err != nil {
			return fmt.Errorf("unable to read %s, please start server with --write-kubeconfig-mode to modify kube config permissions: %w", path, err)
		}
		environment = append(environment, "KUBECONFIG="+path)
	}
	err := syscall.Exec(program, append([]string{"kubectl"}, args...), environment) //nolint:gosec // the test names it
	return fmt.Errorf("running %s: %w", program, err)
}
