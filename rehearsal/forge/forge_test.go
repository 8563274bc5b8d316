package forge_test

import (
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	gitconfig "github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/transport"
	gitssh "github.com/go-git/go-git/v5/plumbing/transport/ssh"
	"github.com/google/go-containerregistry/pkg/crane"
	gogithub "github.com/google/go-github/v74/github"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/nullify005/manager-cluster-state/rehearsal/forge"
	"github.com/nullify005/manager-cluster-state/rehearsal/forge/github"
)

const (
	owner      = "nullify005"
	name       = "manager-cluster-state"
	repository = owner + "/" + name
	other      = owner + "/service-intesis"
	token      = "not-a-real-token"
)

// running is a forge that answers, and what a client has to know of it.
type running struct {
	*forge.Forge
	*forge.Client

	folder string
	stop   func()
}

func start(t *testing.T, folder, sshAddress, httpAddress string) *running {
	t.Helper()
	f, err := forge.New(t.Context(), forge.Options{
		Folder: folder, SSHAddress: sshAddress, HTTPAddress: httpAddress,
		Repositories: []string{repository, other}, GitHubToken: token,
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	stop := func() {
		cancel()
		select {
		case err := <-ended:
			require.NoError(t, err)
			ended <- nil // for who stops it once more
		case <-time.After(20 * time.Second):
			t.Error("the forge did not stop")
		}
	}
	t.Cleanup(stop)
	r := &running{Forge: f, Client: forge.NewClient(f.URL()), folder: folder, stop: stop}
	waiting, done := context.WithTimeout(t.Context(), 10*time.Second)
	defer done()
	health, err := r.Wait(waiting)
	require.NoError(t, err)
	require.Equal(t, forge.Health{SSHAddress: f.SSHAddress(), KnownHosts: f.KnownHosts()}, health)
	return r
}

func startAnew(t *testing.T) *running {
	t.Helper()
	return start(t, t.TempDir(), "127.0.0.1:0", "127.0.0.1:0")
}

func (r *running) gitURL(of string) string { return "ssh://git@" + r.SSHAddress() + "/" + of + ".git" }

// key is somebody's.
type key struct {
	signer ssh.Signer
	pem    []byte
}

func newKey(t *testing.T) key {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	block, err := ssh.MarshalPrivateKey(private, "")
	require.NoError(t, err)
	signer, err := ssh.NewSignerFromKey(private)
	require.NoError(t, err)
	return key{signer: signer, pem: pem.EncodeToMemory(block)}
}

func (k key) public() string { return string(ssh.MarshalAuthorizedKey(k.signer.PublicKey())) }

// login is that key, at the host whose key is known.
func (r *running) login(t *testing.T, k key) transport.AuthMethod {
	t.Helper()
	return r.loginAs(t, "git", k)
}

func (r *running) loginAs(t *testing.T, user string, k key) transport.AuthMethod {
	t.Helper()
	known, err := knownhosts.New(filepath.Join(r.folder, "known_hosts"))
	require.NoError(t, err)
	return &gitssh.PublicKeys{User: user, Signer: k.signer, HostKeyCallbackHelper: gitssh.HostKeyCallbackHelper{HostKeyCallback: known}}
}

func (r *running) ownerKey(t *testing.T) key {
	t.Helper()
	k := newKey(t)
	require.NoError(t, os.WriteFile(filepath.Join(r.folder, "authorized_keys"), []byte("# people\n\n"+newKey(t).public()+k.public()), 0o600))
	return k
}

func (r *running) hub(t *testing.T) *gogithub.Client {
	t.Helper()
	c, err := gogithub.NewClient(nil).WithAuthToken(token).WithEnterpriseURLs(r.URL(), r.URL())
	require.NoError(t, err)
	return c
}

func (r *running) deployKey(t *testing.T, of string, readOnly bool) (key, int64) {
	t.Helper()
	k := newKey(t)
	_, of, _ = strings.Cut(of, "/")
	made, _, err := r.hub(t).Repositories.CreateKey(t.Context(), owner, of, &gogithub.Key{Title: new("flux"), Key: new(k.public()), ReadOnly: new(readOnly)})
	require.NoError(t, err)
	return k, made.GetID()
}

// push commits a file to main and pushes it; the tree is the caller's own.
func (r *running) push(t *testing.T, of string, k key, text string) (plumbing.Hash, error) {
	t.Helper()
	folder := t.TempDir()
	tree, err := git.PlainInitWithOptions(folder, &git.PlainInitOptions{InitOptions: git.InitOptions{DefaultBranch: "refs/heads/main"}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "file"), []byte(text), 0o600))
	work, err := tree.Worktree()
	require.NoError(t, err)
	_, err = work.Add("file")
	require.NoError(t, err)
	commit, err := work.Commit(text, &git.CommitOptions{Author: &object.Signature{Name: "somebody", Email: "somebody@example.com", When: time.Now()}})
	require.NoError(t, err)
	_, err = tree.CreateRemote(&gitconfig.RemoteConfig{Name: "origin", URLs: []string{r.gitURL(of)}})
	require.NoError(t, err)
	return commit, tree.Push(&git.PushOptions{Auth: r.login(t, k), Force: true})
}

// main is what a key sees of the main branch.
func (r *running) main(t *testing.T, of string, k key) (plumbing.Hash, error) {
	t.Helper()
	tree, err := git.PlainClone(t.TempDir(), false, &git.CloneOptions{URL: r.gitURL(of), Auth: r.login(t, k), ReferenceName: "refs/heads/main"})
	if err != nil {
		return plumbing.ZeroHash, err
	}
	head, err := tree.Head()
	require.NoError(t, err)
	return head.Hash(), nil
}

func TestGit_ShowsAPushAtOnce(t *testing.T) {
	r := startAnew(t)
	people := r.ownerKey(t)
	pulls, _ := r.deployKey(t, repository, true)
	for _, text := range []string{"one", "two"} {
		pushed, err := r.push(t, repository, people, text)
		require.NoError(t, err)
		seen, err := r.main(t, repository, pulls)
		require.NoError(t, err)
		assert.Equal(t, pushed, seen)
	}
	keys, err := r.DeployKeys(t.Context())
	require.NoError(t, err)
	require.Len(t, keys, 1)
	assert.WithinDuration(t, time.Now(), keys[0].LastUsed, time.Minute)
}

func TestGit_LetsOnlyKeysPushThatMayWrite(t *testing.T) {
	r := startAnew(t)
	first, err := r.push(t, repository, r.ownerKey(t), "one")
	require.NoError(t, err)
	reads, _ := r.deployKey(t, repository, true)
	_, err = r.push(t, repository, reads, "two")
	require.ErrorContains(t, err, "ERROR: The key you are authenticating with has been marked as read only.")
	seen, err := r.main(t, repository, reads)
	require.NoError(t, err)
	assert.Equal(t, first, seen)

	writes, _ := r.deployKey(t, repository, false)
	third, err := r.push(t, repository, writes, "three")
	require.NoError(t, err)
	seen, err = r.main(t, repository, reads)
	require.NoError(t, err)
	assert.Equal(t, third, seen)
}

func TestGit_RefusesAKeyOnceItIsRemoved(t *testing.T) {
	r := startAnew(t)
	_, err := r.push(t, repository, r.ownerKey(t), "one")
	require.NoError(t, err)
	pulls, id := r.deployKey(t, repository, true)
	_, err = r.main(t, repository, pulls)
	require.NoError(t, err)

	require.NoError(t, r.DeleteDeployKey(t.Context(), repository, id))
	_, err = r.main(t, repository, pulls)
	require.ErrorContains(t, err, "unable to authenticate")
	require.ErrorContains(t, r.DeleteDeployKey(t.Context(), repository, id), "404")
}

func TestGit_RefusesWhomItDoesNotKnow(t *testing.T) {
	r := startAnew(t)
	people := r.ownerKey(t)
	_, err := r.push(t, repository, people, "one")
	require.NoError(t, err)
	_, err = r.push(t, other, people, "one")
	require.NoError(t, err)

	_, err = r.main(t, repository, newKey(t))
	require.ErrorContains(t, err, "unable to authenticate", "a key that is registered nowhere")
	_, err = git.PlainClone(t.TempDir(), true, &git.CloneOptions{URL: strings.Replace(r.gitURL(repository), "git@", "root@", 1), Auth: r.loginAs(t, "root", people)})
	require.ErrorContains(t, err, "unable to authenticate", "a user who isn't git")
	pulls, _ := r.deployKey(t, other, true)
	_, err = r.main(t, repository, pulls)
	require.ErrorIs(t, err, transport.ErrRepositoryNotFound, "the deploy key of another repository")
	_, err = r.main(t, owner+"/nothing", people)
	require.ErrorIs(t, err, transport.ErrRepositoryNotFound)
}

func TestGit_RunsNothingButGitInItsFolder(t *testing.T) {
	r := startAnew(t)
	people := r.ownerKey(t)
	known, err := knownhosts.New(filepath.Join(r.folder, "known_hosts"))
	require.NoError(t, err)
	client, err := ssh.Dial("tcp", r.SSHAddress(), &ssh.ClientConfig{
		User: "git", Auth: []ssh.AuthMethod{ssh.PublicKeys(people.signer)}, HostKeyCallback: known, Timeout: 10 * time.Second,
	})
	require.NoError(t, err)
	defer func() { _ = client.Close() }()
	for command, says := range map[string]string{
		"id":              "Invalid command",
		"git-upload-pack": "Invalid command",
		"git-upload-archive '/" + repository + ".git'":                                "Invalid command",
		"git-upload-pack '/" + repository + ".git' --strict":                          "Invalid command",
		"git-upload-pack '/" + repository + ".git'; id":                               "Invalid command",
		"git-upload-pack --version":                                                   "Repository not found",
		"git-upload-pack '/../" + repository + ".git'":                                "Repository not found",
		"git-upload-pack '/" + owner + "/../" + repository + ".git'":                  "Repository not found",
		"git-upload-pack '" + filepath.Join(r.folder, "git", repository+".git") + "'": "Repository not found",
		"git-receive-pack '$(id)'":                                                    "Repository not found",
	} {
		session, err := client.NewSession()
		require.NoError(t, err)
		said, err := session.CombinedOutput(command)
		var exit *ssh.ExitError
		require.ErrorAs(t, err, &exit, command)
		assert.Contains(t, string(said), says, command)
	}
	session, err := client.NewSession()
	require.NoError(t, err)
	said, err := session.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, session.Shell())
	require.Error(t, session.Wait())
	text := make([]byte, 200)
	n, _ := said.Read(text)
	assert.Contains(t, string(text[:n]), "does not provide shell access")
}

