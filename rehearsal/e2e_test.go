package rehearsal_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/rehearsal"
	"github.com/nullify005/manager-cluster-state/workloads"
)

const projectFolder = ".."

// unusual is an interval that no owner has set, so that setting it changes something.
const unusual = "7m1s"

// TestRehearsal runs both stacks through their whole life, on the real engine.
func TestRehearsal(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a control plane and pulumi for minutes; leave out -short")
	}
	t.Run("development", developmentsLife)
	t.Run("production", productionsLife)
}

// stage is one rehearsal of a stack, in a folder of its own.
type stage struct {
	*rehearsal.Rehearsal

	t      *testing.T
	stack  string
	said   *record // what people are shown
	logged *record // and what is logged to them
}

// record keeps what is written to it, by several at once too.
type record struct {
	mutex sync.Mutex
	text  bytes.Buffer
}

func (r *record) Write(text []byte) (int, error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return r.text.Write(text)
}

// String is what has come until now.
func (r *record) String() string {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return r.text.String()
}

// Reset forgets it.
func (r *record) Reset() {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.text.Reset()
}

func newStage(t *testing.T, stack string) *stage {
	t.Helper()
	return newStageOf(t, rehearsal.Options{Project: projectFolder, Stack: stack})
}

// newStageOf is a rehearsal of another project too, with the tools of this one.
func newStageOf(t *testing.T, options rehearsal.Options) *stage {
	t.Helper()
	// Whoever has real stacks has this in the environment; it opens nothing of a rehearsal.
	t.Setenv("PULUMI_CONFIG_PASSPHRASE", "of a real stack")
	said, logged := &record{}, &record{}
	options.Folder = filepath.Join(t.TempDir(), options.Stack)
	options.Tools = filepath.Join(projectFolder, ".tools", "bin")
	options.Out = io.MultiWriter(t.Output(), said)
	options.Log = slog.New(slog.NewTextHandler(io.MultiWriter(t.Output(), logged), nil))
	r, err := rehearsal.New(options)
	require.NoError(t, err)
	if err := r.CheckTools(); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if _, err := r.Down(ctx); err != nil && !errors.Is(err, rehearsal.ErrNothing) {
			t.Errorf("clearing up: %v", err)
		}
	})
	return &stage{Rehearsal: r, t: t, stack: options.Stack, said: said, logged: logged}
}

// step runs a part of a life whose later parts make no sense without it.
func (s *stage) step(name string, do func(t *testing.T)) {
	s.t.Helper()
	start := time.Now()
	if !s.t.Run(name, do) {
		s.t.FailNow()
	}
	s.t.Logf("%s took %s", name, time.Since(start).Round(100*time.Millisecond))
}

