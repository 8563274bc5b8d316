//go:build !linux

package dockertest

import "testing"

type ownEngine struct{}

func isInside() bool { return false }

func lacks() string { return "that takes Linux" }

func runInside(*testing.T) {}

func startOwn(*testing.T) *Engine { return nil }

func (*ownEngine) stop(*testing.T) {}

func (*ownEngine) start(*testing.T) {}
