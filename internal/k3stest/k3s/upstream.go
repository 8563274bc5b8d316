package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

const dialBound = 5 * time.Second

// upstream says where the control plane is that this stand-in passes on to.
type upstream struct {
	// Address is unix:/path, or host:port.
	Address string `json:"address"`
	// Kubeconfig is an admin's. Its server is not used.
	Kubeconfig []byte `json:"kubeconfig"`
	// Kubectl is the path of the real one.
	Kubectl string `json:"kubectl,omitempty"`
}

func upstreamPath() string {
	if path := os.Getenv("K3S_STANDIN_UPSTREAM"); path != "" {
		return path
	}
	return "/etc/k3s-standin/upstream.json"
}

func readUpstream() (*upstream, error) {
	content, err := os.ReadFile(upstreamPath())
	if err != nil {
		return nil, fmt.Errorf("the stand-in of k3s needs a control plane: %w", err)
	}
	read := &upstream{}
	if err := json.Unmarshal(content, read); err != nil {
		return nil, fmt.Errorf("reading %s: %w", upstreamPath(), err)
	}
	return read, nil
}

func (u *upstream) dial(ctx context.Context) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialBound}
	if path, isPath := strings.CutPrefix(u.Address, "unix:"); isPath {
		return dialer.DialContext(ctx, "unix", path)
	}
	return dialer.DialContext(ctx, "tcp", u.Address)
}

// kubeconfigFor is the admin's as k3s writes it, for another address of the API. The certificate
// there is the control plane's own, which knows the name localhost.
func (u *upstream) kubeconfigFor(server string) ([]byte, error) {
	from, err := clientcmd.Load(u.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading the control plane's kubeconfig: %w", err)
	}
	current, found := from.Contexts[from.CurrentContext]
	if !found || from.Clusters[current.Cluster] == nil || from.AuthInfos[current.AuthInfo] == nil {
		return nil, errors.New("the control plane's kubeconfig has no usable context")
	}
	const name = "default" // what k3s calls everything
	to := clientcmdapi.NewConfig()
	to.Clusters[name] = from.Clusters[current.Cluster].DeepCopy()
	to.Clusters[name].Server, to.Clusters[name].TLSServerName = server, "localhost"
	to.AuthInfos[name] = from.AuthInfos[current.AuthInfo]
	to.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	to.CurrentContext = name
	written, err := clientcmd.Write(*to)
	if err != nil {
		return nil, fmt.Errorf("writing a kubeconfig: %w", err)
	}
	return written, nil
}

// pass copies both ways until both have ended.
func pass(one, other net.Conn) {
	done := make(chan struct{}, 2)
	send := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		if half, can := to.(interface{ CloseWrite() error }); can {
			_ = half.CloseWrite()
		}
		done <- struct{}{}
	}
	go send(one, other)
	go send(other, one)
	<-done
	<-done
	_, _ = one.Close(), other.Close()
}
