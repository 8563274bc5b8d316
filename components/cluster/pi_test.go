package cluster_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/nullify005/manager-cluster-state/components"
	"github.com/nullify005/manager-cluster-state/components/cluster"
	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/internal/pulumitest"
)

const (
	remoteCommand = "command:remote:Command"
	remoteCopy    = "command:remote:CopyToRemote"
	canaryKey     = "canary-ssh-key"
	canaryToken   = "K10abc123::server:canary-join-token"
	rebootedOnce  = "boot 8a9f0ed2-7e1d-4f0f-a1f5-1f6f3f0f3c11\nreboot"
)

// pis answers for three Pis what their steps print.
type pis struct {
	pulumitest.Recorder

	says map[string]string

	mu       sync.Mutex
	rebooted []string
}

func newPis() *pis {
	return &pis{says: map[string]string{
		"home-kiwipi-host":       "boot 8a9f0ed2-7e1d-4f0f-a1f5-1f6f3f0f3c11",
		"home-orangepi-host":     rebootedOnce,
		"home-peachpi-host":      "boot 0b0c6c51-37a2-4d5a-8d3a-0d8f0a1b5d11",
		"home-kiwipi-token":      canaryToken,
		"home-kiwipi-kubeconfig": kubeconfig,
	}}
}

func (p *pis) NewResource(args pulumi.MockResourceArgs) (string, resource.PropertyMap, error) {
	id, outputs, err := p.Recorder.NewResource(args)
	if said, ok := p.says[args.Name]; ok {
		outputs = outputs.Copy()
		outputs["stdout"] = resource.NewProperty(said)
	}
	return id, outputs, err
}

func (p *pis) reboot(_ context.Context, node config.Node, bootID string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rebooted = append(p.rebooted, node.Name+" "+bootID)
	return nil
}

func (p *pis) run(args *cluster.PiArgs, preview bool) (*cluster.Pi, error) {
	var made *cluster.Pi
	err := pulumi.RunErr(func(ctx *pulumi.Context) (err error) {
		made, err = cluster.NewPi(ctx, "home", args)
		return err
	}, pulumi.WithMocks(pulumitest.Project, pulumitest.Stack, p), func(info *pulumi.RunInfo) { info.DryRun = preview })
	return made, err
}

// args are three Pis: kiwipi the server, orangepi and peachpi its agents.
func (p *pis) args() *cluster.PiArgs {
	no := false
	node := func(name string, role config.NodeRole) config.Node {
		return config.Node{
			Name: name, Role: role, Arch: "arm64", Memory: "1Gi", Reserved: "448Mi",
			Host: name + ".lan", User: "pi", Port: 22, HostKey: "ssh-ed25519 AAAA" + name,
		}
	}
	nodes := []config.Node{node("kiwipi", config.Server), node("orangepi", config.Agent), node("peachpi", config.Agent)}
	nodes[0].Reserved, nodes[0].Workloads = "896Mi", &no
	return &cluster.PiArgs{
		Cluster: &config.Cluster{
			Kind: config.Pi, Name: "home", K3s: "v1.35.0+k3s1", Flannel: config.HostGateway, Nodes: nodes,
			SSH:     config.SSH{Timeout: config.Duration{Duration: 15 * time.Second}},
			Install: config.Install{Binary: strings.Repeat("b", 64), Script: strings.Repeat("5", 64)},
		},
		SSHKey:        canaryKey,
		Installations: map[string]string{"kiwipi": "token-kiwi", "orangepi": "token-orange", "peachpi": "token-peach"},
		Reboot:        p.reboot,
	}
}

func (p *pis) steps(t *testing.T, args *cluster.PiArgs) map[string]pulumitest.Registration {
	t.Helper()
	_, err := p.run(args, false)
	require.NoError(t, err)
	return p.OfType(remoteCommand)
}

// stdin is what a step reads, secret or not.
func stdin(r pulumitest.Registration) string {
	value := r.Inputs["stdin"]
	if value.IsSecret() {
		value = value.SecretValue().Element
	}
	if !value.IsString() {
		return ""
	}
	return value.StringValue()
}

