package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/config"
)

// A page that is read when something has gone wrong had better name what is there.
func TestThreats_WhatItNamesExists(t *testing.T) {
	data, err := os.ReadFile("docs/threats.md")
	require.NoError(t, err)
	page := strings.ReplaceAll(string(data), "\n", " ")
	makefile, err := os.ReadFile("Makefile")
	require.NoError(t, err)

	targets := regexp.MustCompile("`make ([a-z -]+)").FindAllStringSubmatch(page, -1)
	assert.Greater(t, len(targets), 4)
	for _, match := range targets {
		for target := range strings.FieldsSeq(match[1]) {
			assert.Regexp(t, `(?m)^`+target+`:.*## `, string(makefile), "make %s", target)
		}
	}

	var known, named []string
	for _, key := range config.Schema() {
		known = append(known, key.Path)
	}
	index := regexp.MustCompile(`\[[0-9]+\]`)
	top := regexp.MustCompile("^(secrets|sealing|flux|cluster)[.]")
	for _, match := range regexp.MustCompile(`[a-z]+([.][A-Za-z]+)+(\[[0-9]+\])?`).FindAllString(page, -1) {
		if key := index.ReplaceAllString(match, ""); top.MatchString(key) {
			assert.Contains(t, known, key)
			named = append(named, key)
		}
	}
	// Each secret has a row, by itself or with the one beside it.
	for _, key := range config.Schema() {
		path, _, _ := strings.Cut(key.Path, "[]")
		half := path[:strings.LastIndex(path, ".")+1]
		if key.Secret {
			assert.True(t, slices.ContainsFunc(named, func(name string) bool { return name == path || strings.HasPrefix(name, half) && half != "secrets." }), key.Path)
		}
	}
	assert.LessOrEqual(t, strings.Count(string(data), "\n"), 40, "one screen")
	assert.Less(t, len(data), 5_000, "one screen")
}