func TestForge_KeepsEverythingOverARestart(t *testing.T) {
	before := startAnew(t)
	people := before.ownerKey(t)
	pushed, err := before.push(t, repository, people, "one")
	require.NoError(t, err)
	pulls, _ := before.deployKey(t, repository, true)
	_, err = before.main(t, repository, pulls)
	require.NoError(t, err)
	post(t, before.URL()+"/slack/services/x", `{"text":"hello"}`)
	image := forge.Image{Name: "nullify005/service-intesis", Tag: "v9.9.9"}
	require.NoError(t, before.Client.PushImage(t.Context(), image))
	digest, err := crane.Digest(before.Registry() + "/nullify005/service-intesis:v9.9.9")
	require.NoError(t, err)
	keys, err := before.DeployKeys(t.Context())
	require.NoError(t, err)
	messages, err := before.SlackMessages(t.Context())
	require.NoError(t, err)
	before.stop()

	// At the same addresses, so that its clients need no other known_hosts.
	after := start(t, before.folder, before.SSHAddress(), before.Registry())
	assert.Equal(t, before.KnownHosts(), after.KnownHosts())
	seen, err := after.main(t, repository, pulls)
	require.NoError(t, err)
	assert.Equal(t, pushed, seen)
	_, err = after.push(t, repository, people, "two")
	require.NoError(t, err)
	again, err := after.DeployKeys(t.Context())
	require.NoError(t, err)
	require.Len(t, again, 1)
	assert.Equal(t, keys[0].ID, again[0].ID)
	heard, err := after.SlackMessages(t.Context())
	require.NoError(t, err)
	assert.Equal(t, messages, heard)
	kept, err := crane.Digest(after.Registry() + "/nullify005/service-intesis:v9.9.9")
	require.NoError(t, err)
	assert.Equal(t, digest, kept)
	_, err = crane.Pull(after.Registry() + "/nullify005/service-intesis:v9.9.9")
	require.NoError(t, err)
}

