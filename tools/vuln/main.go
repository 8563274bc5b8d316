// Command vuln runs govulncheck and leaves out what excused.yaml excuses by name: each with a reason
// and a day on which that is looked at again. An excuse that has ended, or that excuses nothing any
// more, fails as a vulnerability does. Run it with make vuln.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

var (
	// errFound is that something is wrong, which has been told.
	errFound = errors.New("not clean")
	// errNoDatabase is that nobody could be asked.
	errNoDatabase = errors.New("the vulnerability database is not reached from here")
)

func main() {
	err := run(context.Background(), "tools/vuln/excused.yaml", "https://vuln.go.dev", []string{"./..."}, time.Now(), os.Stdout)
	switch {
	case errors.Is(err, errNoDatabase) && os.Getenv("GITHUB_ACTIONS") == "": // whoever lets a change in wants to know
		fmt.Fprintln(os.Stdout, "govulncheck skipped:", err)
	case errors.Is(err, errFound):
		os.Exit(1)
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, excused, database string, packages []string, now time.Time, out io.Writer) error {
	excuses, err := readExcuses(excused)
	if err != nil {
		return err
	}
	found, err := govulncheck(ctx, database, packages)
	if errors.Is(err, errNoDatabase) {
		// Whether an excuse has ended, the calendar says.
		if ended := judge(excuses, nil, now, false); len(ended) > 0 {
			return tell(out, ended)
		}
		return err
	}
	if err != nil {
		return err
	}
	if wrong := judge(excuses, found, now, true); len(wrong) > 0 {
		return tell(out, wrong)
	}
	for _, e := range excuses {
		fmt.Fprintf(out, "%s is excused until %s: %s\n", e.ID, e.Until, e.Reason)
	}
	return nil
}

func tell(out io.Writer, wrong []string) error {
	for _, line := range wrong {
		fmt.Fprintln(out, line)
	}
	return errFound
}

// excuse is one entry of the file.
type excuse struct {
	// ID of the vulnerability: GO-2024-2687.
	ID string `json:"id"`
	// Reason why it does no harm here, or why nothing can be done yet.
	Reason string `json:"reason"`
	// Until is the last day on which that holds: 2027-01-31.
	Until string `json:"until"`
}

func readExcuses(path string) ([]excuse, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the excuses: %w", err)
	}
	var excuses []excuse
	if err := yaml.UnmarshalStrict(data, &excuses); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	seen := map[string]bool{}
	for _, e := range excuses {
		_, err := time.Parse(time.DateOnly, e.Until)
		if e.ID == "" || strings.TrimSpace(e.Reason) == "" || err != nil || seen[e.ID] {
			return nil, fmt.Errorf("reading %s: entry %q needs an id of its own, a reason, and a day in until, as 2027-01-31", path, e.ID)
		}
		seen[e.ID] = true
	}
	return excuses, nil
}

// judge says in a line each what is wrong. Whether an excuse is for anything is known only after a
// look.
func judge(excuses []excuse, found map[string]finding, now time.Time, looked bool) []string {
	var wrong []string
	left := maps.Clone(found)
	for _, e := range excuses {
		_, matches := found[e.ID]
		delete(left, e.ID)
		until, _ := time.Parse(time.DateOnly, e.Until) // readExcuses has tried it
		switch {
		case !now.Before(until.AddDate(0, 0, 1)):
			wrong = append(wrong, fmt.Sprintf("%s was excused until %s (%s): mend it, or say until when it is excused now", e.ID, e.Until, e.Reason))
		case looked && !matches:
			wrong = append(wrong, e.ID+" is excused, and nothing calls it any more: take the excuse away")
		}
	}
	for _, id := range slices.Sorted(maps.Keys(left)) {
		wrong = append(wrong, fmt.Sprintf("%s: %s\n  https://pkg.go.dev/vuln/%s\n  %s", id, left[id].summary, id, left[id].call))
	}
	return wrong
}

// finding is a vulnerability that the code calls.
type finding struct{ summary, call string }

// message is what of govulncheck's stream is read here; golang.org/x/vuln/internal/govulncheck
// describes all of it.
type message struct {
	OSV *struct {
		ID      string `json:"id"`
		Summary string `json:"summary"`
	} `json:"osv"`
	Finding *struct {
		OSV          string  `json:"osv"`
		FixedVersion string  `json:"fixed_version"`
		Trace        []frame `json:"trace"`
	} `json:"finding"`
}

type frame struct {
	Module   string `json:"module"`
	Version  string `json:"version"`
	Package  string `json:"package"`
	Function string `json:"function"`
	Receiver string `json:"receiver"`
	Position *struct {
		Filename string `json:"filename"`
		Line     int    `json:"line"`
	} `json:"position"`
}

func govulncheck(ctx context.Context, database string, packages []string) (map[string]finding, error) {
	cmd := exec.CommandContext(ctx, "govulncheck", append([]string{"-format", "json", "-db", database}, packages...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if strings.Contains(stderr.String(), "fetching vulnerabilities") {
			return nil, fmt.Errorf("%w: %s", errNoDatabase, strings.TrimSpace(stderr.String()))
		}
		return nil, fmt.Errorf("running govulncheck: %w\n%s", err, stderr.String())
	}
	return parse(&stdout)
}

// parse keeps what is called: a finding that names a function. The others are of modules and
// packages that have something vulnerable in them which nothing here reaches.
func parse(stream io.Reader) (map[string]finding, error) {
	summaries, found := map[string]string{}, map[string]finding{}
	for decoder := json.NewDecoder(stream); ; {
		var m message
		err := decoder.Decode(&m)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("reading what govulncheck says: %w", err)
		}
		if m.OSV != nil {
			summaries[m.OSV.ID] = m.OSV.Summary
		}
		if f := m.Finding; f != nil && len(f.Trace) > 0 && f.Trace[0].Function != "" {
			if _, known := found[f.OSV]; !known {
				found[f.OSV] = finding{call: describe(f.Trace, f.FixedVersion)}
			}
		}
	}
	for id, f := range found {
		f.summary = summaries[id]
		found[id] = f
	}
	return found, nil
}

// describe says who calls what, and which version mends it.
func describe(trace []frame, fixed string) string {
	called, caller := trace[0], trace[len(trace)-1]
	text := caller.name()
	if caller.Position != nil {
		text = fmt.Sprintf("%s:%d: %s", caller.Position.Filename, caller.Position.Line, text)
	}
	text += " calls " + called.name() + " of " + called.Module + " " + called.Version
	if fixed == "" {
		return text + "; no version mends it yet"
	}
	return text + "; mended in " + fixed
}

func (f frame) name() string {
	if f.Receiver != "" {
		return f.Package + "." + strings.TrimPrefix(f.Receiver, "*") + "." + f.Function
	}
	return f.Package + "." + f.Function
}
