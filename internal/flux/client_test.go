package flux_test

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/nullify005/manager-cluster-state/internal/flux"
)

const canary = "c4n4ry-of-a-credential"

// pointAt is a kubeconfig of a server without credentials.
func pointAt(t *testing.T, server string) []byte {
	t.Helper()
	config := clientcmdapi.NewConfig()
	config.Clusters["c"] = &clientcmdapi.Cluster{Server: server}
	config.Contexts["c"] = &clientcmdapi.Context{Cluster: "c"}
	config.CurrentContext = "c"
	data, err := clientcmd.Write(*config)
	require.NoError(t, err)
	return data
}

func TestNewClient_NeverQuotesTheKubeconfig(t *testing.T) {
	good := string(pointAt(t, "https://127.0.0.1:1"))
	token := "users: [{name: u, user: {token: " + canary + "}}]\n"
	encoded := base64.StdEncoding.EncodeToString([]byte(canary))
	for name, kubeconfig := range map[string]string{
		"no YAML":        "\t" + canary,
		"another file":   canary,
		"another type":   "apiVersion: v1\nkind: Config\nclusters: " + canary,
		"another kind":   "apiVersion: " + canary + "\nkind: Secret",
		"empty":          "",
		"no context":     "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: 'https://h'}}]\n" + token,
		"no such user":   strings.ReplaceAll(good, `user: ""`, "user: "+canary),
		"no key":         "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: 'https://h'}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {client-certificate-data: " + encoded + ", client-key-data: " + encoded + "}}]\n",
		"not an address": "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: 'https://" + canary + ":%zz'}}]\ncontexts: [{name: c, context: {cluster: c}}]\n",
	} {
		_, err := flux.NewClient([]byte(kubeconfig), "")
		require.Error(t, err, name)
		assert.NotContains(t, err.Error(), canary, name)
		assert.NotContains(t, err.Error(), encoded, name)
		assert.Contains(t, err.Error(), "kubeconfig", name)
	}
	_, err := flux.NewClient([]byte(good), "other")
	assert.ErrorContains(t, err, `"other"`, "what was asked for may be told")
}

func TestNewClient_AsksNobody(t *testing.T) {
	_, err := flux.NewClient(pointAt(t, "https://127.0.0.1:1"), "c")
	require.NoError(t, err)
}

func TestWaitReady_SaysAtTheEndThatTheServerIsNotReached(t *testing.T) {
	c, err := flux.NewClient(pointAt(t, "http://127.0.0.1:1"), "")
	require.NoError(t, err)
	var told []string
	err = flux.WaitReady(t.Context(), c, flux.Kustomization("flux-system", "app"), flux.WaitOptions{
		Timeout: brief, Progress: func(message string) { told = append(told, message) },
	})
	require.ErrorIs(t, err, flux.ErrTimeout)
	require.ErrorContains(t, err, "Kustomization flux-system/app is not ready after 1.2s: asking the API server for")
	require.ErrorContains(t, err, "connection refused")
	assert.Len(t, told, 1, "not at each look: %v", told)
}

// unsteady is the shared control plane behind a proxy that refuses as many requests as told to.
func unsteady(t *testing.T, refuse int64, status int) []byte {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", shared.Kubeconfig())
	require.NoError(t, err)
	transport, err := rest.TransportFor(config)
	require.NoError(t, err)
	target, err := url.Parse(config.Host)
	require.NoError(t, err)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, Transport: transport,
	}
	var left atomic.Int64
	left.Store(refuse)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if left.Add(-1) >= 0 {
			http.Error(w, "not now", status)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return pointAt(t, server.URL)
}

func TestWaitReady_AsksAgainWhenTheServerCannotAnswer(t *testing.T) {
	c, namespace := live(t)
	k := newKustomization(t, c, namespace, "app")
	setStatus(t, c, k, old, ready(k))
	for _, status := range []int{http.StatusInternalServerError, http.StatusServiceUnavailable, http.StatusBadGateway} {
		flaky, err := flux.NewClient(unsteady(t, 4, status), "")
		require.NoError(t, err)
		var told []string
		require.NoError(t, flux.WaitReady(t.Context(), flaky, flux.Kustomization(namespace, "app"), flux.WaitOptions{
			Timeout: time.Minute, Progress: func(message string) { told = append(told, message) },
		}), "%d", status)
		assert.NotEmpty(t, told, "%d: it is told what is waited for", status)
	}
}

func TestWaitReady_EndsAtOnceWhenTheServerRefuses(t *testing.T) {
	_, namespace := live(t)
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		refused, err := flux.NewClient(unsteady(t, 1000, status), "")
		require.NoError(t, err)
		start := time.Now()
		err = flux.WaitReady(t.Context(), refused, flux.Kustomization(namespace, "app"), flux.WaitOptions{Timeout: time.Minute})
		require.Error(t, err)
		require.NotErrorIs(t, err, flux.ErrTimeout)
		assert.Less(t, time.Since(start), 20*time.Second)
	}
}
