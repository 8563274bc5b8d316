package config

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	plainKeyPattern = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	indexPattern    = regexp.MustCompile(`\[[0-9]+\]`)
)

// joinPath appends a key to a path as Pulumi writes paths: a.b, or a["b.c"].
func joinPath(path, key string) string {
	switch {
	case !plainKeyPattern.MatchString(key):
		return path + "[" + strconv.Quote(shorten(key)) + "]"
	case path == "":
		return key
	default:
		return path + "." + key
	}
}

// closest is the candidate that a typo most likely meant, if there is one.
func closest(word string, candidates []string) (string, bool) {
	best, distance := "", max(1, min(3, len(word)/3))+1
	for _, candidate := range candidates {
		if d := editDistance(strings.ToLower(word), strings.ToLower(candidate)); d < distance {
			best, distance = candidate, d
		}
	}
	return best, best != ""
}

// editDistance counts insertions, deletions, replacements and swaps of neighbours.
func editDistance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j]+cost, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

// unknownKeys reports each given key that is not among the ones known below parent. What was
// meant instead counts as unread, so that it isn't reported as missing too.
func (r *report) unknownKeys(parent string, known, given []string) {
	for _, key := range given {
		if slices.Contains(known, key) {
			continue
		}
		problem, meant := unknownKey(parent, key, known, given)
		r.fail(problem)
		if meant != "" {
			r.taint(meant)
		}
	}
}

// unknownKey is the problem of a key that is not among the known ones. The second result is
// the path that was meant, if a sibling that isn't given is close enough.
func unknownKey(parent, key string, known, given []string) (Problem, string) {
	problem := Problem{Path: joinPath(parent, key), Value: unknown, Reason: "there is no such key"}
	if parent == "" && (strings.Contains(key, ".") || strings.Contains(key, "[")) {
		if found := findKey(key); found != nil {
			problem.Reason = "--path was left out when it was set"
			problem.Mend = "pulumi config rm " + shellWord(key) + " && " + setCommand(key, found.Secret, "")
			return problem, key
		}
	}
	if sibling, ok := closest(key, known); ok {
		meant := joinPath(parent, sibling)
		problem.Mend = "did you mean " + meant + "?"
		if slices.Contains(given, sibling) {
			meant = ""
		}
		return problem, meant
	}
	if elsewhere := namesakes(key); len(elsewhere) == 1 {
		problem.Mend = "did you mean " + elsewhere[0] + "?"
		return problem, ""
	}
	where := "a stack"
	if parent != "" {
		where = parent
	}
	problem.Mend = "the keys of " + where + " are " + enumerate(known, "and")
	return problem, ""
}

// namesakes are the paths that end in a key of this name.
func namesakes(key string) []string {
	var paths []string
	for _, k := range Schema() {
		last := k.Path[strings.LastIndex(k.Path, ".")+1:]
		if strings.EqualFold(last, key) {
			paths = append(paths, k.Path)
		}
	}
	return paths
}

// enumerate joins words: a, b and c.
func enumerate(words []string, conjunction string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " " + conjunction + " " + words[last]
}
