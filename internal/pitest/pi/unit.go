//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
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
	etcUnits = "/etc/systemd/system"
	libUnits = "/usr/lib/systemd/system"
	wants    = etcUnits + "/multi-user.target.wants"

	stopBound = 10 * time.Second
)

func noContext() context.Context { return context.Background() }

// unit is a service that was started.
type unit struct {
	name string

	mutex  sync.Mutex
	state  string // active, activating, inactive, failed
	main   *exec.Cmd
	stopIt chan struct{}
	gone   chan struct{}
}

// definition is what the file of a unit says, each key with all its values.
type definition map[string][]string

func (d definition) last(key string) string {
	if values := d[key]; len(values) > 0 {
		return values[len(values)-1]
	}
	return ""
}

var errNoUnit = errors.New("not found")

func unitFile(name string) string {
	for _, folder := range []string{etcUnits, libUnits} {
		path := filepath.Join(folder, name)
		if _, err := os.Lstat(path); err == nil {
			return path
		}
	}
	return ""
}

func isMasked(name string) bool {
	target, err := os.Readlink(filepath.Join(etcUnits, name))
	return err == nil && target == "/dev/null"
}

func define(name string) (definition, error) {
	path := unitFile(name)
	if path == "" {
		return nil, fmt.Errorf("Unit %s %w.", name, errNoUnit) //nolint:staticcheck // systemd's words
	}
	if isMasked(name) {
		return nil, fmt.Errorf("Unit %s is masked.", name) //nolint:staticcheck // systemd's words
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading unit %s: %w", name, err)
	}
	read := definition{}
	for line := range strings.Lines(strings.ReplaceAll(string(content), "\\\n", " ")) {
		key, value, found := strings.Cut(strings.TrimSpace(line), "=")
		if found && !strings.HasPrefix(key, "#") {
			read[key] = append(read[key], strings.TrimSpace(value))
		}
	}
	return read, nil
}

func (s *system) unit(name string) *unit {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.units[name] == nil {
		s.units[name] = &unit{name: name, state: "inactive"}
	}
	return s.units[name]
}

func (u *unit) is() string {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	return u.state
}

func (u *unit) set(state string) {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	u.state = state
}

func (s *system) startEnabled() {
	links, _ := os.ReadDir(wants)
	var all sync.WaitGroup
	for _, link := range links {
		// As systemd, the machine is up before what takes long.
		definition, err := define(link.Name())
		if err == nil && definition.last("Type") == "notify" {
			go func() { _ = s.start(link.Name()) }()
			continue
		}
		all.Go(func() {
			if err := s.start(link.Name()); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		})
	}
	all.Wait()
}

// start returns when the unit is up, as its Type has it.
func (s *system) start(name string) error {
	if swapped, is := strings.CutSuffix(name, ".swap"); is {
		return startSwap(name, swapped)
	}
	definition, err := define(name)
	if err != nil {
		return fmt.Errorf("Failed to start %s: %w", name, err) //nolint:staticcheck // systemd's words
	}
	u := s.unit(name)
	u.mutex.Lock()
	if u.state == "active" || u.state == "activating" {
		u.mutex.Unlock()
		return nil
	}
	u.state = "activating"
	u.stopIt, u.gone = make(chan struct{}), make(chan struct{})
	u.mutex.Unlock()
	log, err := os.OpenFile("/run/log/"+name+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644) //nolint:gosec // tests read it
	if err != nil {
		return fmt.Errorf("starting %s: %w", name, err)
	}
	up := make(chan error, 1)
	if definition.last("Type") == "oneshot" {
		defer log.Close()
		defer close(u.gone)
		err := s.runAll(definition, log, "ExecStartPre", "ExecStart")
		u.settle(err, definition.last("RemainAfterExit") == "yes")
		return s.failed(name, err)
	}
	go s.keep(u, definition, log, up)
	return s.failed(name, <-up)
}

func (u *unit) settle(err error, remains bool) {
	switch {
	case err != nil:
		u.set("failed")
	case remains:
		u.set("active")
	default:
		u.set("inactive")
	}
}