func TestPi_EachNodeHasItsStepsOnTheMachineThatTheyAreFor(t *testing.T) {
	steps := newPis().steps(t, newPis().args())
	want := map[string]string{
		"home-kiwipi-host": "kiwipi.lan", "home-kiwipi-k3s": "kiwipi.lan",
		"home-kiwipi-token": "kiwipi.lan", "home-kiwipi-kubeconfig": "kiwipi.lan",
		"home-orangepi-host": "orangepi.lan", "home-orangepi-k3s": "orangepi.lan",
		"home-orangepi-drain": "kiwipi.lan", "home-orangepi-member": "kiwipi.lan",
		"home-peachpi-host": "peachpi.lan", "home-peachpi-k3s": "peachpi.lan",
		"home-peachpi-drain": "kiwipi.lan", "home-peachpi-member": "kiwipi.lan",
	}
	assert.Len(t, steps, len(want))
	for name, host := range want {
		require.Contains(t, steps, name)
		step := steps[name]
		assert.Equal(t, "home", step.Parent(), name)
		connection := step.Inputs["connection"].SecretValue().Element.ObjectValue()
		assert.Equal(t, host, connection["host"].StringValue(), name)
		assert.Equal(t, "pi", connection["user"].StringValue(), name)
		assert.Equal(t, "ssh-ed25519 AAAA"+strings.TrimSuffix(host, ".lan"), connection["hostKey"].StringValue(), name)
		assert.InDelta(t, 15, connection["perDialTimeout"].NumberValue(), 0, name)
		assert.InDelta(t, 2, connection["dialErrorLimit"].NumberValue(), 0, name)
		assert.NotContains(t, connection, resource.PropertyKey("proxy"), name)
		assert.False(t, step.Inputs["addPreviousOutputInEnv"].BoolValue(), name)
		assert.NotContains(t, step.Inputs, resource.PropertyKey("environment"), name)
		assert.NotContains(t, step.Inputs, resource.PropertyKey("update"), name+": without one a trigger replaces")
	}
}

func TestPi_AgentsAreAChainAfterTheServer(t *testing.T) {
	p := newPis()
	made, err := p.run(p.args(), false)
	require.NoError(t, err)
	steps := p.OfType(remoteCommand)
	needs := func(name string, others ...string) {
		t.Helper()
		for _, other := range others {
			assert.Contains(t, steps["home-"+name].DependsOn(), "Command:home-"+other)
		}
	}
	needs("kiwipi-k3s", "kiwipi-host")
	needs("kiwipi-token", "kiwipi-k3s")
	needs("kiwipi-kubeconfig", "kiwipi-k3s")
	needs("orangepi-drain", "kiwipi-k3s")
	needs("orangepi-k3s", "orangepi-host", "orangepi-drain", "kiwipi-k3s", "kiwipi-token")
	needs("orangepi-member", "orangepi-k3s")
	needs("peachpi-drain", "orangepi-member")
	needs("peachpi-k3s", "peachpi-host", "peachpi-drain", "orangepi-member")
	needs("peachpi-member", "peachpi-k3s")
	for _, node := range []string{"kiwipi", "orangepi", "peachpi"} {
		assert.Empty(t, steps["home-"+node+"-host"].DependsOn(), "machines are prepared side by side")
	}
	require.Len(t, made.Joined, 1)
	names := make(chan string, 2)
	for _, r := range []pulumi.Resource{made.Joined[0], made.DeletedWith} {
		r.URN().ApplyT(func(urn pulumi.URN) string {
			names <- resource.URN(urn).Name()
			return ""
		})
	}
	got := []string{<-names, <-names}
	assert.ElementsMatch(t, []string{"home-peachpi-member", "home-kiwipi-kubeconfig"}, got)
}

func TestPi_NoSecretIsWhereItCouldBeSeen(t *testing.T) {
	p := newPis()
	steps := p.steps(t, p.args())
	for _, registration := range p.All() {
		for key, value := range registration.Inputs {
			if value.IsSecret() {
				continue
			}
			for _, canary := range []string{canaryKey, "canary-join-token"} {
				assert.NotContains(t, value.String(), canary, registration.Name+"."+string(key))
			}
		}
	}
	for name, step := range steps {
		assert.Equal(t, "sudo -n sh -s -- apply", step.Inputs["create"].StringValue(), name)
	}
	for _, name := range []string{"home-kiwipi-token", "home-kiwipi-kubeconfig", "home-orangepi-k3s", "home-peachpi-k3s"} {
		assert.Equal(t, "none", steps[name].Inputs["logging"].StringValue(), name)
		assert.Subset(t, steps[name].RPC.GetAdditionalSecretOutputs(), []string{"stdin", "stdout", "stderr"}, name)
	}
	for _, name := range []string{"home-orangepi-k3s", "home-peachpi-k3s"} {
		assert.True(t, steps[name].Inputs["stdin"].IsSecret(), name)
		assert.Contains(t, stdin(steps[name]), "token: "+canaryToken, "an agent joins with it")
	}
	assert.NotContains(t, stdin(steps["home-kiwipi-k3s"]), "canary")
	assert.Contains(t, steps["home-kiwipi-k3s"].Inputs["connection"].SecretValue().Element.String(), canaryKey)
}

