// Package rehearsal runs a stack where nothing of it is real but what decides whether it
// works: a Kubernetes control plane as plain processes, simulated nodes of the sizes that the
// stack names, the real Pulumi engine on the real stack file, and the real controllers of
// Flux and sealed-secrets as processes of this machine. Only what is physical is replaced:
// the cluster, and the values of secrets. Kubelets are simulated, so no image is pulled.
//
// A rehearsal lives in one folder: cluster, Pulumi state, processes, logs. Cluster and state
// live and die together, as the state says what the cluster holds. Every long-lived process
// is started by a path inside that folder, and that is how it is known again after a crash.
//
// It knows stack files and the API server, not workloads: what a stack made it learns from
// Pulumi's state. It runs on Linux and macOS.
package rehearsal
