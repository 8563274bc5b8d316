package dockertest_test

import (
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/nullify005/manager-cluster-state/internal/dockertest"
)

const release = "v1.35.0+k3s1"

func TestEngine_RunsWhatK3dMakesOfOurImages(t *testing.T) {
	if testing.Short() {
		t.Skip("makes a cluster; leave out -short")
	}
	dockertest.Run(t, func(t *testing.T, engine *dockertest.Engine) {
		before := engine.Everything(t)
		k3d := engine.ForK3d(t, "../../.tools/bin/k3d", release)
		api := httptest.NewTLSServer(http.NotFoundHandler())
		t.Cleanup(api.Close)
		k3d.Use(t, kubeconfig(t, api.URL))

		run(t, "k3d", "cluster", "create", "trial", "--image", "rancher/k3s:v1.35.0-k3s1", "--agents", "1", "--wait",
			"--timeout", "2m", "--port", "18080:80@loadbalancer", "--kubeconfig-update-default=false")
		out := run(t, "k3d", "kubeconfig", "get", "trial")
		assert.Contains(t, out, "admin@k3d-trial")
		assert.Contains(t, []string{"k3d-trial-server-0", "k3d-trial-agent-0"}, dockertest.Get(t, "http://127.0.0.1:18080"))
		run(t, "k3d", "cluster", "delete", "trial")
		assert.ElementsMatch(t, before, engine.Everything(t))
	})
}

func kubeconfig(t *testing.T, server string) string {
	t.Helper()
	content := clientcmdapi.NewConfig()
	content.Clusters["a"] = &clientcmdapi.Cluster{Server: server}
	content.AuthInfos["a"] = &clientcmdapi.AuthInfo{Token: "canary"}
	content.Contexts["a"] = &clientcmdapi.Context{Cluster: "a", AuthInfo: "a"}
	content.CurrentContext = "a"
	path := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, clientcmd.WriteToFile(*content, path))
	return path
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	require.NoError(t, err, "%s %v: %s", name, args, out)
	return string(out)
}