// A kill or a full disk ends a file in the middle of a line.
func TestForge_StartsWithALineThatWasCutOff(t *testing.T) {
	r := startAnew(t)
	image := forge.Image{Name: "nullify005/service-intesis", Tag: "v1.0.0"}
	require.NoError(t, r.Client.PushImage(t.Context(), image))
	for number := range 2 {
		post(t, r.URL()+"/slack/services/x", `{"text":"hello"}`)
		messages, err := r.SlackMessages(t.Context())
		require.NoError(t, err)
		require.Len(t, messages, number+1, "what is added stands on a line of its own")
		_, err = crane.Digest(r.Registry() + "/nullify005/service-intesis:v1.0.0")
		require.NoError(t, err)
		r.stop()
		for _, name := range []string{"slack.jsonl", filepath.Join("registry", "manifests.jsonl")} {
			file, err := os.OpenFile(filepath.Join(r.folder, name), os.O_APPEND|os.O_WRONLY, 0o600)
			require.NoError(t, err)
			_, err = file.WriteString(`{"cut o`)
			require.NoError(t, err)
			require.NoError(t, file.Close())
		}
		r = start(t, r.folder, r.SSHAddress(), r.Registry())
	}
}

func post(t *testing.T, url, body string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return response.StatusCode
}

func TestSlack_KeepsMessagesInTheirOrder(t *testing.T) {
	r := startAnew(t)
	none, err := r.SlackMessages(t.Context())
	require.NoError(t, err)
	assert.Empty(t, none)
	for i := range 3 {
		assert.Equal(t, http.StatusOK, post(t, r.URL()+"/slack/services/T0/B0/x", fmt.Sprintf(`{"text":"message %d"}`, i)))
	}
	assert.Equal(t, http.StatusBadRequest, post(t, r.URL()+"/slack/services/T0/B0/x", "no JSON"))
	messages, err := r.SlackMessages(t.Context())
	require.NoError(t, err)
	require.Len(t, messages, 3)
	for i, message := range messages {
		assert.Equal(t, "/slack/services/T0/B0/x", message.Path)
		assert.JSONEq(t, fmt.Sprintf(`{"text":"message %d"}`, i), string(message.Body))
		assert.WithinDuration(t, time.Now(), message.Time, time.Minute)
	}
}

