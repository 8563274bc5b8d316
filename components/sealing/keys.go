// Package sealing has the component that installs the key pairs of sealed-secrets, which
// must be in the cluster before its controller starts: it reads them only then.
package sealing

import (
	"encoding/base64"
	"fmt"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/nullify005/manager-cluster-state/components"
	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/seal"
)

// Where the controller looks for its keys, and the label it knows them by.
const (
	namespace   = "kube-system"
	activeLabel = "sealedsecrets.bitnami.com/sealed-secrets-key"
)

// KeysArgs are the key pairs to install.
type KeysArgs struct {
	// Keys are validated pairs: the newest certificate seals, all of them open.
	Keys []config.SealingKey
	// Protect refuses to delete them.
	Protect bool
	// Provider talks to the cluster.
	Provider pulumi.ProviderResource
}

// Keys is the set of key pairs in the cluster.
type Keys struct {
	pulumi.ResourceState

	// Secrets are what to wait for, to wait for the keys.
	Secrets []pulumi.Resource
}

type secret struct{ pulumi.CustomResourceState }

// NewKeys installs the key pairs, each named after its certificate so that a rotation adds
// one and leaves the others alone.
func NewKeys(ctx *pulumi.Context, name string, args *KeysArgs, opts ...pulumi.ResourceOption) (*Keys, error) {
	ids := make([]string, len(args.Keys))
	for i, key := range args.Keys {
		id, err := seal.Fingerprint(key.Certificate)
		if err != nil {
			return nil, fmt.Errorf("sealing.keys[%d]: %w", i, err)
		}
		ids[i] = id
	}
	keys := &Keys{}
	if err := ctx.RegisterComponentResourceV2(components.TokenSealingKeys, name,
		pulumi.Map{"fingerprints": pulumi.ToStringArray(ids)}, keys, opts...); err != nil {
		return nil, fmt.Errorf("registering the sealing keys: %w", err)
	}
	for i, key := range args.Keys {
		object := &secret{}
		objectName := "sealed-secrets-key-" + ids[i]
		err := ctx.RegisterResource("kubernetes:core/v1:Secret", name+"/"+objectName, pulumi.Map{
			"apiVersion": pulumi.String("v1"),
			"kind":       pulumi.String("Secret"),
			"metadata": pulumi.Map{
				"name":        pulumi.String(objectName),
				"namespace":   pulumi.String(namespace),
				"labels":      pulumi.StringMap{activeLabel: pulumi.String("active")},
				"annotations": pulumi.ToStringMap(components.FieldManagement("Secret")),
			},
			"type": pulumi.String("kubernetes.io/tls"),
			"data": pulumi.ToSecret(pulumi.StringMap{
				"tls.crt": pulumi.String(base64.StdEncoding.EncodeToString([]byte(key.Certificate))),
				"tls.key": pulumi.String(base64.StdEncoding.EncodeToString([]byte(key.PrivateKey))),
			}),
		}, object, pulumi.Parent(keys), pulumi.Provider(args.Provider), pulumi.Protect(args.Protect),
			pulumi.AdditionalSecretOutputs([]string{"data"}))
		if err != nil {
			return nil, fmt.Errorf("installing the sealing key %s: %w", ids[i], err)
		}
		keys.Secrets = append(keys.Secrets, object)
	}
	return keys, ctx.RegisterResourceOutputs(keys, pulumi.Map{"fingerprints": pulumi.ToStringArray(ids)})
}
