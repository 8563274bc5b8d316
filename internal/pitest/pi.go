//go:build linux

package pitest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
)

const (
	// User may sudo on every Pi, and its password is never asked for.
	User = "pi"
	// rebooted is how a Pi's first process ends when the Pi is to boot again.
	rebooted = 42

	answerBound = 30 * time.Second
	// userID is a number that no user of this machine has.
	userID = 4711
	// firstAddress is that of the first Pi.
	firstAddress = 10
)

// Options of a Pi; what is empty is that of a Pi 3.
type Options struct {
	// MemoryKiB is what its kernel has.
	MemoryKiB int
	// Disk is the size of its card, as tmpfs takes it: 2g.
	Disk string
	// Flags says that it was booted with the flags for memory cgroups already.
	Flags bool
}

// Pi is one machine of a house.
type Pi struct {
	// Name is its host name, and Address its IPv4 address.
	Name, Address string

	house     *House
	t         *testing.T
	dir       string
	namespace string
	hostKey   ssh.PublicKey
	first     map[string]string

	mutex sync.Mutex
	cmd   *exec.Cmd
	off   bool
	boots int
	ended chan struct{}
}

// Pi makes a Pi, switches it on, and waits until it answers.
func (h *House) Pi(name string, options Options) *Pi {
	h.t.Helper()
	h.pis++
	p := &Pi{
		Name: name, Address: fmt.Sprintf("%s.%d", h.net, firstAddress+h.pis), house: h, t: h.t,
		dir: filepath.Join(h.dir, name), namespace: h.name + "-" + name,
	}
	p.plugIn(fmt.Sprintf("v%d", h.pis))
	p.card(options)
	p.first = p.files()
	p.On()
	return p
}

func (p *Pi) plugIn(wire string) {
	run(p.t, "ip", "netns", "add", p.namespace)
	p.t.Cleanup(func() { quiet("ip", "netns", "del", p.namespace) })
	p.house.inside("ip", "link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", p.namespace)
	p.house.inside("ip", "link", "set", wire, "master", "lan", "up")
	p.inside("ip", "addr", "add", p.Address+"/24", "dev", "eth0")
	p.inside("ip", "link", "set", "lo", "up")
	p.Plug()
}

func (p *Pi) inside(args ...string) {
	p.t.Helper()
	run(p.t, "ip", append([]string{"netns", "exec", p.namespace}, args...)...)
}

// Unplug takes its cable out: nothing is answered any more.
func (p *Pi) Unplug() { p.inside("ip", "link", "set", "eth0", "down") }

// Plug puts the cable in again.
func (p *Pi) Plug() {
	p.inside("ip", "link", "set", "eth0", "up")
	p.inside("ip", "route", "replace", "default", "via", p.house.net+".1")
}

func (p *Pi) path(parts ...string) string { return filepath.Join(append([]string{p.dir}, parts...)...) }

// upper is where what differs from this machine's own files lies.
func (p *Pi) upper(path string) string { return p.path("disk", "upper", path) }

// card writes a new SD card.
func (p *Pi) card(options Options) {
	size := options.Disk
	if size == "" {
		size = "2g"
	}
	require.NoError(p.t, os.MkdirAll(p.path("disk"), 0o755))
	require.NoError(p.t, os.MkdirAll(p.path("root"), 0o755))
	run(p.t, "mount", "-t", "tmpfs", "-o", "mode=755,size="+size, "pi", p.path("disk"))
	p.t.Cleanup(func() {
		p.Off()
		quiet("umount", "--lazy", p.path("disk"))
	})
	p.write(options)
}

