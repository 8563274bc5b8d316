//go:build linux

// Command pi is what makes a set of namespaces a Pi for tests, and stands in there for what can't
// run: systemd with systemctl, journalctl and reboot, swap, and the answers of uname and date. It
// does what the name says that it is called by:
//
//	switch    holds the network namespace of a house until its standard input ends
//	board     holds the disk and the network of a Pi, and boots it when it is told to
//	init      is the first process of a booted Pi, and runs its units
//
// and on the Pi itself systemctl, journalctl, reboot, shutdown, poweroff, systemd-escape,
// dphys-swapfile, swapoff, swapon, uname and date.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// settings are what the harness says of a Pi.
type settings struct {
	Name string `json:"name"`
	// Folder holds disk, with upper and work, hardware, and root.
	Folder string `json:"folder"`
	// Binds are files and folders of this machine by their places on the Pi.
	Binds map[string]string `json:"binds"`
}

const (
	// hardware is where the Pi finds what its processes see of the machine; files is where the
	// stand-ins lie, and the programs that they stand before.
	hardware = "/run/pitest/hardware"
	files    = "/usr/lib/pitest"
)

func main() {
	code, err := run(filepath.Base(os.Args[0]), os.Args[1:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s (a stand-in): %v\n", filepath.Base(os.Args[0]), err)
	}
	os.Exit(code)
}

func run(name string, args []string) (int, error) {
	if name == "pi" && len(args) > 0 {
		name, args = args[0], args[1:]
	}
	switch name {
	case "switch":
		_, _ = io.Copy(io.Discard, os.Stdin)
		return 0, nil
	case "board", "init":
		var told settings
		if err := json.Unmarshal([]byte(args[0]), &told); err != nil {
			return 1, fmt.Errorf("reading the settings: %w", err)
		}
		if name == "board" {
			return board(told, args[0])
		}
		return boot(told)
	case "systemctl":
		return ask(args)
	case "reboot", "poweroff":
		return ask([]string{name})
	case "shutdown":
		if len(args) > 0 && args[0] == "-r" {
			return ask([]string{"reboot"})
		}
		return ask([]string{"poweroff"})
	case "journalctl":
		return journal(args)
	case "systemd-escape":
		return escape(args)
	case "dphys-swapfile", "swapon", "swapoff":
		return swap(name, args)
	case "uname":
		return uname(args)
	case "date":
		return date(args)
	}
	return 1, fmt.Errorf("it knows no %q", name)
}
