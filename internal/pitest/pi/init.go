//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// boot makes the view of the machine that a Pi has, starts its enabled units, and does what
// systemctl asks until the Pi is rebooted or put out.
func boot(told settings) (int, error) {
	if err := enter(told); err != nil {
		return 1, err
	}
	s := &system{units: map[string]*unit{}, end: make(chan int, 1)}
	if err := s.listen(); err != nil {
		return 1, err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(ended)
	}()
	go s.reap()
	s.startEnabled()
	fmt.Fprintln(os.Stdout, "up")
	code := <-s.end
	s.stopAll()
	// What runs is asked to end; what then still does ends with this process.
	_ = syscall.Kill(-1, syscall.SIGTERM)
	waitUntil(2*time.Second, func() bool { return len(processes()) <= 1 })
	return code, nil
}

// waitUntil looks again and again, and at last not any more.
func waitUntil(bound time.Duration, done func() bool) {
	for deadline := time.Now().Add(bound); !done() && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
}

// enter mounts what is not on the disk, and makes the disk the root.
func enter(told settings) error {
	root := filepath.Join(told.Folder, "root")
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("taking the mounts out of the board's: %w", err)
	}
	mounts := []struct{ kind, at, options string }{
		{"proc", "/proc", ""},
		{"sysfs", "/sys", ""},
		{"tmpfs", "/sys/fs/cgroup", "mode=755"},
		{"tmpfs", "/dev", "mode=755"},
		{"tmpfs", "/run", "mode=755"},
		{"tmpfs", "/tmp", "mode=1777"},
	}
	for _, one := range mounts {
		if err := syscall.Mount(one.kind, root+one.at, one.kind, 0, one.options); err != nil {
			return fmt.Errorf("mounting %s: %w", one.at, err)
		}
	}
	if err := devices(root + "/dev"); err != nil {
		return err
	}
	binds := map[string]string{
		hardware:   filepath.Join(told.Folder, "hardware"),
		"/run/log": filepath.Join(told.Folder, "hardware", "log"),
	}
	for _, name := range []string{"meminfo", "cmdline", "cpuinfo", "swaps", "cgroups", "sys/kernel/random/boot_id"} {
		binds["/proc/"+name] = filepath.Join(told.Folder, "hardware", filepath.Base(name))
	}
	binds["/sys/fs/cgroup/cgroup.controllers"] = filepath.Join(told.Folder, "hardware", "controllers")
	maps.Copy(binds, told.Binds)
	for at, from := range binds {
		if err := bind(from, root+at); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(root+"/run/sshd", 0o755); err != nil {
		return fmt.Errorf("making sshd's folder: %w", err)
	}
	if err := syscall.Sethostname([]byte(told.Name)); err != nil {
		return fmt.Errorf("naming the machine: %w", err)
	}
	if err := syscall.Chroot(root); err != nil {
		return fmt.Errorf("entering the root: %w", err)
	}
	return os.Chdir("/")
}

func bind(from, at string) error {
	info, err := os.Stat(from)
	if err != nil {
		return fmt.Errorf("mounting: %w", err)
	}
	if _, err := os.Lstat(at); errors.Is(err, os.ErrNotExist) {
		if info.IsDir() {
			err = os.MkdirAll(at, 0o755)
		} else if err = os.MkdirAll(filepath.Dir(at), 0o755); err == nil {
			err = os.WriteFile(at, nil, 0o600)
		}
		if err != nil {
			return fmt.Errorf("making %s: %w", at, err)
		}
	}
	if err := syscall.Mount(from, at, "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting %s: %w", at, err)
	}
	return nil
}

