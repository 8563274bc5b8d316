package sealing_test

import (
	"encoding/pem"
	"testing"

	"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/components"
	"github.com/nullify005/manager-cluster-state/components/sealing"
	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/internal/pulumitest"
)

const secretType = "kubernetes:core/v1:Secret"

func pair(certificate string) config.SealingKey {
	return config.SealingKey{
		Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(certificate)})),
		PrivateKey:  "canary",
	}
}

func install(recorder *pulumitest.Recorder, protect bool, keys ...config.SealingKey) error {
	return recorder.Run(func(ctx *pulumi.Context) error {
		provider, err := kubernetes.NewProvider(ctx, "cluster", &kubernetes.ProviderArgs{})
		if err != nil {
			return err
		}
		_, err = sealing.NewKeys(ctx, "keys", &sealing.KeysArgs{Keys: keys, Protect: protect, Provider: provider})
		return err
	}, false)
}

func TestKeys_AreWhatTheControllerLooksFor(t *testing.T) {
	recorder := &pulumitest.Recorder{}
	require.NoError(t, install(recorder, true, pair("one")))
	require.Len(t, recorder.OfType(secretType), 1)
	for _, secret := range recorder.OfType(secretType) {
		metadata := secret.Inputs["metadata"].ObjectValue()
		assert.Equal(t, "kube-system", metadata["namespace"].StringValue())
		assert.Equal(t, "active", metadata["labels"].ObjectValue()["sealedsecrets.bitnami.com/sealed-secrets-key"].StringValue())
		assert.Equal(t, "kubernetes.io/tls", secret.Inputs["type"].StringValue())
		assert.True(t, secret.Inputs["data"].IsSecret())
		assert.True(t, secret.RPC.GetProtect())
		assert.Equal(t, "keys", secret.Parent())
	}
}

func TestKeys_RotationAddsOneAndLeavesTheOthersAlone(t *testing.T) {
	before, after := &pulumitest.Recorder{}, &pulumitest.Recorder{}
	require.NoError(t, install(before, false, pair("one")))
	require.NoError(t, install(after, false, pair("two"), pair("one")))
	require.Len(t, after.OfType(secretType), 2)
	for name, secret := range before.OfType(secretType) {
		assert.Equal(t, secret.Inputs, after.OfType(secretType)[name].Inputs)
		assert.False(t, secret.RPC.GetProtect())
	}
}

func TestKeys_ABrokenCertificateIsRefusedBeforeAnythingIsRegistered(t *testing.T) {
	recorder := &pulumitest.Recorder{}
	err := install(recorder, false, config.SealingKey{Certificate: "canary", PrivateKey: "canary"})
	require.ErrorContains(t, err, "sealing.keys[0]: the certificate is not PEM")
	assert.NotContains(t, err.Error(), "canary")
	assert.Empty(t, recorder.OfType(components.TokenSealingKeys))
}
