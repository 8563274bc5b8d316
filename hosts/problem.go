package hosts

import (
	"fmt"
	"strings"
)

// Problem is one thing that is wrong with a host, or with the way there.
type Problem struct {
	// Host is its name and address.
	Host string
	// What is wrong, and what mends it.
	What, Mend string

	cause error
}

// Unwrap is what a caller may decide on, if there is such.
func (p Problem) Unwrap() error { return p.cause }

// Error is the problem in one line.
func (p Problem) Error() string {
	line := p.Host + ": " + p.What
	if p.Mend != "" {
		line += "; " + p.Mend
	}
	return line
}

// Problems are all of all hosts, in the order of the stack file.
type Problems []Problem

// Error is a heading with the count, then one line for each problem.
func (p Problems) Error() string {
	noun := "problems"
	if len(p) == 1 {
		noun = "problem"
	}
	var text strings.Builder
	fmt.Fprintf(&text, "the machines of the cluster have %d %s:", len(p), noun)
	for _, problem := range p {
		text.WriteString("\n  " + problem.Error())
	}
	return text.String()
}

// Unwrap are all of them.
func (p Problems) Unwrap() []error {
	errs := make([]error, len(p))
	for i, problem := range p {
		errs[i] = problem
	}
	return errs
}

// problemf is one of this host.
func (h *Host) problemf(mend, what string, values ...any) Problem {
	return Problem{Host: h.String(), What: fmt.Sprintf(what, values...), Mend: mend}
}

// quote shows what a machine said: one line, not all of a long one, and nothing that moves a cursor.
func quote(text string) string {
	const limit = 160
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > limit {
		text = string(runes[:limit]) + "…"
	}
	return fmt.Sprintf("%q", text)
}
