// Package upkeep has no code of its own: its tests hold what GitHub and the update bots read, the
// workflows and .github/renovate.json, to this project's rules and to the files they are for.
package upkeep
