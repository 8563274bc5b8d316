// Package seal is what sealed-secrets does, on this side of Git: key pairs, digests that tell
// whether a secret changed, and the sealed files themselves. It is pure: no engine, no cluster,
// no files; and it knows nothing of workloads, which have their digests from here.
package seal
