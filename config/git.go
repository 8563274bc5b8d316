package config

import (
	"cmp"
	"net"
	"net/url"
	"path"
	"strings"

	"golang.org/x/crypto/ssh/knownhosts"
)

// githubHostKeys are GitHub's own, as it publishes them, in lines of known_hosts.
const githubHostKeys = `github.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl
github.com ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg=
github.com ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQCj7ndNxQowgcQnjshcLrqPEiiphnt+VTTvDP6mHBL9j1aNUkY4Ue1gvwnGLVlOhGeYrnZaMgRK6+PKCUXaDbC7qtbW8gIkhL7aGCsOr/C56SJMy/BCZfxd1nWzAOxSDPgVsmerOBYfNqltV9/hWCqBywINIR+5dIg6JTJ72pcEpEjcYgXkE2YEFXV1JHnsKgbLWNlhScqb2UmyRkQyytRLtL+38TGxkxCflmO+5Z8CSSNY7GidjMIZ7Q4zMjA2n1nGrlTDkzwDCsw+wqFPGQA179cnfGWOWRVruj16z6XyvxvjJwbz0wQZ75XK5tKSb7FNyeIEs4TT4jk+S4dhPeAUC5y+bDYirYgM4GC7uEnztnZyaVWQ7B381AK4Qdrwt51ZqExKbQpTUNn+EjqoTwvqNj4kqx5QUCI0ThS/YkOxJCXmPUWZbhjpCg56i+2aB6CmK2JGhn57K5mj0MNdBXA4/WnwH6XoPWJzK5Nyu2zB3nAZp+S5hpQs+p1vN1/wsjk=
`

const githubHost = "github.com"

// Host is the name of the Git host, without a port; empty where the URL has none.
func (g Git) Host() string {
	target, err := url.Parse(g.URL)
	if err != nil {
		return ""
	}
	return target.Hostname()
}

// Repository is the owner and the name of the repository, from the last two parts of the URL's
// path.
func (g Git) Repository() (owner, name string) {
	target, err := url.Parse(g.URL)
	if err != nil {
		return "", ""
	}
	owner, name = path.Split(strings.TrimSuffix(strings.Trim(target.Path, "/"), ".git"))
	return path.Base(strings.Trim(owner, "/")), name
}

// knownAs is the Git host as known_hosts has it: [host]:port, unless the port is SSH's own.
func (g Git) knownAs() string {
	target, err := url.Parse(g.URL)
	if err != nil || target.Hostname() == "" {
		return ""
	}
	return knownhosts.Normalize(net.JoinHostPort(target.Hostname(), cmp.Or(target.Port(), "22")))
}

// HostKeys are the SSH host keys of the Git host, as lines of known_hosts.
func (g Git) HostKeys() string {
	if g.KnownHosts == "" && g.Host() == githubHost {
		return githubHostKeys
	}
	return strings.TrimSpace(g.KnownHosts) + "\n"
}

// API is the base URL of the GitHub API that the deploy key is registered at, with a slash at
// its end; empty where it is registered by hand.
func (g Git) API() string {
	switch {
	case g.GitHubURL != "":
		return strings.TrimSuffix(g.GitHubURL, "/") + "/"
	case g.Host() == githubHost:
		return "https://api.github.com/"
	default:
		return ""
	}
}

// Pushes says whether something in the cluster pushes to Git, so that the deploy key may write.
func (c *Config) Pushes() bool { return c.Delivery == FluxCD && c.Flux.ImageAutomation }

// PlainRegistry says whether the registry that is scanned speaks HTTP without TLS: one on this
// machine itself does.
func (f Flux) PlainRegistry() bool {
	host, _, err := net.SplitHostPort(f.ImageRegistry)
	if err != nil {
		host = f.ImageRegistry
	}
	return loopback(host)
}
