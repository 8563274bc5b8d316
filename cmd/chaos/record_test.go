package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRecord_IsTakenUpWhereItWasLeft(t *testing.T) {
	o := &options{folder: t.TempDir(), faults: groups(), points: 50, seed: 1}
	begun, err := openRecord(o, "development")
	require.NoError(t, err)
	lost := &result{
		fault: "kill -9", stack: "development", at: point{steps: 7, after: time.Second}, failed: "killed",
		broken: []string{"no duplicate: two"}, pending: []string{"creating"}, recovery: time.Minute,
	}
	require.NoError(t, begun.add(lost))
	require.NoError(t, begun.add(&result{fault: "disk full", stack: "development"}))

	o.resume = true
	after, err := openRecord(o, "development")
	require.NoError(t, err)
	assert.Equal(t, []*result{lost, {fault: "disk full", stack: "development"}}, after.results("development"))
	other, err := openRecord(o, "production")
	require.NoError(t, err)
	assert.Empty(t, other.results("production"), "that run didn't come to it")

	o.points = 4
	_, err = openRecord(o, "development")
	require.ErrorContains(t, err, "--points 50 --seed 1: give the same, or leave --resume out")

	o.resume = false
	_, err = openRecord(o, "development")
	require.NoError(t, err)
	assert.NoFileExists(t, filepath.Join(o.folder, "development-tries.json"), "a new run begins anew")
}

func TestRecord_ThatIsBrokenIsSaidToBe(t *testing.T) {
	o := &options{folder: t.TempDir(), resume: true}
	require.NoError(t, os.WriteFile(filepath.Join(o.folder, "development-tries.json"), []byte("{"), 0o600))
	_, err := openRecord(o, "development")
	require.ErrorContains(t, err, "without --resume everything is tried anew")
}