func (p *Pi) write(options Options) {
	require.NoError(p.t, os.MkdirAll(p.path("disk", "work"), 0o755))
	for _, dir := range []string{"standin/bin", "standin/log", "standin/proc", "home/pi", "boot/firmware", "etc/systemd/system"} {
		require.NoError(p.t, os.MkdirAll(p.upper(dir), 0o755))
	}
	require.NoError(p.t, os.Chown(p.upper("home/pi"), userID, userID))
	p.users()
	p.keys()
	p.programs()
	memory := options.MemoryKiB
	if memory == 0 {
		memory = 929 << 10 // of the 1 GiB, the GPU keeps the rest
	}
	line := "console=serial0,115200 console=tty1 root=PARTUUID=0a0a0a0a-02 rootfstype=ext4 fsck.repair=yes rootwait"
	if options.Flags {
		line += " cgroup_memory=1 cgroup_enable=memory cgroup_enable=cpuset"
	}
	p.file("boot/firmware/cmdline.txt", line+"\n", 0o755)
	p.file("standin/proc/meminfo", fmt.Sprintf("MemTotal:       %8d kB\nMemFree:        %8d kB\n", memory, memory/2), 0o444)
	wants := p.upper("etc/systemd/system/multi-user.target.wants")
	require.NoError(p.t, os.MkdirAll(wants, 0o755))
	require.NoError(p.t, os.Symlink("/lib/systemd/system/dphys-swapfile.service", filepath.Join(wants, "dphys-swapfile.service")))
	p.file("standin/upstream", p.house.net+".1:80\n", 0o444)
	kubectl, err := exec.LookPath("kubectl")
	if err == nil {
		kubectl, err = filepath.EvalSymlinks(kubectl)
	}
	if err == nil {
		p.file("standin/kubectl", kubectl+"\n", 0o444)
	}
}

func (p *Pi) file(path, content string, mode fs.FileMode) {
	p.t.Helper()
	require.NoError(p.t, os.MkdirAll(filepath.Dir(p.upper(path)), 0o755))
	require.NoError(p.t, os.WriteFile(p.upper(path), []byte(content), mode))
	require.NoError(p.t, os.Chmod(p.upper(path), mode))
}

// users adds the one to this machine's own.
func (p *Pi) users() {
	for file, line := range map[string]string{ //nolint:gosec // no password fits it
		"etc/passwd": "pi:x:4711:4711::/home/pi:/bin/sh\n",
		"etc/group":  "pi:x:4711:\n",
		"etc/shadow": "pi:*:19000:0:99999:7:::\n",
	} {
		info, err := os.Stat("/" + file)
		require.NoError(p.t, err)
		content, err := os.ReadFile("/" + file)
		require.NoError(p.t, err)
		p.file(file, string(content)+line, info.Mode().Perm())
	}
	p.file("etc/sudoers.d/010_pi-nopasswd", "pi ALL=(ALL) NOPASSWD: ALL\n", 0o440)
	p.file("etc/hosts", "127.0.0.1 localhost "+p.Name+"\n", 0o644)
}

func (p *Pi) keys() {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(p.t, err)
	block, err := ssh.MarshalPrivateKey(private, "")
	require.NoError(p.t, err)
	p.file("standin/host_key", string(pem.EncodeToMemory(block)), 0o600)
	signer, err := ssh.NewSignerFromKey(private)
	require.NoError(p.t, err)
	p.hostKey = signer.PublicKey()
	p.file("standin/authorized_keys", string(ssh.MarshalAuthorizedKey(p.house.signer.PublicKey())), 0o644)
	p.embedded("standin/sshd_config", "sshd_config", 0o644)
}

func (p *Pi) embedded(path, name string, mode fs.FileMode) {
	content, err := files.ReadFile("files/" + name)
	require.NoError(p.t, err)
	p.file(path, string(content), mode)
}

func (p *Pi) programs() {
	standin, err := os.ReadFile(p.house.build(Release))
	require.NoError(p.t, err)
	p.file("standin/bin/init", string(standin), 0o755)
	for _, name := range []string{"usr/bin/systemctl", "usr/sbin/reboot"} {
		require.NoError(p.t, os.MkdirAll(filepath.Dir(p.upper(name)), 0o755))
		_ = os.Remove(p.upper(name))
		require.NoError(p.t, os.Symlink("/standin/bin/init", p.upper(name)))
	}
	uname, err := os.ReadFile("/usr/bin/uname")
	require.NoError(p.t, err)
	p.file("usr/bin/uname.real", string(uname), 0o755)
	p.embedded("usr/bin/uname", "uname", 0o755)
	// A Pi has neither of these, whatever this machine has.
	for _, path := range []string{"etc/rancher", "var/lib/rancher", "usr/local/bin/k3s", "usr/local/bin/kubectl"} {
		if _, err := os.Lstat("/" + path); err == nil {
			require.NoError(p.t, os.MkdirAll(filepath.Dir(p.upper(path)), 0o755))
			require.NoError(p.t, syscall.Mknod(p.upper(path), syscall.S_IFCHR, 0)) // a whiteout
		}
	}
}

