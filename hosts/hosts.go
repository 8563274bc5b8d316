// Package hosts is what the program does on the machines of a cluster of kind pi itself, over SSH:
// it asks what they are before anything is changed, reboots them, and reads their host keys.
// What is installed there is the components' to say, and the engine's to run.
package hosts

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/nullify005/manager-cluster-state/config"
)

// JumpName is what the host between here and the machines is called.
const JumpName = "the jump host"

// Host is one machine, and how it is reached. Printing it shows no secret.
type Host struct {
	// Name is the node's, or JumpName.
	Name string
	// Path is where the stack file describes it: cluster.nodes[0].
	Path string
	// Address is its host name or IP address, Port its SSH server's, User who logs in.
	Address string
	Port    int
	User    string
	// HostKey is the key that it must have, as a line of authorized_keys; empty while that is not known.
	HostKey string
	// Node is what the stack file says of the machine; of the jump host it says nothing.
	Node config.Node

	via *connection
}

// connection is what all hosts of a stack have in common.
type connection struct {
	// stack is named in the commands that mend.
	stack string
	// timeout is of one attempt to connect, from the first packet until the user is let in.
	timeout time.Duration
	// jump is the host that the others are reached through, or nil.
	jump *Host
	// key reads secrets.sshKey; nil means the agent. It is a function so that nothing prints it.
	key func() (ssh.Signer, error)
	// agent is the socket of the SSH agent.
	agent string

	// answer is how long a command that only asks may take.
	answer time.Duration
	// keepAlive is between two signs of life while a command runs.
	keepAlive time.Duration
	// pause is between two attempts to reach a machine that reboots, report between two lines about it.
	pause, report time.Duration
}

// Option changes how hosts are reached, and how problems read.
type Option func(*connection)

// ForStack has the commands that mend a problem name the stack.
func ForStack(name string) Option { return func(c *connection) { c.stack = name } }

// All are the machines of a stack that are to be asked, servers first: none unless the cluster is
// of kind pi, and not those that are offline.
func All(cfg *config.Config, options ...Option) []*Host {
	var list []*Host
	if cfg.Cluster.Kind != config.Pi {
		return nil
	}
	via := newConnection(cfg, options...)
	for i, node := range cfg.Cluster.Nodes {
		if node.Offline {
			continue
		}
		list = append(list, &Host{
			Name: node.Name, Path: fmt.Sprintf("cluster.nodes[%d]", i),
			Address: node.Host, Port: node.Port, User: node.User, HostKey: node.HostKey, Node: node, via: via,
		})
	}
	return list
}

// Named is the machine of one node.
func Named(cfg *config.Config, name string, options ...Option) (*Host, error) {
	for _, h := range All(cfg, options...) {
		if h.Name == name {
			return h, nil
		}
	}
	return nil, fmt.Errorf("no machine is named %q, or it is offline; the stack file lists them in cluster.nodes", name)
}

// Jump is the host that the machines are reached through, or nil.
func Jump(cfg *config.Config, options ...Option) *Host {
	if cfg.Cluster.Kind != config.Pi {
		return nil
	}
	return newConnection(cfg, options...).jump
}

func newConnection(cfg *config.Config, options ...Option) *connection {
	c := &connection{
		timeout: cfg.Cluster.SSH.Timeout.Duration, agent: os.Getenv("SSH_AUTH_SOCK"),
		answer: 2 * time.Minute, keepAlive: 5 * time.Second, pause: 2 * time.Second, report: 15 * time.Second,
	}
	if key := cfg.Secrets.SSHKey; key != "" {
		c.key = func() (ssh.Signer, error) { return ssh.ParsePrivateKey([]byte(key)) }
	}
	for _, option := range options {
		option(c)
	}
	if jump := cfg.Cluster.SSH.Jump; jump.Host != "" {
		c.jump = &Host{
			Name: JumpName, Path: "cluster.ssh.jump",
			Address: jump.Host, Port: jump.Port, User: jump.User, HostKey: jump.HostKey, via: c,
		}
	}
	return c
}

// String is the host as messages name it.
func (h *Host) String() string {
	if h.Name == h.Address {
		return h.Name
	}
	return h.Name + " (" + h.Address + ")"
}

// GoString is String: a host leads to what opens it.
func (h *Host) GoString() string { return h.String() }

// Is says whether somebody who writes that name means the host: its node's, or its address.
func (h *Host) Is(name string) bool {
	return name == h.Name || strings.EqualFold(name, h.Address)
}

// endpoint is where its SSH server listens.
func (h *Host) endpoint() string { return net.JoinHostPort(h.Address, strconv.Itoa(h.Port)) }

// jump is the host that this one is reached through, or nil.
func (h *Host) jump() *Host {
	if h.via.jump == h {
		return nil
	}
	return h.via.jump
}

// make is a target of make for the stack.
func (c *connection) make(target string) string {
	stack := "…"
	if c.stack != "" {
		stack = c.stack[strings.LastIndex(c.stack, "/")+1:]
	}
	return "make " + target + " STACK=" + stack
}

// set is the command that sets a key of the stack file.
func (c *connection) set(path, value string) string {
	if strings.ContainsAny(path, "[]") {
		path = "'" + path + "'"
	}
	command := "pulumi config set --path " + path
	if value != "" {
		command += " " + value
	}
	if c.stack != "" {
		command += " --stack " + c.stack
	}
	return command
}
