package rehearsal_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/internal/flux"
	"github.com/nullify005/manager-cluster-state/internal/k3s"
	"github.com/nullify005/manager-cluster-state/internal/k3stest"
	"github.com/nullify005/manager-cluster-state/internal/pitest"
)

const nextRelease = "v1.35.1+k3s1"

// TestPis goes from three new SD cards to the production stack from Git, by make bootstrap's command,
// then to another k3s, and back. Real are the engine, SSH, sudo, the scripts, Git, Flux, sealed-secrets
// and the control plane; k3s, its kubelets and systemd are stand-ins, and so are GitHub and Pulumi's
// plugins where the official ones aren't installed.
func TestPis(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a control plane, Flux and pulumi for minutes; leave out -short")
	}
	p := newPis(t)
	p.step("a dry run changes nothing", func(t *testing.T) {
		before := p.everything(t)
		said, err := p.mcs(t, "--dry-run")
		require.Error(t, err)
		assert.Contains(t, said, "kiwipi")
		assert.Equal(t, before, p.everything(t))
		p.assertUntouched(t)
	})
	p.step("it keeps the host keys, pins the release, asks the machines, and stops at the secrets", func(t *testing.T) {
		_, err := p.mcs(t, "--yes")
		require.ErrorContains(t, err, "exit status")
		file := p.stackFile(t)
		for _, pi := range p.pis {
			assert.Contains(t, file, pi.HostKey())
		}
		assert.Len(t, regexp.MustCompile(`(binary|script): [0-9a-f]{64}`).FindAllString(file, -1), 2)
		p.assertUntouched(t)
	})
	p.setSecrets(t, "secrets.sshKey") // the agent has the key that the machines let in
	seen := watchCommandLines(t)
	p.step("run to its end, the Pis are a cluster and everything is ready", func(t *testing.T) {
		_, err := p.mcs(t, "--yes")
		require.NoError(t, err)
		p.assertRuns(t)
		p.assertNodes(t, firstRelease)
		for _, pi := range p.pis {
			assert.Equal(t, 2, pi.Boots(), "%s was rebooted for its boot flags, once", pi.Name)
		}
		p.assertOnAgents(t)
		p.assertNoSecretLeft(t, seen())
	})
	p.step("again, it changes nothing", func(t *testing.T) {
		said, err := p.mcs(t, "--yes")
		require.NoError(t, err)
		assert.NotRegexp(t, `[1-9][0-9]* (created|updated|deleted|replaced)`, said)
	})
	p.step("another k3s stops at an agent that can't be reached, and goes on from there", func(t *testing.T) {
		p.publish(t, nextRelease)
		p.run(t, p.program, "pin", "--stack", "production", "--k3s", nextRelease, "--from", p.files)
		p.pis[2].Unplug()
		said, err := p.mcs(t, "--yes")
		require.Error(t, err)
		assert.Contains(t, said, "peachpi")
		p.pis[2].Plug()
		_, err = p.mcs(t, "--yes")
		require.NoError(t, err)
		p.assertNodes(t, nextRelease)
		p.assertRuns(t)
		p.assertOnAgents(t)
	})
	p.step("with every card wiped, they are another cluster, in which what is sealed in Git opens", p.assertMadeAnew)
	p.step("destroy leaves the machines as they were", func(t *testing.T) {
		pulumi, err := filepath.Abs(p.stack().Program())
		require.NoError(t, err)
		p.run(t, pulumi, "destroy", "--stack", "production", "--yes", "--skip-preview")
		p.assertUntouched(t)
		keys, err := p.forge(t).DeployKeys(t.Context())
		require.NoError(t, err)
		assert.Empty(t, keys)
	})
}

const firstRelease = "v1.35.0+k3s1"

// pis is a home whose production stack is for three Pis, as its own file has it.
type pis struct {
	*home

	house *pitest.House
	pis   []*pitest.Pi
	// files is the folder of the release.
	files string
	// on has the control plane that is behind k3s.
	on *stage
}