func TestRegistry_HasTheTagsThatArePushed(t *testing.T) {
	r := startAnew(t)
	digests := map[string]bool{}
	for _, tag := range []string{"v0.4.4", "v9.9.9"} {
		require.NoError(t, r.Client.PushImage(t.Context(), forge.Image{Name: "nullify005/service-intesis", Tag: tag}))
		digest, err := crane.Digest(r.Registry() + "/nullify005/service-intesis:" + tag)
		require.NoError(t, err)
		digests[digest] = true
	}
	assert.Len(t, digests, 2, "each tag is an image of its own")
	tags, err := crane.ListTags(r.Registry() + "/nullify005/service-intesis")
	require.NoError(t, err)
	assert.Equal(t, []string{"v0.4.4", "v9.9.9"}, tags)
	require.ErrorContains(t, r.Client.PushImage(t.Context(), forge.Image{Name: "nullify005/service-intesis"}), "400")
}

func TestGitHub_TakesStatusesOfCommitsThatWerePushed(t *testing.T) {
	r := startAnew(t)
	pushed, err := r.push(t, repository, r.ownerKey(t), "one")
	require.NoError(t, err)
	status := func(sha string) error {
		_, _, err := r.hub(t).Repositories.CreateStatus(t.Context(), owner, name, sha,
			&gogithub.RepoStatus{State: new("success"), Context: new("kustomization/apps")})
		return err
	}
	require.NoError(t, status(pushed.String()))
	require.ErrorContains(t, status(strings.Repeat("0", 40)), "No commit found")
	require.ErrorContains(t, status("main"), "No commit found")
	statuses, err := r.Statuses(t.Context())
	require.NoError(t, err)
	require.Len(t, statuses, 1)
	assert.Equal(t, pushed.String(), statuses[0].SHA)
	assert.Equal(t, "kustomization/apps", statuses[0].Context)
}

