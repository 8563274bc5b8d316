package flux

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"
)

// Table shows how objects stand, a line each. A long message is cut; Problems has it in full.
func Table(states []State) string {
	const widest = 100
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "FLUX\tNAME\tREADY\tREVISION\tAGE\tMESSAGE")
	for _, s := range states {
		message := []rune(strings.Join(strings.Fields(s.Message), " "))
		if len(message) > widest {
			message = append(message[:widest-1], '…')
		}
		fmt.Fprintf(table, "%s\t%s/%s\t%s\t%s\t%s\t%s\n", s.Kind, s.Namespace, s.Name, s.Ready,
			orDash(s.ShortRevision()), duration.HumanDuration(time.Since(s.Since)), orDash(string(message)))
	}
	_ = table.Flush() // a strings.Builder takes everything
	return text.String()
}

// Problems says of each object that isn't as it should be what Flux says, in full.
func Problems(states []State) []string {
	var problems []string
	for _, s := range states {
		if !s.OK() {
			problems = append(problems, s.String()+" ("+strings.ToLower(string(s.Ready))+"): "+strings.ReplaceAll(s.Message, "\n", "\n    "))
		}
	}
	return problems
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
