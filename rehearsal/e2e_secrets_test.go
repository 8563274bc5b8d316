package rehearsal_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/config"
)

// places are all that somebody could look at without being let in to a secret: contents by where they
// are.
type places map[string][]byte

// leaks says which secrets are where.
func (c canaries) leaks(all places) []string {
	var found []string
	for _, place := range slices.Sorted(maps.Keys(all)) {
		for _, path := range c.in(all[place]) {
			found = append(found, place+" has "+path)
		}
	}
	return found
}

// assertNothingInTheClear looks for every secret of the stack everywhere but in the cluster's own
// Secrets, where they belong. What was collected meanwhile is looked through too.
func (s *stage) assertNothingInTheClear(t *testing.T, meanwhile places) {
	cfg, err := s.SecretConfig(t.Context())
	require.NoError(t, err)
	all := newCanaries(t, cfg)
	all.assertComplete(t)
	maps.Copy(all, s.passphrase(t))
	start := time.Now()
	looked := s.look(t)
	maps.Copy(looked, meanwhile)
	assert.Empty(t, all.leaks(looked))
	size := 0
	for _, content := range looked {
		size += len(content)
	}
	t.Logf("%d secrets, %d places, %d MiB, %s", len(all), len(looked), size>>20, time.Since(start).Round(time.Millisecond))

	inUse := map[string]bool{}
	for _, secret := range s.secrets(t) {
		for _, value := range secret.Data {
			for _, path := range all.in(value) {
				inUse[path] = true
			}
		}
	}
	// No machine is logged in to, nothing is shipped away, and Git is asked for nothing unless it delivers.
	elsewhere := []string{passphraseFile, "secrets.sshKey#0", "secrets.cloud.token#0"}
	if cfg.Delivery == config.Direct {
		elsewhere = append(elsewhere, "secrets.deployKey#0", "secrets.notifications.githubToken#0")
	}
	assert.Empty(t, slices.DeleteFunc(slices.Sorted(maps.Keys(all)), func(path string) bool {
		return inUse[path] || slices.Contains(elsewhere, path)
	}), "what was searched for is what the cluster has")
	s.assertFound(t, all)
}

// passphrase is the one key that is in no config. GITHUB_TOKEN has what secrets.notifications.githubToken has: GitHub's
// stand-in takes no other.
func (s *stage) passphrase(t *testing.T) canaries {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.Folder(), passphraseFile))
	require.NoError(t, err)
	require.Contains(t, s.Environment(), "PULUMI_CONFIG_PASSPHRASE_FILE="+filepath.Join(s.Folder(), passphraseFile))
	return canaries{passphraseFile: formsOf(strings.TrimSpace(string(text)))}
}

// assertNowhere looks for texts in state, logs and config alone.
func (s *stage) assertNowhere(t *testing.T, secrets ...string) {
	t.Helper()
	all, found := canaries{}, places{}
	for _, secret := range secrets {
		all[secret] = formsOf(secret)
	}
	for _, name := range []string{"state", "logs", "Pulumi." + s.stack + ".yaml"} {
		lookIn(t, filepath.Join(s.Folder(), name), found)
	}
	assert.Greater(t, len(found), 5)
	assert.Empty(t, all.leaks(found))
}

// lookIn reads every file in a folder.
func lookIn(t *testing.T, folder string, found places) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		found["file "+path] = content
		return err
	}))
}

func (s *stage) secrets(t *testing.T) []corev1.Secret {
	t.Helper()
	c, err := s.Client()
	require.NoError(t, err)
	var list corev1.SecretList
	require.NoError(t, c.List(t.Context(), &list))
	require.NotEmpty(t, list.Items)
	return list.Items
}

// What is neither a file nor an object nor of Git.
const (
	shown        = "what people were shown"
	logged       = "what was logged to people"
	commandLines = "the machine's command lines"
)

// look goes to every place.
func (s *stage) look(t *testing.T) places {
	t.Helper()
	found := places{shown: []byte(s.said.String()), logged: []byte(s.logged.String())}
	require.NoError(t, s.KeepLog(true))
	s.lookAtPulumi(t, found)
	s.lookAtFiles(t, found)
	assert.True(t, slices.ContainsFunc(slices.Collect(maps.Keys(found)), func(place string) bool {
		return strings.HasPrefix(place, filepath.Join("file pulumi-home", "logs")+string(filepath.Separator))
	}), "Pulumi's own log of those commands is there")
	require.NoError(t, s.KeepLog(false))
	s.lookAtCluster(t, found)
	s.lookAtGit(t, found)
	return found
}

const passphraseFile = "passphrase"

// keepers are what may hold secrets in the folder of a rehearsal, which is for its owner's eyes alone.
func keepers() []string {
	return []string{
		"etcd",              // the cluster's own store
		"forge/record.json", // what plays the Git host, GitHub and the person there has their keys
		"forge/owner-key",   // the person's own
		passphraseFile,
	}
}