func (s *system) failed(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("Job for %s failed because the control process exited with error code: %w\n"+ //nolint:staticcheck // systemd's words
		"See \"journalctl -xeu %s\" for details.", name, err, name)
}

// runAll runs the commands of these keys, one after the other.
func (s *system) runAll(definition definition, log *os.File, keys ...string) error {
	for _, key := range keys {
		for _, line := range definition[key] {
			line, optional := strings.CutPrefix(line, "-")
			cmd, err := command(definition, line, log)
			if err != nil {
				return err
			}
			if err := s.runOne(cmd); err != nil && !optional {
				return fmt.Errorf("%s=%s: %w", key, line, err)
			}
		}
	}
	return nil
}

func (s *system) runOne(cmd *exec.Cmd) error {
	if err := s.begin(cmd); err != nil {
		return err
	}
	return s.wait(cmd)
}

// begin starts a process of init's own.
func (s *system) begin(cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	s.own.Store(cmd.Process.Pid, true)
	return nil
}

func (s *system) wait(cmd *exec.Cmd) error {
	err := cmd.Wait()
	s.own.Delete(cmd.Process.Pid)
	return err
}

// command has the environment of the unit's files. A shell knows the quotes that units use.
func command(definition definition, line string, log *os.File) (*exec.Cmd, error) {
	environment := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	for _, path := range definition["EnvironmentFile"] {
		path, optional := strings.CutPrefix(path, "-")
		file, err := os.Open(path)
		if err != nil {
			if optional {
				continue
			}
			return nil, fmt.Errorf("failed to load environment files: %w", err)
		}
		lines := bufio.NewScanner(file)
		for lines.Scan() {
			name, value, found := strings.Cut(strings.TrimSpace(lines.Text()), "=")
			if found && !strings.HasPrefix(name, "#") {
				environment = append(environment, name+"="+strings.Trim(value, `"'`))
			}
		}
		_ = file.Close()
	}
	for _, one := range definition["Environment"] {
		environment = append(environment, strings.Trim(one, `"`))
	}
	cmd := exec.Command("/bin/sh", "-c", "exec "+line) //nolint:noctx // until it is stopped
	cmd.Env, cmd.Stdout, cmd.Stderr = environment, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd, nil
}

// keep runs the main process of a unit until it is stopped, again and again if it is to. What the
// first run came to goes to up.
func (s *system) keep(u *unit, definition definition, log *os.File, up chan<- error) {
	defer log.Close()
	defer close(u.gone)
	for {
		err := s.runMain(u, definition, log, up)
		select {
		case up <- err:
		default:
		}
		select {
		case <-u.stopIt:
			u.set("inactive")
			return
		default:
		}
		restart := definition.last("Restart")
		if restart != "always" && (restart != "on-failure" || err == nil) {
			u.settle(err, false)
			return
		}
		u.set("activating")
		pause, parseErr := time.ParseDuration(definition.last("RestartSec"))
		if parseErr != nil {
			pause = 100 * time.Millisecond
		}
		select {
		case <-u.stopIt:
			u.set("inactive")
			return
		case <-time.After(pause):
		}
	}
}

func (s *system) runMain(u *unit, definition definition, log *os.File, up chan<- error) error {
	if err := s.runAll(definition, log, "ExecStartPre"); err != nil {
		return err
	}
	cmd, err := command(definition, definition.last("ExecStart"), log)
	if err != nil {
		return err
	}
	told, err := s.begun(u, cmd, definition.last("Type") == "notify")
	if err != nil {
		return err
	}
	finished := make(chan error, 1)
	go func() { finished <- s.wait(cmd) }()
	for {
		select {
		case <-told:
			told = nil
			u.set("active")
			select {
			case up <- nil:
			default:
			}
		case err := <-finished:
			return err
		case <-u.stopIt:
			_ = terminate(cmd, definition, finished) // it was asked to
			return nil
		}
	}
}

