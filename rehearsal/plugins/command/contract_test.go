package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	gossh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/nullify005/manager-cluster-state/rehearsal/plugins/plugintest"
)

// onEachCommand runs a test of what both kinds of command have in common.
func onEachCommand(t *testing.T, test func(t *testing.T, p *started, kind tokens.Type, inputs func(map[string]any) resource.PropertyMap)) {
	t.Helper()
	t.Run("local", func(t *testing.T) {
		onEach(t, func(t *testing.T, p *started) {
			test(t, p, localCommandTok, properties)
		})
	})
	t.Run("remote", func(t *testing.T) {
		onEach(t, func(t *testing.T, p *started) {
			host := newHost(t)
			test(t, p, remoteCommandTok, func(values map[string]any) resource.PropertyMap { return host.remote(properties(values)) })
		})
	})
}

func said(state resource.PropertyMap, key resource.PropertyKey) string {
	return plain(state[key]).StringValue()
}

func TestCreate_KeepsWhatTheCommandSays(t *testing.T) {
	onEachCommand(t, func(t *testing.T, p *started, kind tokens.Type, inputs func(map[string]any) resource.PropertyMap) {
		news := inputs(map[string]any{"create": `printf ' one\ntwo\n\n'; echo "three and $four" >&2; cat`, "stdin": "five", "environment": map[string]any{"four": "4"}})
		thing := p.mustCreate(kind, news)
		assert.Equal(t, " one\ntwo\n\nfive", said(thing.state, stdoutKey))
		assert.Equal(t, "three and 4", said(thing.state, stderrKey))
		assert.Regexp(t, "^thing[0-9a-f]{8}$", thing.id)
		for key, value := range thing.inputs {
			assert.True(t, value.DeepEquals(thing.state[key]), key)
		}
		assert.Len(t, thing.state, len(thing.inputs)+2)

		thing = p.mustCreate(kind, inputs(map[string]any{"create": `printf 'one\n\n'`}))
		assert.Equal(t, "one\n", said(thing.state, stdoutKey), "the end of the last line alone is cut off")
	})
}

func TestCreate_WithNoCommandIsNothing(t *testing.T) {
	onEachCommand(t, func(t *testing.T, p *started, kind tokens.Type, inputs func(map[string]any) resource.PropertyMap) {
		thing := p.mustCreate(kind, inputs(nil))
		assert.Empty(t, said(thing.state, stdoutKey))
		thing = p.mustUpdate(thing, inputs(map[string]any{"stdin": "new"}))
		assert.Empty(t, said(thing.state, stdoutKey))
		require.NoError(t, p.delete(thing))
	})
}

func TestCreate_APreviewRunsNothing(t *testing.T) {
	onEachCommand(t, func(t *testing.T, p *started, kind tokens.Type, inputs func(map[string]any) resource.PropertyMap) {
		file := filepath.Join(t.TempDir(), "file")
		news := inputs(map[string]any{"create": "touch " + file})
		planned := p.preview(kind, news)
		assert.NoFileExists(t, file)
		assert.Equal(t, "touch "+file, planned["create"].StringValue())
		assert.True(t, planned[stdoutKey].IsComputed())
		assert.True(t, planned[stderrKey].IsComputed())

		thing := p.mustCreate(kind, news)
		for name, test := range map[string]struct {
			news  resource.PropertyMap
			known bool
		}{
			"changed": {inputs(map[string]any{"create": "false"}), false},
			"taken":   {inputs(nil), false},
			"added":   {with(news, properties(map[string]any{"stdin": "new"})), true},
			"same":    {news, true},
		} {
			updated, err := p.update(thing, test.news, true)
			require.NoError(t, err)
			assert.Equal(t, !test.known, updated.state[stdoutKey].IsComputed(), name)
		}
	})
}

func TestCheck_TakesWhatIsNotKnownYet(t *testing.T) {
	unknown := resource.MakeComputed(resource.NewProperty(""))
	onEachCommand(t, func(t *testing.T, p *started, kind tokens.Type, inputs func(map[string]any) resource.PropertyMap) {
		news := with(inputs(nil), resource.PropertyMap{"create": unknown, "triggers": resource.NewProperty([]resource.PropertyValue{unknown}), "environment": unknown})
		checked := p.checked(kind, news)
		assert.True(t, checked["create"].IsComputed())
		assert.True(t, checked["triggers"].ArrayValue()[0].IsComputed())
		assert.True(t, p.preview(kind, news)[stdoutKey].IsComputed())
	})
	onEach(t, func(t *testing.T, p *started) {
		connection := newHost(t).connection()
		connection["host"] = unknown
		checked := p.checked(remoteCommandTok, resource.PropertyMap{"connection": resource.NewProperty(connection)})
		assert.True(t, plain(checked["connection"]).ObjectValue()["host"].IsComputed())
		checked = p.checked(remoteCommandTok, resource.PropertyMap{"connection": unknown})
		assert.True(t, checked["connection"].ContainsUnknowns())
	})
}