func TestPi_WithoutAKeyThePluginUsesTheAgent(t *testing.T) {
	p := newPis()
	args := p.args()
	args.SSHKey = ""
	for name, step := range p.steps(t, args) {
		assert.NotContains(t, step.Inputs["connection"].SecretValue().Element.ObjectValue(), resource.PropertyKey("privateKey"), name)
	}
}

func TestPi_AJumpHostIsTheProxyOfEveryConnection(t *testing.T) {
	p := newPis()
	args := p.args()
	args.Cluster.SSH.Jump = config.Jump{Host: "gate.lan", Port: 2222, User: "jumper", HostKey: "ssh-ed25519 GATE"}
	for name, step := range p.steps(t, args) {
		proxy := step.Inputs["connection"].SecretValue().Element.ObjectValue()["proxy"].ObjectValue()
		assert.Equal(t, "gate.lan", proxy["host"].StringValue(), name)
		assert.InDelta(t, 2222, proxy["port"].NumberValue(), 0, name)
		assert.Equal(t, "ssh-ed25519 GATE", proxy["hostKey"].StringValue(), name)
		assert.Equal(t, canaryKey, proxy["privateKey"].StringValue(), name)
	}
}

func TestPi_AnotherInstallationReplacesWhatIsReadAndUpdatesTheRest(t *testing.T) {
	p := newPis()
	steps := p.steps(t, p.args())
	triggers := map[string]string{}
	for name, step := range steps {
		if list, has := step.Inputs["triggers"]; has {
			triggers[name] = list.ArrayValue()[0].StringValue()
			assert.NotContains(t, step.Inputs, resource.PropertyKey("delete"), name+": it would go to a host key that is no more")
		}
	}
	assert.Equal(t, map[string]string{"home-kiwipi-token": "token-kiwi", "home-kiwipi-kubeconfig": "home-kiwipi-token-id"}, triggers)
	assert.False(t, steps["home-kiwipi-token"].RPC.GetDeleteBeforeReplace(), "what depends on it may be protected")
	for name, setting := range map[string]string{
		"kiwipi-host": "INSTALLATION='token-kiwi'", "kiwipi-k3s": "INSTALLATION='token-kiwi'",
		"orangepi-host": "INSTALLATION='token-orange'", "orangepi-k3s": "INSTALLATION='token-orange'",
		"orangepi-drain": "INSTALLATION='token-orange'", "orangepi-member": "INSTALLATION='token-orange'",
		"peachpi-member": "SERVER='token-kiwi'", // a new server knows no agent
	} {
		assert.Contains(t, stdin(steps["home-"+name]), setting+"\n", name)
	}
	for name, step := range steps {
		undone := strings.HasSuffix(name, "-host") || strings.HasSuffix(name, "-k3s") || strings.HasSuffix(name, "-member")
		_, hasDelete := step.Inputs["delete"]
		assert.Equal(t, undone, hasDelete, name)
	}
}

func TestPi_MembersGoWithTheServer(t *testing.T) {
	p := newPis()
	steps := p.steps(t, p.args())
	assert.Equal(t, "home-kiwipi-kubeconfig", resource.URN(steps["home-orangepi-member"].RPC.GetDeletedWith()).Name())
	assert.Empty(t, steps["home-orangepi-k3s"].RPC.GetDeletedWith(), "it is uninstalled whatever becomes of the server")
}

