// Package manifests has the YAML of this repository that Go reads.
package manifests

import _ "embed"

// FluxCRDs are the definitions of Flux's kinds, generated.
//
//go:embed flux-system/crds.yaml
var FluxCRDs []byte

// FluxInstall is Flux's installation less its definitions, generated.
//
//go:embed flux-system/install.yaml
var FluxInstall []byte

// SealedSecretCRDs is the definition of SealedSecret, generated.
//
//go:embed sealed-secrets/crds.yaml
var SealedSecretCRDs []byte