func TestCheck_TellsEveryInputThatIsWrong(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		assert.Empty(t, p.checked(localCommandTok, properties(map[string]any{"create": nil})), "what is null is not there")
		_, failures := p.check(localCommandTok, properties(map[string]any{"create": 3.0, "colour": "green", "environment": "A=b"}))
		for _, name := range []string{"create", "colour", "environment"} {
			assert.Contains(t, fmt.Sprint(failures), name)
		}
		_, failures = p.check(remoteCommandTok, resource.PropertyMap{})
		assert.Contains(t, fmt.Sprint(failures), "connection")
		_, failures = p.check(remoteCommandTok, properties(map[string]any{"connection": map[string]any{"colour": "green"}}))
		for _, name := range []string{"host", "colour"} {
			assert.Contains(t, fmt.Sprint(failures), name)
		}
		_, failures = p.check(copyToRemoteTok, resource.PropertyMap{})
		for _, name := range []string{"connection", "remotePath"} {
			assert.Contains(t, fmt.Sprint(failures), name)
		}
	})
}

func TestCheck_TheConnectionIsSecretAndHasItsDefaults(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		for _, kind := range []tokens.Type{remoteCommandTok, copyToRemoteTok} {
			inputs, _ := p.check(kind, properties(map[string]any{"connection": map[string]any{
				"host": "pi", "privateKey": canary, "dialErrorLimit": 0.0, "proxy": map[string]any{"host": "jump", "password": canary},
			}, "source": "not looked at", "remotePath": "/tmp/file"}))
			if kind == copyToRemoteTok {
				assert.True(t, inputs["connection"].IsSecret(), "even when something else is wrong")
				continue
			}
			_, failures := p.check(kind, with(inputs, properties(map[string]any{"source": nil, "remotePath": nil})))
			require.Empty(t, failures)
		}
		inputs := p.checked(remoteCommandTok, properties(map[string]any{"connection": map[string]any{
			"host": "pi", "dialErrorLimit": 0.0, "proxy": map[string]any{"host": "jump"},
		}}))
		require.True(t, inputs["connection"].IsSecret())
		connection := open(inputs["connection"]).ObjectValue()
		assert.Equal(t, properties(map[string]any{
			"host": "pi", "port": 22.0, "user": "root", "dialErrorLimit": 0.0, "perDialTimeout": 15.0,
			"proxy": map[string]any{"host": "jump", "port": 22.0, "user": "root", "dialErrorLimit": 10.0, "perDialTimeout": 15.0},
		}), connection)
	})
}

func TestSecrets_StaySecretAndAreSaidToNobody(t *testing.T) {
	onEachCommand(t, func(t *testing.T, p *started, kind tokens.Type, inputs func(map[string]any) resource.PropertyMap) {
		news := inputs(map[string]any{"create": "cat >/dev/null; echo done", "logging": "none"})
		news["stdin"] = resource.MakeSecret(resource.NewProperty(canary))
		thing := p.mustCreate(kind, news)
		assert.True(t, thing.inputs["stdin"].IsSecret())
		assert.True(t, thing.state["stdin"].IsSecret())
		assert.False(t, thing.state[stdoutKey].IsSecret(), "that is for additionalSecretOutputs to say")
		if kind == remoteCommandTok {
			assert.True(t, thing.state["connection"].IsSecret())
		}
		changed := with(news, properties(map[string]any{"delete": "false"}))
		assert.NotContains(t, p.diff(thing, changed).String(), canary)
		thing = p.mustUpdate(thing, changed)
		assert.True(t, thing.state["stdin"].IsSecret())
		require.Error(t, p.delete(thing))
		assert.NotContains(t, p.Said.String(), canary)
	})
}

func TestLogging_SaysTheStreamsThatAreWanted(t *testing.T) {
	onEachCommand(t, func(t *testing.T, p *started, kind tokens.Type, inputs func(map[string]any) resource.PropertyMap) {
		for logging, wanted := range map[string][2]bool{
			"": {true, true}, "stdoutAndStderr": {true, true}, "stdout": {true, false}, "stderr": {false, true}, "none": {false, false},
		} {
			// The words are not in the command, which is no part of what it says.
			values := map[string]any{"create": "tr a-z A-Z; echo err-" + logging + " | tr a-z A-Z >&2", "stdin": "out-" + logging + "\n"}
			if logging != "" {
				values["logging"] = logging
			}
			thing := p.mustCreate(kind, inputs(values))
			assert.Equal(t, strings.ToUpper("out-"+logging), said(thing.state, stdoutKey), "it is an output all the same")
			lines := strings.Split(p.Said.String(), "\n")
			assert.Equal(t, wanted[0], slices.Contains(lines, strings.ToUpper("out-"+logging)), "stdout of %q: %q", logging, lines)
			assert.Equal(t, wanted[1], slices.Contains(lines, strings.ToUpper("err-"+logging)), "stderr of %q: %q", logging, lines)
		}
	})
}

