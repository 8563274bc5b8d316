package cluster_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/nullify005/manager-cluster-state/components/cluster"
	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/internal/pulumitest"
)

const k3dRelease = "v1.35.0+k3s1"

func laptop(k3s string) *config.Cluster {
	return &config.Cluster{Kind: config.K3d, Name: "dev", K3s: k3s, Flannel: config.HostGateway, Nodes: []config.Node{
		{Name: "one", Role: config.Server, Workloads: new(false)}, {Name: "two", Role: config.Agent}, {Name: "three", Role: config.Agent},
	}}
}

// k3dMachine plays the commands that a finder asks, by files that say what they answer.
type k3dMachine struct {
	t   *testing.T
	dir string
}

// newK3dMachine has k3d and Docker, and no cluster.
func newK3dMachine(t *testing.T) *k3dMachine {
	t.Helper()
	m := &k3dMachine{t: t, dir: t.TempDir()}
	// An answer that isn't there is a complaint.
	const program = `#!/bin/sh
cd '%s' || exit
echo "%[2]s $*" >>asked
case "$*" in
version*) answer=%[2]s-version ;;
'ps --all --filter label=k3d.cluster=dev '*) answer=list ;;
'cluster start '*) exit ;;
'ps --filter publish='*) answer=$(echo "$3" | tr = -) ;;
'context inspect '*) answer=context ;;
esac
cat "$answer" 2>/dev/null && exit
cat "$answer-complaint" >&2
exit 1
`
	for _, name := range []string{"k3d", "docker"} {
		require.NoError(t, os.WriteFile(filepath.Join(m.dir, name), fmt.Appendf(nil, program, m.dir, name), 0o755))
	}
	t.Setenv("PATH", m.dir+":/usr/bin:/bin")
	m.answer("k3d-version", "k3d version v5.8.3\nk3s version v1.21.7-k3s1 (default)\n")
	m.answer("docker-version", "20.10.24\n")
	m.answer("context", "tcp://elsewhere:2376\n") // whose ports are not this machine's
	m.answer("publish-80", "")
	m.answer("publish-443", "")
	m.lists()
	return m
}

func (m *k3dMachine) answer(name, text string) {
	m.t.Helper()
	require.NoError(m.t, os.WriteFile(filepath.Join(m.dir, name), []byte(text), 0o600))
}

func (m *k3dMachine) complain(name, text string) {
	m.t.Helper()
	require.NoError(m.t, os.Remove(filepath.Join(m.dir, name)))
	m.answer(name+"-complaint", text)
}

func (m *k3dMachine) asked() string {
	content, err := os.ReadFile(filepath.Join(m.dir, "asked"))
	require.NoError(m.t, err)
	return string(content)
}

// k3dListed is a node as Docker lists it.
type k3dListed struct{ role, state, installation, config string }

// lists has Docker list the cluster's nodes.
func (m *k3dMachine) lists(nodes ...k3dListed) {
	m.t.Helper()
	var lines strings.Builder
	for _, node := range nodes {
		fmt.Fprintf(&lines, "%s\t%s\t%s\t%s\n", node.role, node.state, node.installation, node.config)
	}
	m.answer("list", lines.String())
}

// k3dFile is the config file in a script.
func k3dFile(t *testing.T, create pulumitest.Registration) []byte {
	t.Helper()
	_, rest, begins := strings.Cut(create.Inputs["stdin"].StringValue(), "<<'END'\n")
	file, _, ends := strings.Cut(rest, "END\n")
	require.True(t, begins && ends)
	return []byte(file)
}

// k3dMade is the whole cluster that a program made, from the labels that it gave to it.
func k3dMade(t *testing.T, create pulumitest.Registration) []k3dListed {
	t.Helper()
	var file struct {
		Options struct {
			Runtime struct {
				Labels []struct {
					Label string `json:"label"`
				} `json:"labels"`
			} `json:"runtime"`
		} `json:"options"`
	}
	require.NoError(t, yaml.Unmarshal(k3dFile(t, create), &file))
	require.Len(t, file.Options.Runtime.Labels, 2)
	_, installation, _ := strings.Cut(file.Options.Runtime.Labels[0].Label, "=")
	_, described, _ := strings.Cut(file.Options.Runtime.Labels[1].Label, "=")
	return []k3dListed{
		{"server", "running", installation, described},
		{"agent", "running", installation, ""},
		{"agent", "running", installation, ""},
		{"loadbalancer", "running", "", ""},
	}
}

// k3dRun is what a run said to people.
type k3dRun struct {
	recorder pulumitest.Recorder
	messages []string
}

