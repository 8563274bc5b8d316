package rehearsal

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nullify005/manager-cluster-state/internal/flux"
)

// Report is how a rehearsal stands.
type Report struct {
	Stack     string
	Workloads []WorkloadState
	// Flux is Flux's own view of what it delivers.
	Flux        []flux.State
	Controllers []ControllerState
	Nodes       []NodeState
	// Processes are those of the control plane that run, Missing the names of those that don't.
	Processes  []Process
	Missing    []string
	URLs       []string
	Kubeconfig string
	// Incomplete says that the last update did not finish.
	Incomplete bool
}

// WorkloadState is how one workload does.
type WorkloadState struct {
	Name         string
	Ready, Total int
	Took         time.Duration // from its first object to its last becoming available
	Reasons      []string      // why it is not ready
}

// NodeState is how one simulated machine does.
type NodeState struct {
	Name  string
	Ready bool
}

// OK says whether everything is ready and runs.
func (r *Report) OK() bool {
	return len(r.Missing) == 0 && !r.Incomplete &&
		!slices.ContainsFunc(r.Workloads, func(w WorkloadState) bool { return w.Ready < w.Total || len(w.Reasons) > 0 }) &&
		len(flux.Problems(r.Flux)) == 0 &&
		!slices.ContainsFunc(r.Controllers, func(c ControllerState) bool { return !c.Healthy }) &&
		!slices.ContainsFunc(r.Nodes, func(n NodeState) bool { return !n.Ready })
}

// buildWorkloads joins what the state says was made with what the cluster says of it.
func buildWorkloads(state *stackState, seen []readiness) []WorkloadState {
	byObject := map[objectID]readiness{}
	for _, object := range seen {
		byObject[object.object] = object
	}
	owned := map[objectID]bool{}
	var all []WorkloadState
	for _, w := range state.workloads {
		result := WorkloadState{Name: w.name, Total: len(w.objects)}
		var last time.Time
		for _, id := range w.objects {
			owned[id] = true
			object, found := byObject[id]
			switch {
			case !found:
				result.Reasons = append(result.Reasons, id.String()+" is in Pulumi's state but not in the cluster")
			case !object.ready:
				result.Reasons = append(result.Reasons, id.String()+": "+object.reason)
			default:
				result.Ready++
				if object.since.After(last) {
					last = object.since
				}
			}
		}
		if result.Total > 0 && result.Ready == result.Total {
			// Conditions know whole seconds only.
			result.Took = max(0, last.Sub(w.created.Truncate(time.Second)))
		}
		all = append(all, result)
	}
	for _, object := range seen {
		if !owned[object.object] && !object.ready {
			all = append(all, WorkloadState{
				Name: "(not in Pulumi's state)", Total: 1,
				Reasons: []string{object.object.String() + ": " + object.reason},
			})
		}
	}
	return all
}

// Render writes the report for people.
func (r *Report) Render(out io.Writer) error {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "WORKLOAD\tREADY\tTOOK")
	for _, w := range r.Workloads {
		ready, took := "-", "-"
		if w.Total > 0 {
			ready = fmt.Sprintf("%d/%d", w.Ready, w.Total)
			if w.Ready == w.Total {
				took = w.Took.Round(time.Second).String()
				if w.Took < time.Second {
					took = "<1s"
				}
			}
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", w.Name, ready, took)
	}
	if len(r.Controllers) > 0 {
		fmt.Fprintln(table, "\t\t")
		fmt.Fprintln(table, "CONTROLLER\tHEALTHY\tPROCESS")
		for _, c := range r.Controllers {
			healthy, pid := "yes", "-"
			if !c.Healthy {
				healthy = "no"
			}
			if c.PID > 0 {
				pid = strconv.Itoa(c.PID)
			}
			fmt.Fprintf(table, "%s\t%s\t%s\n", c.Name, healthy, pid)
		}
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("writing the table: %w", err)
	}
	lines := []string{trimLines(text.String())}
	if len(r.Flux) > 0 {
		lines = append(lines, flux.Table(r.Flux))
	}
	if problems := r.problems(); len(problems) > 0 {
		lines = append(lines, "Not ready:\n  "+strings.Join(problems, "\n  ")+"\n")
	}
	if len(r.URLs) > 0 {
		lines = append(lines, "URLs of the real cluster:\n  "+strings.Join(r.URLs, "\n  ")+"\n")
	}
	lines = append(lines, "export KUBECONFIG="+shellQuote(r.Kubeconfig)+"\n")
	_, err := io.WriteString(out, strings.Join(lines, "\n"))
	return err
}

func (r *Report) problems() []string {
	var problems []string
	if r.Incomplete {
		problems = append(problems, "the last pulumi up did not finish: once mended, run mcs rehearse up --stack "+r.Stack)
	}
	for _, name := range r.Missing {
		problems = append(problems, name+" does not run")
	}
	for _, node := range r.Nodes {
		if !node.Ready {
			problems = append(problems, "node "+node.Name+" is not ready")
		}
	}
	for _, w := range r.Workloads {
		for _, reason := range w.Reasons {
			problems = append(problems, w.Name+": "+reason)
		}
	}
	problems = append(problems, flux.Problems(r.Flux)...)
	for _, c := range r.Controllers {
		if !c.Healthy {
			problems = append(problems, c.Name+" "+strings.ReplaceAll(c.Problem, "\n", "\n    "))
		}
	}
	return problems
}

func trimLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " ")
	}
	return strings.Join(lines, "\n")
}

func shellQuote(text string) string {
	const safe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@%"
	if strings.Trim(text, safe) == "" {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