func TestFailure_HasTheOutputInItsError(t *testing.T) {
	onEachCommand(t, func(t *testing.T, p *started, kind tokens.Type, inputs func(map[string]any) resource.PropertyMap) {
		status := map[tokens.Type]string{localCommandTok: "exit status 3", remoteCommandTok: "Process exited with status 3"}[kind]
		const failing = "echo one; echo two >&2; exit 3"
		_, err := p.create(kind, inputs(map[string]any{"create": failing, "logging": "none"}))
		require.ErrorContains(t, err, status+`: running "`+failing+`":`+"\n")
		require.ErrorContains(t, err, "one\n")
		require.ErrorContains(t, err, "two\n")

		thing := p.mustCreate(kind, inputs(map[string]any{"create": "echo fine", "update": failing, "delete": failing}))
		_, err = p.update(thing, inputs(map[string]any{"create": "echo fine", "update": failing}), false)
		require.ErrorContains(t, err, status)
		require.ErrorContains(t, p.delete(thing), status)
	})
}

func TestDiff_ComparesInputs(t *testing.T) {
	onEachCommand(t, func(t *testing.T, p *started, kind tokens.Type, inputs func(map[string]any) resource.PropertyMap) {
		values := map[string]any{"create": "echo one", "triggers": []any{"a", map[string]any{"b": "c"}}, "environment": map[string]any{"A": "b"}}
		thing := p.mustCreate(kind, inputs(values))
		assert.Equal(t, pulumirpc.DiffResponse_DIFF_NONE, p.diff(thing, inputs(values)).GetChanges())

		type differences map[string]pulumirpc.PropertyDiff_Kind
		for name, test := range map[string]struct {
			changes map[string]any
			want    differences
		}{
			"another command":     {map[string]any{"create": "echo two"}, differences{"create": pulumirpc.PropertyDiff_UPDATE}},
			"a command more":      {map[string]any{"update": "echo two"}, differences{"update": pulumirpc.PropertyDiff_ADD}},
			"another variable":    {map[string]any{"environment": map[string]any{"A": "c"}}, differences{"environment.A": pulumirpc.PropertyDiff_UPDATE}},
			"no environment":      {map[string]any{"environment": nil}, differences{"environment": pulumirpc.PropertyDiff_DELETE}},
			"another trigger":     {map[string]any{"triggers": []any{"z", map[string]any{"b": "c"}}}, differences{"triggers[0]": pulumirpc.PropertyDiff_UPDATE}},
			"within a trigger":    {map[string]any{"triggers": []any{"a", map[string]any{"b": "d"}}}, differences{"triggers[1].b": pulumirpc.PropertyDiff_UPDATE}},
			"a trigger less":      {map[string]any{"triggers": []any{"a"}}, differences{"triggers[1]": pulumirpc.PropertyDiff_DELETE}},
			"no triggers":         {map[string]any{"triggers": nil}, differences{"triggers": pulumirpc.PropertyDiff_DELETE_REPLACE}},
			"triggers and update": {map[string]any{"triggers": nil, "update": "echo two"}, differences{"triggers": pulumirpc.PropertyDiff_DELETE_REPLACE, "update": pulumirpc.PropertyDiff_ADD}},
		} {
			response := p.diff(thing, with(inputs(values), properties(test.changes)))
			assert.Equal(t, pulumirpc.DiffResponse_DIFF_SOME, response.GetChanges(), name)
			found := differences{}
			assert.True(t, response.GetHasDetailedDiff(), "or else the engine doesn't look at it")
			for path, difference := range response.GetDetailedDiff() {
				found[path] = difference.GetKind()
			}
			assert.Equal(t, test.want, found, name)
			assert.False(t, response.GetDeleteBeforeReplace(), "that is for the resource's options to say")
		}

		triggerless := p.mustCreate(kind, inputs(map[string]any{"create": "echo one"}))
		response := p.diff(triggerless, inputs(map[string]any{"create": "echo one", "triggers": []any{"a"}}))
		assert.Equal(t, pulumirpc.PropertyDiff_ADD_REPLACE, response.GetDetailedDiff()["triggers"].GetKind())
		assert.Equal(t, []string{"triggers"}, response.GetReplaces())
	})
}

