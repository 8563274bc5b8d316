package main

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
	"google.golang.org/protobuf/types/known/emptypb"

	forge "github.com/nullify005/manager-cluster-state/rehearsal/forge/github"
	"github.com/nullify005/manager-cluster-state/rehearsal/plugins/plugintest"
)

func publicKey(t *testing.T) string {
	t.Helper()
	public, _, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	key, err := ssh.NewPublicKey(public)
	require.NoError(t, err)
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

func someKey(t *testing.T) resource.PropertyMap {
	t.Helper()
	return resource.PropertyMap{
		"repository": resource.NewProperty(repository), "title": resource.NewProperty("flux"),
		"key": resource.NewProperty(publicKey(t)), "readOnly": resource.NewProperty(true),
	}
}

func with(inputs resource.PropertyMap, key resource.PropertyKey, value any) resource.PropertyMap {
	changed := inputs.Copy()
	changed[key] = resource.NewPropertyValue(value)
	return changed
}

func TestCheck_AKeyIsReadOnlyUnlessItIsSaid(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		inputs := someKey(t)
		delete(inputs, "readOnly")
		checked, failures := p.check(inputs)
		require.Empty(t, failures)
		assert.True(t, checked["readOnly"].BoolValue())

		checked, failures = p.check(with(inputs, "readOnly", false))
		require.Empty(t, failures)
		assert.False(t, checked["readOnly"].BoolValue())
	})
}

func TestCheck_TellsEveryInputThatIsMissing(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		_, failures := p.check(resource.PropertyMap{})
		told := fmt.Sprint(failures)
		for _, name := range []string{"repository", "title", "key"} {
			assert.Contains(t, told, name)
		}
		_, failures = p.check(with(someKey(t), "colour", "green"))
		assert.Contains(t, fmt.Sprint(failures), "colour")
	})
}

func TestCheck_TakesWhatIsNotKnownYet(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		inputs := someKey(t)
		inputs["key"] = resource.MakeComputed(resource.NewProperty(""))
		checked, failures := p.check(inputs)
		require.Empty(t, failures)
		assert.True(t, checked["key"].IsComputed())
	})
}

func TestDiff_EveryChangeReplacesAndDeletesFirst(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		before := someKey(t)
		id, state := p.mustCreate(before)
		diff := func(news resource.PropertyMap) *pulumirpc.DiffResponse {
			news, failures := p.check(news)
			require.Empty(t, failures)
			response, err := p.Diff(t.Context(), &pulumirpc.DiffRequest{
				Id: id, Urn: urn, Name: "key", Type: kind, Olds: p.Marshal(state), OldInputs: p.Marshal(before), News: p.Marshal(news),
			})
			require.NoError(t, err)
			return response
		}
		assert.Equal(t, pulumirpc.DiffResponse_DIFF_NONE, diff(before).GetChanges())
		commented := with(before, "key", before["key"].StringValue()+" flux@home")
		assert.NotEqual(t, pulumirpc.DiffResponse_DIFF_SOME, diff(commented).GetChanges(), "GitHub keeps no comment")

		for name, value := range map[resource.PropertyKey]any{
			"repository": "other", "title": "other", "key": publicKey(t), "readOnly": false,
		} {
			response := diff(with(before, name, value))
			assert.Equal(t, pulumirpc.DiffResponse_DIFF_SOME, response.GetChanges(), name)
			assert.Equal(t, []string{string(name)}, response.GetReplaces())
			assert.True(t, response.GetDeleteBeforeReplace(), "a key can't be registered twice")
		}
	})
}

func TestCreate_RegistersTheKey(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		for _, readOnly := range []bool{true, false} {
			inputs := with(someKey(t), "readOnly", readOnly)
			id, state := p.mustCreate(inputs)
			registered := p.api.DeployKeys("")
			key := registered[len(registered)-1]
			assert.Equal(t, fmt.Sprintf("%s:%d", repository, key.ID), id)
			assert.Equal(t, owner+"/"+repository, key.Repository)
			assert.Equal(t, inputs["key"].StringValue(), key.Key)
			assert.Equal(t, readOnly, key.ReadOnly)
			assert.Equal(t, "flux", key.Title)
			for name, value := range inputs {
				assert.Equal(t, value, state[name], name)
			}
			assert.NotEmpty(t, state["etag"].StringValue())
		}
	})
}

func TestCreate_APreviewAsksNobody(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		inputs, _ := p.check(someKey(t))
		response, err := p.Create(t.Context(), &pulumirpc.CreateRequest{Urn: urn, Name: "key", Type: kind, Properties: p.Marshal(inputs), Preview: true})
		require.NoError(t, err)
		planned := p.Unmarshal(response.GetProperties())
		assert.Equal(t, inputs["key"], planned["key"])
		assert.False(t, planned["etag"].IsString(), "it is not known yet")
		assert.Zero(t, p.requests.Load())
		assert.Empty(t, p.api.DeployKeys(""))
	})
}

