package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	control = "/run/init.sock"
	units   = "/etc/systemd/system"
	wanted  = units + "/multi-user.target.wants"
	swaps   = "/proc/swaps"
	// rebooted is how init ends when it was told to reboot, and not to go away.
	rebooted = 42

	stopBound    = 10 * time.Second
	restartPause = time.Second
	// lastWords is how long those who asked for a reboot have to hear that it comes.
	lastWords = 300 * time.Millisecond
)

const noSwaps = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"

// builtIn are the services that are no units of their own here, with what starting and stopping
// them does.
func builtIn() map[string]func(start bool) error {
	nothing := func(bool) error { return nil }
	return map[string]func(bool) error{
		"systemd-journald": nothing, "ssh": nothing,
		"dphys-swapfile": func(start bool) error {
			text := noSwaps
			if start {
				text += "/var/swap                               file\t\t102396\t\t0\t\t-2\n"
			}
			return os.WriteFile(swaps, []byte(text), 0o644) //nolint:gosec // as /proc has it
		},
	}
}

// system is the first process of a Pi, and starts the others.
type system struct {
	mutex   sync.Mutex
	running map[string]*service
	end     chan int
}

type service struct {
	cmd  *exec.Cmd
	stop chan struct{}
	done chan struct{}
}

func boot() (int, error) {
	s := &system{running: map[string]*service{}, end: make(chan int, 1)}
	if err := os.RemoveAll(control); err != nil {
		return 1, err
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(context.Background(), "unix", control)
	if err != nil {
		return 1, fmt.Errorf("listening for systemctl: %w", err)
	}
	go s.serve(listener)
	links, err := os.ReadDir(wanted)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return 1, err
	}
	for _, link := range links {
		if err := s.start(unitOf(link.Name())); err != nil {
			fmt.Fprintln(os.Stderr, "starting", link.Name(), "failed:", err)
		}
	}
	sshd := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", "/standin/sshd_config") //nolint:noctx // it ends with the Pi
	sshd.Stdout, sshd.Stderr = os.Stdout, os.Stderr
	if err := sshd.Start(); err != nil {
		return 1, fmt.Errorf("starting sshd: %w", err)
	}
	return <-s.end, nil
}

type answer struct {
	Code int    `json:"code"`
	Text string `json:"text"`
}

func (s *system) serve(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer connection.Close()
			var args []string
			if json.NewDecoder(connection).Decode(&args) != nil {
				return
			}
			said := answer{}
			if err := s.do(args, &said); err != nil {
				said.Code, said.Text = 1, err.Error()+"\n"
			}
			if err := json.NewEncoder(connection).Encode(said); err != nil {
				fmt.Fprintln(os.Stderr, "answering systemctl:", err)
			}
		}()
	}
}

// ask is systemctl: what it was asked goes to init.
func ask(args []string) (int, error) {
	connection, err := net.Dial("unix", control) //nolint:noctx // init answers or is gone
	if err != nil {
		return 1, fmt.Errorf("asking init: %w", err)
	}
	defer connection.Close()
	if err := json.NewEncoder(connection).Encode(args); err != nil {
		return 1, fmt.Errorf("asking init: %w", err)
	}
	var said answer
	if err := json.NewDecoder(connection).Decode(&said); err != nil && !errors.Is(err, io.EOF) {
		return 1, fmt.Errorf("asking init: %w", err)
	}
	fmt.Fprint(os.Stdout, said.Text)
	return said.Code, nil
}

func unitOf(name string) string { return strings.TrimSuffix(name, ".service") }

func (s *system) do(args []string, said *answer) error {
	now := slices.Contains(args, "--now")
	args = slices.DeleteFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "-") })
	if len(args) == 0 {
		return errors.New("systemctl lists nothing here")
	}
	verb, names := args[0], args[1:]
	switch verb {
	case "daemon-reload", "reset-failed", "show", "status":
		return nil
	case "reboot":
		time.AfterFunc(lastWords, func() { s.end <- rebooted })
		return nil
	}
	for _, name := range names {
		if err := s.one(verb, unitOf(name), now, said); err != nil {
			return err
		}
	}
	return nil
}