// On switches it on, and waits until it answers.
func (p *Pi) On() {
	p.t.Helper()
	p.mutex.Lock()
	p.off, p.ended = false, make(chan struct{})
	p.mutex.Unlock()
	started := make(chan error, 1)
	go p.power(started)
	require.NoError(p.t, <-started)
	p.awaitAnswer()
}

// power boots it for as long as it reboots.
func (p *Pi) power(started chan<- error) {
	defer close(p.ended)
	for {
		cmd, err := p.boot()
		if started != nil {
			started <- err
			started = nil
		}
		if err != nil {
			return
		}
		var exit *exec.ExitError
		err = cmd.Wait()
		p.mutex.Lock()
		off, takes := p.off, p.house.RebootTakes
		p.mutex.Unlock()
		if off || !errors.As(err, &exit) || exit.ExitCode() != rebooted {
			return
		}
		quiet("ip", "netns", "exec", p.namespace, "ip", "link", "set", "eth0", "down")
		time.Sleep(takes) // what the test asked for
		quiet("ip", "netns", "exec", p.namespace, "ip", "link", "set", "eth0", "up")
		quiet("ip", "netns", "exec", p.namespace, "ip", "route", "replace", "default", "via", p.house.net+".1")
	}
}

func (p *Pi) boot() (*exec.Cmd, error) {
	line, err := os.ReadFile(p.upper("boot/firmware/cmdline.txt"))
	if err != nil {
		return nil, err
	}
	enabled := 0
	if strings.Contains(string(line), "cgroup_enable=memory") {
		enabled = 1
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	for file, content := range map[string]string{
		"cmdline": "coherent_pool=1M " + string(line),
		"cgroups": fmt.Sprintf("#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t0\t50\t1\nmemory\t0\t50\t%d\n", enabled),
		"swaps":   "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n",
		"boot_id": fmt.Sprintf("%x-%x-%x-%x-%x\n", id[:4], id[4:6], id[6:8], id[8:10], id[10:]),
	} {
		if err := os.WriteFile(p.upper("standin/proc/"+file), []byte(content), 0o644); err != nil { //nolint:gosec // as /proc has it
			return nil, err
		}
	}
	script, err := files.ReadFile("files/boot.sh")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("ip", "netns", "exec", p.namespace, //nolint:noctx // until it is switched off
		"unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child=KILL", "sh", "-c", string(script))
	cmd.Env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"NAME=" + p.Name, "DISK=" + p.path("disk"), "ROOT=" + p.path("root"),
	}
	log, err := os.OpenFile(p.path("console"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	// Should the test be killed, its Pis go with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.boots++
	p.cmd = cmd
	return cmd, cmd.Start()
}

// Off switches it off, without a word to what runs there.
func (p *Pi) Off() {
	p.mutex.Lock()
	p.off = true
	cmd, ended := p.cmd, p.ended
	p.mutex.Unlock()
	if cmd == nil || cmd.Process == nil {
		return
	}
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	<-ended
}

// Boots is how often it was booted.
func (p *Pi) Boots() int {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.boots
}

// Reflash switches it off, puts a new SD card in, and switches it on: another host key too.
func (p *Pi) Reflash(options Options) {
	p.t.Helper()
	p.Off()
	require.NoError(p.t, os.RemoveAll(p.path("disk", "upper")))
	require.NoError(p.t, os.RemoveAll(p.path("disk", "work")))
	p.write(options)
	p.first = p.files()
	p.On()
}

// Resize makes its card that big, as tmpfs takes it: with a size below what is on it, full.
func (p *Pi) Resize(size string) {
	p.t.Helper()
	run(p.t, "mount", "-o", "remount,size="+size, p.path("disk"))
}

// UsedMB is how much is on its card.
func (p *Pi) UsedMB() int {
	p.t.Helper()
	var stat syscall.Statfs_t
	require.NoError(p.t, syscall.Statfs(p.path("disk"), &stat))
	return int((stat.Blocks - stat.Bfree) * uint64(stat.Bsize) >> 20) //nolint:gosec // small
}

// HostKey is its SSH host key, as ssh-ed25519 AAAA….
func (p *Pi) HostKey() string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(p.hostKey)))
}

