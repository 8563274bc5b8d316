package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
)

var (
	branchPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$`)
	// sshUserPattern fits an address of SSH that names a user and no password.
	sshUserPattern = regexp.MustCompile(`^(ssh://)?[a-z_][a-z0-9_-]*@[^@]*$`)
	hostPattern    = regexp.MustCompile(`^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*|[0-9a-f:]*:[0-9a-f:]*)$`)
)

const exampleGit = "ssh://git@github.com/OWNER/REPOSITORY.git"

// git judges where Flux pulls from; what stands there must be right in either delivery, so that
// the pivot is one key.
func (v *validator) git() {
	v.gitURL()
	v.branch()
	v.knownHosts()
	v.githubURL()
	v.suspended()
	v.channel("flux.slackChannel", v.Flux.SlackChannel)
	v.commitStatus()
	v.imageRegistry()
	if v.Delivery != FluxCD {
		if len(v.Suspend) > 0 {
			v.say("suspend", "a list of workloads", "only Flux can leave a workload alone, and delivery is direct", removeCommand("suspend"))
		}
		return
	}
	if v.skipSecrets {
		return
	}
	if v.Secrets.DeployKey == "" {
		v.say("secrets.deployKey", missing, "Flux pulls with it", "run: make keys STACK=…")
	}
	if len(v.Sealing.Keys) == 0 {
		v.say("sealing.keys", missing, "what Flux pulls has its secrets sealed", "run: make keys STACK=…")
	}
	if v.Flux.CommitStatus && v.Secrets.Notifications.GitHubToken == "" {
		v.say("secrets.notifications.githubToken", missing, "flux.commitStatus writes with it",
			setCommand("secrets.notifications.githubToken", true, ""))
	}
}

func (v *validator) commitStatus() {
	const path = "flux.commitStatus"
	if !v.Flux.CommitStatus {
		return
	}
	if !v.Flux.Notifications {
		v.say(path, "true", "notification-controller tells GitHub, and flux.notifications is false", setCommand("flux.notifications", false, "true"))
	}
	if v.report.sound("git.url") && v.Git.URL != "" && v.Git.API() == "" {
		v.say(path, "true", "only GitHub has commit statuses, and git.url is elsewhere",
			"set git.githubURL if that is a GitHub too; if not, "+setCommand(path, false, "false"))
	}
}

// imageRegistry: an image's name without a dot or a port before its first slash is one of Docker
// Hub's.
func (v *validator) imageRegistry() {
	const path = "flux.imageRegistry"
	const example = "for example 127.0.0.1:5000"
	text := v.Flux.ImageRegistry
	target, err := url.Parse("//" + text)
	switch {
	case text == "":
	case strings.Contains(text, "@"):
		v.say(path, secretValue, "it holds a login, and images are scanned without one", example)
	case strings.Contains(text, "://"):
		_, bare, _ := strings.Cut(text, "://")
		bare, _, _ = strings.Cut(bare, "/")
		v.add(path, text, "a registry has no scheme: it is a host, and a port if it isn't that of https", setCommand(path, false, bare))
	case err != nil || target.Host != text || !hostPattern.MatchString(target.Hostname()) || !portIsOne(target.Host, target.Port()):
		v.add(path, text, "it must be a host, and a port if it isn't that of https", example)
	case !strings.ContainsAny(text, ".:"):
		v.add(path, text, "without a dot or a port it would be a folder of Docker Hub", setCommand(path, false, text+":5000"))
	}
}

// portIsOne says whether a host has a port that there is, or none.
func portIsOne(host, port string) bool {
	if port == "" {
		return !strings.HasSuffix(host, ":")
	}
	number, err := strconv.ParseUint(port, 10, 16)
	return err == nil && number > 0
}

func (v *validator) gitURL() {
	const path = "git.url"
	text := v.Git.URL
	target, err := url.Parse(text)
	scp := regexp.MustCompile(`^([a-z_][a-z0-9_-]*@[A-Za-z0-9.-]+):([^/].*)$`).FindStringSubmatch(text)
	owner, name := v.Git.Repository()
	named := !slices.Contains([]string{"", ".", ".."}, owner) && name != ""
	switch {
	case text == "":
		if v.Delivery == FluxCD {
			v.say(path, missing, "flux delivery pulls from it", setCommand(path, false, exampleGit))
		}
	case scp != nil:
		v.add(path, text, "Flux takes addresses of the form ssh://", setCommand(path, false, "ssh://"+scp[1]+"/"+scp[2]))
	case !showable(text):
		v.say(path, secretValue, "it holds a password or a token, and Flux logs in with the deploy key alone", "for example "+exampleGit)
	case err != nil || target.Host == "":
		v.add(path, text, "it is no URL", "for example "+exampleGit)
	case !hostPattern.MatchString(strings.ToLower(target.Hostname())):
		v.add(path, text, "its host is neither a name nor an address", "for example "+exampleGit)
	case target.Scheme == "https" && named:
		v.add(path, text, "Flux pulls over SSH, with the deploy key", setCommand(path, false, "ssh://git@"+target.Host+"/"+owner+"/"+name+".git"))
	case target.Scheme != "ssh":
		v.add(path, text, "Flux pulls over SSH, with the deploy key", "for example "+exampleGit)
	case target.User.Username() == "":
		v.add(path, text, "it names no user to log in as", "for example "+exampleGit)
	case !named, target.RawQuery != "", target.Fragment != "":
		v.add(path, text, "it must end with the owner and the name of a repository", "for example "+exampleGit)
	case !validPort(target.Port()):
		v.add(path, text, "a port is a number from 1 to 65535", "for example "+exampleGit)
	}
}

// showable says whether nothing of an address can be a secret: whom to log in as at SSH is none.
func showable(address string) bool {
	return !strings.Contains(address, "@") || sshUserPattern.MatchString(address)
}

func (v *validator) branch() {
	const path = "git.branch"
	branch := v.Git.Branch
	switch {
	case branch == "":
		v.say(path, missing, "Flux pulls one branch", setCommand(path, false, defaultOf(path)))
	case !branchPattern.MatchString(branch), strings.Contains(branch, ".."), strings.Contains(branch, "//"),
		strings.HasSuffix(branch, "/"), strings.HasSuffix(branch, ".lock"):
		v.add(path, branch, "it is no name of a Git branch", "for example "+defaultOf(path))
	}
}

// knownHosts: a host key is never asked for over the network, so it has to stand here.
func (v *validator) knownHosts() {
	const path = "git.knownHosts"
	const mend = "take them from where the host publishes them, one line each: HOST ssh-ed25519 AAAA…"
	if v.Git.KnownHosts == "" {
		if v.Git.URL != "" && v.Git.Host() != githubHost && v.report.sound("git.url") {
			v.say(path, missing, "the host keys of "+v.Git.Host()+" are not built in", mend)
		}
		return
	}
	var known []string
	for number, line := range strings.Split(strings.TrimSpace(v.Git.KnownHosts), "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		_, hosts, _, _, _, err := ssh.ParseKnownHosts([]byte(line))
		if err != nil {
			v.say(path, "unreadable", fmt.Sprintf("line %d is no line of known_hosts", number+1), mend)
			return
		}
		known = append(known, hosts...)
	}
	if host := v.Git.knownAs(); host != "" && v.report.sound("git.url") && !slices.ContainsFunc(known, mayBe(host)) {
		v.say(path, "of other hosts", "none of its lines is for "+host, mend)
	}
}

// mayBe says whether a pattern of known_hosts fits a host; one that is hashed, or has wildcards,
// is taken to fit.
func mayBe(host string) func(pattern string) bool {
	return func(pattern string) bool { return pattern == host || strings.ContainsAny(pattern, "|*?") }
}

func (v *validator) githubURL() {
	const path = "git.githubURL"
	const example = "for example https://github.example.net/api/v3/"
	text := v.Git.GitHubURL
	target, err := url.Parse(text)
	switch {
	case text == "":
	case strings.Contains(text, "@"):
		v.say(path, secretValue, "it holds a login", "a token comes from the environment: GITHUB_TOKEN")
	case err != nil || target.Host == "":
		v.add(path, text, "it is no URL", example)
	case !keepsSecrets(target):
		v.add(path, text, "a token goes there, so it must begin with https://", example)
	}
}

// keepsSecrets says whether nobody can listen in: over TLS, or within this machine.
func keepsSecrets(target *url.URL) bool {
	return target.Scheme == "https" || target.Scheme == "http" && loopback(target.Hostname())
}

func loopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback()
}

