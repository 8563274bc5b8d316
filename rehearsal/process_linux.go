package rehearsal

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// listProcesses reads /proc: no ps is needed, which small images lack.
func listProcesses(context.Context) ([]Process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("reading /proc: %w", err)
	}
	var all []Process
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		folder := filepath.Join("/proc", entry.Name())
		// A process may end between one read and the next; a zombie has no command line.
		command, err := os.ReadFile(filepath.Join(folder, "cmdline"))
		if err != nil || len(command) == 0 {
			continue
		}
		stat, err := os.ReadFile(filepath.Join(folder, "stat"))
		if err != nil {
			continue
		}
		started, ok := startTime(string(stat))
		if !ok {
			continue
		}
		text := string(bytes.ReplaceAll(bytes.TrimRight(command, "\x00"), []byte{0}, []byte{' '}))
		all = append(all, Process{PID: pid, Started: started, Command: text})
	}
	return all, nil
}

// startTime is the 22nd field of /proc/PID/stat, in clock ticks since the machine started.
// The second field is a name in parentheses that may itself hold spaces and parentheses.
func startTime(stat string) (string, bool) {
	const field = 22 - 3 // counted from the one after the name
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) <= field {
		return "", false
	}
	return fields[field], true
}

// peakMemory is the most that a process ever had in memory, in bytes.
func peakMemory(pid int) (int64, bool) {
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, false
	}
	return peakIn(string(status))
}

// peakIn is the field VmHWM of /proc/PID/status, which is in kB.
func peakIn(status string) (int64, bool) {
	for line := range strings.Lines(status) {
		if text, found := strings.CutPrefix(line, "VmHWM:"); found {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(text), "kB")), 10, 64)
			return kib << 10, err == nil
		}
	}
	return 0, false
}
