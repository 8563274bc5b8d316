package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nullify005/manager-cluster-state/internal/report"
)

// figures are those of one fault on one stack.
type figures struct {
	fault, stack                         string
	tries, finished, again, lost, warned int
	recoveries                           []time.Duration
	said                                 []string
}

// count sums results up, in the order in which fault and stack came first.
func count(results []*result) []*figures {
	var all []*figures
	for _, r := range results {
		i := slices.IndexFunc(all, func(f *figures) bool { return f.fault == r.fault && f.stack == r.stack })
		if i < 0 {
			i = len(all)
			all = append(all, &figures{fault: r.fault, stack: r.stack})
		}
		f := all[i]
		f.tries++
		switch {
		case r.lost():
			f.lost++
		case r.failed == "":
			f.finished++
		default:
			f.again++
			f.recoveries = append(f.recoveries, r.recovery)
		}
		if len(r.pending) > 0 {
			f.warned++
		}
		if said := ofAnyMachine(r.failed); said != "" && said != "killed" && !slices.Contains(f.said, said) {
			f.said = append(f.said, said)
		}
	}
	return all
}

// ofAnyMachine leaves out what differs from one machine and one run to the next: where the folder is, ports, and what is
// drawn by lot.
func ofAnyMachine(said string) string {
	for _, one := range []struct{ what, with string }{
		{`/\S*/(\.pulumi/)`, "…/$1"},
		{`\.[0-9a-f]{16}\.tmp\b`, ".….tmp"},
		{`\b127\.0\.0\.1:\d+`, "127.0.0.1:…"},
		{`\?fieldManager=[^"\s]*`, ""},
	} {
		said = regexp.MustCompile(one.what).ReplaceAllString(said, one.with)
	}
	return said
}

// delivery is how a stack's workloads reach the cluster, by the stacks' names.
func delivery(stack string) string {
	return map[string]string{"development": "direct", "production": "flux"}[stack]
}

// table is the figure per fault.
func table(results []*result) string {
	var rows [][]string
	sum := &figures{}
	for _, f := range count(results) {
		took := ""
		if len(f.recoveries) > 0 {
			took = fmt.Sprintf("%.0f s", report.Median(f.recoveries).Seconds())
		}
		rows = append(rows, []string{
			f.fault, delivery(f.stack), strconv.Itoa(f.tries), strconv.Itoa(f.finished), strconv.Itoa(f.again), took,
			strconv.Itoa(f.warned), strconv.Itoa(f.lost),
		})
		sum.tries, sum.finished, sum.again = sum.tries+f.tries, sum.finished+f.finished, sum.again+f.again
		sum.warned, sum.lost = sum.warned+f.warned, sum.lost+f.lost
	}
	rows = append(rows, []string{
		"**all**", "", strconv.Itoa(sum.tries), strconv.Itoa(sum.finished), strconv.Itoa(sum.again), "", strconv.Itoa(sum.warned), strconv.Itoa(sum.lost),
	})
	return report.Table([]string{"fault", "delivery", "tries", "recovered: the same update", "recovered: the next one", "which took", "left a warning", "losses"}, rows)
}

// errorsTable is what people read where the disturbed update failed.
func errorsTable(results []*result) string {
	var rows [][]string
	for _, f := range count(results) {
		for _, said := range f.said {
			rows = append(rows, []string{f.fault, delivery(f.stack), "`" + strings.ReplaceAll(said, "`", "'") + "`"})
		}
	}
	return report.Table([]string{"fault", "delivery", "the disturbed update said"}, rows)
}
