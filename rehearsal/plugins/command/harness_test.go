package main

import (
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gliderlabs/ssh"
	"github.com/pkg/sftp"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"github.com/stretchr/testify/require"
	gossh "golang.org/x/crypto/ssh"

	"github.com/nullify005/manager-cluster-state/rehearsal/plugins/plugintest"
)

// canary is in every secret of these tests.
const canary = "canary-of-the-contract-tests"

var contract = &plugintest.Contract{Name: packageName, Version: "v1.2.1"}

func TestMain(m *testing.M) { os.Exit(contract.Run(m)) }

// onEach runs a test of the contract with either plugin, with no SSH agent.
func onEach(t *testing.T, test func(t *testing.T, p *started)) {
	t.Helper()
	onEachWith(t, []string{"SSH_AUTH_SOCK"}, test)
}

func onEachWith(t *testing.T, environment []string, test func(t *testing.T, p *started)) {
	t.Helper()
	contract.OnEach(t, environment, func(t *testing.T, p *plugintest.Plugin) {
		// As the engine configures a provider with no configuration.
		_, err := p.Configure(t.Context(), &pulumirpc.ConfigureRequest{
			AcceptSecrets: true, AcceptResources: true, SendsOldInputs: true, SendsOldInputsToDelete: true,
			Args: p.Marshal(resource.PropertyMap{}),
		})
		require.NoError(t, err)
		test(t, &started{Plugin: p, t: t})
	})
}

// started is a plugin that runs.
type started struct {
	*plugintest.Plugin

	t *testing.T
}

// made is a resource, as the engine keeps it.
type made struct {
	kind   tokens.Type
	id     string
	inputs resource.PropertyMap
	state  resource.PropertyMap
}

func urnOf(kind tokens.Type) string {
	return "urn:pulumi:test::manager-cluster-state::" + string(kind) + "::thing"
}

func (p *started) check(kind tokens.Type, news resource.PropertyMap) (resource.PropertyMap, []*pulumirpc.CheckFailure) {
	p.t.Helper()
	response, err := p.Check(p.t.Context(), &pulumirpc.CheckRequest{
		Urn: urnOf(kind), Name: "thing", Type: string(kind), News: p.Marshal(news), RandomSeed: make([]byte, 32),
	})
	require.NoError(p.t, err)
	return p.Unmarshal(response.GetInputs()), response.GetFailures()
}

func (p *started) checked(kind tokens.Type, news resource.PropertyMap) resource.PropertyMap {
	p.t.Helper()
	inputs, failures := p.check(kind, news)
	require.Empty(p.t, failures)
	return inputs
}

func (p *started) create(kind tokens.Type, news resource.PropertyMap) (made, error) {
	p.t.Helper()
	return p.createIn(p.t.Context(), kind, news, 0)
}

func (p *started) createIn(ctx context.Context, kind tokens.Type, news resource.PropertyMap, timeout float64) (made, error) {
	p.t.Helper()
	inputs := p.checked(kind, news) //nolint:contextcheck // ctx ends the creation alone
	response, err := p.Create(ctx, &pulumirpc.CreateRequest{
		Urn: urnOf(kind), Name: "thing", Type: string(kind), Properties: p.Marshal(inputs), Timeout: timeout,
	})
	if err != nil {
		return made{}, err
	}
	return made{kind: kind, id: response.GetId(), inputs: inputs, state: p.Unmarshal(response.GetProperties())}, nil
}

func (p *started) mustCreate(kind tokens.Type, news resource.PropertyMap) made {
	p.t.Helper()
	thing, err := p.create(kind, news)
	require.NoError(p.t, err)
	return thing
}

func (p *started) preview(kind tokens.Type, news resource.PropertyMap) resource.PropertyMap {
	p.t.Helper()
	response, err := p.Create(p.t.Context(), &pulumirpc.CreateRequest{
		Urn: urnOf(kind), Name: "thing", Type: string(kind), Properties: p.Marshal(p.checked(kind, news)), Preview: true,
	})
	require.NoError(p.t, err)
	return p.Unmarshal(response.GetProperties())
}

func (p *started) diff(thing made, news resource.PropertyMap) *pulumirpc.DiffResponse {
	p.t.Helper()
	response, err := p.Diff(p.t.Context(), &pulumirpc.DiffRequest{
		Id: thing.id, Urn: urnOf(thing.kind), Name: "thing", Type: string(thing.kind),
		Olds: p.Marshal(thing.state), OldInputs: p.Marshal(thing.inputs), News: p.Marshal(p.checked(thing.kind, news)),
	})
	require.NoError(p.t, err)
	return response
}

func (p *started) update(thing made, news resource.PropertyMap, preview bool) (made, error) {
	p.t.Helper()
	inputs := p.checked(thing.kind, news)
	response, err := p.Update(p.t.Context(), &pulumirpc.UpdateRequest{
		Id: thing.id, Urn: urnOf(thing.kind), Name: "thing", Type: string(thing.kind),
		Olds: p.Marshal(thing.state), OldInputs: p.Marshal(thing.inputs), News: p.Marshal(inputs), Preview: preview,
	})
	if err != nil {
		return made{}, err
	}
	return made{kind: thing.kind, id: thing.id, inputs: inputs, state: p.Unmarshal(response.GetProperties())}, nil
}

func (p *started) mustUpdate(thing made, news resource.PropertyMap) made {
	p.t.Helper()
	updated, err := p.update(thing, news, false)
	require.NoError(p.t, err)
	return updated
}