func TestDiff_ChangedSecretsAreUpdates(t *testing.T) {
	onEachCommand(t, func(t *testing.T, p *started, kind tokens.Type, inputs func(map[string]any) resource.PropertyMap) {
		secretly := func(value string) resource.PropertyMap {
			return with(inputs(nil), resource.PropertyMap{"stdin": resource.MakeSecret(resource.NewProperty(value))})
		}
		thing := p.mustCreate(kind, secretly("one"))
		assert.Equal(t, pulumirpc.DiffResponse_DIFF_NONE, p.diff(thing, secretly("one")).GetChanges())
		response := p.diff(thing, secretly("two"))
		assert.Equal(t, pulumirpc.DiffResponse_DIFF_SOME, response.GetChanges())
		assert.Equal(t, pulumirpc.PropertyDiff_UPDATE, response.GetDetailedDiff()["stdin"].GetKind())
		assert.Empty(t, response.GetReplaces())
	})
	onEach(t, func(t *testing.T, p *started) {
		host := newHost(t)
		thing := p.mustCreate(remoteCommandTok, host.remote(nil))
		connection := host.connection()
		connection["user"] = resource.NewProperty("somebody")
		response := p.diff(thing, resource.PropertyMap{"connection": resource.NewProperty(connection)})
		assert.Equal(t, pulumirpc.DiffResponse_DIFF_SOME, response.GetChanges())
		assert.Empty(t, response.GetReplaces(), "another way to reach a host is no other host")
	})
}

func TestUpdate_RunsItsCommandOrElseCreate(t *testing.T) {
	onEachCommand(t, func(t *testing.T, p *started, kind tokens.Type, inputs func(map[string]any) resource.PropertyMap) {
		thing := p.mustCreate(kind, inputs(map[string]any{"create": "cat; echo made", "stdin": "one "}))
		assert.Equal(t, "one made", said(thing.state, stdoutKey))
		updated := p.mustUpdate(thing, inputs(map[string]any{"create": "cat; echo made", "stdin": "two "}))
		assert.Equal(t, "two made", said(updated.state, stdoutKey))
		updated = p.mustUpdate(updated, inputs(map[string]any{"create": "cat; echo made", "update": "echo updated"}))
		assert.Equal(t, "updated", said(updated.state, stdoutKey))
		assert.Equal(t, "echo updated", updated.state["update"].StringValue())
		assert.NotContains(t, updated.state, resource.PropertyKey("stdin"))
	})
}

func TestOutputOfBefore_IsInTheEnvironmentUnlessItIsNotWanted(t *testing.T) {
	onEachCommand(t, func(t *testing.T, p *started, kind tokens.Type, inputs func(map[string]any) resource.PropertyMap) {
		const tell = `echo "$PULUMI_COMMAND_STDOUT,$PULUMI_COMMAND_STDERR"`
		file := filepath.Join(t.TempDir(), "file")
		values := map[string]any{"create": "echo out; echo err >&2", "update": tell, "delete": tell + ">" + file}
		thing := p.mustCreate(kind, inputs(values))
		updated := p.mustUpdate(thing, inputs(values))
		assert.Equal(t, "out,err", said(updated.state, stdoutKey))
		require.NoError(t, p.delete(updated))
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.Equal(t, "out,err,\n", string(content))

		values["addPreviousOutputInEnv"] = false
		updated = p.mustUpdate(thing, inputs(values))
		assert.Equal(t, ",", said(updated.state, stdoutKey))
	})
}

func TestDelete_RunsItsCommandWithTheOldInputs(t *testing.T) {
	onEachCommand(t, func(t *testing.T, p *started, kind tokens.Type, inputs func(map[string]any) resource.PropertyMap) {
		file := filepath.Join(t.TempDir(), "file")
		thing := p.mustCreate(kind, inputs(map[string]any{
			"create": "cat > " + file, "delete": "cat; rm " + file, "stdin": "one", "environment": map[string]any{"A": "b"},
		}))
		assert.FileExists(t, file)
		require.NoError(t, p.delete(thing))
		assert.NoFileExists(t, file)
		require.Error(t, p.delete(thing), "what fails to go is not gone")
	})
}