func (s *k3dRun) Warn(message string, _ *pulumi.LogArgs) error  { return s.say("warning: " + message) }
func (s *k3dRun) Info(message string, _ *pulumi.LogArgs) error  { return s.say("info: " + message) }
func (s *k3dRun) Error(message string, _ *pulumi.LogArgs) error { return s.say("error: " + message) }
func (s *k3dRun) Debug(string, *pulumi.LogArgs) error           { return nil }

func (s *k3dRun) say(message string) error {
	s.messages = append(s.messages, message)
	return nil
}

func (s *k3dRun) run(cfg *config.Cluster, preview bool) error {
	s.recorder.Outputs = map[string]resource.PropertyMap{"command:local:Command": {"stdout": resource.NewProperty(kubeconfig)}}
	return s.recorder.Run(func(ctx *pulumi.Context) error {
		ctx.Log = s
		_, err := cluster.New(ctx, &config.Config{Cluster: *cfg}, "")
		return err
	}, preview)
}

func (s *k3dRun) create() pulumitest.Registration {
	return s.recorder.OfType("command:local:Command")["dev"]
}

func (s *k3dRun) installation() string {
	return s.create().Inputs["triggers"].ArrayValue()[0].StringValue()
}

// k3dRunAfter is a run on a stack whose last update has left an installation.
func k3dRunAfter(installation string) *k3dRun {
	return &k3dRun{recorder: pulumitest.Recorder{Before: resource.PropertyMap{
		cluster.InstallationsOutput: resource.NewProperty(resource.PropertyMap{"one": resource.NewProperty(installation)}),
	}}}
}

func TestK3d_IsMadeFromAConfigFileOnStandardInput(t *testing.T) {
	newK3dMachine(t)
	s := &k3dRun{}
	require.NoError(t, s.run(laptop(k3dRelease), false))
	assert.Empty(t, s.messages)
	create := s.create()
	assert.True(t, create.RPC.GetDeleteBeforeReplace(), "two clusters can't share ports 80 and 443")
	installation := s.installation()
	assert.Regexp(t, "^[0-9a-f]{16}$", installation)
	for _, action := range []string{"create", "delete"} {
		assert.Equal(t, "sh -s -- "+action, create.Inputs[resource.PropertyKey(action)].StringValue())
	}
	assert.True(t, strings.HasPrefix(create.Inputs["stdin"].StringValue(), "cluster=dev\ninstallation="+installation+"\n"))

	file := map[string]any{}
	require.NoError(t, yaml.Unmarshal(k3dFile(t, create), &file))
	options := file["options"].(map[string]any)
	labels, err := json.Marshal(options["runtime"])
	require.NoError(t, err)
	delete(options, "runtime")
	content, err := json.Marshal(file)
	require.NoError(t, err)
	const want = `{
		"apiVersion": "k3d.io/v1alpha5", "kind": "Simple", "metadata": {"name": "dev"},
		"servers": 1, "agents": 2, "image": "rancher/k3s:v1.35.0-k3s1",
		"ports": [{"port": "80:80", "nodeFilters": ["loadbalancer"]}, {"port": "443:443", "nodeFilters": ["loadbalancer"]}],
		"options": {
			"k3d": {"wait": true, "timeout": "15m0s"},
			"k3s": {"extraArgs": [
				{"arg": "--flannel-backend=host-gw", "nodeFilters": ["server:*"]},
				{"arg": "--disable=local-storage", "nodeFilters": ["server:*"]},
				{"arg": "--kubelet-arg=image-gc-high-threshold=100", "nodeFilters": ["server:*", "agent:*"]},
				{"arg": "--kubelet-arg=eviction-hard=imagefs.available<1%,nodefs.available<1%", "nodeFilters": ["server:*", "agent:*"]},
				{"arg": "--kubelet-arg=eviction-minimum-reclaim=imagefs.available=1%,nodefs.available=1%", "nodeFilters": ["server:*", "agent:*"]},
				{"arg": "--node-taint=node-role.kubernetes.io/control-plane=true:NoSchedule", "nodeFilters": ["server:0"]}
			]},
			"kubeconfig": {"updateDefaultKubeconfig": false, "switchCurrentContext": false}
		}
	}`
	assert.JSONEq(t, want, string(content))
	var runtime struct {
		Labels []map[string]any `json:"labels"`
	}
	require.NoError(t, json.Unmarshal(labels, &runtime))
	require.Len(t, runtime.Labels, 2)
	assert.Equal(t, "manager-cluster-state.installation="+installation, runtime.Labels[0]["label"])
	described, found := strings.CutPrefix(runtime.Labels[1]["label"].(string), "manager-cluster-state.config=")
	require.True(t, found)
	assert.JSONEq(t, want, described)
}