// suspended: whether there are such workloads, the catalog says.
func (v *validator) suspended() {
	seen := map[string]bool{}
	for i, name := range v.Suspend {
		path := fmt.Sprintf("suspend[%d]", i)
		v.label(path, name)
		switch {
		case name == "":
			v.say(path, missing, "it must be the name of a workload", removeCommand(path))
		case seen[name]:
			v.add(path, name, "it is on the list already", removeCommand(path))
		}
		seen[name] = true
	}
}

// deployKey is judged without ever being shown.
func (v *validator) deployKey() {
	const path = "secrets.deployKey"
	text := v.Secrets.DeployKey
	if text == "" || text == Encrypted {
		return
	}
	mend := "make a new one: " + removeCommand(path) + ", then make keys STACK=…"
	key, err := ssh.ParsePrivateKey([]byte(text))
	switch {
	case err != nil:
		v.say(path, secretValue, "it is no SSH private key in PEM, or it has a passphrase", mend)
	case key.PublicKey().Type() != ssh.KeyAlgoED25519:
		v.say(path, secretValue, "it is of type "+key.PublicKey().Type()+", and a deploy key is ed25519", mend)
	}
}

// notifications: what a message is sent to.
func (v *validator) notifications() {
	const path = "secrets.notifications.slackWebhook"
	text := v.Secrets.Notifications.SlackWebhook
	target, err := url.Parse(text)
	if text != "" && text != Encrypted && (err != nil || target.Host == "" || !keepsSecrets(target)) {
		v.say(path, secretValue, "a webhook begins with https://", setCommand(path, true, ""))
	}
}
