package rehearsal_test

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/internal/dockertest"
	"github.com/nullify005/manager-cluster-state/rehearsal"
)

// k3dStage is a stack whose cluster the real k3d makes, by way of the real engine and the command
// plugin. In its nodes are stand-ins: the API that they pass on is of a rehearsal's control plane.
type k3dStage struct {
	*stage

	engine  *dockertest.Engine
	k3d     *dockertest.K3d
	cluster string
	before  []string
}

func newK3dStage(t *testing.T, engine *dockertest.Engine, options rehearsal.Options, cluster string) *k3dStage {
	t.Helper()
	s := &k3dStage{engine: engine, cluster: cluster, k3d: engine.ForK3d(t,
		filepath.Join(projectFolder, ".tools", "bin", "k3d"), "v1.35.0+k3s1", "v1.35.1+k3s1")}
	options.Overrides = map[string]any{"cluster.kind": "k3d", "cluster.kubeconfig": "", "cluster.context": ""}
	s.stage = newStageOf(t, options)
	t.Cleanup(func() { _ = exec.CommandContext(context.Background(), "k3d", "cluster", "delete", cluster).Run() })
	s.before = engine.Everything(t)
	require.NoError(t, s.StartCluster(t.Context()))
	s.k3d.Use(t, s.Kubeconfig())
	return s
}

// containers are the IDs of the cluster's.
func (s *k3dStage) containers(t *testing.T) []string {
	t.Helper()
	return strings.Fields(s.engine.Docker(t, "ps", "--quiet", "--filter", "label=k3d.cluster="+s.cluster))
}

// saying runs something, and returns what people were shown of it.
func (s *k3dStage) saying(do func() error) (string, error) {
	s.said.Reset()
	err := do()
	return s.said.String(), err
}

func (s *k3dStage) up(t *testing.T, options rehearsal.UpOptions) string {
	t.Helper()
	said, err := s.saying(func() error { return s.Up(t.Context(), options) })
	require.NoError(t, err)
	return said
}

// refused is an update that stops before it touches anything, and what it complains of.
func (s *k3dStage) refused(t *testing.T) string {
	t.Helper()
	said, err := s.saying(func() error { return s.Up(t.Context(), rehearsal.UpOptions{}) })
	require.Error(t, err)
	assert.Contains(t, said, "before anything of the k3d cluster "+s.cluster+" was touched")
	return said
}

func TestK3d(t *testing.T) {
	if testing.Short() {
		t.Skip("makes clusters for minutes; leave out -short")
	}
	dockertest.Run(t, func(t *testing.T, engine *dockertest.Engine) {
		s := newK3dStage(t, engine, rehearsal.Options{Project: filepath.Join("testdata", "k3d"), Stack: "k3d"}, "trial")
		s.step("up makes the cluster, and what is on it", func(t *testing.T) {
			s.up(t, rehearsal.UpOptions{})
			assert.Len(t, s.containers(t), 3)
			require.NoError(t, s.namespace(t, s.Rehearsal))
			assert.Len(t, strings.Split(s.kubectl(t, "get", "nodes", "--output", "name"), "\n"), 2)
			s.assertNowhere(t, "PRIVATE KEY")
		})
		s.step("up again changes nothing", func(t *testing.T) { s.up(t, rehearsal.UpOptions{ExpectNoChanges: true}) })
		s.step("deleted by hand, it is made anew with everything on it", s.assertMadeAnew)
		s.step("changed config replaces it, and the preview says so", s.assertReplaced)
		s.step("without a state, it is adopted", s.assertAdopted)
		s.step("a Docker that is stopped is told, and the next up goes on", s.assertDockerStopped)
		s.step("ports in use and a missing k3d are told, and the next up makes it", s.assertPortInUse)
		s.step("destroy leaves nothing", func(t *testing.T) {
			require.NoError(t, s.Destroy(t.Context()))
			assert.ElementsMatch(t, s.before, s.engine.Everything(t))
		})
		s.step("destroy of a cluster that is gone leaves nothing", func(t *testing.T) {
			s.up(t, rehearsal.UpOptions{})
			s.deleteByHand(t)
			require.NoError(t, s.Destroy(t.Context()))
			assert.ElementsMatch(t, s.before, s.engine.Everything(t))
		})
		s.step("down leaves nothing", s.assertDown)
	})
}

// The whole development stack, on a cluster that the real k3d makes: its nodes are simulated, as
// in every rehearsal, and k3d's own containers play none.
func TestK3d_Development(t *testing.T) {
	if testing.Short() {
		t.Skip("makes clusters for minutes; leave out -short")
	}
	dockertest.Run(t, func(t *testing.T, engine *dockertest.Engine) {
		s := newK3dStage(t, engine, rehearsal.Options{Project: projectFolder, Stack: "development"}, "development")
		s.step("up makes the cluster, and every workload ready", func(t *testing.T) {
			s.up(t, rehearsal.UpOptions{})
			s.assertReady(t)
			assert.Len(t, s.containers(t), 4)
			assert.Contains(t, dockertest.Get(t, "http://127.0.0.1:80"), "k3d-development-", "the load balancer leads to a node")
		})
		s.step("no secret is in the clear anywhere", func(t *testing.T) { s.assertNothingInTheClear(t, nil) })
		s.step("up again changes nothing", func(t *testing.T) { s.up(t, rehearsal.UpOptions{ExpectNoChanges: true}) })
		s.step("destroy leaves nothing", func(t *testing.T) {
			require.NoError(t, s.Destroy(t.Context()))
			assert.ElementsMatch(t, s.before, s.engine.Everything(t))
		})
		s.step("down leaves nothing", s.assertDown)
	})
}