// lookAtFiles reads all of the folder but programs.
func (s *stage) lookAtFiles(t *testing.T, found places) {
	t.Helper()
	kept := map[string]bool{}
	folder, err := os.Stat(s.Folder())
	require.NoError(t, err)
	assert.Zero(t, folder.Mode().Perm()&0o077, "the folder is for its owner alone")
	require.NoError(t, filepath.WalkDir(s.Folder(), func(path string, entry fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil // a controller's, which comes and goes
		}
		name, relErr := filepath.Rel(s.Folder(), path)
		if err != nil || relErr != nil {
			return errors.Join(err, relErr)
		}
		for _, keeper := range keepers() {
			if name != keeper && (!entry.IsDir() || entry.Name() != keeper) {
				continue
			}
			kept[keeper] = true
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if entry.IsDir() && (name == "bin" || entry.Name() == "plugins") {
			return fs.SkipDir // programs
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		content, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			return nil
		}
		if !bytes.HasPrefix(content, []byte("\x7fELF")) { // a program
			// A store's files are made larger than what is in them yet, by half a gigabyte.
			found["file "+name] = bytes.TrimRight(content, "\x00")
		}
		return err
	}))
	assert.Len(t, kept, len(keepers()), "each is there")
}

// lookAtPulumi asks it in every way that shows a stack, but for those that are told to show secrets.
func (s *stage) lookAtPulumi(t *testing.T, found places) {
	t.Helper()
	for _, args := range [][]string{
		s.OnStack("preview", "--diff", "--json"), s.OnStack("config"),
		{"stack", "output", "--json", "--stack", s.stack},
		{"stack", "export", "--stack", s.stack},
		{"stack", "history", "--json", "--stack", s.stack},
		{"stack", "--show-urns", "--show-ids", "--stack", s.stack},
	} {
		var said bytes.Buffer
		require.NoError(t, s.Pulumi(t.Context(), &said, args...), said.String())
		found["pulumi "+strings.Join(args, " ")] = said.Bytes()
	}
}

// assertVerbose holds README to what it says of a log that is asked for when something breaks: Pulumi writes what it tells
// the program into it. The update has to read every object, and to make a Secret anew.
func (s *stage) assertVerbose(t *testing.T) {
	cfg, err := s.SecretConfig(t.Context())
	require.NoError(t, err)
	all := newCanaries(t, cfg)
	log := func(level string, args ...string) places {
		var said bytes.Buffer
		require.NoError(t, s.Pulumi(t.Context(), &said, s.OnStack(append(args, "--logtostderr", "--verbose="+level)...)...), said.String())
		return places{level: said.Bytes()}
	}
	c, err := s.Client()
	require.NoError(t, err)
	secrets := s.secrets(t)
	const path = "secrets.intesis.password#0"
	i := slices.IndexFunc(secrets, func(secret corev1.Secret) bool {
		return slices.ContainsFunc(slices.Collect(maps.Values(secret.Data)), func(value []byte) bool { return slices.Contains(all.in(value), path) })
	})
	require.GreaterOrEqual(t, i, 0)
	require.NoError(t, c.Delete(t.Context(), &secrets[i]))
	assert.Empty(t, all.leaks(log("4", "up", "--yes", "--skip-preview", "--refresh")))
	require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(&secrets[i]), &corev1.Secret{}))
	assert.Contains(t, all.leaks(log("7", "preview")), "7 has "+path, "if Pulumi has mended it, README needn't warn any more")
}

// lookAtCluster reads every object of the API server with all of its metadata, events among them; of
// Secrets all but the data.
func (s *stage) lookAtCluster(t *testing.T, found places) {
	t.Helper()
	settings, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig())
	require.NoError(t, err)
	asks, err := discovery.NewDiscoveryClientForConfig(settings)
	require.NoError(t, err)
	lists, err := asks.ServerPreferredResources()
	require.NoError(t, err)
	c, err := s.Client()
	require.NoError(t, err)
	kinds := 0
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		require.NoError(t, err)
		for _, resource := range list.APIResources {
			if strings.Contains(resource.Name, "/") || !slices.Contains(resource.Verbs, "list") {
				continue
			}
			items := &unstructured.UnstructuredList{}
			items.SetGroupVersionKind(version.WithKind(resource.Kind + "List"))
			if err := c.List(t.Context(), items); err != nil {
				require.Contains(t, []schema.GroupResource{
					{Resource: "componentstatuses"}, {Group: "metrics.k8s.io", Resource: "nodes"}, {Group: "metrics.k8s.io", Resource: "pods"},
				}, version.WithResource(resource.Name).GroupResource(), "%v", err)
				continue
			}
			kinds++
			for _, item := range items.Items {
				if resource.Name == "secrets" {
					unstructured.RemoveNestedField(item.Object, "data")
				}
				content, err := json.Marshal(item.Object)
				require.NoError(t, err)
				found[fmt.Sprintf("object %s %s/%s", resource.Name, item.GetNamespace(), item.GetName())] = content
			}
		}
	}
	assert.Greater(t, kinds, 50)
}

