package config

import (
	"encoding/hex"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

var (
	userPattern = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
	zonePattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,15}$`)
)

const (
	highestPort = 65535
	// trustCommand reads host keys, and writes them into the stack file.
	trustCommand = "run: make trust STACK=…"
	// pinCommand writes what a k3s release's files must be.
	pinCommand = "run: make pin STACK=…"
)

// reach judges how all machines of kind pi are reached.
func (v *validator) reach() {
	v.between("cluster.ssh.timeout", v.Cluster.SSH.Timeout, time.Second, 5*time.Minute)
	v.between("cluster.ssh.rebootTimeout", v.Cluster.SSH.RebootTimeout, time.Minute, time.Hour)
	v.jump(v.Cluster.SSH.Jump)
}

func (v *validator) jump(jump Jump) {
	const path = "cluster.ssh.jump"
	v.port(path+".port", jump.Port)
	if jump.Host == "" {
		if jump.User != "" || jump.HostKey != "" {
			v.say(path+".host", missing, "a jump host is described without it", setCommand(path+".host", false, ""))
		}
		return
	}
	v.sshHost(path+".host", jump.Host)
	v.sshUser(path+".user", jump.User, "the jump host is reached over SSH")
	v.hostKey(path+".hostKey", jump.HostKey)
}

// ssh judges how one machine of kind pi is reached.
func (v *validator) ssh(path string, node Node) {
	const reason = "kind pi reaches each node over SSH"
	if node.Host == "" {
		v.say(path+".host", missing, reason, setCommand(path+".host", false, ""))
	} else {
		v.sshHost(path+".host", node.Host)
	}
	v.sshUser(path+".user", node.User, reason)
	v.port(path+".port", node.Port)
	if !node.Offline || node.HostKey != "" { // a machine that is off shows none
		v.hostKey(path+".hostKey", node.HostKey)
	}
	if node.Offline && node.Role == Server {
		v.say(path+".offline", "true", "without its server there is no cluster", removeCommand(path+".offline"))
	}
}

// noSSH: what only machines of kind pi have.
func (v *validator) noSSH(path string, node Node) {
	const reason = "only kind pi is reached over SSH"
	for _, given := range []struct{ key, value string }{{"host", node.Host}, {"user", node.User}, {"hostKey", node.HostKey}} {
		if given.value != "" {
			v.add(path+"."+given.key, given.value, reason, removeCommand(path+"."+given.key))
		}
	}
	if node.Offline {
		v.say(path+".offline", "true", "only a machine of kind pi can be off by itself", removeCommand(path+".offline"))
	}
}

func (v *validator) sshHost(path, host string) {
	address, err := netip.ParseAddr(host)
	// A zone may be anything for Go; for people it is the name of an interface.
	isAddress := err == nil && (address.Zone() == "" || zonePattern.MatchString(address.Zone()))
	if !isAddress && !subdomainPattern.MatchString(strings.ToLower(host)) {
		v.add(path, host, "it must be a host name or an address, without user and port", "for example kiwipi.lan")
	}
}

func (v *validator) sshUser(path, user, reason string) {
	switch {
	case user == "":
		v.say(path, missing, reason, setCommand(path, false, "pi"))
	case !userPattern.MatchString(user):
		v.add(path, user, "it is no name of a Linux user", setCommand(path, false, "pi"))
	}
}

func (v *validator) port(path string, port int) {
	if port < 1 || port > highestPort {
		v.say(path, strconv.Itoa(port), "a port is 1 to 65535", setCommand(path, false, defaultOf(path)))
	}
}

// hostKey: a host without one could be anybody, and passwordless sudo is used there. A reader
// that leaves out the secrets, as the command that writes the host keys, wants none yet.
func (v *validator) hostKey(path, text string) {
	if text == "" {
		if !v.skipSecrets {
			v.say(path, missing, "a host is known by its key", trustCommand)
		}
		return
	}
	_, comment, options, rest, err := ssh.ParseAuthorizedKey([]byte(text))
	if err != nil || len(options) > 0 || len(rest) > 0 || strings.ContainsAny(comment, "\r\n") {
		v.add(path, text, "a host key is one line of its type and the key: ssh-ed25519 AAAA…",
			"take it off: "+removeCommand(path)+", and "+trustCommand)
	}
}

// install judges what a k3s release's files are held against.
func (v *validator) install() {
	const path = "cluster.install"
	install := v.Cluster.Install
	switch from := install.From; {
	case strings.HasPrefix(from, "~"), strings.Contains(from, "$"):
		v.add(path+".from", from, "no shell expands it", "write the path out, relative to the project or from /")
	case strings.ContainsAny(from, "\r\n"):
		v.add(path+".from", from, "it must be a folder or a URL", removeCommand(path+".from"))
	case strings.Contains(from, "://"):
		v.installURL(path+".from", from)
	}
	v.checksum(path+".binary", install.Binary, "k3s-arm64")
	v.checksum(path+".script", install.Script, "install.sh")
}

func (v *validator) installURL(path, from string) {
	const example = "for example https://mirror.example.net/k3s"
	target, err := url.Parse(from)
	switch {
	case strings.Contains(from, "@"):
		v.say(path, secretValue, "it holds a login, and files are fetched without one", example)
	case err != nil || target.Host == "" || target.Scheme != "https" && target.Scheme != "http":
		v.add(path, from, "it must be a URL of http or https, or a folder", example)
	}
}

func (v *validator) checksum(path, text, file string) {
	const bytes = 32
	sum, err := hex.DecodeString(text)
	switch {
	case text == "" && (v.Cluster.Kind != Pi || v.skipSecrets):
	case text == "":
		v.say(path, missing, "nothing is installed that isn't known by its checksum", pinCommand)
	case err != nil || len(sum) != bytes:
		v.add(path, text, "the SHA-256 of "+file+" is 64 hexadecimal digits", pinCommand)
	}
}

// sshKey is judged without ever being shown.
func (v *validator) sshKey() {
	const path = "secrets.sshKey"
	if text := v.Secrets.SSHKey; text != "" && text != Encrypted {
		if _, err := ssh.ParsePrivateKey([]byte(text)); err != nil {
			v.say(path, secretValue, "it is no SSH private key in PEM, or it has a passphrase",
				"leave it out and use an SSH agent, or "+setCommand(path, true, ""))
		}
	}
}