func (p *started) delete(thing made) error {
	p.t.Helper()
	_, err := p.Delete(p.t.Context(), &pulumirpc.DeleteRequest{
		Id: thing.id, Urn: urnOf(thing.kind), Name: "thing", Type: string(thing.kind),
		Properties: p.Marshal(thing.state), OldInputs: p.Marshal(thing.inputs),
	})
	return err
}

// host is a machine that is reached by SSH: a server in this process that runs what it is told
// to with sh. HOME there is a folder of the test.
type host struct {
	t          *testing.T
	home       string
	port       float64
	hostKey    string
	privateKey string
	password   string
	// refusals is how many connections are ended before they are one.
	refusals atomic.Int64
	dialled  atomic.Int64
	// dropping ends the connection when a command begins.
	dropping atomic.Bool
	tunnels  atomic.Int64
}

func newKey(t *testing.T) (gossh.Signer, string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	signer, err := gossh.NewSignerFromKey(private)
	require.NoError(t, err)
	block, err := gossh.MarshalPrivateKey(private, "")
	require.NoError(t, err)
	return signer, string(pem.EncodeToMemory(block))
}

// listener ends the connections that are to be refused.
type listener struct {
	net.Listener

	host *host
}

func (l listener) Accept() (net.Conn, error) {
	for {
		connection, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		l.host.dialled.Add(1)
		if l.host.refusals.Add(-1) < 0 {
			return connection, nil
		}
		_ = connection.Close()
	}
}

func newHost(t *testing.T) *host {
	t.Helper()
	hostSigner, _ := newKey(t)
	userSigner, privateKey := newKey(t)
	h := &host{
		t: t, home: t.TempDir(), privateKey: privateKey, password: canary + "-password",
		hostKey: strings.TrimSpace(string(gossh.MarshalAuthorizedKey(hostSigner.PublicKey()))),
	}
	server := &ssh.Server{
		Handler:          h.run,
		HostSigners:      []ssh.Signer{hostSigner},
		PublicKeyHandler: func(_ ssh.Context, key ssh.PublicKey) bool { return ssh.KeysEqual(key, userSigner.PublicKey()) },
		PasswordHandler:  func(_ ssh.Context, password string) bool { return password == h.password },
		LocalPortForwardingCallback: func(ssh.Context, string, uint32) bool {
			h.tunnels.Add(1)
			return true
		},
		ChannelHandlers: map[string]ssh.ChannelHandler{"session": ssh.DefaultSessionHandler, "direct-tcpip": ssh.DirectTCPIPHandler},
		SubsystemHandlers: map[string]ssh.SubsystemHandler{"sftp": func(session ssh.Session) {
			server, err := sftp.NewServer(session, sftp.WithServerWorkingDirectory(h.home))
			if err == nil {
				err = server.Serve()
			}
			if err != nil && !errors.Is(err, io.EOF) {
				t.Log("sftp:", err)
			}
		}},
	}
	plain, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	h.port = float64(plain.Addr().(*net.TCPAddr).Port)
	go func() { _ = server.Serve(listener{plain, h}) }()
	t.Cleanup(func() { _ = server.Close() })
	return h
}

func (h *host) run(session ssh.Session) {
	if h.dropping.Load() {
		_, _ = io.WriteString(session, "half\n")
		if connection, ok := session.Context().Value(ssh.ContextKeyConn).(*gossh.ServerConn); ok {
			_ = connection.Close()
		}
		return
	}
	cmd := exec.CommandContext(session.Context(), "sh", "-c", session.RawCommand())
	cmd.Dir, cmd.Env = h.home, append(append(os.Environ(), "HOME="+h.home), session.Environ()...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = session, session, session.Stderr()
	cmd.WaitDelay = time.Second
	code := 0
	if err := cmd.Run(); err != nil {
		code = 255
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			code = exit.ExitCode()
		}
	}
	_ = session.Exit(code)
}

// connection is how the host is reached, with a key.
func (h *host) connection() resource.PropertyMap {
	return resource.PropertyMap{
		"host": resource.NewProperty("127.0.0.1"), "port": resource.NewProperty(h.port), "user": resource.NewProperty("pi"),
		"privateKey": resource.NewProperty(h.privateKey), "hostKey": resource.NewProperty(h.hostKey),
		"dialErrorLimit": resource.NewProperty(2.0),
	}
}

func (h *host) remote(changes resource.PropertyMap) resource.PropertyMap {
	return with(resource.PropertyMap{"connection": resource.NewProperty(h.connection())}, changes)
}

func with(inputs, changes resource.PropertyMap) resource.PropertyMap {
	changed := inputs.Copy()
	for key, value := range changes {
		if value.IsNull() {
			delete(changed, key)
			continue
		}
		changed[key] = value
	}
	return changed
}

// properties of simple values.
func properties(values map[string]any) resource.PropertyMap {
	return resource.NewPropertyMapFromMap(values)
}

func pemText(block *pem.Block) string { return string(pem.EncodeToMemory(block)) }

func textAsset(t *testing.T, content string) *resource.Asset {
	t.Helper()
	made, err := resource.NewTextAsset(content)
	require.NoError(t, err)
	return made
}

func fileAsset(t *testing.T, path string) *resource.Asset {
	t.Helper()
	made, err := resource.NewPathAsset(path)
	require.NoError(t, err)
	return made
}

func folderArchive(t *testing.T, path string) *resource.Archive {
	t.Helper()
	made, err := resource.NewPathArchive(path)
	require.NoError(t, err)
	return made
}
