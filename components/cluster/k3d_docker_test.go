package cluster_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/nullify005/manager-cluster-state/internal/dockertest"
	"github.com/nullify005/manager-cluster-state/internal/pulumitest"
)

// The commands of the component, as the command provider would run them, with the real k3d and
// Docker. What k3d makes containers of are stand-ins: see internal/dockertest.
func TestK3d_OnDocker(t *testing.T) {
	if testing.Short() {
		t.Skip("makes and removes clusters for a minute; leave out -short")
	}
	dockertest.Run(t, func(t *testing.T, engine *dockertest.Engine) {
		k3d := engine.ForK3d(t, filepath.Join("..", "..", ".tools", "bin", "k3d"), k3dRelease)
		api := httptest.NewTLSServer(http.NotFoundHandler())
		t.Cleanup(api.Close)
		k3d.Use(t, k3dKubeconfig(t, api.URL))
		d := &onDocker{engine: engine, before: engine.Everything(t)}
		t.Cleanup(func() { _ = exec.CommandContext(context.Background(), "k3d", "cluster", "delete", "dev").Run() })

		for _, step := range []struct {
			name string
			do   func(t *testing.T)
		}{
			{"it is made, adopted, and found again without a state", d.madeAndAdopted},
			{"stopped, it is started", d.stoppedAndStarted},
			{"changed, it is replaced", d.changed},
			{"another installation is left alone", d.leavesAnother},
			{"deleted by hand, it is made anew", d.deletedByHand},
			{"cut off anywhere, it is made anew", d.cutOff},
			{"removed, nothing is left", d.removed},
			{"a cluster that somebody else made is not touched", d.somebodyElses},
			{"ports that are in use are told", d.portsInUse},
			{"a Docker that is stopped is told, and nothing is lost", d.dockerStopped},
		} {
			if !t.Run(step.name, step.do) {
				t.FailNow()
			}
		}
	})
}

type onDocker struct {
	engine *dockertest.Engine
	before []string
	made   pulumitest.Registration
}

// up runs the program, and the command that it registers.
func (d *onDocker) up(t *testing.T, s *k3dRun) *k3dRun {
	t.Helper()
	require.NoError(t, s.run(laptop(k3dRelease), false))
	d.made = s.create()
	out, err := k3dCommand(t.Context(), d.made, "create").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return s
}

func (d *onDocker) down(t *testing.T, of pulumitest.Registration) {
	t.Helper()
	out, err := k3dCommand(t.Context(), of, "delete").CombinedOutput()
	require.NoError(t, err, "%s", out)
}

func k3dCommand(ctx context.Context, registered pulumitest.Registration, action string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", registered.Inputs[resource.PropertyKey(action)].StringValue())
	cmd.Stdin = strings.NewReader(registered.Inputs["stdin"].StringValue())
	return cmd
}

func (d *onDocker) ids(t *testing.T) string {
	t.Helper()
	return d.engine.Docker(t, "ps", "--all", "--quiet", "--no-trunc", "--filter", "label=k3d.cluster=dev")
}

func (d *onDocker) madeAndAdopted(t *testing.T) {
	first := d.up(t, &k3dRun{})
	assert.Empty(t, first.messages)
	made := d.ids(t)
	assert.Len(t, strings.Fields(made), 4)
	assert.ElementsMatch(t, append([]string{
		"container k3d-dev-server-0", "container k3d-dev-agent-0", "container k3d-dev-agent-1", "container k3d-dev-serverlb",
		"network k3d-dev", "volume k3d-dev-images",
	}, d.before...), withoutAnonymous(d.engine.Everything(t)))
	dockertest.Get(t, "http://127.0.0.1:80")

	again := d.up(t, k3dRunAfter(first.installation()))
	assert.Equal(t, first.create().Inputs, again.create().Inputs)
	assert.Empty(t, again.messages)
	stateless := d.up(t, &k3dRun{})
	assert.Equal(t, first.create().Inputs, stateless.create().Inputs)
	assert.Equal(t, made, d.ids(t))
}