// dial logs in.
func (p *Pi) dial(ctx context.Context) (*ssh.Client, error) {
	dialer := net.Dialer{Timeout: 2 * time.Second}
	connection, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(p.Address, "22"))
	if err != nil {
		return nil, err
	}
	client, channels, requests, err := ssh.NewClientConn(connection, p.Address, &ssh.ClientConfig{
		User: User, Auth: []ssh.AuthMethod{ssh.PublicKeys(p.house.signer)}, HostKeyCallback: ssh.FixedHostKey(p.hostKey),
		HostKeyAlgorithms: []string{p.hostKey.Type()}, Timeout: answerBound,
	})
	if err != nil {
		return nil, errors.Join(err, connection.Close())
	}
	return ssh.NewClient(client, channels, requests), nil
}

func (p *Pi) awaitAnswer() {
	p.t.Helper()
	require.Eventually(p.t, func() bool {
		client, err := p.dial(p.t.Context())
		if err == nil {
			_ = client.Close()
		}
		return err == nil
	}, answerBound, 50*time.Millisecond, "%s does not answer: %s", p.Name, p.Console())
}

// Console is what was said while it ran: by its first process and sshd.
func (p *Pi) Console() string {
	content, _ := os.ReadFile(p.path("console"))
	return string(content[max(0, len(content)-4096):])
}

// Log is what a service said.
func (p *Pi) Log(service string) string {
	content, _ := os.ReadFile(p.upper("standin/log/" + service))
	return string(content)
}

// Run runs a script as root, over SSH and sudo, and returns what it printed.
func (p *Pi) Run(script string) string {
	p.t.Helper()
	client, err := p.dial(p.t.Context())
	require.NoError(p.t, err)
	defer client.Close()
	session, err := client.NewSession()
	require.NoError(p.t, err)
	defer session.Close()
	var complaint bytes.Buffer
	session.Stdin, session.Stderr = strings.NewReader(script), &complaint
	out, err := session.Output("sudo -n sh -s")
	require.NoError(p.t, err, "%s", complaint.String())
	return string(out)
}

// DropDuringInstall has the connections to it break when k3s's install script runs next.
func (p *Pi) DropDuringInstall() { p.Run(": >/standin/drop") }

// Left are the files that are not as they were on the new card, or not there any more: what was
// installed and is still there. What a test can't be told of is left out: logs, and the
// stand-ins' own.
func (p *Pi) Left() []string {
	p.t.Helper()
	now := p.files()
	var left []string
	for path, is := range now {
		if p.first[path] != is {
			left = append(left, path)
		}
	}
	for path := range maps.Keys(p.first) {
		if _, there := now[path]; !there {
			left = append(left, path+" (gone)")
		}
	}
	slices.Sort(left)
	return left
}

// files are those of the upper layer, with what they hold.
func (p *Pi) files() map[string]string {
	p.t.Helper()
	found := map[string]string{}
	root := p.path("disk", "upper")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if slices.Contains([]string{"standin", "run", "tmp", "var/log", "var/lib/sudo", "var/cache"}, name) {
			return fs.SkipDir
		}
		what, err := describe(path, name, entry)
		if what != "" {
			found["/"+name] = what
		}
		return err
	})
	require.NoError(p.t, err)
	return found
}

func describe(path, name string, entry fs.DirEntry) (string, error) {
	switch {
	case entry.IsDir():
		// A folder of the lower layer is copied when something in it changes.
		if _, err := os.Stat("/" + name); err == nil {
			return "", nil
		}
		return "folder", nil
	case entry.Type()&fs.ModeSymlink != 0:
		return os.Readlink(path)
	case entry.Type()&fs.ModeDevice != 0:
		return "deleted", nil
	case entry.Type().IsRegular():
		content, err := os.ReadFile(path)
		sum := sha256.Sum256(content)
		return hex.EncodeToString(sum[:]), err
	}
	return "", nil
}