// lookAtGit reads every object that the Git host has: also what no branch leads to any more.
func (s *stage) lookAtGit(t *testing.T, found places) {
	t.Helper()
	for _, path := range s.repositories(t) {
		repository, err := gogit.PlainOpen(path)
		require.NoError(t, err)
		objects, err := repository.Storer.IterEncodedObjects(plumbing.AnyObject)
		require.NoError(t, err)
		require.NoError(t, objects.ForEach(func(one plumbing.EncodedObject) error {
			reader, err := one.Reader()
			if err != nil {
				return err
			}
			content, err := io.ReadAll(reader)
			found["Git "+one.Type().String()+" "+one.Hash().String()] = content
			return err
		}))
	}
}

// repositories are the bare ones of the Git host.
func (s *stage) repositories(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(s.Folder(), "forge", "git", "*", "*.git"))
	require.NoError(t, err)
	require.NotEmpty(t, found)
	return found
}

// assertFound plants a secret in each kind of place, in another form each, and has it found there: a
// search that finds nothing may be one that doesn't search.
func (s *stage) assertFound(t *testing.T, all canaries) {
	t.Helper()
	cfg, err := s.SecretConfig(t.Context())
	require.NoError(t, err)
	token, password := cfg.Secrets.Slack.BotToken, cfg.Secrets.Intesis.Password
	in64 := base64.StdEncoding.EncodeToString([]byte("a: " + token + "\n"))
	for name, content := range map[string]string{"state/planted": zipped(token), "logs/planted.log": "said " + in64, "planted.yaml": password} {
		path := filepath.Join(s.Folder(), name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		defer os.Remove(path)
	}
	c, err := s.Client()
	require.NoError(t, err)
	meta := metav1.ObjectMeta{Namespace: "default", Name: "planted"}
	annotated := meta
	annotated.Annotations = map[string]string{"planted": in64}
	for _, planted := range []client.Object{
		&corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{"a": password}},
		&corev1.Secret{ObjectMeta: annotated, StringData: map[string]string{"a": "b"}},
		&corev1.Event{ObjectMeta: meta, Message: "failed with " + token, InvolvedObject: corev1.ObjectReference{Namespace: "default"}},
	} {
		require.NoError(t, c.Create(t.Context(), planted))
		defer func() { assert.NoError(t, c.Delete(t.Context(), planted)) }()
	}
	blob := exec.CommandContext(t.Context(), "git", "-C", s.repositories(t)[0], "hash-object", "-w", "--stdin")
	blob.Stdin = strings.NewReader("password: " + password)
	hash, err := blob.Output()
	require.NoError(t, err)
	loose := strings.TrimSpace(string(hash))
	defer os.Remove(filepath.Join(s.repositories(t)[0], "objects", loose[:2], loose[2:]))

	watched := watchCommandLines(t)
	// #nosec G204 -- what is on the command line is what this is about
	require.NoError(t, exec.CommandContext(t.Context(), "sh", "-c", "sleep 0.5; : "+token).Run())
	found := watched()
	found[shown], found[logged] = []byte(`{"password": "`+password+`"}`), []byte("password="+password)
	s.lookAtFiles(t, found)
	s.lookAtCluster(t, found)
	s.lookAtGit(t, found)
	planted := canaries{}
	for _, path := range []string{"secrets.slack.botToken#0", "secrets.intesis.password#0"} {
		planted[path] = all[path]
	}
	leaks := planted.leaks(found)
	wanted := []string{
		"file state/planted has secrets.slack.botToken#0", "file logs/planted.log has secrets.slack.botToken#0",
		"file planted.yaml has secrets.intesis.password#0", "object configmaps default/planted has secrets.intesis.password#0",
		"object secrets default/planted has secrets.slack.botToken#0", "object events default/planted has secrets.slack.botToken#0",
		"Git blob " + loose + " has secrets.intesis.password#0", shown + " has secrets.intesis.password#0",
		logged + " has secrets.intesis.password#0",
	}
	if runtime.GOOS == "linux" { // elsewhere command lines are not watched
		wanted = append(wanted, commandLines+" has secrets.slack.botToken#0")
	}
	for _, want := range wanted {
		assert.Contains(t, leaks, want)
	}
}

// watchCommandLines reads the command lines of all processes again and again, as anybody on the machine
// may, until the result is asked for. A process that is gone within a few hundredths of a second may be
// missed. Environments are not read: the system lets only a process's own user read one.
func watchCommandLines(t *testing.T) (seen func() places) {
	t.Helper()
	if runtime.GOOS != "linux" {
		return func() places { return places{} }
	}
	lines, stop, done := map[string]bool{}, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticks := time.NewTicker(30 * time.Millisecond)
		defer ticks.Stop()
		for {
			files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
			for _, file := range files {
				if line, err := os.ReadFile(file); err == nil {
					lines[string(line)] = true
				}
			}
			select {
			case <-stop:
				return
			case <-ticks.C:
			}
		}
	}()
	end := sync.OnceFunc(func() { close(stop); <-done })
	t.Cleanup(end)
	return func() places {
		end()
		require.Greater(t, len(lines), 5)
		return places{commandLines: []byte(strings.Join(slices.Collect(maps.Keys(lines)), "\n"))}
	}
}
