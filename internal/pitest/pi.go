//go:build linux

package pitest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
)

// PiOptions are of a Pi; what is not set is as on a Pi 3 with Raspberry Pi OS.
type PiOptions struct {
	// Memory in KiB, as /proc/meminfo says it; 931,000 unless it is set.
	Memory int
	// Disk in MiB; 2,048 unless it is set. It takes this machine's memory as it is filled.
	Disk int
	// Machine is uname's; aarch64 unless it is set.
	Machine string
	// Swap is dphys-swapfile unless it is zram, or none.
	Swap string
	// OldBoot has the boot files in /boot, as before Bookworm, instead of /boot/firmware.
	OldBoot bool
	// Cgroups has the memory cgroup on from the first boot.
	Cgroups bool
	// NoSudo has sudo ask for a password.
	NoSudo bool
	// Clock is how far the clock goes ahead, or behind.
	Clock time.Duration
	// Files are more files, by their paths, or others.
	Files map[string]string
}

// Pi is a machine of a house.
type Pi struct {
	// Name is its own; Host is by what others of the house find it, and Address by what this
	// machine does.
	Name, Host, Address string
	// User may log in with the house's key.
	User string

	t       *testing.T
	house   *House
	options PiOptions
	folder  string
	port    string
	board   *exec.Cmd
	orders  io.Writer

	mutex    sync.Mutex
	changed  *sync.Cond
	init     int // its process, or 0
	up       bool
	plugged  bool
	boots    int
	closing  bool
	hostKey  string // its public half
	original map[string]entry
}

const (
	user = "pi"
	// bound is for what takes moments.
	bound = 30 * time.Second
)

// Pi makes a machine and boots it, and returns when it answers.
func (h *House) Pi(t *testing.T, name string, options PiOptions) *Pi {
	t.Helper()
	options = withDefaults(options)
	p := &Pi{
		Name: name, Host: name + ".lan", User: user, t: t, house: h, options: options,
		folder: filepath.Join(h.folder, name), plugged: true,
	}
	p.changed = sync.NewCond(&p.mutex)
	h.mutex.Lock()
	h.pis = append(h.pis, p)
	p.Address = h.subnet + "." + strconv.Itoa(10+len(h.pis))
	p.port = "port" + strconv.Itoa(len(h.pis))
	h.writeHosts(t)
	h.mutex.Unlock()
	require.NoError(t, os.Mkdir(p.folder, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(p.folder, "size"), []byte(strconv.Itoa(options.Disk)+"m"), 0o600))
	p.startBoard(t)
	p.connect(t)
	p.fill(t)
	p.On(t)
	p.mutex.Lock()
	p.original = p.disk(t)
	p.mutex.Unlock()
	return p
}

func withDefaults(options PiOptions) PiOptions {
	if options.Memory == 0 {
		options.Memory = 931000
	}
	if options.Disk == 0 {
		options.Disk = 2048
	}
	if options.Machine == "" {
		options.Machine = "aarch64"
	}
	if options.Swap == "" {
		options.Swap = "dphys-swapfile"
	}
	return options
}

// startBoard starts what holds the disk and the network, and follows what it says.
func (p *Pi) startBoard(t *testing.T) {
	t.Helper()
	binds := map[string]string{
		"/etc/hosts":   filepath.Join(p.house.folder, "hosts"),
		upstreamFolder: filepath.Join(p.house.folder, "upstream"),
	}
	if p.house.options.Kubectl != "" {
		kubectl, err := filepath.Abs(p.house.options.Kubectl)
		require.NoError(t, err)
		binds[kubectlPath] = kubectl
	}
	told, err := json.Marshal(map[string]any{"name": p.Name, "folder": p.folder, "binds": binds})
	require.NoError(t, err)
	p.board = exec.Command(p.house.program, "board", string(told)) //nolint:noctx // until its input ends
	p.board.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET}
	var said bytes.Buffer
	p.board.Stderr = &said
	orders, err := p.board.StdinPipe()
	require.NoError(t, err)
	p.orders = orders
	out, err := p.board.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.board.Start())
	lines := bufio.NewReader(out)
	ready, err := lines.ReadString('\n')
	followed := make(chan struct{})
	t.Cleanup(func() {
		p.mutex.Lock()
		p.closing = true
		p.changed.Broadcast()
		p.mutex.Unlock()
		_ = orders.Close()
		<-followed
		_ = p.board.Wait()
		if t.Failed() && said.Len() > 0 {
			t.Logf("%s: %s", p.Name, said.String())
		}
	})
	if err != nil || ready != "ready\n" {
		close(followed)
		_ = p.board.Wait()
		t.Skipf("this machine makes no Pi: %s; run where overlay mounts on a tmpfs are allowed", strings.TrimSpace(said.String()))
	}
	go func() {
		defer close(followed)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			p.heard(strings.Fields(line))
		}
	}()
}

// heard is what the board says: booting PID, up, down CODE.
func (p *Pi) heard(words []string) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	defer p.changed.Broadcast()
	switch words[0] {
	case "booting":
		p.init, _ = strconv.Atoi(words[1])
	case "up":
		p.up = true
		p.boots++
		p.setLink()
	case "down":
		p.init, p.up = 0, false
		p.setLink()
		if words[1] == rebooting {
			go p.bootAgain()
		}
	}
}

// rebooting is what the board says of a Pi that is to come back.
const rebooting = "41"

func (p *Pi) bootAgain() {
	p.house.mutex.Lock()
	takes := p.house.rebootTakes
	p.house.mutex.Unlock()
	time.Sleep(takes)
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if !p.closing && p.init == 0 {
		if err := p.order(); err != nil {
			p.t.Error(err)
		}
	}
}

