// Package components holds what the Pulumi components share: their type tokens. Each
// component lives in a folder of its own and is made the same way: arguments validated
// first, then the component registered, then its children, then its outputs.
package components

// Type tokens are part of the state contract: a renamed one needs an alias, or every
// object under it is deleted and made anew.
const (
	TokenClusterExisting = "manager-cluster-state:cluster:Existing"
	TokenClusterK3d      = "manager-cluster-state:cluster:K3d"
	TokenClusterPi       = "manager-cluster-state:cluster:Pi"
	TokenSealingKeys     = "manager-cluster-state:sealing:Keys"
	TokenDeliveryDirect  = "manager-cluster-state:delivery:Direct"
	TokenDeliveryPulled  = "manager-cluster-state:delivery:Pulled"
	TokenGitHubDeployKey = "manager-cluster-state:github:DeployKey"
)