func developmentsLife(t *testing.T) {
	s := newStage(t, "development")
	var before []string
	s.step("an empty cluster", func(t *testing.T) {
		require.NoError(t, s.StartCluster(t.Context()))
		var err error
		before, err = s.Objects(t.Context())
		require.NoError(t, err)
		require.NotEmpty(t, before)
	})
	s.step("what dies while it starts is started again", func(t *testing.T) {
		manager := func() int { return s.pid(t, "kube-controller-manager") }
		require.NoError(t, syscall.Kill(manager(), syscall.SIGKILL))
		require.Eventually(t, func() bool { return manager() == 0 }, 10*time.Second, 20*time.Millisecond)
		require.NoError(t, s.WaitHealthy(t.Context()))
		assert.NotZero(t, manager())
	})
	seen := watchCommandLines(t)
	s.step("a preview before anything is there shows all of it", func(t *testing.T) {
		require.NoError(t, s.ShowPreview(t.Context()))
		assert.Contains(t, s.said.String(), "Secret")
		now, err := s.Objects(t.Context())
		require.NoError(t, err)
		assert.Equal(t, before, now)
	})
	s.step("up makes every workload ready", func(t *testing.T) {
		require.NoError(t, s.Up(t.Context(), rehearsal.UpOptions{}))
		s.assertReady(t)
	})
	s.step("every object satisfies the API server to the letter", s.assertStrictlyValid)
	s.step("pods that break the rules of their namespace are refused", s.assertPodSecurity)
	s.step("no secret is in the clear anywhere", func(t *testing.T) { s.assertNothingInTheClear(t, seen()) })
	s.step("a log for somebody else has no secret up to the level that README names", s.assertVerbose)
	s.step("up again changes nothing, though the plugin isn't yet where a newer SDK has it", func(t *testing.T) {
		found, err := filepath.Glob(filepath.Join(s.Folder(), "pulumi-home", "plugins", "resource-kubernetes-*"))
		require.NoError(t, err)
		require.Len(t, found, 1)
		require.NoError(t, os.RemoveAll(found[0]))
		require.NoError(t, s.Up(t.Context(), rehearsal.UpOptions{ExpectNoChanges: true}))
	})
	s.step("a state that a full disk has cut off is put back", func(t *testing.T) {
		state := filepath.Join(s.Folder(), "state", ".pulumi", "stacks", "manager-cluster-state", "development.json")
		about, err := os.Stat(state)
		require.NoError(t, err)
		require.NoError(t, os.Truncate(state, about.Size()/2))
		require.NoError(t, s.Up(t.Context(), rehearsal.UpOptions{ExpectNoChanges: true}))
	})
	s.step("each controller may do what it wants to", s.assertNothingForbidden)
	s.step("pods are ready again once their machine is back", s.assertReadyAgain)
	var changes []rehearsal.Change
	s.step("one changed value changes one field of one object", func(t *testing.T) {
		s.Set("hvac.interval", unusual)
		var err error
		changes, err = s.Preview(t.Context())
		require.NoError(t, err)
		require.Len(t, changes, 1, "got %v", changes)
		assert.Equal(t, "update", changes[0].Op)
		assert.Contains(t, changes[0].Name(), "Deployment")
		assert.Len(t, changes[0].Paths, 1, "got %v", changes[0])
	})
	s.step("a preview needs no cluster", func(t *testing.T) {
		require.NoError(t, s.StopCluster(t.Context()))
		s.assertNoProcesses(t)
		without, err := s.Preview(t.Context())
		require.NoError(t, err)
		assert.Equal(t, changes, without)
	})
	s.step("a stopped cluster goes on where it was", func(t *testing.T) {
		require.NoError(t, s.Up(t.Context(), rehearsal.UpOptions{}))
		require.NoError(t, s.Up(t.Context(), rehearsal.UpOptions{ExpectNoChanges: true}))
	})
	s.step("what can't be scheduled is told, and mended by the next up", s.assertUnschedulable)
	s.step("destroy leaves the cluster as it was", func(t *testing.T) {
		require.NoError(t, s.Destroy(t.Context()))
		s.assertObjects(t, before)
	})
	s.step("down leaves nothing", s.assertDown)
}

// productionsLife is one of accidents.
func productionsLife(t *testing.T) {
	s := newStage(t, "production")
	s.step("a crash in the middle of up", func(t *testing.T) {
		ended := s.upUntilHalfway(t, t.Context())
		s.Kill()
		require.Error(t, <-ended)
		report, err := s.Status(t.Context())
		require.NoError(t, err)
		assert.False(t, report.OK(), "half a stack is not ready, whatever of it is")
		s.assertNoSidecars(t)
	})
	s.step("Ctrl-C in the middle of up", func(t *testing.T) {
		ctx, interrupt := context.WithCancel(t.Context())
		defer interrupt()
		ended := s.upUntilHalfway(t, ctx)
		interrupt()
		require.ErrorIs(t, <-ended, rehearsal.ErrInterrupted)
		s.assertNothingRunsOf(t, "pulumi")
	})
	s.step("up goes on after both, and starts what ends of the control plane meanwhile", func(t *testing.T) {
		ended := s.upUntilHalfway(t, t.Context())
		require.NoError(t, syscall.Kill(s.pid(t, "kube-scheduler"), syscall.SIGKILL))
		require.NoError(t, <-ended)
		s.assertReady(t)
		require.NoError(t, s.Up(t.Context(), rehearsal.UpOptions{ExpectNoChanges: true}))
	})
	s.step("pods run on the agents, which are as small as a Pi", s.assertOnAgents)
	s.step("they ask for what the budget says, and no node has too many", s.assertWithinBudget)
	s.step("metrics and logs are shipped away, and taken back", s.assertPivot)
	s.step("every object satisfies the API server to the letter", s.assertStrictlyValid)
	s.step("each controller may do what it wants to", s.assertNothingForbidden)
	s.step("one workload too many is refused; unchecked, the scheduler finds no room", s.assertOneTooMany)
	s.step("down leaves nothing", s.assertDown)
}

// pid is that of a program that runs, or 0.
func (s *stage) pid(t *testing.T, name string) (pid int) {
	t.Helper()
	running, err := s.Running(t.Context())
	require.NoError(t, err)
	for _, process := range running {
		if process.Name() == name {
			pid = process.PID
		}
	}
	return pid
}