func newPis(t *testing.T) *pis {
	t.Helper()
	kubectl, err := filepath.Abs(filepath.Join(projectFolder, ".tools", "bin", "kubectl"))
	require.NoError(t, err)
	p := &pis{
		house: pitest.New(t, pitest.Options{Kubectl: kubectl}), files: t.TempDir(),
		home: &home{stage: newStage(t, "production")},
	}
	var nodes []any
	for i, name := range []string{"kiwipi", "orangepi", "peachpi"} {
		pi := p.house.Pi(t, name, pitest.PiOptions{Disk: 4096})
		p.pis = append(p.pis, pi)
		node := map[string]any{
			"name": name, "role": "agent", "arch": "arm64", "cpu": 4, "memory": "1Gi", "reserved": "448Mi",
			"host": pi.Address, "user": pi.User, "hostKey": pi.HostKey(),
		}
		if i == 0 {
			node["role"], node["reserved"], node["workloads"] = "server", "896Mi", false
		}
		nodes = append(nodes, node)
	}
	p.publish(t, firstRelease)
	for path, value := range map[string]any{
		"cluster.kind": "pi", "cluster.kubeconfig": "", "cluster.context": "", "cluster.k3s": firstRelease, "cluster.nodes": nodes,
		"cluster.install": map[string]any{"from": p.files, "binary": strings.Repeat("0", 64), "script": strings.Repeat("0", 64)},
	} {
		p.Set(path, value)
	}
	p.start(t)
	p.use(t, p.stage)
	p.forgetPins(t)
	p.env = append(p.env, "SSH_AUTH_SOCK="+p.agent(t))
	return p
}

// publish puts the files of a release where each Pi gets them from.
func (p *pis) publish(t *testing.T, release string) {
	t.Helper()
	binary, err := os.ReadFile(k3stest.Build(t, release))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(p.files, k3s.BinaryFile), binary, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(p.files, k3s.ScriptFile), []byte(pitest.InstallScript), 0o600))
}

// use has a control plane be that of k3s, without the nodes that a rehearsal simulates: k3s brings
// its own.
func (p *pis) use(t *testing.T, on *stage) {
	t.Helper()
	c, err := on.Client()
	require.NoError(t, err)
	require.NoError(t, c.DeleteAllOf(t.Context(), &corev1.Node{}))
	p.on = on
	p.house.Use(t, on.Kubeconfig())
}

// another is a control plane with nothing on it, and with controllers.
func (p *pis) another(t *testing.T) *stage {
	t.Helper()
	fresh := newStage(p.t, "production")
	require.NoError(t, fresh.StartCluster(t.Context()))
	fresh.control(p.t)
	return fresh
}

// assertMadeAnew also has the sealing keys protected, as production's are.
func (p *pis) assertMadeAnew(t *testing.T) {
	require.NoError(t, p.stack().Set(t.Context(), "sealing.protect", "true", false))
	_, err := p.mcs(t, "--yes")
	require.NoError(t, err)
	keys, err := p.forge(t).DeployKeys(t.Context())
	require.NoError(t, err)
	for _, pi := range p.pis {
		pi.Reflash(t)
	}
	p.use(t, p.another(t))
	said, err := p.mcs(t, "--yes")
	require.Error(t, err)
	assert.Contains(t, said, "its host key has changed")
	p.run(t, p.program, "hosts", "trust", "--stack", "production", "--yes", "--replace", "kiwipi,orangepi,peachpi")
	said, err = p.mcs(t, "--yes")
	require.NoError(t, err)
	assert.Contains(t, said, "kiwipi: the k3s that the last update left there is gone; it is installed anew, with everything that was on the cluster")
	p.assertNodes(t, nextRelease)
	p.assertOpened(t)
	p.assertOnAgents(t)
	after, err := p.forge(t).DeployKeys(t.Context())
	require.NoError(t, err)
	require.Len(t, after, 1)
	assert.Equal(t, keys[0].ID, after[0].ID, "GitHub's side is as it was")
	require.NoError(t, p.stack().Set(t.Context(), "sealing.protect", "false", false))
	_, err = p.mcs(t, "--yes")
	require.NoError(t, err)
}

// assertOpened: Flux says so of every workload, sealed secrets among them.
func (p *pis) assertOpened(t *testing.T) {
	t.Helper()
	c := p.on.flux(t)
	require.Eventually(t, func() bool {
		states, err := flux.Workloads(t.Context(), c)
		return err == nil && len(states) > 0 && len(flux.Problems(states)) == 0
	}, soon, time.Second)
	var secret corev1.Secret
	require.NoError(t, c.Get(t.Context(), client.ObjectKey{Namespace: "chat-hvac-v1", Name: "chat-hvac"}, &secret))
}

// forgetPins takes off the stack file what the commands of the helper are to write.
func (p *pis) forgetPins(t *testing.T) {
	t.Helper()
	file := regexp.MustCompile(`(?m)^ *(hostKey: ssh-|(binary|script): "?0{64}).*\n`).ReplaceAllString(p.stackFile(t), "")
	require.NotContains(t, file, "hostKey")
	require.NoError(t, os.WriteFile(p.stack().File(), []byte(file), 0o600))
	p.git(t, "commit", "--quiet", "--all", "--message", "Machines that nobody has looked at")
	p.git(t, "push", "--quiet", "origin", "main")
}

