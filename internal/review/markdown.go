package review

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/nullify005/manager-cluster-state/internal/report"
)

// Marker is the first line of the text, by which the comment that has it is found again.
const Marker = "<!-- rendered-manifests -->"

// most is how many workloads a text of limited size lists.
const most = 100

// markdown writes the changes, in no more bytes than limit where that isn't 0. What is left out
// is told, with the command that shows it.
func markdown(changes []change, base string, limit int) (string, error) {
	var out strings.Builder
	out.WriteString(Marker + "\n### Rendered manifests\n\n")
	if len(changes) == 0 {
		fmt.Fprintf(&out, "What Flux delivers is the same as at `%s`, in every stack.\n", base)
	}
	shown := changes
	if limit != 0 {
		shown = changes[:min(len(changes), most)]
	}
	if len(shown) > 0 {
		fmt.Fprintf(&out, "What Flux delivers, against `%s`:\n\n%s\n", base, table(shown))
	}
	whole := "`make manifests-diff BASE=" + base + "` shows it whole."
	if left := len(changes) - len(shown); left > 0 {
		fmt.Fprintf(&out, "%d more workloads differ. %s\n\n", left, whole)
	}
	const note = "\nPulumi makes the cluster, its keys and Flux itself; they are in its preview, not here.\n"

	rooms := room(shown, limit-out.Len()-len(note), whole)
	for i, c := range shown {
		diff := c.diff
		if limit != 0 {
			diff = cut(diff, rooms[i])
		}
		out.WriteString(section(c, diff, whole))
	}
	out.WriteString(note)
	if limit != 0 && out.Len() > limit {
		return "", fmt.Errorf("%d bytes are not enough to tell that %d workloads differ", limit, len(changes))
	}
	return out.String(), nil
}

func table(changes []change) string {
	rows := make([][]string, len(changes))
	for i, c := range changes {
		rows[i] = []string{c.stack, c.workload, c.counts()}
	}
	return report.Table([]string{"stack", "workload", "objects"}, rows)
}

// counts says how many objects differ, and how.
func (c *change) counts() string {
	var parts []string
	for _, part := range []struct {
		count int
		word  string
	}{{c.added, "added"}, {c.changed, "changed"}, {c.removed, "removed"}} {
		if part.count > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", part.count, part.word))
		}
	}
	text := strings.Join(parts, ", ")
	switch {
	case c.fresh:
		return "new workload: " + text
	case c.gone:
		return "workload is gone: " + text
	}
	return text
}

// section is a workload's part of the text, with its diff or the lines that there is room for.
func section(c change, diff, whole string) string {
	fence := fenceFor(c.diff)
	text := fmt.Sprintf("<details><summary>%s / %s: %s</summary>\n\n%sdiff\n%s%s\n", c.stack, c.workload, c.counts(), fence, diff, fence)
	if left := strings.Count(c.diff, "\n") - strings.Count(diff, "\n"); left > 0 {
		text += fmt.Sprintf("\n%d more lines. %s\n", left, whole)
	}
	return text + "</details>\n"
}

var backticks = regexp.MustCompile("`{3,}")

// fenceFor is a fence that nothing in the text ends.
func fenceFor(text string) string {
	longest := 2
	for _, run := range backticks.FindAllString(text, -1) {
		longest = max(longest, len(run))
	}
	return strings.Repeat("`", longest+1)
}

// room gives each change's diff its part of so many bytes: the short ones all they need, the long
// ones the same each.
func room(changes []change, left int, whole string) []int {
	order := make([]int, len(changes))
	for i, c := range changes {
		order[i] = i
		// All but the diff itself, and the longest that its number of lines left can be.
		left -= len(section(c, "", whole))
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(len(changes[a].diff), len(changes[b].diff)) })
	rooms := make([]int, len(changes))
	for done, i := range order {
		rooms[i] = min(len(changes[i].diff), max(0, left/(len(order)-done)))
		left -= rooms[i]
	}
	return rooms
}

// cut is the whole lines at the beginning of a text that so many bytes have room for.
func cut(text string, room int) string {
	if len(text) <= room {
		return text
	}
	return text[:strings.LastIndexByte(text[:room], '\n')+1]
}