func TestRead_LeavesEverythingAsItIs(t *testing.T) {
	onEachCommand(t, func(t *testing.T, p *started, kind tokens.Type, inputs func(map[string]any) resource.PropertyMap) {
		thing := p.mustCreate(kind, inputs(map[string]any{"create": "echo one", "stdin": "two"}))
		response, err := p.Read(t.Context(), &pulumirpc.ReadRequest{
			Id: thing.id, Urn: urnOf(kind), Name: "thing", Type: string(kind), Inputs: p.Marshal(thing.inputs), Properties: p.Marshal(thing.state),
		})
		require.NoError(t, err)
		assert.Equal(t, thing.id, response.GetId())
		assert.True(t, thing.state.DeepEquals(p.Unmarshal(response.GetProperties())))
		assert.True(t, thing.inputs.DeepEquals(p.Unmarshal(response.GetInputs())))

		response, err = p.Read(t.Context(), &pulumirpc.ReadRequest{Id: "imported", Urn: urnOf(kind), Name: "thing", Type: string(kind)})
		require.NoError(t, err)
		assert.Equal(t, "imported", response.GetId())
		assert.NotNil(t, response.GetProperties(), "or else it would be gone")
	})
}

func TestLocal_RunsWhereAndWithWhatItIsTold(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		dir, err := filepath.EvalSymlinks(t.TempDir())
		require.NoError(t, err)
		thing := p.mustCreate(localCommandTok, properties(map[string]any{"create": "pwd -P", "dir": dir}))
		assert.Equal(t, dir, said(thing.state, stdoutKey))
		thing = p.mustCreate(localCommandTok, properties(map[string]any{"create": "a b", "interpreter": []any{"/bin/sh", "-c", `echo "$0|$1"`, "zero"}}))
		assert.Equal(t, "zero|a b", said(thing.state, stdoutKey))
		_, err = p.create(localCommandTok, properties(map[string]any{"create": "true", "dir": filepath.Join(dir, "nothing")}))
		require.ErrorContains(t, err, "nothing")
		_, err = p.create(localCommandTok, properties(map[string]any{"create": "true", "interpreter": []any{"/no/such/program"}}))
		require.ErrorContains(t, err, "/no/such/program")
	})
}

func TestLocal_ACommandThatReadsNoInputIsNoFailure(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		thing := p.mustCreate(localCommandTok, properties(map[string]any{"create": "echo done", "stdin": strings.Repeat("long ", 100_000)}))
		assert.Equal(t, "done", said(thing.state, stdoutKey))
	})
}

func TestLocal_EndsWithTheEnginesInterruptAndItsTime(t *testing.T) {
	const sleeping = "echo $$ > file; exec sleep 1000"
	onEach(t, func(t *testing.T, p *started) {
		_, err := p.createIn(t.Context(), localCommandTok, properties(map[string]any{"create": sleeping, "dir": t.TempDir()}), 1)
		require.ErrorContains(t, err, "killed")
	})
	for name, interrupt := range map[string]func(p *started, cancel context.CancelFunc){
		"by the engine's signal": func(p *started, _ context.CancelFunc) {
			_, err := p.Cancel(p.t.Context(), &emptypb.Empty{})
			assert.NoError(p.t, err)
		},
		"by the end of the call": func(_ *started, cancel context.CancelFunc) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, p *started) {
				dir := t.TempDir()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				news := properties(map[string]any{"create": sleeping, "dir": dir})
				ended := make(chan error, 1)
				go func() {
					_, err := p.createIn(ctx, localCommandTok, news, 0)
					ended <- err
				}()
				require.Eventually(t, func() bool {
					content, err := os.ReadFile(filepath.Join(dir, "file"))
					return err == nil && len(content) > 0
				}, 20*time.Second, 5*time.Millisecond)
				interrupt(p, cancel)
				require.Error(t, plugintest.Within(t, 10*time.Second, func() error { return <-ended }))
			})
		})
	}
}

func TestLocalRun_RunsInAPreviewToo(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		arguments := properties(map[string]any{"command": "cat; echo err >&2; exit $code", "stdin": "out", "environment": map[string]any{"code": "0"}})
		arguments["stdin"] = resource.MakeSecret(arguments["stdin"])
		response, err := p.Invoke(t.Context(), &pulumirpc.InvokeRequest{Tok: string(localRunTok), Args: p.Marshal(arguments), Preview: true})
		require.NoError(t, err)
		require.Empty(t, response.GetFailures())
		result := p.Unmarshal(response.GetReturn())
		assert.Equal(t, "out", said(result, stdoutKey))
		assert.Equal(t, "err", said(result, stderrKey))
		assert.True(t, result["stdin"].IsSecret())

		_, err = p.Invoke(t.Context(), &pulumirpc.InvokeRequest{Tok: string(localRunTok), Args: p.Marshal(properties(map[string]any{"command": "exit 3"}))})
		require.ErrorContains(t, err, "exit status 3")
		response, err = p.Invoke(t.Context(), &pulumirpc.InvokeRequest{Tok: string(localRunTok), Args: p.Marshal(resource.PropertyMap{})})
		require.NoError(t, err)
		assert.Contains(t, fmt.Sprint(response.GetFailures()), "command")
	})
}

