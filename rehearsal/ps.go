package rehearsal

import (
	"strconv"
	"strings"
)

// parsePS reads the output of `ps -o pid=,lstart=,command=` in the C locale.
func parsePS(out string) []Process {
	const date = 5 // words of lstart: Mon Nov 23 14:26:11 2026
	var all []Process
	for line := range strings.Lines(out) {
		word, rest := cutWord(line)
		pid, err := strconv.Atoi(word)
		if err != nil {
			continue
		}
		started := make([]string, date)
		for i := range started {
			started[i], rest = cutWord(rest)
		}
		command := strings.TrimSpace(rest)
		if command == "" {
			continue
		}
		all = append(all, Process{PID: pid, Started: strings.Join(started, " "), Command: command})
	}
	return all
}

func cutWord(text string) (word, rest string) {
	word, rest, _ = strings.Cut(strings.TrimLeft(text, " \t"), " ")
	return strings.TrimSpace(word), rest
}