// order boots it, with a new boot id and what the boot files say.
func (p *Pi) order() error {
	if err := p.bootFiles(); err != nil {
		return err
	}
	_, err := io.WriteString(p.orders, "boot\n")
	return err
}

// connect joins the Pi's network to the bridge.
func (p *Pi) connect(t *testing.T) {
	t.Helper()
	board := strconv.Itoa(p.board.Process.Pid)
	p.house.inside(t, "ip", "link", "add", p.port, "type", "veth", "peer", "name", "eth0", "netns", board)
	p.house.inside(t, "ip", "link", "set", p.port, "master", "bridge")
	for _, args := range [][]string{
		{"link", "set", "lo", "up"}, {"link", "set", "eth0", "up"}, {"address", "add", p.Address + "/24", "dev", "eth0"},
	} {
		run(t, "nsenter", append([]string{"--target", board, "--net", "ip"}, args...)...)
	}
}

// setLink has the link up while the Pi is and its cable is in.
func (p *Pi) setLink() {
	state := "down"
	if p.up && p.plugged {
		state = "up"
	}
	cmd := exec.Command("nsenter", "--target", strconv.Itoa(p.house.bridge.Process.Pid), "--net", "ip", "link", "set", p.port, state) //nolint:noctx // it ends by itself
	if out, err := cmd.CombinedOutput(); err != nil && !p.closing {
		p.t.Errorf("setting the link of %s %s: %v: %s", p.Name, state, err, out)
	}
}

// Path is where this machine finds a file of a Pi that is up. Links of the Pi to absolute paths
// lead elsewhere there.
func (p *Pi) Path(path string) string {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.path(path)
}

func (p *Pi) path(path string) string {
	return filepath.Join("/proc", strconv.Itoa(p.init), "root", path)
}

// held is where this machine finds a file of the board.
func (p *Pi) held(path ...string) string {
	return filepath.Join(append([]string{"/proc", strconv.Itoa(p.board.Process.Pid), "root", p.folder}, path...)...)
}

// BootID is that of the Pi's last boot.
func (p *Pi) BootID() string {
	content, err := os.ReadFile(p.held("hardware", "boot_id"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(content))
}

// Boots is how often it has booted.
func (p *Pi) Boots() int {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.boots
}

// HostKey is its public one, as in a known_hosts file without the names.
func (p *Pi) HostKey() string {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.hostKey
}

// Dial logs in.
func (p *Pi) Dial(ctx context.Context) (*ssh.Client, error) {
	signer, err := ssh.ParsePrivateKey([]byte(p.house.Key))
	if err != nil {
		return nil, fmt.Errorf("reading the house's key: %w", err)
	}
	known, _, _, _, err := ssh.ParseAuthorizedKey([]byte(p.HostKey())) //nolint:dogsled // its comment and options
	if err != nil {
		return nil, fmt.Errorf("reading the host key: %w", err)
	}
	address := net.JoinHostPort(p.Address, "22")
	connection, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	_ = connection.SetDeadline(time.Now().Add(bound))
	one, channels, requests, err := ssh.NewClientConn(connection, address, &ssh.ClientConfig{
		User: p.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.FixedHostKey(known),
	})
	if err != nil {
		_ = connection.Close()
		return nil, err
	}
	_ = connection.SetDeadline(time.Time{})
	return ssh.NewClient(one, channels, requests), nil
}

// Run runs a command by SSH as the user who logs in, with that on its standard input.
func (p *Pi) Run(ctx context.Context, command, stdin string) (stdout, stderr string, err error) {
	client, err := p.Dial(ctx)
	if err != nil {
		return "", "", err
	}
	defer client.Close()
	defer context.AfterFunc(ctx, func() { _ = client.Close() })()
	session, err := client.NewSession()
	if err != nil {
		return "", "", err
	}
	defer session.Close()
	var out, said bytes.Buffer
	session.Stdin, session.Stdout, session.Stderr = strings.NewReader(stdin), &out, &said
	err = session.Run(command)
	return out.String(), said.String(), err
}

// Must runs a script as root, by SSH and sudo, and returns what it prints.
func (p *Pi) Must(t *testing.T, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, said, err := p.Run(ctx, "sudo -n sh -s", script)
	require.NoError(t, err, "%s: %s%s", p.Name, out, said)
	return out
}

// Journal is what a unit of it has said since the Pi was made.
func (p *Pi) Journal(unit string) string {
	content, err := os.ReadFile(p.held("hardware", "log", unit+".service.log"))
	if err != nil {
		return ""
	}
	return string(content)
}

// WaitUp returns when the Pi has booted so often, and answers.
func (p *Pi) WaitUp(t *testing.T, boots int) {
	t.Helper()
	require.True(t, p.wait(func() bool { return p.up && p.boots >= boots }), "%s did not come up", p.Name)
	require.Eventually(t, func() bool {
		connection, err := net.DialTimeout("tcp", net.JoinHostPort(p.Address, "22"), time.Second) //nolint:noctx // bounded
		if err != nil {
			return false
		}
		return connection.Close() == nil
	}, bound, 50*time.Millisecond, "%s does not answer", p.Name)
}

// wait returns whether something came to be within the bound.
func (p *Pi) wait(done func() bool) bool {
	late := false
	timer := time.AfterFunc(bound, func() {
		p.mutex.Lock()
		defer p.mutex.Unlock()
		late = true
		p.changed.Broadcast()
	})
	defer timer.Stop()
	p.mutex.Lock()
	defer p.mutex.Unlock()
	for !done() && !late && !p.closing {
		p.changed.Wait()
	}
	return done()
}

// bootID is as the kernel makes it.
func bootID() string {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // it never fails
	return fmt.Sprintf("%x-%x-%x-%x-%x\n", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}