func TestRemote_LogsInWithWhatItIsGiven(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		host := newHost(t)
		login := func(changes map[string]any) error {
			connection := with(host.connection(), properties(changes))
			_, err := p.create(remoteCommandTok, properties(map[string]any{"connection": connection, "create": "true"}))
			return err
		}
		require.NoError(t, login(nil))
		require.NoError(t, login(map[string]any{"hostKey": nil}), "then no host key is checked")
		require.NoError(t, login(map[string]any{"privateKey": nil, "password": host.password}))
		require.ErrorContains(t, login(map[string]any{"privateKey": nil, "password": "wrong", "dialErrorLimit": 0.0}), "unable to authenticate")
		require.ErrorContains(t, login(map[string]any{"privateKey": nil, "dialErrorLimit": 0.0}), "unable to authenticate")
		require.Error(t, login(map[string]any{"privateKey": "nonsense"}))
		require.ErrorContains(t, login(map[string]any{"hostKey": "nonsense"}), "failed to parse host key")

		key, err := gossh.ParseRawPrivateKey([]byte(host.privateKey))
		require.NoError(t, err)
		locked, err := gossh.MarshalPrivateKeyWithPassphrase(key, "", []byte(canary))
		require.NoError(t, err)
		text := pemText(locked)
		require.NoError(t, login(map[string]any{"privateKey": text, "privateKeyPassword": canary}))
		require.Error(t, login(map[string]any{"privateKey": text}))
		require.Error(t, login(map[string]any{"privateKey": text, "privateKeyPassword": "wrong"}))
		assert.NotContains(t, p.Said.String(), canary)
	})
}

func TestRemote_AsksTheAgent(t *testing.T) {
	host := newHost(t)
	socket := runAgent(t, host.privateKey)
	connection := func(changes map[string]any) resource.PropertyMap {
		return resource.PropertyMap{
			"connection": resource.NewProperty(with(with(host.connection(), properties(map[string]any{"privateKey": nil, "dialErrorLimit": 0.0})), properties(changes))),
			"create":     resource.NewProperty("true"),
		}
	}
	onEachWith(t, []string{"SSH_AUTH_SOCK=" + socket}, func(t *testing.T, p *started) {
		p.mustCreate(remoteCommandTok, connection(nil))
		_, err := p.create(remoteCommandTok, connection(map[string]any{"agentSocketPath": "/no/such/socket"}))
		require.ErrorContains(t, err, "/no/such/socket")
	})
	onEach(t, func(t *testing.T, p *started) {
		p.mustCreate(remoteCommandTok, connection(map[string]any{"agentSocketPath": socket}))
		_, err := p.create(remoteCommandTok, connection(nil))
		require.ErrorContains(t, err, "unable to authenticate")
	})
}

// runAgent is an SSH agent with one key.
func runAgent(t *testing.T, privateKey string) (socket string) {
	t.Helper()
	key, err := gossh.ParseRawPrivateKey([]byte(privateKey))
	require.NoError(t, err)
	keyring := agent.NewKeyring()
	require.NoError(t, keyring.Add(agent.AddedKey{PrivateKey: key}))
	// Of a short name: that of a socket can't be long.
	dir, err := os.MkdirTemp("", "agent") //nolint:usetesting // its paths are long
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket = filepath.Join(dir, "s")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(keyring, connection) }()
		}
	}()
	return socket
}

func TestRemote_AWrongHostKeyIsRefused(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		host := newHost(t)
		other, _ := newKey(t)
		connection := with(host.connection(), properties(map[string]any{
			"hostKey": string(gossh.MarshalAuthorizedKey(other.PublicKey())), "dialErrorLimit": 1.0,
		}))
		file := filepath.Join(t.TempDir(), "file")
		_, err := p.create(remoteCommandTok, properties(map[string]any{"connection": connection, "create": "touch " + file}))
		require.ErrorContains(t, err, "host key mismatch")
		assert.NoFileExists(t, file)
	})
}

func TestRemote_DialsAgainAsOftenAsItMay(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		host := newHost(t)
		host.refusals.Store(2)
		p.mustCreate(remoteCommandTok, host.remote(properties(map[string]any{"create": "true"})))
		assert.EqualValues(t, 3, host.dialled.Load())
		assert.Contains(t, p.Said.String(), "Dial 1/2 failed: retrying")

		host.refusals.Store(1000)
		host.dialled.Store(0)
		_, err := p.create(remoteCommandTok, host.remote(properties(map[string]any{"create": "true"})))
		require.ErrorContains(t, err, "after 2 failed attempts: ")
		assert.EqualValues(t, 3, host.dialled.Load())
	})
}

