// Package flux does what this project does to Flux's own kinds in a live cluster: it waits for
// them, has them reconciled, suspends and resumes them, says how they stand, and clears their
// finalizers when no controller is left to do it. It knows neither Pulumi nor the catalog of
// workloads; whoever has a kubeconfig may call it.
package flux
