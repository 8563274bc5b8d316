package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"

	"golang.org/x/crypto/ssh"
)

var branchPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$`)

const exampleGit = "ssh://git@github.com/OWNER/REPOSITORY.git"

// git judges where Flux pulls from; what stands there must be right in either delivery, so that
// the pivot is one key.
func (v *validator) git() {
	v.gitURL()
	v.branch()
	v.knownHosts()
	v.githubURL()
	v.suspended()
	if channel := v.Flux.SlackChannel; !channelPattern.MatchString(channel) {
		v.add("flux.slackChannel", channel, "a Slack channel has 1 to 80 lower-case letters, digits, hyphens and underscores",
			"for example cluster-status")
	}
	if v.Flux.CommitStatus && v.Git.API() == "" && v.Git.URL != "" {
		v.say("flux.commitStatus", "true", "only GitHub has commit statuses, and git.url is elsewhere",
			setCommand("git.githubURL", false, ""))
	}
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

func (v *validator) gitURL() {
	const path = "git.url"
	text := v.Git.URL
	target, err := url.Parse(text)
	scp := regexp.MustCompile(`^([a-z_][a-z0-9_-]*@[A-Za-z0-9.-]+):([^/].*)$`).FindStringSubmatch(text)
	owner, name := v.Git.Repository()
	switch {
	case text == "" && v.Delivery == FluxCD:
		v.say(path, missing, "flux delivery pulls from it", setCommand(path, false, exampleGit))
	case text == "":
	case scp != nil:
		v.add(path, text, "Flux takes addresses of the form ssh://", setCommand(path, false, "ssh://"+scp[1]+"/"+scp[2]))
	case err != nil || target.Host == "":
		v.add(path, text, "it is no URL", "for example "+exampleGit)
	case target.User != nil && hasPassword(target):
		v.say(path, secretValue, "it holds a password", "for example "+exampleGit)
	case target.Scheme != "ssh":
		v.add(path, text, "Flux pulls over SSH, with the deploy key", "for example "+exampleGit)
	case target.User == nil || target.User.Username() == "":
		v.add(path, text, "it names no user to log in as", "for example "+exampleGit)
	case owner == "" || owner == "." || name == "":
		v.add(path, text, "it must end with the owner and the name of a repository", "for example "+exampleGit)
	}
}

func hasPassword(target *url.URL) bool {
	_, given := target.User.Password()
	return given
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
	for number, line := range strings.Split(strings.TrimSpace(v.Git.KnownHosts), "\n") {
		if _, _, _, _, _, err := ssh.ParseKnownHosts([]byte(line)); err != nil {
			v.say(path, "unreadable", fmt.Sprintf("line %d is no line of known_hosts", number+1), mend)
			return
		}
	}
}

func (v *validator) githubURL() {
	const path = "git.githubURL"
	const example = "for example https://github.example.net/api/v3/"
	text := v.Git.GitHubURL
	target, err := url.Parse(text)
	switch {
	case text == "":
	case err != nil || target.Host == "":
		v.add(path, text, "it is no URL", example)
	case target.User != nil:
		v.say(path, secretValue, "it holds a user name or a password", "a token comes from the environment: GITHUB_TOKEN")
	case target.Scheme != "https" && !loopback(target.Hostname()):
		v.add(path, text, "a token goes there, so it must begin with https://", example)
	}
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
	mend := "run: make keys STACK=…"
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
	if text != "" && text != Encrypted && (err != nil || target.Host == "" || target.Scheme != "https" && !loopback(target.Hostname())) {
		v.say(path, secretValue, "a webhook begins with https://", setCommand(path, true, ""))
	}
}