func TestClient_MakesGitHubFailAndHeal(t *testing.T) {
	r := startAnew(t)
	get := func() error {
		_, _, err := r.hub(t).Repositories.Get(t.Context(), owner, name)
		return err
	}
	require.NoError(t, r.Fail(t.Context(), github.Fault{Kind: github.ServerError, Times: 2}))
	require.ErrorContains(t, get(), "502")
	require.NoError(t, r.Heal(t.Context()))
	require.NoError(t, get())
	require.ErrorContains(t, r.Fail(t.Context(), github.Fault{Kind: "bad-luck"}), "bad-luck")
}

func TestClient_WaitsNoLongerThanItMay(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = forge.NewClient("http://" + address).Wait(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "refused", "and says what was in the way")
}

func TestNew_ListensOnLoopbackAlone(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "forge")
	_, err := forge.New(t.Context(), forge.Options{Folder: folder, SSHAddress: "0.0.0.0:0", HTTPAddress: "[::]:8080", GitHubToken: token})
	require.ErrorContains(t, err, "the SSH address is 0.0.0.0:0: a stand-in listens on loopback alone; make it 127.0.0.1:0")
	require.ErrorContains(t, err, "make it 127.0.0.1:8080")
	assert.NoDirExists(t, folder)
	_, err = forge.New(t.Context(), forge.Options{SSHAddress: ":22", HTTPAddress: "127.0.0.1:0", GitHubToken: token})
	require.ErrorContains(t, err, "no address with a port")
	require.ErrorContains(t, err, "no folder")
}

func TestGit_ServesTheSystemsOwnClient(t *testing.T) {
	for _, program := range []string{"git", "ssh"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("no %s on this machine: install it (Debian: git, openssh-client); go-git's client is tested all the same", program)
		}
	}
	r := startAnew(t)
	people := r.ownerKey(t)
	pulls, id := r.deployKey(t, repository, true)
	work := t.TempDir()
	run := func(k key, args ...string) (string, error) {
		identity := filepath.Join(work, ssh.FingerprintLegacyMD5(k.signer.PublicKey()))
		require.NoError(t, os.WriteFile(identity, k.pem, 0o600))
		command := exec.CommandContext(t.Context(), "git", args...)
		command.Dir = work
		command.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_TERMINAL_PROMPT=0", "GIT_TRACE_PACKET=1",
			"GIT_SSH_COMMAND=ssh -F none -i '"+identity+"' -o IdentitiesOnly=yes -o IdentityAgent=none -o BatchMode=yes "+
				"-o StrictHostKeyChecking=yes -o UserKnownHostsFile='"+filepath.Join(r.folder, "known_hosts")+"' -o GlobalKnownHostsFile="+os.DevNull,
			"GIT_AUTHOR_NAME=somebody", "GIT_AUTHOR_EMAIL=somebody@example.com", "GIT_COMMITTER_NAME=somebody", "GIT_COMMITTER_EMAIL=somebody@example.com")
		out, err := command.CombinedOutput()
		return string(out), err
	}
	must := func(out string, err error) string {
		t.Helper()
		require.NoError(t, err, out)
		return out
	}
	tree := filepath.Join(work, "tree")
	must(run(people, "clone", r.gitURL(repository), tree))
	require.NoError(t, os.WriteFile(filepath.Join(tree, "file"), []byte("text"), 0o600))
	must(run(people, "-C", tree, "add", "file"))
	must(run(people, "-C", tree, "commit", "-m", "a file"))
	must(run(people, "-C", tree, "push", "origin", "HEAD:main"))

	said := must(run(pulls, "clone", "--depth=1", r.gitURL(repository), filepath.Join(work, "clone")))
	assert.Contains(t, said, "version 2", "the protocol that the client asked for")
	assert.FileExists(t, filepath.Join(work, "clone", "file"))
	said, err := run(pulls, "-C", tree, "push", "origin", "HEAD:refs/heads/other")
	require.Error(t, err)
	assert.Contains(t, said, "ERROR: The key you are authenticating with has been marked as read only.")

	require.NoError(t, r.DeleteDeployKey(t.Context(), repository, id))
	said, err = run(pulls, "-C", tree, "fetch", "origin")
	require.Error(t, err)
	assert.Contains(t, said, "Permission denied (publickey)")
	must(run(people, "-C", tree, "fetch", "origin"))
}