func devices(folder string) error {
	for name, number := range map[string]int{"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9} {
		path := filepath.Join(folder, name)
		if err := syscall.Mknod(path, syscall.S_IFCHR|0o666, 1<<8|number); err != nil {
			return fmt.Errorf("making %s: %w", path, err)
		}
		if err := os.Chmod(path, 0o666); err != nil { //nolint:gosec // as everywhere
			return fmt.Errorf("making %s: %w", path, err)
		}
	}
	for _, name := range []string{"pts", "shm"} {
		if err := os.Mkdir(filepath.Join(folder, name), 0o755); err != nil {
			return fmt.Errorf("making /dev/%s: %w", name, err)
		}
	}
	if err := syscall.Mount("devpts", filepath.Join(folder, "pts"), "devpts", 0, "newinstance,ptmxmode=0666,mode=620"); err != nil {
		return fmt.Errorf("mounting /dev/pts: %w", err)
	}
	if err := syscall.Mount("tmpfs", filepath.Join(folder, "shm"), "tmpfs", 0, "mode=1777"); err != nil {
		return fmt.Errorf("mounting /dev/shm: %w", err)
	}
	for name, target := range map[string]string{
		"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2",
	} {
		if err := os.Symlink(target, filepath.Join(folder, name)); err != nil {
			return fmt.Errorf("making /dev/%s: %w", name, err)
		}
	}
	return nil
}

// processes are those of the Pi, init among them.
func processes() []int {
	entries, _ := os.ReadDir("/proc")
	var found []int
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil {
			found = append(found, pid)
		}
	}
	return found
}

// reap ends the zombies whose parent is gone; those of units are waited for by whoever started
// them.
func (s *system) reap() {
	for range time.Tick(100 * time.Millisecond) {
		for _, pid := range processes() {
			stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
			if err != nil {
				continue
			}
			after := string(stat[bytes.LastIndexByte(stat, ')')+1:])
			fields := strings.Fields(after)
			if len(fields) > 1 && fields[0] == "Z" && fields[1] == "1" && !s.owns(pid) {
				_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
			}
		}
	}
}

// system is init's view of the units.
type system struct {
	mutex sync.Mutex
	units map[string]*unit
	// own are processes that init has started and waits for itself.
	own sync.Map
	end chan int
}

func (s *system) owns(pid int) bool {
	_, found := s.own.Load(pid)
	return found
}

const control = "/run/pitest/systemctl"

// reply is init's to systemctl.
type reply struct {
	Code int    `json:"code"`
	Text string `json:"text"`
}

func (s *system) listen() error {
	var config net.ListenConfig
	listener, err := config.Listen(noContext(), "unix", control)
	if err != nil {
		return fmt.Errorf("listening for systemctl: %w", err)
	}
	if err := os.Chmod(control, 0o666); err != nil { //nolint:gosec // anybody may ask how a unit is
		return fmt.Errorf("listening for systemctl: %w", err)
	}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go s.answer(connection.(*net.UnixConn)) //nolint:forcetypeassert // of a listener of those
		}
	}()
	return nil
}

func (s *system) answer(connection *net.UnixConn) {
	defer connection.Close()
	var args []string
	if json.NewDecoder(connection).Decode(&args) != nil {
		return
	}
	said := s.do(args, isRoot(connection))
	if err := json.NewEncoder(connection).Encode(said); err != nil {
		fmt.Fprintln(os.Stderr, "answering systemctl:", err)
	}
}

func isRoot(connection *net.UnixConn) bool {
	raw, err := connection.SyscallConn()
	if err != nil {
		return false
	}
	root := false
	_ = raw.Control(func(descriptor uintptr) {
		credentials, err := syscall.GetsockoptUcred(int(descriptor), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
		root = err == nil && credentials.Uid == 0
	})
	return root
}

// ask is systemctl: init does it.
func ask(args []string) (int, error) {
	connection, err := new(net.Dialer).DialContext(noContext(), "unix", control)
	if err != nil {
		return 1, fmt.Errorf("asking init: %w", err)
	}
	defer connection.Close()
	if err := json.NewEncoder(connection).Encode(args); err != nil {
		return 1, fmt.Errorf("asking init: %w", err)
	}
	var said reply
	if err := json.NewDecoder(connection).Decode(&said); err != nil {
		return 1, fmt.Errorf("asking init: %w", err)
	}
	out := os.Stdout
	if said.Code != 0 && !strings.HasSuffix(said.Text, "active\n") && !strings.HasSuffix(said.Text, "abled\n") {
		out = os.Stderr
	}
	fmt.Fprint(out, said.Text)
	return said.Code, nil
}
