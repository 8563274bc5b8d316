package main

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func isClosed(reached <-chan struct{}) bool {
	select {
	case <-reached:
		return true
	default:
		return false
	}
}

func TestProgress_CountsStepsByWholeLines(t *testing.T) {
	p := &progress{}
	reached := p.begin(2)
	say := func(text string) {
		t.Helper()
		_, err := fmt.Fprint(p, text)
		require.NoError(t, err)
	}
	say("Updating (development):\n +  kubernetes:core/v1:Namespace a creat")
	assert.Empty(t, p.steps())
	say("ing (0s)\n@ updating....\n")
	assert.Len(t, p.steps(), 1)
	assert.False(t, isClosed(reached))
	say(" +  kubernetes:core/v1:Namespace a created (0.01s)\n")
	assert.True(t, isClosed(reached))
	assert.Len(t, p.steps(), 2)
	say("    pulumi:pulumi:Stack p-development  error: update failed\nerror: no space left on device\n")
	assert.Equal(t, "no space left on device", p.says())

	reached = p.begin(0)
	assert.False(t, isClosed(reached), "nothing has been said")
	assert.Empty(t, p.steps())
	assert.Empty(t, p.says())
	say("Updating (development):\n")
	assert.True(t, isClosed(reached))
}

func TestFirstError_NamesWhatPulumiLists(t *testing.T) {
	listed := `Diagnostics:
  pulumi:pulumi:Stack (p-development):
    error: update failed
  kubernetes:apps/v1:Deployment (a/b):
    error: 2 errors occurred:
    	* resource "urn:pulumi:development::p::delivery:Direct$kubernetes:apps/v1:Deployment::a/b" was created, but is not live
    	* Minimum number of live Pods was not attained

  kubernetes:apps/v1:Deployment (a/c):
    error: another
`
	assert.Equal(t, "resource a/b was created, but is not live; Minimum number of live Pods was not attained", firstError(listed))
	assert.Equal(t, "update failed", firstError("    error: update failed\n"))
	assert.Empty(t, firstError("Updating (development):\n"))
}