func TestPi_K3sIsToldWhatTheStackFileSays(t *testing.T) {
	p := newPis()
	steps := p.steps(t, p.args())
	server, agent := stdin(steps["home-kiwipi-k3s"]), stdin(steps["home-orangepi-k3s"])
	for _, line := range []string{
		"ROLE='server'\n", "RELEASE='v1.35.0+k3s1'\n", "WORKLOADS='no'\n", "ALLOCATABLE='131072'\n", "LOGIN='pi'\n",
		"BINARY='" + strings.Repeat("b", 64) + "'\n",
		"BINARY_URL='https://github.com/k3s-io/k3s/releases/download/v1.35.0%2Bk3s1/k3s-arm64'\n",
		"SCRIPT_URL='https://raw.githubusercontent.com/k3s-io/k3s/v1.35.0%2Bk3s1/install.sh'\n",
		"CONFIG='flannel-backend: host-gw\n", "\nnode-name: kiwipi\n", "\ntls-san:\n- kiwipi.lan\n",
		"\nnode-taint:\n- node-role.kubernetes.io/control-plane=true:NoSchedule\n",
		"- image-gc-high-threshold=70\n", "- system-reserved=memory=@SYSTEM_RESERVED@\n",
	} {
		assert.Contains(t, server, line)
	}
	for _, line := range []string{"ROLE='agent'\n", "WORKLOADS='yes'\n", "ALLOCATABLE='589824'\n", "\nserver: https://kiwipi.lan:6443\n", "\nnode-name: orangepi\n"} {
		assert.Contains(t, agent, line)
	}
	for _, line := range []string{"node-taint", "flannel-backend: ", "tls-san"} {
		assert.NotContains(t, agent, "\n"+line)
	}
	assert.True(t, strings.HasSuffix(agent, "main \"$@\" </dev/null\n"), "half a script does nothing")
}

func TestPi_AMachineIsRebootedInUpdatesAlone(t *testing.T) {
	preview := newPis()
	_, err := preview.run(preview.args(), true)
	require.NoError(t, err)
	assert.Empty(t, preview.rebooted)

	update := newPis()
	_, err = update.run(update.args(), false)
	require.NoError(t, err)
	assert.Equal(t, []string{"orangepi 8a9f0ed2-7e1d-4f0f-a1f5-1f6f3f0f3c11"}, update.rebooted)
}

func TestPi_WithoutItsRebootAMachineGetsNoK3s(t *testing.T) {
	p := newPis()
	args := p.args()
	args.Reboot = func(context.Context, config.Node, string) error { return errors.New("it did not come back") }
	_, err := p.run(args, false)
	require.ErrorContains(t, err, "rebooting orangepi: it did not come back")
	steps := p.OfType(remoteCommand)
	assert.NotContains(t, steps, "home-orangepi-k3s")
	assert.NotContains(t, steps, "home-peachpi-k3s", "the chain stops")
	assert.Contains(t, steps, "home-kiwipi-k3s")
}

func TestPi_AnOfflineAgentIsLeftAsItIs(t *testing.T) {
	p := newPis()
	args := p.args()
	args.Cluster.Nodes[1].Offline = true
	steps := p.steps(t, args)
	assert.Empty(t, p.rebooted)
	for _, kind := range []string{"host", "k3s", "drain", "member"} {
		require.Contains(t, steps, "home-orangepi-"+kind)
		require.Contains(t, steps, "home-peachpi-"+kind)
		step := steps["home-orangepi-"+kind]
		var inputs []string
		for key := range step.Inputs {
			if !strings.HasPrefix(string(key), "__") {
				inputs = append(inputs, string(key))
			}
		}
		require.NotEmpty(t, inputs, kind)
		assert.Subset(t, step.RPC.GetIgnoreChanges(), inputs, kind)
		onMachine := kind == "host" || kind == "k3s"
		assert.Equal(t, onMachine, step.RPC.GetRetainOnDelete(), kind+": the server can forget it, the machine can't be asked")
		assert.Empty(t, steps["home-peachpi-"+kind].RPC.GetIgnoreChanges())
	}

	never := newPis()
	delete(args.Installations, "orangepi")
	for name := range never.steps(t, args) {
		assert.NotContains(t, name, "orangepi", "it was never installed")
	}
}