// cordon closes every node to new pods, or opens them.
func (s *stage) cordon(t *testing.T, closed bool) {
	t.Helper()
	c, err := s.Client()
	require.NoError(t, err)
	var nodes corev1.NodeList
	require.NoError(t, c.List(t.Context(), &nodes))
	require.NotEmpty(t, nodes.Items)
	for _, node := range nodes.Items {
		patch := fmt.Appendf(nil, `{"spec": {"unschedulable": %t}}`, closed)
		require.NoError(t, c.Patch(t.Context(), &node, client.RawPatch(types.MergePatchType, patch)))
	}
}

// assertReadyAgain marks pods as the node controller does while it hears nothing of a machine.
func (s *stage) assertReadyAgain(t *testing.T) {
	c, err := s.Client()
	require.NoError(t, err)
	var pods corev1.PodList
	require.NoError(t, c.List(t.Context(), &pods))
	marked := 0
	for _, pod := range pods.Items {
		for i := range pod.Status.Conditions {
			if condition := &pod.Status.Conditions[i]; condition.Type == corev1.PodReady && pod.Status.Phase == corev1.PodRunning {
				condition.Status = corev1.ConditionFalse
				require.NoError(t, c.Status().Update(t.Context(), &pod))
				marked++
			}
		}
	}
	require.Positive(t, marked)
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		report, err := s.Status(s.t.Context())
		require.NoError(t, err)
		assert.True(t, report.OK())
	}, time.Minute, 200*time.Millisecond)
}

// assertUnschedulable closes every node to new pods and rolls one.
func (s *stage) assertUnschedulable(t *testing.T) {
	s.cordon(t, true)
	s.Set("hvac.weatherInterval", unusual)
	s.Set("readyTimeout", "10s")
	require.Error(t, s.Up(t.Context(), rehearsal.UpOptions{}))
	report, err := s.Status(t.Context())
	require.NoError(t, err)
	assert.False(t, report.OK())
	var text strings.Builder
	require.NoError(t, report.Render(&text))
	assert.Regexp(t, `exporter-weather\s+0/1`, text.String())
	assert.Contains(t, text.String(), "3 node(s) were unschedulable", "the scheduler's own words")

	s.cordon(t, false)
	require.NoError(t, s.Up(t.Context(), rehearsal.UpOptions{}))
	s.assertReady(t)
}

// assertNoSidecars: the file backend writes attributes beside each file of the state, not in one
// go, and can't read a state whose attributes are half written.
func (s *stage) assertNoSidecars(t *testing.T) {
	files := 0
	require.NoError(t, filepath.WalkDir(filepath.Join(s.Folder(), "state"), func(path string, _ fs.DirEntry, err error) error {
		files++
		assert.NotEqual(t, ".attrs", filepath.Ext(path), path)
		return err
	}))
	assert.Greater(t, files, 3)
}

func (s *stage) assertOnAgents(t *testing.T) {
	c, err := s.Client()
	require.NoError(t, err)
	var pods corev1.PodList
	require.NoError(t, c.List(t.Context(), &pods))
	require.NotEmpty(t, pods.Items)
	for _, pod := range pods.Items {
		if !ofK3s(&pod) {
			assert.Contains(t, []string{"orangepi", "peachpi"}, pod.Spec.NodeName, pod.Name)
		}
	}
	var nodes corev1.NodeList
	require.NoError(t, c.List(t.Context(), &nodes))
	require.Len(t, nodes.Items, 3)
	for _, node := range nodes.Items {
		assert.Equal(t, "arm64", node.Labels[corev1.LabelArchStable], node.Name)
		assert.LessOrEqual(t, node.Status.Allocatable.Memory().Value(), int64(640<<20), node.Name)
	}
}

// upUntilHalfway runs up until it has made a Deployment, and leaves it running.
func (s *stage) upUntilHalfway(t *testing.T, ctx context.Context) <-chan error {
	t.Helper()
	require.NoError(t, s.StartCluster(ctx)) // its own Deployments are none that up makes
	before := s.deployments(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.Up(ctx, rehearsal.UpOptions{}) }()
	require.Eventually(t, func() bool {
		return len(ended) > 0 || len(without(s.deployments(ctx), before)) > 0
	}, 3*time.Minute, 50*time.Millisecond)
	require.Empty(t, ended, "up ended before it could be interrupted")
	return ended
}

// deployments lists the UIDs of all Deployments; none while there is no cluster to ask.
func (s *stage) deployments(ctx context.Context) []string {
	c, err := s.Client()
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var list appsv1.DeploymentList
	if err := c.List(ctx, &list); err != nil {
		return nil
	}
	var found []string
	for _, deployment := range list.Items {
		found = append(found, string(deployment.UID))
	}
	return found
}

