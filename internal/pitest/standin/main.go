// Command standin is what a Pi of the tests runs in place of what can't be had there. By the name
// that it is called by it stands in for systemd, with systemctl and reboot, and for k3s. It plays
// no kubelet and no control plane: its server forwards to one that the test runs.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// release is that of k3s that the stand-in plays; the build sets it.
var release = "v1.35.0+k3s1"

func main() {
	code, err := run(filepath.Base(os.Args[0]), os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, filepath.Base(os.Args[0])+", a stand-in:", err)
	}
	os.Exit(code)
}

func run(name string, args []string) (int, error) {
	switch name {
	case "init":
		return boot()
	case "systemctl":
		return ask(args)
	case "reboot":
		return ask([]string{"reboot"})
	case "k3s":
		return failed(k3s(args))
	case "kubectl":
		return failed(kubectl(args))
	}
	return 1, fmt.Errorf("it knows no %s", name)
}

func failed(err error) (int, error) {
	if err != nil {
		return 1, err
	}
	return 0, nil
}