func TestRemote_DialsNoMoreWhenTheEngineIsInterrupted(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		host := newHost(t)
		host.refusals.Store(1000)
		connection := with(host.connection(), properties(map[string]any{"dialErrorLimit": -1.0}))
		news := properties(map[string]any{"connection": connection, "create": "true"})
		ended := make(chan error, 1)
		go func() {
			_, err := p.create(remoteCommandTok, news)
			ended <- err
		}()
		require.Eventually(t, func() bool { return host.dialled.Load() > 1 }, 20*time.Second, 5*time.Millisecond)
		_, err := p.Cancel(t.Context(), &emptypb.Empty{})
		require.NoError(t, err)
		require.Error(t, plugintest.Within(t, 10*time.Second, func() error { return <-ended }))
		assert.Contains(t, p.Said.String(), "Dial 1/inf failed: retrying")
	})
}

func TestRemote_ACommandThatRunsIsEndedByNobody(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		host := newHost(t)
		news := host.remote(properties(map[string]any{"create": "echo > begun; until [ -e go ]; do sleep 0.05; done; echo whole"}))
		type result struct {
			made

			err error
		}
		ended := make(chan result, 1)
		go func() {
			thing, err := p.createIn(t.Context(), remoteCommandTok, news, 600)
			ended <- result{thing, err}
		}()
		require.Eventually(t, func() bool {
			_, err := os.Stat(filepath.Join(host.home, "begun"))
			return err == nil
		}, 20*time.Second, 5*time.Millisecond)
		_, err := p.Cancel(t.Context(), &emptypb.Empty{})
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(host.home, "go"), nil, 0o600))
		require.NoError(t, plugintest.Within(t, 20*time.Second, func() error {
			result := <-ended
			assert.Equal(t, "whole", said(result.state, stdoutKey))
			return result.err
		}))
	})
}

func TestRemote_ADroppedConnectionIsAnError(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		host := newHost(t)
		host.dropping.Store(true)
		_, err := p.create(remoteCommandTok, host.remote(properties(map[string]any{"create": "echo whole"})))
		require.ErrorContains(t, err, "without exit status")
		require.ErrorContains(t, err, `running "echo whole"`)
		host.dropping.Store(false)
		p.mustCreate(remoteCommandTok, host.remote(properties(map[string]any{"create": "echo whole"})))
	})
}

func TestRemote_GoesThroughItsProxy(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		host, jump := newHost(t), newHost(t)
		through := func(proxy resource.PropertyMap) error {
			connection := with(host.connection(), resource.PropertyMap{"proxy": resource.NewProperty(proxy)})
			_, err := p.create(remoteCommandTok, properties(map[string]any{"connection": connection, "create": "true"}))
			return err
		}
		jump.refusals.Store(1)
		require.NoError(t, through(jump.connection()))
		assert.EqualValues(t, 1, jump.tunnels.Load())
		assert.Contains(t, p.Said.String(), "Dial proxy 1/2 failed: retrying")

		other, _ := newKey(t)
		err := through(with(jump.connection(), properties(map[string]any{
			"hostKey": string(gossh.MarshalAuthorizedKey(other.PublicKey())), "dialErrorLimit": 0.0,
		})))
		require.ErrorContains(t, err, "proxy: ")
		require.ErrorContains(t, err, "host key mismatch")
	})
}

func (h *host) copying(source any, path string) resource.PropertyMap {
	return h.remote(properties(map[string]any{"source": source, "remotePath": path}))
}