func (s *stage) assertReady(t *testing.T) {
	t.Helper()
	report, err := s.Status(t.Context())
	require.NoError(t, err)
	var text strings.Builder
	require.NoError(t, report.Render(&text))
	assert.True(t, report.OK(), text.String())

	var names []string
	for _, workload := range s.catalog(t) {
		names = append(names, workload.Name)
	}
	var reported []string
	for _, workload := range report.Workloads {
		reported = append(reported, workload.Name)
	}
	assert.ElementsMatch(t, names, reported)
	assert.Contains(t, text.String(), "export KUBECONFIG="+s.Kubeconfig())
}

func (s *stage) catalog(t *testing.T) []workloads.Workload {
	t.Helper()
	cfg, err := s.Rehearsed()
	require.NoError(t, err)
	images, err := workloads.LoadImages(filepath.Join(projectFolder, cfg.Images))
	require.NoError(t, err)
	// Without the digests of secrets, which are not there to be read.
	catalog, err := workloads.Catalog(cfg, images, workloads.WithDigests(nil))
	require.NoError(t, err)
	require.NotEmpty(t, catalog)
	return catalog
}

// assertStrictlyValid has the API server check each object of the stack, refusing fields
// that it doesn't know. Nothing is stored.
func (s *stage) assertStrictlyValid(t *testing.T) {
	c, err := s.Client()
	require.NoError(t, err)
	for _, workload := range s.catalog(t) {
		for _, object := range workload.Objects {
			content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
			require.NoError(t, err)
			// What Go's types write though nobody set it, and a server does not take.
			unstructured.RemoveNestedField(content, "metadata", "creationTimestamp")
			unstructured.RemoveNestedField(content, "status")
			data, err := json.Marshal(content)
			require.NoError(t, err)
			u := &unstructured.Unstructured{Object: content}
			err = c.Patch(t.Context(), u.DeepCopy(), client.RawPatch(types.ApplyPatchType, data),
				client.DryRunAll, client.ForceOwnership, client.FieldOwner("rehearsal-test"), client.FieldValidation("Strict"))
			assert.NoError(t, err, "%s: %s %s/%s", workload.Name, u.GetKind(), u.GetNamespace(), u.GetName())
		}
	}
}

// assertObjects waits for what Kubernetes clears away by itself after a deletion.
func (s *stage) assertObjects(t *testing.T, want []string) {
	t.Helper()
	var more, fewer []string
	assert.Eventually(t, func() bool {
		now, err := s.Objects(t.Context())
		if err != nil {
			more = []string{err.Error()}
			return false
		}
		more, fewer = without(now, want), without(want, now)
		return len(more)+len(fewer) == 0
	}, time.Minute, 500*time.Millisecond)
	assert.Empty(t, more, "left behind")
	assert.Empty(t, fewer, "gone, though not of the stack")
}

func without(all, some []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(one string) bool { return slices.Contains(some, one) })
}

func (s *stage) assertNoProcesses(t *testing.T) {
	t.Helper()
	running, err := s.Running(t.Context())
	require.NoError(t, err)
	assert.Empty(t, running)
}

func (s *stage) assertNothingRunsOf(t *testing.T, prefix string) {
	t.Helper()
	var left []string
	assert.Eventually(t, func() bool {
		running, err := s.Running(t.Context())
		left = nil
		for _, process := range running {
			if strings.HasPrefix(process.Name(), prefix) {
				left = append(left, fmt.Sprint(process))
			}
		}
		return err == nil && len(left) == 0
	}, 20*time.Second, 200*time.Millisecond, "%v", left)
}

// assertNothingForbidden: controllers log in with their own accounts, and one that may not watch what it wants to tries
// again and again, tells only its log, and ends after two minutes.
func (s *stage) assertNothingForbidden(t *testing.T) {
	logs, err := filepath.Glob(filepath.Join(s.Folder(), "logs", "*-controller.log"))
	require.NoError(t, err)
	require.NotEmpty(t, logs)
	for _, log := range logs {
		content, err := os.ReadFile(log)
		require.NoError(t, err)
		for line := range strings.Lines(string(content)) {
			assert.NotContains(t, line, " is forbidden: ", filepath.Base(log))
		}
	}
}

func (s *stage) assertDown(t *testing.T) {
	stopped, err := s.Down(t.Context())
	require.NoError(t, err)
	assert.NotEmpty(t, stopped)
	s.assertNoProcesses(t)
	_, err = os.Stat(s.Folder())
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = s.Down(t.Context())
	require.ErrorIs(t, err, rehearsal.ErrNothing)
}