// withoutAnonymous leaves out the volumes that an image asks for.
func withoutAnonymous(all []string) []string {
	var named []string
	for _, one := range all {
		if kind, name, _ := strings.Cut(one, " "); kind != "volume" || len(name) != 64 {
			named = append(named, one)
		}
	}
	return named
}

func (d *onDocker) stoppedAndStarted(t *testing.T) {
	require.NoError(t, exec.CommandContext(t.Context(), "k3d", "cluster", "stop", "dev").Run())
	s := d.up(t, k3dRunAfter(k3dInstallation(d.made)))
	assert.Equal(t, []string{"info: the k3d cluster dev is stopped: an update starts it"}, s.messages)
	assert.Len(t, strings.Fields(d.engine.Docker(t, "ps", "--quiet", "--filter", "label=k3d.cluster=dev")), 4)
}

func k3dInstallation(registered pulumitest.Registration) string {
	return registered.Inputs["triggers"].ArrayValue()[0].StringValue()
}

func (d *onDocker) changed(t *testing.T) {
	old, ids := d.made, d.ids(t)
	s := k3dRunAfter(k3dInstallation(old))
	cfg := laptop(k3dRelease)
	cfg.Nodes = cfg.Nodes[:2]
	require.NoError(t, s.run(cfg, false))
	require.Len(t, s.messages, 1)
	assert.Contains(t, s.messages[0], "is replaced, because of agents (2 → 1): what its pods have stored")
	d.made = s.create()
	require.NotEqual(t, k3dInstallation(old), k3dInstallation(d.made))
	d.down(t, old) // the engine's order
	out, err := k3dCommand(t.Context(), d.made, "create").CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Len(t, strings.Fields(d.ids(t)), 3)
	assert.NotEqual(t, ids, d.ids(t))

	// With the state gone too, nobody deletes the old one first.
	s = d.up(t, &k3dRun{})
	assert.Contains(t, s.messages[0], "is replaced, because of agents (1 → 2)")
	assert.Len(t, strings.Fields(d.ids(t)), 4)
}

func (d *onDocker) leavesAnother(t *testing.T) {
	ids := d.ids(t)
	stale := pulumitest.Registration{Inputs: d.made.Inputs.Copy()}
	stale.Inputs["stdin"] = resource.NewProperty(strings.ReplaceAll(
		d.made.Inputs["stdin"].StringValue(), k3dInstallation(d.made), "0123456789abcdef"))
	d.down(t, stale)
	assert.Equal(t, ids, d.ids(t))
}