func TestCopy_PutsTextsFilesAndFoldersWhereTheyAreWanted(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		host, local := newHost(t), t.TempDir()
		in := func(name string) string { return filepath.Join(host.home, name) }
		require.NoError(t, os.MkdirAll(filepath.Join(local, "folder", "inner"), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(local, "folder", "inner", "file"), []byte("deep"), 0o600))
		file := filepath.Join(local, "some file")
		require.NoError(t, os.WriteFile(file, []byte(strings.Repeat("large ", 100_000)), 0o600))
		require.NoError(t, os.Mkdir(in("there"), 0o700))
		require.NoError(t, os.WriteFile(in("taken"), []byte("old and longer than what comes"), 0o600))

		thing := p.mustCreate(copyToRemoteTok, host.copying(textAsset(t, "hello"), in("new/parents/text")))
		assert.Regexp(t, "^[0-9a-f]{8}$", thing.id)
		assert.True(t, thing.state["connection"].IsSecret())
		assert.Equal(t, in("new/parents/text"), thing.state["remotePath"].StringValue())
		p.mustCreate(copyToRemoteTok, host.copying(textAsset(t, "short"), in("taken")))
		p.mustCreate(copyToRemoteTok, host.copying(fileAsset(t, file), in("there")))
		p.mustCreate(copyToRemoteTok, host.copying(fileAsset(t, file), in("more/renamed")))
		p.mustCreate(copyToRemoteTok, host.copying(folderArchive(t, filepath.Join(local, "folder")), in("there")))
		p.mustCreate(copyToRemoteTok, host.copying(folderArchive(t, filepath.Join(local, "folder")), in("made")))
		for name, want := range map[string]string{
			"new/parents/text": "hello", "taken": "short", "there/some file": strings.Repeat("large ", 100_000),
			"more/renamed": strings.Repeat("large ", 100_000), "there/folder/inner/file": "deep", "made/folder/inner/file": "deep",
		} {
			content, err := os.ReadFile(in(name))
			require.NoError(t, err)
			assert.Equal(t, want, string(content), name)
		}
		_, err := p.create(copyToRemoteTok, host.copying(textAsset(t, "hello"), in("there")))
		require.ErrorContains(t, err, "is a directory")
		_, err = p.create(copyToRemoteTok, host.copying(folderArchive(t, filepath.Join(local, "folder")), in("taken")))
		require.Error(t, err)
		require.NoError(t, os.Remove(file))
		require.NoError(t, p.delete(thing))
		assert.FileExists(t, in("new/parents/text"), "to delete it is to forget it")
	})
}

func TestCopy_CopiesAgainWhatHasChanged(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		host := newHost(t)
		file := filepath.Join(host.home, "file")
		thing := p.mustCreate(copyToRemoteTok, host.copying(textAsset(t, "one"), file))
		assert.Equal(t, pulumirpc.DiffResponse_DIFF_NONE, p.diff(thing, host.copying(textAsset(t, "one"), file)).GetChanges())
		response := p.diff(thing, host.copying(textAsset(t, "two"), file))
		assert.Equal(t, pulumirpc.DiffResponse_DIFF_SOME, response.GetChanges())
		assert.Empty(t, response.GetReplaces())
		response = p.diff(thing, with(host.copying(textAsset(t, "one"), file), properties(map[string]any{"triggers": []any{"a"}})))
		assert.Equal(t, []string{"triggers"}, response.GetReplaces())

		thing = p.mustUpdate(thing, host.copying(textAsset(t, "two"), file))
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.Equal(t, "two", string(content))
		thing = p.mustUpdate(thing, host.copying(textAsset(t, "two"), file+"-other"))
		assert.FileExists(t, file+"-other")

		dialled := host.dialled.Load()
		changed := host.copying(textAsset(t, "two"), file+"-other")
		changed["connection"] = resource.NewProperty(with(host.connection(), properties(map[string]any{"dialErrorLimit": 3.0})))
		p.mustUpdate(thing, changed)
		assert.Equal(t, dialled, host.dialled.Load(), "another way to the host is no other file")
		assert.Contains(t, p.preview(copyToRemoteTok, host.copying(textAsset(t, "three"), file)), resource.PropertyKey("source"))
		assert.Equal(t, dialled, host.dialled.Load(), "a preview asks nobody")
	})
}

func TestStandIn_RefusesWhatItDoesNotKnow(t *testing.T) {
	p := &started{Plugin: contract.StandIn(t), t: t}
	const mend = "pulumi plugin install resource command"
	for _, name := range []string{"assetPaths", "archivePaths"} {
		_, failures := p.check(localCommandTok, properties(map[string]any{name: []any{"*"}}))
		require.Len(t, failures, 1)
		assert.Contains(t, failures[0].GetReason(), name)
		assert.Contains(t, failures[0].GetReason(), mend)
	}
	_, err := p.Check(t.Context(), &pulumirpc.CheckRequest{Urn: urnOf("command:remote:CopyFile"), News: p.Marshal(resource.PropertyMap{})})
	require.ErrorContains(t, err, mend)
	// NewURIAsset would ask the network for its hash.
	uri := &resource.Asset{Sig: resource.AssetSig, URI: "https://example.com/file", Hash: strings.Repeat("0", 64)}
	_, failures := p.check(copyToRemoteTok, newHost(t).copying(uri, "/tmp/file"))
	assert.Contains(t, fmt.Sprint(failures), mend)
	_, err = p.Invoke(t.Context(), &pulumirpc.InvokeRequest{Tok: "command:local:walk"})
	require.ErrorContains(t, err, mend)
}

func TestPluginInfo_IsTheVersionOfTheSDK(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		info, err := p.GetPluginInfo(t.Context(), &emptypb.Empty{})
		require.NoError(t, err)
		assert.True(t, strings.HasPrefix(strings.TrimPrefix(info.GetVersion(), "v"), "1."), info.GetVersion())
	})
}
