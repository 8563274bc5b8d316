//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// behind runs the program that a stand-in stands before.
func behind(name string, args []string) ([]byte, int, error) {
	cmd := exec.Command(filepath.Join(files, name), args...) //nolint:noctx,gosec // it ends by itself
	cmd.Stdin, cmd.Stderr = os.Stdin, os.Stderr
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return out, exit.ExitCode(), nil
	}
	return out, 0, err
}

// uname says that the machine is a Pi's.
func uname(args []string) (int, error) {
	machine, readErr := os.ReadFile(hardware + "/machine")
	out, code, err := behind("uname", args)
	own, _, ownErr := behind("uname", []string{"-m"})
	if err := errors.Join(readErr, ownErr); err != nil {
		return 1, err
	}
	fmt.Fprint(os.Stdout, strings.ReplaceAll(string(out), strings.TrimSpace(string(own)), strings.TrimSpace(string(machine))))
	return code, err
}

// date is that of the Pi's clock, which may be wrong.
func date(args []string) (int, error) {
	given := func(arg string) bool {
		return strings.HasPrefix(arg, "-d") || strings.HasPrefix(arg, "--date") || strings.HasPrefix(arg, "-r") || strings.HasPrefix(arg, "--reference")
	}
	content, _ := os.ReadFile(hardware + "/clock")
	wrong, _ := time.ParseDuration(strings.TrimSpace(string(content)))
	if wrong != 0 && !slices.ContainsFunc(args, given) {
		args = append([]string{"--date=@" + strconv.FormatInt(time.Now().Add(wrong).Unix(), 10)}, args...)
	}
	out, code, err := behind("date", args)
	fmt.Fprint(os.Stdout, string(out))
	return code, err
}

// journal prints what a unit has said.
func journal(args []string) (int, error) {
	for i, arg := range args {
		name, joined := strings.CutPrefix(arg, "--unit=")
		if !joined && (arg == "-u" || arg == "--unit" || arg == "-xeu" || arg == "-eu") && i+1 < len(args) {
			name, joined = args[i+1], true
		}
		if !joined {
			continue
		}
		content, err := os.ReadFile("/run/log/" + serviceName(name) + ".log")
		if errors.Is(err, os.ErrNotExist) {
			fmt.Fprintln(os.Stdout, "-- No entries --")
			return 0, nil
		}
		fmt.Fprint(os.Stdout, string(content))
		return 0, err
	}
	return 1, errors.New("the stand-in of journalctl wants a unit")
}

// escape is the one form that is used: --path --suffix=swap /dev/zram0.
func escape(args []string) (int, error) {
	var suffix, path string
	for _, arg := range args {
		if value, found := strings.CutPrefix(arg, "--suffix="); found {
			suffix = "." + value
		} else if !strings.HasPrefix(arg, "-") {
			path = arg
		}
	}
	text := strings.Trim(path, "/")
	text = strings.NewReplacer("/", "-", "-", `\x2d`).Replace(text)
	fmt.Fprintln(os.Stdout, text+suffix)
	return 0, nil
}

const (
	swaps      = "/proc/swaps"
	swapHeader = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
)

func swap(name string, args []string) (int, error) {
	if len(args) == 0 {
		return 1, errors.New("it wants an argument")
	}
	var err error
	switch {
	case name == "dphys-swapfile":
		switch args[0] {
		case "swapon", "setup":
			err = changeSwap("/var/swap", true)
		case "swapoff", "uninstall":
			err = changeSwap("/var/swap", false)
		default:
			err = fmt.Errorf("it knows no %s", args[0])
		}
	case args[0] == "-a" || args[0] == "--all":
		if name == "swapoff" {
			err = os.WriteFile(swaps, []byte(swapHeader), 0o600)
		}
	default:
		err = changeSwap(args[0], name == "swapon")
	}
	if err != nil {
		return 1, err
	}
	return 0, nil
}

func startSwap(name, device string) error {
	if isMasked(name) {
		return fmt.Errorf("Failed to start %s: Unit %s is masked.", name, name) //nolint:staticcheck // systemd's words
	}
	return changeSwap(device, true)
}

// changeSwap takes a path, or the name of a unit for it.
func changeSwap(device string, on bool) error {
	if !strings.HasPrefix(device, "/") {
		device = "/" + strings.NewReplacer("-", "/", `\x2d`, "-").Replace(device)
	}
	content, err := os.ReadFile(swaps)
	if err != nil {
		return fmt.Errorf("reading %s: %w", swaps, err)
	}
	var text strings.Builder
	found := false
	for line := range strings.Lines(string(content)) {
		is := strings.HasPrefix(line, device+" ") || strings.HasPrefix(line, device+"\t")
		found = found || is
		if !is || on {
			text.WriteString(line)
		}
	}
	if on && !found {
		kind := "file"
		if strings.HasPrefix(device, "/dev/") {
			kind = "partition"
		}
		fmt.Fprintf(&text, "%-40s%s\t\t102396\t\t0\t\t-2\n", device, kind)
	}
	if !on && !found {
		return fmt.Errorf("%s: Invalid argument", device)
	}
	// It is a mount: it can't be another file.
	return os.WriteFile(swaps, []byte(text.String()), 0o600)
}