func TestRead_SeesWhatIsThereAndWhatIsGone(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		inputs := someKey(t)
		id, state := p.mustCreate(inputs)
		response, err := p.read(id, inputs, state)
		require.NoError(t, err)
		assert.Equal(t, id, response.GetId())
		assert.Equal(t, inputs["key"], p.Unmarshal(response.GetProperties())["key"])

		p.byHand(p.api.DeployKeys("")[0].ID)
		response, err = p.read(id, inputs, state)
		require.NoError(t, err)
		assert.Empty(t, response.GetId(), "a key that is gone is made anew")
	})
}

func TestRead_Imports(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		inputs := with(someKey(t), "readOnly", false)
		id, _ := p.mustCreate(inputs)
		response, err := p.read(id, nil, nil)
		require.NoError(t, err)
		imported := p.Unmarshal(response.GetInputs())
		for name, value := range inputs {
			assert.Equal(t, value, imported[name], name)
		}
		_, err = p.read("no-number", nil, nil)
		require.Error(t, err)
	})
}

func TestDelete_TakesTheKeyAway(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		id, state := p.mustCreate(someKey(t))
		_, _ = p.mustCreate(someKey(t))
		require.NoError(t, p.delete(id, state))
		require.Len(t, p.api.DeployKeys(""), 1, "the other one stays")
		// The official plugin answers with GitHub's 404, until a refresh has seen the key gone.
		if p.IsStandIn {
			require.NoError(t, p.delete(id, state))
			require.ErrorContains(t, p.delete("home", state), "REPOSITORY:NUMBER")
		}
	})
}

// refused checks how a creation is refused, and that the stand-in says what to do about it.
func refused(t *testing.T, p *started, inputs resource.PropertyMap, mends ...string) {
	t.Helper()
	_, _, err := p.create(t.Context(), inputs)
	require.Error(t, err)
	assert.NotContains(t, err.Error(), token)
	if p.IsStandIn {
		for _, mend := range mends {
			assert.ErrorContains(t, err, mend)
		}
	}
}

func TestCreate_AWrongTokenIsToldWithTheMend(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		const wrong = "ghp_canary-that-is-wrong"
		p.configure(resource.PropertyMap{"token": resource.MakeSecret(resource.NewProperty(wrong))})
		refused(t, p, someKey(t), "registering a deploy key of somebody/home: GitHub answers 401 Bad credentials",
			"export GITHUB_TOKEN=…, or pulumi config set --secret github:token", "Administration: read and write")
		assert.NotContains(t, p.Said.String(), wrong)
		if p.IsStandIn {
			p.configure(nil)
			refused(t, p, someKey(t), "GitHub answers 401", "no token is set")
		}
	})
}

func TestCreate_ARepositoryThatIsNotSeenIsToldWithTheMend(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		refused(t, p, with(someKey(t), "repository", "nothing"), "GitHub answers 404", "check git.url", "Administration: read and write")
	})
}

func TestCreate_AKeyInUseElsewhereIsToldWithTheMend(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		inputs := someKey(t)
		_, _ = p.mustCreate(inputs)
		refused(t, p, with(inputs, "repository", "other"), "GitHub answers 422", "key is already in use", "make another, or delete it where it is")
		refused(t, p, with(inputs, "key", "nonsense"), "key is invalid")
		assert.Len(t, p.api.DeployKeys(""), 1)
	})
}

func TestCreate_WaitsOutALimit(t *testing.T) {
	for _, kind := range []forge.Kind{forge.RateLimit, forge.TooManyRequests, forge.SecondaryLimit} {
		t.Run(string(kind), func(t *testing.T) {
			onEach(t, func(t *testing.T, p *started) {
				p.api.Fail(forge.Fault{Kind: kind, Method: "POST", RetryAfter: 1})
				start := time.Now()
				_, _ = p.mustCreate(someKey(t))
				assert.GreaterOrEqual(t, time.Since(start), time.Second)
				assert.Len(t, p.api.DeployKeys(""), 1)
			})
		})
	}
}

func TestCalls_OutlastAServerThatFailsForAMoment(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		p.api.Fail(forge.Fault{Kind: forge.ServerError, Times: 2, Method: "POST"})
		inputs := someKey(t)
		id, state := p.mustCreate(inputs)
		p.api.Fail(forge.Fault{Kind: forge.ServerError, Status: 503, Times: 2, Method: "GET", Path: "/keys"})
		_, err := p.read(id, inputs, state)
		require.NoError(t, err)
		p.api.Fail(forge.Fault{Kind: forge.ServerError, Status: 500, Times: 2, Method: "DELETE"})
		require.NoError(t, p.delete(id, state))
		assert.Empty(t, p.api.DeployKeys(""))
	})
}