// namespace says whether the stack's one object is on a control plane.
func (s *k3dStage) namespace(t *testing.T, on *rehearsal.Rehearsal) error {
	t.Helper()
	c, err := on.Client()
	require.NoError(t, err)
	return c.Get(t.Context(), client.ObjectKey{Name: "trial"}, &corev1.Namespace{})
}

// kubectl runs one by the kubeconfig that k3d gives.
func (s *k3dStage) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	kubeconfig, err := exec.CommandContext(t.Context(), "k3d", "kubeconfig", "get", s.cluster).Output()
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(path, kubeconfig, 0o600))
	kubectl := filepath.Join(projectFolder, ".tools", "bin", "kubectl")
	out, err := exec.CommandContext(t.Context(), kubectl, append(args, "--kubeconfig", path)...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return strings.TrimSpace(string(out))
}

func (s *k3dStage) deleteByHand(t *testing.T) {
	t.Helper()
	require.NoError(t, exec.CommandContext(t.Context(), "k3d", "cluster", "delete", s.cluster).Run())
}

// fresh has the next cluster begin empty, as a new one does.
func (s *k3dStage) fresh(t *testing.T) *rehearsal.Rehearsal {
	t.Helper()
	fresh := newStageOf(s.t, rehearsal.Options{Project: filepath.Join("testdata", "k3d"), Stack: "k3d"})
	require.NoError(t, fresh.StartCluster(t.Context()))
	s.k3d.Use(t, fresh.Kubeconfig())
	return fresh.Rehearsal
}

func (s *k3dStage) assertMadeAnew(t *testing.T) {
	s.Set("sealing.protect", true)
	s.up(t, rehearsal.UpOptions{})
	defer func() {
		s.Set("sealing.protect", false)
		s.up(t, rehearsal.UpOptions{})
	}()
	s.deleteByHand(t)
	on := s.fresh(t)
	said, err := s.saying(func() error { return s.ShowPreview(t.Context()) })
	require.NoError(t, err)
	const gone = "the k3d cluster trial, which the last update left, is gone: it is made anew, with everything on it"
	assert.Contains(t, said, gone)
	assert.Contains(t, s.up(t, rehearsal.UpOptions{}), gone)
	require.NoError(t, s.namespace(t, on))
	s.up(t, rehearsal.UpOptions{ExpectNoChanges: true})
}

func (s *k3dStage) assertReplaced(t *testing.T) {
	s.Set("cluster.k3s", "v1.35.1+k3s1")
	said, err := s.saying(func() error { return s.ShowPreview(t.Context()) })
	require.NoError(t, err)
	const replaced = "the k3d cluster trial is replaced, because of image (rancher/k3s:v1.35.0-k3s1 → rancher/k3s:v1.35.1-k3s1): " +
		"what its pods have stored, metrics and logs among it, is lost"
	assert.Contains(t, said, replaced)
	containers, on := s.containers(t), s.fresh(t)
	assert.Contains(t, s.up(t, rehearsal.UpOptions{}), replaced)
	assert.NotSubset(t, s.containers(t), containers)
	require.NoError(t, s.namespace(t, on))
	s.up(t, rehearsal.UpOptions{ExpectNoChanges: true})
}

func (s *k3dStage) assertAdopted(t *testing.T) {
	containers := s.containers(t)
	require.NoError(t, os.RemoveAll(filepath.Join(s.Folder(), "state")))
	require.NoError(t, os.MkdirAll(filepath.Join(s.Folder(), "state"), 0o700))
	s.up(t, rehearsal.UpOptions{})
	assert.ElementsMatch(t, containers, s.containers(t))
	s.up(t, rehearsal.UpOptions{ExpectNoChanges: true})
}

func (s *k3dStage) assertDockerStopped(t *testing.T) {
	resume := s.engine.Pause(t)
	assert.Contains(t, s.refused(t), "Docker does not answer: start Docker Desktop, or on Linux `sudo systemctl start docker`")
	changes, err := s.Preview(t.Context())
	require.NoError(t, err)
	assert.Empty(t, changes, "a preview goes on without")
	require.Error(t, s.Destroy(t.Context()), "what can't be seen is not taken for gone")
	resume()
	s.up(t, rehearsal.UpOptions{})
	s.up(t, rehearsal.UpOptions{ExpectNoChanges: true})
}

func (s *k3dStage) assertPortInUse(t *testing.T) {
	s.deleteByHand(t)
	var listen net.ListenConfig
	listener, err := listen.Listen(t.Context(), "tcp", ":80")
	require.NoError(t, err)
	assert.Contains(t, s.refused(t), "port 80 is in use, by another program")
	require.NoError(t, listener.Close())
	t.Run("k3d", func(t *testing.T) {
		_, with, _ := strings.Cut(os.Getenv("PATH"), string(os.PathListSeparator))
		t.Setenv("PATH", with)
		if _, err := exec.LookPath("k3d"); !errors.Is(err, exec.ErrNotFound) {
			t.Skip("this machine has a k3d of its own")
		}
		assert.Contains(t, s.refused(t), "k3d is not on the path: get it with")
	})
	on := s.fresh(t)
	require.True(t, apierrors.IsNotFound(s.namespace(t, on)))
	s.up(t, rehearsal.UpOptions{})
	require.NoError(t, s.namespace(t, on))
	assert.Eventually(t, func() bool { return len(s.containers(t)) == 3 }, time.Minute, time.Second)
}