func (s *system) one(verb, unit string, now bool, said *answer) error {
	link := filepath.Join(wanted, unit+".service")
	switch verb {
	case "is-active":
		if !s.active(unit) {
			said.Code, said.Text = 3, "inactive\n"
		}
		return nil
	case "is-enabled":
		if _, err := os.Lstat(link); err != nil {
			said.Code, said.Text = 1, "disabled\n"
		}
		return nil
	case "enable":
		if err := enable(unit, link); err != nil || !now {
			return err
		}
		return s.start(unit)
	case "disable":
		if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		_ = os.Remove(wanted) // when it was the last one, as systemd does
		if now {
			return s.halt(unit)
		}
		return nil
	case "start":
		return s.start(unit)
	case "stop", "kill":
		return s.halt(unit)
	case "restart":
		return errors.Join(s.halt(unit), s.start(unit))
	}
	return fmt.Errorf("the stand-in of systemctl knows no %s", verb)
}

func enable(unit, link string) error {
	file := filepath.Join(units, unit+".service")
	if _, own := builtIn()[unit]; own {
		file = "/lib/systemd/system/" + unit + ".service"
	} else if _, err := os.Stat(file); err != nil {
		return fmt.Errorf("unit %s.service does not exist: %w", unit, err)
	}
	if err := os.MkdirAll(wanted, 0o755); err != nil {
		return err
	}
	if err := os.Symlink(file, link); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

func (s *system) active(unit string) bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if _, own := builtIn()[unit]; own {
		return true
	}
	_, running := s.running[unit]
	return running
}

func (s *system) start(unit string) error {
	if act, own := builtIn()[unit]; own {
		return act(true)
	}
	if s.active(unit) {
		return nil
	}
	command, err := execStart(unit)
	if err != nil {
		return err
	}
	log, err := os.OpenFile("/standin/log/"+unit, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644) //nolint:gosec // for whoever reads it
	if err != nil {
		return err
	}
	one := &service{stop: make(chan struct{}), done: make(chan struct{})}
	one.cmd = newCommand(command, log)
	if err := one.cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("starting %s: %w", unit, err), log.Close())
	}
	s.mutex.Lock()
	s.running[unit] = one
	s.mutex.Unlock()
	go s.keep(unit, one, command, log)
	return nil
}

func newCommand(command []string, log io.Writer) *exec.Cmd {
	cmd := exec.Command(command[0], command[1:]...) //nolint:noctx // until it is stopped
	cmd.Stdout, cmd.Stderr = log, log
	return cmd
}

// keep starts a service again that ended by itself, as its unit's Restart=always says.
func (s *system) keep(unit string, one *service, command []string, log io.Closer) {
	defer close(one.done)
	defer log.Close()
	for {
		_ = one.cmd.Wait()
		select {
		case <-one.stop:
		case <-time.After(restartPause):
			next := newCommand(command, one.cmd.Stdout)
			s.mutex.Lock()
			err := next.Start()
			if err == nil {
				one.cmd = next
			}
			s.mutex.Unlock()
			if err == nil {
				continue
			}
		}
		s.mutex.Lock()
		delete(s.running, unit)
		s.mutex.Unlock()
		return
	}
}

func (s *system) halt(unit string) error {
	if act, own := builtIn()[unit]; own {
		return act(false)
	}
	s.mutex.Lock()
	one := s.running[unit]
	s.mutex.Unlock()
	if one == nil {
		return nil
	}
	close(one.stop)
	s.mutex.Lock()
	process := one.cmd.Process
	s.mutex.Unlock()
	_ = process.Signal(syscall.SIGTERM)
	select {
	case <-one.done:
	case <-time.After(stopBound):
		_ = process.Kill()
		<-one.done
	}
	return nil
}

// execStart is the command line of a unit; a backslash at the end of a line goes on in the next.
func execStart(unit string) ([]string, error) {
	content, err := os.ReadFile(filepath.Join(units, unit+".service"))
	if err != nil {
		return nil, fmt.Errorf("unit %s.service does not exist: %w", unit, err)
	}
	for line := range strings.Lines(strings.ReplaceAll(string(content), "\\\n", " ")) {
		if command, found := strings.CutPrefix(strings.TrimSpace(line), "ExecStart="); found {
			return strings.Fields(command), nil
		}
	}
	return nil, fmt.Errorf("unit %s.service has no ExecStart", unit)
}
