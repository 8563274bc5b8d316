// Command standin is what the images of a k3d cluster run in tests, where none can be pulled. By
// the name that it is called by, it stands in for k3s, for k3d's load balancer, and for its tools.
// It plays no kubelet and no control plane: its server forwards to one that the test runs.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/nullify005/manager-cluster-state/internal/dockertest/forward"
)

func main() {
	log.SetFlags(0)
	if err := run(filepath.Base(os.Args[0]), os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(name string, args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	switch {
	case name == "k3d-proxy":
		return balance(ctx)
	case name == "k3s" && len(args) > 0 && args[0] == "server":
		return serve(ctx)
	case name == "k3s" && len(args) > 0 && args[0] == "agent":
		return join(ctx)
	case name == "k3s":
		return fmt.Errorf("the stand-in of k3s knows server and agent, and not %q", args)
	}
	<-ctx.Done()
	return nil
}

// serve forwards the API to the host's, and takes its kubeconfig from there.
func serve(ctx context.Context) error {
	gateway, err := gateway()
	if err != nil {
		return err
	}
	kubeconfig, err := get(ctx, "http://"+net.JoinHostPort(gateway, os.Getenv("STANDIN_KUBECONFIG_PORT")))
	if err != nil {
		return fmt.Errorf("asking the test for a kubeconfig: %w", err)
	}
	api := net.JoinHostPort(gateway, os.Getenv("STANDIN_API_PORT"))
	if _, err := forward.Listen(ctx, ":6443", func() string { return api }); err != nil {
		return err
	}
	if path := os.Getenv("K3S_KUBECONFIG_OUTPUT"); path != "" {
		if err := os.WriteFile(path, kubeconfig, 0o600); err != nil {
			return fmt.Errorf("writing the kubeconfig: %w", err)
		}
	}
	say("k3s is up and running")
	say("Cluster dns configmap has been set successfully")
	return answer(ctx)
}

// join finds its server, and says what k3d waits for.
func join(ctx context.Context) error {
	server := strings.TrimPrefix(os.Getenv("K3S_URL"), "https://")
	dialer := net.Dialer{Timeout: time.Second}
	for {
		connection, err := dialer.DialContext(ctx, "tcp", server)
		if err == nil {
			_ = connection.Close()
			break
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(100 * time.Millisecond):
		}
	}
	say("Successfully registered node " + hostname())
	return answer(ctx)
}

// answer is the ingress: on port 80 the node says its name.
func answer(ctx context.Context) error {
	server := &http.Server{Addr: ":80", ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, hostname()) })}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("answering on port 80: %w", err)
	}
	return nil
}

// say is for k3d, which reads a node's log.
func say(line string) { fmt.Fprintln(os.Stdout, line) }

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return err.Error()
	}
	return name
}

// balance forwards each port that k3d names to the nodes that it names, one after the other.
func balance(ctx context.Context) error {
	content, err := os.ReadFile("/etc/confd/values.yaml")
	if err != nil {
		return fmt.Errorf("reading what to forward: %w", err)
	}
	var values struct {
		Ports map[string][]string `json:"ports"`
	}
	if err := yaml.Unmarshal(content, &values); err != nil {
		return fmt.Errorf("reading what to forward: %w", err)
	}
	for name, nodes := range values.Ports {
		port, _, _ := strings.Cut(name, ".")
		var turn atomic.Uint64
		if _, err := forward.Listen(ctx, ":"+port, func() string {
			return net.JoinHostPort(nodes[turn.Add(1)%uint64(len(nodes))], port)
		}); err != nil {
			return err
		}
	}
	say("start worker processes")
	<-ctx.Done()
	return nil
}

func get(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil) //nolint:gosec // the image says which
	if err != nil {
		return nil, err
	}
	client := &http.Client{Timeout: 10 * time.Second}
	response, err := client.Do(request) //nolint:gosec // the image says which
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, errors.New(response.Status)
	}
	return io.ReadAll(response.Body)
}

// gateway is the host, as a container sees it: where the default route leads.
func gateway() (string, error) {
	content, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return "", fmt.Errorf("looking for the default route: %w", err)
	}
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[1] != "00000000" {
			continue
		}
		address, err := strconv.ParseUint(fields[2], 16, 32)
		if err != nil {
			return "", fmt.Errorf("reading the default route: %w", err)
		}
		return net.IPv4(byte(address), byte(address>>8), byte(address>>16), byte(address>>24)).String(), nil //nolint:gosec // its lowest bits
	}
	return "", errors.New("there is no default route")
}
