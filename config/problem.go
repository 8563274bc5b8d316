package config

import (
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Problem is one thing that is wrong with a stack's configuration.
type Problem struct {
	// Path of the key: cluster.nodes[1].memory.
	Path string
	// Value as it may be shown: "4Gi" with its quotes, -1, missing, unknown, or a secret
	// value in place of one.
	Value string
	// Reason says which rule is broken.
	Reason string
	// Mend says what to do; if it is a command, it is the exact one and begins with pulumi.
	Mend string
}

// String is the problem in one line: path is value: reason; mend.
func (p Problem) String() string {
	line := fmt.Sprintf("%s is %s: %s", p.Path, p.Value, p.Reason)
	switch {
	case p.Mend == "":
		return line
	case strings.HasPrefix(p.Mend, "pulumi "):
		return line + "; run: " + p.Mend
	default:
		return line + "; " + p.Mend
	}
}

// Problems is every problem of a configuration, in the order of their paths.
type Problems []Problem

// Error is a heading with the count, then one line for each problem.
func (p Problems) Error() string {
	noun := "problems"
	if len(p) == 1 {
		noun = "problem"
	}
	var text strings.Builder
	fmt.Fprintf(&text, "the stack's configuration has %d %s:", len(p), noun)
	for _, problem := range p {
		text.WriteString("\n  " + problem.String())
	}
	return text.String()
}

var shellPattern = regexp.MustCompile(`^[A-Za-z0-9_./:@%+,=-]+$`)

const (
	secretValue = "a secret value"
	missing     = "missing"
	unknown     = "unknown"
)

// report gathers problems. A tainted path has a value that could not be read: what follows
// from that is no problem of its own, so nothing more is reported there.
type report struct {
	problems Problems
	tainted  map[string]bool
}

func newReport() *report { return &report{tainted: map[string]bool{}} }

func (r *report) taint(path string) { r.tainted[path] = true }

// fail reports a value that could not be read.
func (r *report) fail(p Problem) {
	r.add(p)
	r.taint(p.Path)
}

func (r *report) add(p Problem) {
	for root := range r.tainted {
		if within(p.Path, root) {
			return
		}
	}
	r.problems = append(r.problems, p)
}

// sound says whether rules that read several values may rely on the ones at these paths: they
// could be read, and nothing is wrong with them so far.
func (r *report) sound(paths ...string) bool {
	for _, path := range paths {
		for root := range r.tainted {
			if within(path, root) || within(root, path) {
				return false
			}
		}
		for _, p := range r.problems {
			if within(p.Path, path) {
				return false
			}
		}
	}
	return true
}

// nameStack completes the commands that mend: whichever stack is selected, they act on this one.
func (r *report) nameStack(name string) {
	short := name[strings.LastIndex(name, "/")+1:]
	for i, p := range r.problems {
		p.Mend = strings.ReplaceAll(p.Mend, "STACK=…", "STACK="+short)
		if strings.HasPrefix(p.Mend, "pulumi config ") {
			p.Mend += " --stack " + name
		}
		r.problems[i] = p
	}
}

// err is nil, or Problems in the order of their paths.
func (r *report) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(r.problems, func(a, b Problem) int { return comparePaths(a.Path, b.Path) })
	return r.problems
}

// within says whether path is root or lies below it.
func within(path, root string) bool {
	rest, found := strings.CutPrefix(path, root)
	return found && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// topLevel is the first key of a path.
func topLevel(path string) string {
	if end := strings.IndexAny(path, ".["); end > 0 {
		return path[:end]
	}
	return path
}

// comparePaths orders by characters, but nodes[2] before nodes[10].
func comparePaths(a, b string) int {
	for a != "" && b != "" {
		digitsA, digitsB := leadingDigits(a), leadingDigits(b)
		if digitsA > 0 && digitsB > 0 {
			if order := compareNumbers(a[:digitsA], b[:digitsB]); order != 0 {
				return order
			}
			a, b = a[digitsA:], b[digitsB:]
			continue
		}
		if a[0] != b[0] {
			return cmp.Compare(a[0], b[0])
		}
		a, b = a[1:], b[1:]
	}
	return cmp.Compare(len(a), len(b))
}

func leadingDigits(text string) int {
	return len(text) - len(strings.TrimLeft(text, "0123456789"))
}

func compareNumbers(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

// show renders a value of a key that holds no secret. Text that looks like one all the same,
// because it was put under the wrong key, stays hidden.
func show(tree any) string {
	switch value := tree.(type) {
	case nil:
		return "null"
	case bool:
		return strconv.FormatBool(value)
	case json.Number:
		return shorten(value.String())
	case string:
		return showText(value)
	case []any:
		return "a list"
	default:
		return "an object"
	}
}

func showText(text string) string {
	switch {
	case strings.HasPrefix(text, "xapp-"), strings.HasPrefix(text, "xox"), strings.Contains(text, "PRIVATE KEY"):
		return secretValue
	case strings.Contains(text, "\n"):
		return fmt.Sprintf("a text of %d lines", strings.Count(text, "\n")+1)
	default:
		return strconv.Quote(shorten(text))
	}
}

func shorten(text string) string {
	const limit = 80
	if runes := []rune(text); len(runes) > limit {
		return string(runes[:limit]) + "…"
	}
	return text
}

// setCommand is the command that sets a key. Without a value, Pulumi asks for one.
func setCommand(path string, secret bool, value string) string {
	words := []string{"pulumi config set"}
	if secret {
		words = append(words, "--secret")
	}
	words = append(words, pathWords(path)...)
	if value != "" {
		words = append(words, shellWord(value))
	}
	return strings.Join(words, " ")
}

// shellWord quotes what a shell would not take as it is.
func shellWord(word string) string {
	if shellPattern.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

func removeCommand(path string) string {
	return strings.Join(append([]string{"pulumi config rm"}, pathWords(path)...), " ")
}

// pathWords quotes a path with an index, which some shells would take for a pattern.
func pathWords(path string) []string {
	switch {
	case strings.Contains(path, "["):
		return []string{"--path", shellWord(path)}
	case strings.Contains(path, "."):
		return []string{"--path", path}
	default:
		return []string{path}
	}
}