// begun starts the main process; what it returns is told something, or closed, when it is up.
func (s *system) begun(u *unit, cmd *exec.Cmd, notifies bool) (<-chan struct{}, error) {
	told := make(chan struct{})
	if notifies {
		path := "/run/pitest/notify." + u.name
		_ = os.Remove(path)
		socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			return nil, fmt.Errorf("listening for the unit: %w", err)
		}
		cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+path)
		go func() {
			defer close(told)
			defer socket.Close()
			text := make([]byte, 1024)
			for {
				n, err := socket.Read(text)
				if err != nil || strings.Contains(string(text[:n]), "READY=1") {
					return
				}
			}
		}()
	} else {
		close(told)
	}
	if err := s.begin(cmd); err != nil {
		return nil, err
	}
	u.mutex.Lock()
	u.main = cmd
	u.mutex.Unlock()
	return told, nil
}

// terminate asks the process to end, or all of its group, as KillMode has it, and then makes it.
// It returns how the process ended.
func terminate(cmd *exec.Cmd, definition definition, finished <-chan error) error {
	target := -cmd.Process.Pid
	if definition.last("KillMode") == "process" {
		target = cmd.Process.Pid
	}
	_ = syscall.Kill(target, syscall.SIGTERM)
	select {
	case err := <-finished:
		return err
	case <-time.After(stopBound):
		_ = syscall.Kill(target, syscall.SIGKILL)
		return <-finished
	}
}

func (s *system) stop(name string) error {
	if device, is := strings.CutSuffix(name, ".swap"); is {
		return changeSwap(device, false)
	}
	definition, err := define(name)
	u := s.unit(name)
	u.mutex.Lock()
	state, gone := u.state, u.gone
	if state == "inactive" || state == "failed" {
		u.mutex.Unlock()
		if errors.Is(err, errNoUnit) {
			return fmt.Errorf("Failed to stop %s: %w", name, err) //nolint:staticcheck // systemd's words
		}
		return nil
	}
	select {
	case <-u.stopIt:
	default:
		close(u.stopIt)
	}
	u.mutex.Unlock()
	<-gone
	if definition.last("Type") == "oneshot" {
		log, err := os.OpenFile("/run/log/"+name+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644) //nolint:gosec // tests read it
		if err != nil {
			return fmt.Errorf("stopping %s: %w", name, err)
		}
		defer log.Close()
		if err := s.runAll(definition, log, "ExecStop"); err != nil {
			return err
		}
	}
	u.set("inactive")
	return nil
}

// stopAll has each main process ended, and none started again.
func (s *system) stopAll() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, u := range s.units {
		u.mutex.Lock()
		if u.state == "active" || u.state == "activating" {
			select {
			case <-u.stopIt:
			default:
				close(u.stopIt)
			}
		}
		u.mutex.Unlock()
	}
}

func (s *system) restart(name string) error {
	if err := s.stop(name); err != nil && !errors.Is(err, errNoUnit) {
		return err
	}
	return s.start(name)
}

func serviceName(name string) string {
	if slices.Contains([]string{".service", ".swap", ".target", ".timer", ".socket", ".mount"}, filepath.Ext(name)) {
		return name
	}
	return name + ".service"
}

// do is a call of systemctl.
func (s *system) do(args []string, root bool) reply {
	now, quiet := slices.Contains(args, "--now"), false
	var words []string
	for _, arg := range args {
		switch {
		case arg == "-q" || arg == "--quiet":
			quiet = true
		case !strings.HasPrefix(arg, "-"):
			words = append(words, arg)
		}
	}
	if len(words) == 0 {
		return reply{1, "the stand-in of systemctl lists nothing\n"}
	}
	verb, names := words[0], words[1:]
	if !root && !strings.HasPrefix(verb, "is-") && verb != "status" && verb != "cat" && verb != "show" {
		return reply{1, "Failed to " + verb + ": Interactive authentication required.\n"}
	}
	switch verb {
	case "daemon-reload", "reset-failed", "daemon-reexec":
		return reply{}
	case "reboot":
		s.finish(rebooting)
		return reply{}
	case "poweroff", "halt":
		s.finish(ended)
		return reply{}
	}
	var said reply
	for _, name := range names {
		one := s.one(verb, serviceName(name), now)
		if one.Code != 0 {
			said.Code = one.Code
		}
		said.Text += one.Text
	}
	if quiet {
		said.Text = ""
	}
	return said
}