func TestCalls_GiveUpOnAServerThatFailsForEver(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		inputs := someKey(t)
		id, state := p.mustCreate(inputs)
		p.requests.Store(0)
		p.api.Fail(forge.Fault{Kind: forge.ServerError, Times: 1000})
		require.Error(t, plugintest.Within(t, time.Minute, func() error {
			_, err := p.read(id, inputs, state)
			return err
		}), "an outage is not taken for a key that is gone")
		require.Error(t, plugintest.Within(t, time.Minute, func() error { return p.delete(id, state) }))
		refused(t, p, someKey(t), "GitHub answers 502 Bad Gateway")
		if p.IsStandIn {
			assert.EqualValues(t, 3*4, p.requests.Load(), "each call is tried four times")
		}
		p.api.Heal()
		assert.Len(t, p.api.DeployKeys(""), 1)
	})
}

func TestCreate_AKeyWhoseReadFailsIsNotLost(t *testing.T) {
	p := startStandIn(t)
	p.api.Fail(forge.Fault{Kind: forge.ServerError, Times: 1000, Method: "GET", Path: "/keys"})
	id, state := p.mustCreate(someKey(t))
	assert.Equal(t, fmt.Sprintf("%s:%d", repository, p.api.DeployKeys("")[0].ID), id)
	assert.Equal(t, "flux", state["title"].StringValue())
}

func TestCalls_EndAtOnceWhenTheEngineIsInterrupted(t *testing.T) {
	for name, interrupt := range map[string]func(p *started, cancel context.CancelFunc){
		"by the engine's signal": func(p *started, _ context.CancelFunc) {
			_, err := p.Cancel(p.t.Context(), &emptypb.Empty{})
			assert.NoError(p.t, err)
		},
		"by the end of the call": func(_ *started, cancel context.CancelFunc) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			p := startStandIn(t)
			p.api.Fail(forge.Fault{Kind: forge.RateLimit, RetryAfter: 200})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			inputs := someKey(t)
			ended := make(chan error, 1)
			go func() {
				_, _, err := p.create(ctx, inputs)
				ended <- err
			}()
			require.Eventually(t, func() bool { return p.requests.Load() == 1 }, 10*time.Second, 5*time.Millisecond)
			interrupt(p, cancel)
			require.Error(t, plugintest.Within(t, 5*time.Second, func() error { return <-ended }))
			assert.EqualValues(t, 1, p.requests.Load())
		})
	}
}

func TestCreate_ALimitThatLastsTooLongIsTold(t *testing.T) {
	p := startStandIn(t)
	p.api.Fail(forge.Fault{Kind: forge.RateLimit, RetryAfter: 3600})
	require.NoError(t, plugintest.Within(t, 10*time.Second, func() error {
		refused(t, p, someKey(t), "rate limit for this token is used up until 20", "try again then")
		return nil
	}))
}

func TestPlugin_SaysItsTokenToGitHubAlone(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		inputs := someKey(t)
		id, state := p.mustCreate(inputs)
		for name, value := range state {
			assert.NotContains(t, value.String(), token, name)
		}
		p.api.Fail(forge.Fault{Kind: forge.BadCredentials})
		_, err := p.read(id, inputs, state)
		require.Error(t, err)
		assert.NotContains(t, err.Error(), token)
		require.NoError(t, p.delete(id, state))
		assert.NotContains(t, p.Said.String(), token)
	})
}

func TestCheckConfig_TheTokenIsSecret(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		response, err := p.CheckConfig(t.Context(), &pulumirpc.CheckRequest{
			Urn: "urn:pulumi:test::manager-cluster-state::pulumi:providers:github::github", Name: "github", Type: "pulumi:providers:github",
			News: p.Marshal(resource.PropertyMap{"owner": resource.NewProperty(owner), "token": resource.NewProperty(token)}),
		})
		require.NoError(t, err)
		assert.Empty(t, response.GetFailures())
		checked := p.Unmarshal(response.GetInputs())
		assert.True(t, checked["token"].IsSecret())
		assert.Equal(t, owner, checked["owner"].StringValue())
	})
}

func TestCreate_WhatIsSecretStaysSecret(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		inputs := someKey(t)
		inputs["title"] = resource.MakeSecret(inputs["title"])
		_, state := p.mustCreate(inputs)
		assert.True(t, state["title"].IsSecret() || !p.IsStandIn)
		assert.Equal(t, "flux", plain(state["title"]).StringValue())
	})
}

func TestPluginInfo_IsTheVersionOfTheSDK(t *testing.T) {
	onEach(t, func(t *testing.T, p *started) {
		info, err := p.GetPluginInfo(t.Context(), &emptypb.Empty{})
		require.NoError(t, err)
		assert.True(t, strings.HasPrefix(strings.TrimPrefix(info.GetVersion(), "v"), "6."), info.GetVersion())
	})
}