func TestK3d_TheKubeconfigIsSecretAndReadAnewOfEachInstallation(t *testing.T) {
	newK3dMachine(t)
	s := &k3dRun{}
	require.NoError(t, s.run(laptop(k3dRelease), false))
	get := s.recorder.OfType("command:local:Command")["dev-kubeconfig"]
	assert.Equal(t, "none", get.Inputs["logging"].StringValue())
	assert.False(t, get.Inputs["addPreviousOutputInEnv"].BoolValue())
	assert.ElementsMatch(t, []string{"stdout", "stderr"}, get.RPC.GetAdditionalSecretOutputs())
	assert.Contains(t, get.DependsOn(), "Command:dev")
	assert.Equal(t, s.create().Inputs["triggers"], get.Inputs["triggers"])
	for _, r := range s.recorder.OfType("command:local:Command") {
		assert.Equal(t, "dev", r.Parent())
	}
}

func TestK3d_TheProviderIsOfOneInstallation(t *testing.T) {
	newK3dMachine(t)
	s := &k3dRun{}
	require.NoError(t, s.run(laptop(k3dRelease), false))
	provider := s.recorder.OfType("pulumi:providers:kubernetes")["dev"]
	assert.Equal(t, "dev/"+s.installation(), provider.Inputs["clusterIdentifier"].StringValue(), "another installation has other objects")
}

func TestK3d_NeedsARelease(t *testing.T) {
	newK3dMachine(t)
	s := &k3dRun{}
	require.ErrorContains(t, s.run(laptop(""), false), "set cluster.name and cluster.k3s")
	assert.Empty(t, s.recorder.All())
}

// What an update stops for, before anything is registered, is only told in a preview: that goes
// on as if nothing had changed since the last update.
func TestK3d_WhatIsMissingStopsAnUpdateAndNoPreview(t *testing.T) {
	for name, test := range map[string]struct {
		without func(m *k3dMachine)
		want    []string
	}{
		"no command at all": {
			func(m *k3dMachine) { m.t.Setenv("PATH", "/nowhere") },
			[]string{"k3d is not on the path: get it with", "docker is not on the path: get Docker Desktop"},
		},
		"k3d too old, Docker not allowed": {
			func(m *k3dMachine) {
				m.answer("k3d-version", "k3d version v5.5.2\nk3s version v1.27.4-k3s1 (default)\n")
				m.complain("docker-version", "permission denied while trying to connect to the Docker daemon socket")
			},
			[]string{"k3d is v5.5.2: v5.6.0 is the oldest that works; get it with", "sudo usermod -aG docker"},
		},
		"Docker not running": {
			func(m *k3dMachine) {
				m.complain("docker-version", "Cannot connect to the Docker daemon at unix:///var/run/docker.sock.")
			},
			[]string{"Docker does not answer: start Docker Desktop, or on Linux `sudo systemctl start docker`", "Cannot connect"},
		},
		"Docker Desktop without this distribution of WSL": {
			func(m *k3dMachine) {
				const shim = "#!/bin/sh\necho 'We recommend to activate the WSL integration in Docker Desktop settings.'; exit 1\n"
				require.NoError(m.t, os.WriteFile(filepath.Join(m.dir, "docker"), []byte(shim), 0o755))
			},
			[]string{"Docker does not answer: start Docker Desktop", "activate the WSL integration"},
		},
		"both ports in use": {
			func(m *k3dMachine) {
				m.answer("publish-80", "web \n")
				m.answer("publish-443", "k3d-other-serverlb other\n")
			},
			[]string{"port 80 is in use, by the container web: stop it with `docker stop web`", "port 443 is in use, by the k3d cluster other: stop it with `k3d cluster stop other`"},
		},
		"somebody else's cluster": {
			func(m *k3dMachine) {
				m.lists(k3dListed{role: "server", state: "running"})
			},
			[]string{"a k3d cluster dev is there that this program did not make: remove it with `k3d cluster delete dev`"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newK3dMachine(t)
			test.without(m)
			s := k3dRunAfter("0123456789abcdef")
			err := s.run(laptop(k3dRelease), false)
			require.Error(t, err)
			assert.Empty(t, s.recorder.All())

			preview := k3dRunAfter("0123456789abcdef")
			require.NoError(t, preview.run(laptop(k3dRelease), true))
			require.Len(t, preview.messages, 1)
			assert.Contains(t, preview.messages[0], "warning: an update on this machine would stop before it touches anything")
			assert.Equal(t, "0123456789abcdef", preview.installation(), "nothing is replaced for it")
			for _, want := range test.want {
				require.ErrorContains(t, err, want)
				assert.Contains(t, preview.messages[0], want)
			}
		})
	}
}