// finish leaves the answer the time to be read.
func (s *system) finish(code int) {
	time.AfterFunc(100*time.Millisecond, func() {
		select {
		case s.end <- code:
		default:
		}
	})
}

func (s *system) one(verb, name string, now bool) reply {
	if said, is := s.tell(verb, name); is {
		return said
	}
	var err error
	switch verb {
	case "start":
		err = s.start(name)
	case "stop", "kill":
		err = s.stop(name)
	case "restart", "reload-or-restart", "try-restart":
		err = s.restart(name)
	case "enable":
		err = both(now, enable, s.start)(name)
	case "disable":
		err = both(now, disable, s.stop)(name)
	case "mask":
		err = both(now, mask, s.stop)(name)
	case "unmask":
		err = unmask(name)
	default:
		return reply{1, "the stand-in of systemctl knows no " + verb + "\n"}
	}
	if err != nil {
		return reply{1, err.Error() + "\n"}
	}
	return reply{}
}

// both does the one, and now the other too.
func both(now bool, one, other func(string) error) func(string) error {
	return func(name string) error {
		if err := one(name); err != nil || !now {
			return err
		}
		return other(name)
	}
}

// tell answers what is only asked.
func (s *system) tell(verb, name string) (said reply, is bool) {
	state := s.unit(name).is()
	switch verb {
	case "is-active":
		return reply{code(state == "active", 3), state + "\n"}, true
	case "is-failed":
		return reply{code(state == "failed", 1), state + "\n"}, true
	case "is-enabled":
		return enabled(name), true
	case "status":
		return reply{code(state == "active", 3), name + "\n     Active: " + state + "\n"}, true
	case "show":
		return reply{0, "ActiveState=" + state + "\n"}, true
	case "cat":
		content, err := os.ReadFile(unitFile(name))
		if err != nil {
			return reply{1, "No files found for " + name + ".\n"}, true
		}
		return reply{0, string(content)}, true
	}
	return reply{}, false
}

func code(fine bool, otherwise int) int {
	if fine {
		return 0
	}
	return otherwise
}

func enabled(name string) reply {
	if isMasked(name) {
		return reply{1, "masked\n"}
	}
	if _, err := os.Lstat(filepath.Join(wants, name)); err == nil {
		return reply{0, "enabled\n"}
	}
	if unitFile(name) == "" {
		return reply{1, "Failed to get unit file state for " + name + ": No such file or directory\n"}
	}
	return reply{1, "disabled\n"}
}

func enable(name string) error {
	path := unitFile(name)
	if path == "" {
		return fmt.Errorf("Failed to enable unit: Unit file %s does not exist.", name) //nolint:staticcheck // systemd's words
	}
	if err := os.MkdirAll(wants, 0o755); err != nil {
		return fmt.Errorf("enabling %s: %w", name, err)
	}
	if err := os.Symlink(path, filepath.Join(wants, name)); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("enabling %s: %w", name, err)
	}
	return nil
}

func disable(name string) error {
	link := filepath.Join(wants, name)
	_, err := os.Lstat(link)
	if err != nil && unitFile(name) == "" {
		return fmt.Errorf("Failed to disable unit: Unit file %s does not exist.", name) //nolint:staticcheck // systemd's words
	}
	if err == nil {
		err = os.Remove(link)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("disabling %s: %w", name, err)
	}
	return nil
}

func unmask(name string) error {
	if !isMasked(name) {
		return nil
	}
	return os.Remove(filepath.Join(etcUnits, name))
}

func mask(name string) error {
	path := filepath.Join(etcUnits, name)
	if _, err := os.Lstat(path); err == nil {
		if isMasked(name) {
			return nil
		}
		return fmt.Errorf("Failed to mask unit: File %s already exists.", path) //nolint:staticcheck // systemd's words
	}
	return os.Symlink("/dev/null", path)
}