// agent is a real SSH agent with the house's key.
func (p *pis) agent(t *testing.T) (socket string) {
	t.Helper()
	for _, program := range []string{"ssh-agent", "ssh-add"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("there is no %s: install an SSH client", program)
		}
	}
	folder, err := os.MkdirTemp("", "agent") //nolint:usetesting // a short path, as a socket's has to be
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	socket = filepath.Join(folder, "agent")
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "ssh-agent", "-D", "-a", socket)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	add := func() ([]byte, error) {
		cmd := exec.CommandContext(t.Context(), "ssh-add", "-")
		cmd.Env, cmd.Stdin = append(os.Environ(), "SSH_AUTH_SOCK="+socket), strings.NewReader(p.house.Key)
		return cmd.CombinedOutput()
	}
	require.Eventually(t, func() bool { _, err := add(); return err == nil }, 10*time.Second, 50*time.Millisecond)
	return socket
}

func (p *pis) stackFile(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(p.stack().File())
	require.NoError(t, err)
	return string(content)
}

func (p *pis) run(t *testing.T, program string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = p.folder, p.env, t.Output(), t.Output()
	require.NoError(t, cmd.Run())
}

func (p *pis) assertUntouched(t *testing.T) {
	t.Helper()
	for _, pi := range p.pis {
		assert.Empty(t, pi.Left(t), pi.Name)
	}
}

// assertNodes holds the cluster's nodes against what the stack file says of the machines.
func (p *pis) assertNodes(t *testing.T, release string) {
	t.Helper()
	c, err := p.on.Client()
	require.NoError(t, err)
	var nodes corev1.NodeList
	require.NoError(t, c.List(t.Context(), &nodes))
	require.Len(t, nodes.Items, len(p.pis))
	for _, node := range nodes.Items {
		assert.Equal(t, release, node.Status.NodeInfo.KubeletVersion, node.Name)
		assert.False(t, node.Spec.Unschedulable, node.Name)
		room := node.Status.Allocatable[corev1.ResourceMemory]
		if node.Name == "kiwipi" {
			assert.Equal(t, "128Mi", room.String())
			assert.Equal(t, []corev1.Taint{{Key: k3s.ControlPlaneRole, Value: "true", Effect: corev1.TaintEffectNoSchedule}}, node.Spec.Taints)
			continue
		}
		assert.Equal(t, "576Mi", room.String())
		assert.Contains(t, node.Labels, "node-role.kubernetes.io/worker")
		assert.Empty(t, node.Spec.Taints)
	}
}

// assertOnAgents: what the stack brings runs on no server.
func (p *pis) assertOnAgents(t *testing.T) {
	t.Helper()
	c, err := p.on.Client()
	require.NoError(t, err)
	var pods corev1.PodList
	require.NoError(t, c.List(t.Context(), &pods))
	seen := 0
	for _, pod := range pods.Items {
		if pod.Namespace == "kube-system" && pod.Labels["app.kubernetes.io/managed-by"] != "manager-cluster-state" {
			continue // k3s's own
		}
		seen++
		assert.NotEqual(t, "kiwipi", pod.Spec.NodeName, "%s/%s", pod.Namespace, pod.Name)
	}
	assert.NotZero(t, seen)
}

// assertNoSecretLeft looks for the join token, which no config has, in all that a person has and was shown.
func (p *pis) assertNoSecretLeft(t *testing.T, meanwhile places) {
	t.Helper()
	token := strings.TrimSpace(p.pis[0].Must(t, "cat /var/lib/rancher/k3s/server/node-token"))
	require.NotEmpty(t, token)
	const heard, name = "what mcs bootstrap has said", "the join token"
	all := canaries{name: formsOf(token)}
	meanwhile[heard] = p.heard.Bytes()
	lookIn(t, p.folder, meanwhile)
	lookIn(t, p.backend, meanwhile)
	assert.Empty(t, all.leaks(meanwhile))

	planted := filepath.Join(p.backend, "planted")
	require.NoError(t, os.WriteFile(planted, []byte(zipped(token)), 0o600))
	lookIn(t, p.backend, meanwhile)
	require.NoError(t, os.Remove(planted))
	meanwhile[heard], meanwhile[commandLines] = []byte(token), []byte("k3s agent --token="+token)
	assert.ElementsMatch(t, []string{
		"file " + planted + " has " + name, heard + " has " + name, commandLines + " has " + name,
	}, all.leaks(meanwhile), "it can be found")
	for _, pi := range p.pis[1:] {
		mode := pi.Must(t, "stat -c %a /etc/rancher/k3s/config.yaml")
		assert.Equal(t, "600", strings.TrimSpace(mode))
	}
}