func TestK3d_WhatIsThereIsKept(t *testing.T) {
	m := newK3dMachine(t)
	first := &k3dRun{}
	require.NoError(t, first.run(laptop(k3dRelease), false))
	m.lists(k3dMade(t, first.create())...)
	// Its ports are its own.
	m.answer("publish-80", "k3d-dev-serverlb dev\n")

	again := k3dRunAfter(first.installation())
	require.NoError(t, again.run(laptop(k3dRelease), false))
	assert.Empty(t, again.messages)
	assert.Equal(t, first.create().Inputs, again.create().Inputs)

	stateless := &k3dRun{}
	require.NoError(t, stateless.run(laptop(k3dRelease), false))
	assert.Equal(t, first.create().Inputs, stateless.create().Inputs)
	require.Len(t, stateless.messages, 1)
	assert.Contains(t, stateless.messages[0], "it is kept")
}

func TestK3d_ChangedConfigurationReplacesAndSaysSo(t *testing.T) {
	m := newK3dMachine(t)
	first := &k3dRun{}
	require.NoError(t, first.run(laptop(k3dRelease), false))
	m.lists(k3dMade(t, first.create())...)
	for _, preview := range []bool{true, false} {
		changed := laptop("v1.35.1+k3s1")
		changed.Nodes = changed.Nodes[:2]
		changed.Flannel = ""
		s := k3dRunAfter(first.installation())
		require.NoError(t, s.run(changed, preview))
		assert.NotEqual(t, first.installation(), s.installation())
		require.Len(t, s.messages, 1)
		assert.Contains(t, s.messages[0], "warning: the k3d cluster dev is replaced, because of agents (2 → 1), "+
			"image (rancher/k3s:v1.35.0-k3s1 → rancher/k3s:v1.35.1-k3s1), options.k3s.extraArgs: what its pods have stored")
	}
}

func TestK3d_WhatIsGoneOrHalfMadeIsMadeAnew(t *testing.T) {
	for name, test := range map[string]struct {
		nodes func(nodes []k3dListed) []k3dListed
		want  string
	}{
		"deleted by hand":           {func([]k3dListed) []k3dListed { return nil }, "which the last update left, is gone: it is made anew, with everything on it"},
		"an agent was never made":   {func(nodes []k3dListed) []k3dListed { return append(nodes[:2:2], nodes[3]) }, "only half there"},
		"no load balancer was made": {func(nodes []k3dListed) []k3dListed { return nodes[:3] }, "only half there"},
		"only agents are left":      {func(nodes []k3dListed) []k3dListed { return nodes[1:] }, "only half there"},
		"a node was never started": {func(nodes []k3dListed) []k3dListed {
			return append(nodes[:3:3], k3dListed{role: "loadbalancer", state: "created"})
		}, "only half there"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newK3dMachine(t)
			first := &k3dRun{}
			require.NoError(t, first.run(laptop(k3dRelease), false))
			m.lists(test.nodes(k3dMade(t, first.create()))...)
			for _, preview := range []bool{true, false} {
				s := k3dRunAfter(first.installation())
				require.NoError(t, s.run(laptop(k3dRelease), preview))
				assert.NotEqual(t, first.installation(), s.installation())
				require.Len(t, s.messages, 1)
				assert.Contains(t, s.messages[0], test.want)
			}
		})
	}
}

func TestK3d_AStoppedClusterIsStartedByAnUpdate(t *testing.T) {
	m := newK3dMachine(t)
	first := &k3dRun{}
	require.NoError(t, first.run(laptop(k3dRelease), false))
	stopped := k3dMade(t, first.create())
	for i := range stopped {
		stopped[i].state = "exited"
	}
	m.lists(stopped...)
	for _, preview := range []bool{true, false} {
		s := k3dRunAfter(first.installation())
		require.NoError(t, s.run(laptop(k3dRelease), preview))
		assert.Equal(t, first.installation(), s.installation())
		assert.Equal(t, []string{"info: the k3d cluster dev is stopped: an update starts it"}, s.messages)
		assert.Equal(t, !preview, strings.Contains(m.asked(), "k3d cluster start dev"))
	}
}
