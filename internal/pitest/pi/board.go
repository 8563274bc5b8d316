//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// What init ends with, and the board tells the harness.
const (
	ended     = 40 // the power is off
	rebooting = 41
)

// board mounts the Pi's disk, and boots and stops the Pi as the lines of its standard input say.
// When those end, all of the Pi goes.
func board(told settings, text string) (int, error) {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return 1, fmt.Errorf("taking the mounts out of this machine's: %w", err)
	}
	if err := mountDisk(told); err != nil {
		return 1, err
	}
	fmt.Fprintln(os.Stdout, "ready")
	orders := make(chan string)
	go func() {
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			orders <- lines.Text()
		}
		close(orders)
	}()
	var running *exec.Cmd
	done := make(chan int, 1)
	for {
		select {
		case order, more := <-orders:
			switch {
			case !more:
				stop(running, done)
				return 0, nil
			case order == "boot" && running == nil:
				var err error
				if running, err = start(told, text, done); err != nil {
					return 1, err
				}
			case order == "cut":
				stop(running, done)
				running = nil
				fmt.Fprintln(os.Stdout, "down", ended)
			}
		case code := <-done:
			running = nil
			if err := syscall.Unmount(filepath.Join(told.Folder, "root"), syscall.MNT_DETACH); err != nil {
				return 1, fmt.Errorf("unmounting the root: %w", err)
			}
			fmt.Fprintln(os.Stdout, "down", code)
		}
	}
}

func stop(running *exec.Cmd, done <-chan int) {
	if running != nil {
		_ = running.Process.Kill()
		<-done
	}
}

// mountDisk is for the harness to fill before the first boot.
func mountDisk(told settings) error {
	size, err := os.ReadFile(filepath.Join(told.Folder, "size"))
	if err != nil {
		return fmt.Errorf("asking for the disk's size: %w", err)
	}
	for name, options := range map[string]string{"disk": "mode=755,size=" + strings.TrimSpace(string(size)), "hardware": "mode=755,size=16m"} {
		folder := filepath.Join(told.Folder, name)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return fmt.Errorf("making a folder for the %s: %w", name, err)
		}
		if err := syscall.Mount("pitest", folder, "tmpfs", 0, options); err != nil {
			return fmt.Errorf("mounting the %s: %w", name, err)
		}
	}
	for _, folder := range []string{"disk/upper", "disk/work", "hardware/log"} {
		if err := os.MkdirAll(filepath.Join(told.Folder, folder), 0o755); err != nil {
			return fmt.Errorf("making %s: %w", folder, err)
		}
	}
	return os.MkdirAll(filepath.Join(told.Folder, "root"), 0o755)
}

func start(told settings, text string, done chan<- int) (*exec.Cmd, error) {
	disk, root := filepath.Join(told.Folder, "disk"), filepath.Join(told.Folder, "root")
	options := fmt.Sprintf("lowerdir=/,upperdir=%s/upper,workdir=%s/work", disk, disk)
	if err := syscall.Mount("pitest", root, "overlay", 0, options); err != nil {
		return nil, fmt.Errorf("mounting the root: %w", err)
	}
	cmd := exec.Command("/proc/self/exe", "init", text) //nolint:noctx,gosec // its own settings, until it is stopped
	cmd.Args[0] = "pi"
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
	}
	// Should the board be killed, init sees the end of this.
	held, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("starting init: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting init: %w", err)
	}
	fmt.Fprintln(os.Stdout, "booting", cmd.Process.Pid)
	go func() {
		err := cmd.Wait()
		_ = held.Close()
		code := 0
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			code = exit.ExitCode()
		}
		done <- code
	}()
	return cmd, nil
}