func (d *onDocker) deletedByHand(t *testing.T) {
	old := d.made
	require.NoError(t, exec.CommandContext(t.Context(), "k3d", "cluster", "delete", "dev").Run())
	s := k3dRunAfter(k3dInstallation(old))
	require.NoError(t, s.run(laptop(k3dRelease), true))
	require.Len(t, s.messages, 1)
	assert.Contains(t, s.messages[0], "is gone: it is made anew")
	s = k3dRunAfter(k3dInstallation(old))
	require.NoError(t, s.run(laptop(k3dRelease), false))
	d.down(t, old) // nothing is left, and that is fine
	d.made = s.create()
	out, err := k3dCommand(t.Context(), d.made, "create").CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// cutOff kills k3d at the first sight of each thing that it makes, one after the other.
func (d *onDocker) cutOff(t *testing.T) {
	for _, at := range []string{"network k3d-dev", "volume k3d-dev-images", "container k3d-dev-server-0", "container k3d-dev-serverlb"} {
		t.Run(at, func(t *testing.T) {
			d.down(t, d.made)
			require.ElementsMatch(t, d.before, d.engine.Everything(t))
			s := &k3dRun{}
			require.NoError(t, s.run(laptop(k3dRelease), false))
			d.made = s.create()
			ctx, kill := context.WithCancel(t.Context())
			cmd := killable(k3dCommand(ctx, d.made, "create"))
			require.NoError(t, cmd.Start())
			require.Eventually(t, func() bool {
				return slices.Contains(d.engine.Everything(t), at)
			}, time.Minute, 10*time.Millisecond)
			kill()
			require.Error(t, cmd.Wait())

			again := d.up(t, k3dRunAfter("0123456789abcdef"))
			assert.NotEqual(t, s.installation(), again.installation())
			require.Len(t, again.messages, 1)
			assert.Len(t, strings.Fields(d.ids(t)), 4)
			whole := &k3dRun{}
			require.NoError(t, whole.run(laptop(k3dRelease), true))
			assert.Equal(t, again.installation(), whole.installation())
		})
	}
}

func (d *onDocker) removed(t *testing.T) {
	d.down(t, d.made)
	assert.ElementsMatch(t, d.before, d.engine.Everything(t))
	d.down(t, d.made)
}

func (d *onDocker) somebodyElses(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "k3d", "cluster", "create", "dev", "--image", "rancher/k3s:v1.35.0-k3s1",
		"--kubeconfig-update-default=false").CombinedOutput()
	require.NoError(t, err, "%s", out)
	ids := d.ids(t)
	require.ErrorContains(t, (&k3dRun{}).run(laptop(k3dRelease), false), "that this program did not make: remove it with `k3d cluster delete dev`")
	// Nor by a command that was registered before it was there.
	out, err = k3dCommand(t.Context(), d.made, "create").CombinedOutput()
	require.Error(t, err)
	assert.Contains(t, string(out), "that this program did not make")
	d.down(t, d.made)
	assert.Equal(t, ids, d.ids(t))
	require.NoError(t, exec.CommandContext(t.Context(), "k3d", "cluster", "delete", "dev").Run())
}

func (d *onDocker) portsInUse(t *testing.T) {
	var listen net.ListenConfig
	listener, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:443")
	require.NoError(t, err)
	defer listener.Close()
	d.engine.Docker(t, "run", "--detach", "--name", "web", "--publish", "80:80", "ghcr.io/k3d-io/k3d-tools:5.8.3", "noop")
	defer d.engine.Docker(t, "rm", "--force", "web")
	err = (&k3dRun{}).run(laptop(k3dRelease), false)
	require.ErrorContains(t, err, "port 80 is in use, by the container web: stop it with `docker stop web`")
	require.ErrorContains(t, err, "port 443 is in use, by another program: `sudo lsof -nP -iTCP:443")
	require.NoError(t, (&k3dRun{}).run(laptop(k3dRelease), true), "a preview only tells")
}

func (d *onDocker) dockerStopped(t *testing.T) {
	first := d.up(t, &k3dRun{})
	ids := d.ids(t)
	resume := d.engine.Pause(t)
	s := k3dRunAfter(first.installation())
	err := s.run(laptop(k3dRelease), false)
	require.ErrorContains(t, err, "Docker does not answer: start Docker Desktop, or on Linux `sudo systemctl start docker`")
	assert.Empty(t, s.recorder.All())
	out, err := k3dCommand(t.Context(), d.made, "delete").CombinedOutput()
	require.Error(t, err, "a cluster that can't be seen is not taken for one that is gone")
	assert.Contains(t, string(out), "Is the docker daemon running?")
	resume()
	again := d.up(t, k3dRunAfter(first.installation()))
	assert.Equal(t, first.create().Inputs, again.create().Inputs)
	assert.ElementsMatch(t, strings.Fields(ids), strings.Fields(d.ids(t)))
	d.down(t, d.made)
	assert.ElementsMatch(t, d.before, d.engine.Everything(t))
}

func k3dKubeconfig(t *testing.T, server string) string {
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