func TestPi_FilesOfAFolderAreCopiedForEachInstallation(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "k3s files"), 0o700))
	sums := map[string]string{}
	for _, name := range []string{"k3s-arm64", "install.sh"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "k3s files", name), []byte(name), 0o600))
		sum := sha256.Sum256([]byte(name))
		sums[name] = hex.EncodeToString(sum[:])
	}
	p := newPis()
	args := p.args()
	args.ProjectDir = dir
	args.Cluster.Install = config.Install{From: "k3s files", Binary: sums["k3s-arm64"], Script: sums["install.sh"]}
	steps := p.steps(t, args)
	copies := p.OfType(remoteCopy)
	assert.Len(t, copies, 6)
	binary := copies["home-orangepi-binary"]
	assert.Equal(t, ".manager-cluster-state/k3s-arm64", binary.Inputs["remotePath"].StringValue())
	assert.Equal(t, filepath.Join(dir, "k3s files", "k3s-arm64"), binary.Inputs["source"].AssetValue().Path)
	assert.Equal(t, "token-orange", binary.Inputs["triggers"].ArrayValue()[0].StringValue())
	assert.Contains(t, binary.DependsOn(), "Command:home-orangepi-host")
	for _, name := range []string{"binary", "script"} {
		assert.Contains(t, steps["home-orangepi-k3s"].DependsOn(), "CopyToRemote:home-orangepi-"+name)
	}
	assert.Contains(t, stdin(steps["home-orangepi-k3s"]), "BINARY_URL=''\n")
}

func TestPi_FilesOfAFolderAreJudgedBeforeAnythingIsDone(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "k3s-arm64"), []byte("another"), 0o600))
	p := newPis()
	args := p.args()
	args.Cluster.Install.From = dir
	_, err := p.run(args, true)
	require.ErrorContains(t, err, "cluster.install.binary is "+strings.Repeat("b", 64))
	require.ErrorContains(t, err, "there is no install.sh in it")
	assert.Empty(t, p.All())
}

func TestPi_TheKubeconfigIsSecretAndLeadsToTheServer(t *testing.T) {
	p := newPis()
	var got string
	err := pulumi.RunErr(func(ctx *pulumi.Context) error {
		made, err := cluster.NewPi(ctx, "home", p.args())
		if err != nil {
			return err
		}
		_, err = cluster.NewProvider(ctx, "home", pulumi.String(made.Identity), made.Kubeconfig, "")
		return err
	}, pulumi.WithMocks(pulumitest.Project, pulumitest.Stack, p))
	require.NoError(t, err)
	provider := p.OfType("pulumi:providers:kubernetes")["home"]
	require.True(t, provider.Inputs["kubeconfig"].IsSecret())
	got = provider.Inputs["kubeconfig"].SecretValue().Element.StringValue()
	parsed, err := clientcmd.Load([]byte(got))
	require.NoError(t, err)
	assert.Equal(t, "https://kiwipi.lan:6443", parsed.Clusters["home"].Server)
	assert.Equal(t, "canary", parsed.AuthInfos["admin"].Token)
}

func TestPi_AKubeconfigThatCantBeReadIsNotQuoted(t *testing.T) {
	p := newPis()
	p.says["home-kiwipi-kubeconfig"] = "token: [canary"
	err := pulumi.RunErr(func(ctx *pulumi.Context) error {
		made, err := cluster.NewPi(ctx, "home", p.args())
		if err != nil {
			return err
		}
		_, err = cluster.NewProvider(ctx, "home", pulumi.String(made.Identity), made.Kubeconfig, "")
		return err
	}, pulumi.WithMocks(pulumitest.Project, pulumitest.Stack, p))
	require.ErrorContains(t, err, "the kubeconfig of kiwipi: it can't be read")
	assert.NotContains(t, err.Error(), "canary")
}

func TestPi_ReportsEveryProblemBeforeAnythingIsRegistered(t *testing.T) {
	p := newPis()
	args := p.args()
	args.Reboot = nil
	args.Installations = nil
	args.Cluster.Nodes[2].Role = config.Server
	_, err := p.run(args, false)
	for _, problem := range []string{
		"nothing can reboot", "cluster.nodes[2] is a second server",
		"nobody has looked for an installation on kiwipi", "nobody has looked for an installation on peachpi",
	} {
		require.ErrorContains(t, err, problem)
	}
	assert.Empty(t, p.All())

	args.Cluster.Nodes = slices.Clone(args.Cluster.Nodes[1:])
	_, err = p.run(args, false)
	require.ErrorContains(t, err, "a server as its first node")
}

func TestPi_HasATokenOfItsOwn(t *testing.T) {
	p := newPis()
	p.steps(t, p.args())
	component := p.OfType(components.TokenClusterPi)["home"]
	assert.Equal(t, "v1.35.0+k3s1", component.Inputs["k3s"].StringValue())
}
