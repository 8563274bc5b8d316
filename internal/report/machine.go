package report

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// Machine describes what a measurement ran on, in a line: cores, processor, memory, operating
// system and Go. What the system doesn't tell is left out.
func Machine() string {
	parts := []string{cores(runtime.NumCPU(), field("/proc/cpuinfo", "model name"))}
	if kib, _, ok := strings.Cut(field("/proc/meminfo", "MemTotal"), " "); ok {
		if size, err := strconv.Atoi(kib); err == nil {
			parts = append(parts, fmt.Sprintf("%.0f GiB", float64(size)/(1<<20)))
		}
	}
	system := runtime.GOOS + "/" + runtime.GOARCH
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		system += " " + strings.TrimSpace(string(release))
	}
	return strings.Join(append(parts, system, runtime.Version()), ", ")
}

func cores(count int, model string) string {
	if model == "" {
		return fmt.Sprintf("%d cores", count)
	}
	return fmt.Sprintf("%d cores of %s", count, model)
}

// field is the value of the first line "name : value" of a file, or nothing.
func field(path, name string) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
