// Package report writes what was made or measured into documents that people read: the part
// of a Markdown file between two comments of its name, tables, and the machine it ran on.
package report

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// Replace puts text in place of what a Markdown document has between the lines <!-- part -->
// and <!-- /part -->, and leaves everything else as it is.
func Replace(document, part, text string) (string, error) {
	start, end := "<!-- "+part+" -->\n", "<!-- /"+part+" -->"
	before, rest, ok := strings.Cut(document, start)
	if !ok {
		return "", fmt.Errorf("the document has no line %s", strings.TrimSpace(start))
	}
	_, after, ok := strings.Cut(rest, end)
	if !ok {
		return "", fmt.Errorf("the document has no line %s after %s", end, strings.TrimSpace(start))
	}
	return before + start + strings.TrimRight(text, "\n") + "\n" + end + after, nil
}

// ReplaceInFile does that to a file, in one go.
func ReplaceInFile(path, part, text string) error {
	document, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading the document: %w", err)
	}
	changed, err := Replace(string(document), part, text)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	beside := path + ".new"
	if err := os.WriteFile(beside, []byte(changed), 0o644); err != nil { //nolint:gosec // a document is for everyone
		return fmt.Errorf("writing the document: %w", err)
	}
	if err := os.Rename(beside, path); err != nil {
		return fmt.Errorf("writing the document: %w", err)
	}
	return nil
}

// Table is a table in Markdown. A cell's bars and line breaks are escaped; a row that is short
// is filled up.
func Table(header []string, rows [][]string) string {
	var out strings.Builder
	line := func(cells []string) {
		for i := range header {
			cell := ""
			if i < len(cells) {
				cell = cells[i]
			}
			out.WriteString("| " + strings.NewReplacer("|", `\|`, "\n", " ").Replace(cell) + " ")
		}
		out.WriteString("|\n")
	}
	line(header)
	line(slices.Repeat([]string{"---"}, len(header)))
	for _, row := range rows {
		line(row)
	}
	return out.String()
}

// Median is the middle of the values, or the mean of the two in the middle; 0 of none.
func Median[T ~int64 | ~float64](values []T) T {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}
