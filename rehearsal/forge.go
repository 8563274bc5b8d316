package rehearsal

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/rehearsal/forge"
	"github.com/nullify005/manager-cluster-state/seal"
)

// forgeProgram stands in for what a rehearsal can't have: a Git host, GitHub's API, Slack, an
// image registry.
const forgeProgram = "forge"

// forgeRecord is what the rehearsal knows of its forge, kept in the folder. It is the same over
// restarts, since the stack file names its addresses.
type forgeRecord struct {
	HTTP       string `json:"http"` // addresses: 127.0.0.1:20000
	SSH        string `json:"ssh"`
	Token      string `json:"token"`      // that GitHub's stand-in takes
	KnownHosts string `json:"knownHosts"` // a line of known_hosts
	OwnerKey   string `json:"ownerKey"`   // whoever works on the repository pushes with it; OpenSSH PEM
	DeployKey  string `json:"deployKey"`  // Flux pulls with it
	SSHKey     string `json:"sshKey"`     // of machines, had the rehearsal any
}

func (f folder) forge() string       { return f.join("forge") }
func (f folder) forgeRecord() string { return f.join("forge", "record.json") }
func (f folder) ownerKey() string    { return f.join("forge", "owner-key") }
func (f folder) knownHosts() string  { return f.join("forge", "known_hosts") }

// noForge stands in where a stack file is judged before a forge has started.
func noForge() *forgeRecord {
	const host = "127.0.0.1:1"
	key := func() string {
		key, _, err := seal.NewDeployKey("none")
		if err != nil {
			return config.Encrypted // a value that nobody judges
		}
		return key
	}
	return &forgeRecord{
		HTTP: host, SSH: host, Token: "rehearsal-placeholder", DeployKey: key(), SSHKey: key(),
		KnownHosts: "[127.0.0.1]:1 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
	}
}

// forge reads the record; where there is none yet, noForge.
func (r *Rehearsal) forge() (*forgeRecord, error) {
	data, err := os.ReadFile(r.folder.forgeRecord())
	if errors.Is(err, fs.ErrNotExist) {
		return noForge(), nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the record of the forge: %w", err)
	}
	record := &forgeRecord{}
	if err := json.Unmarshal(data, record); err != nil {
		return nil, fmt.Errorf("reading the record of the forge: %w", err)
	}
	return record, nil
}

// Forge steers the stand-in for the Git host, GitHub, Slack and the image registry.
func (r *Rehearsal) Forge() (*forge.Client, error) {
	record, err := r.forge()
	if err != nil {
		return nil, err
	}
	return forge.NewClient("http://" + record.HTTP), nil
}

// repository is the owner and name of the stack's own repository, or of one of the rehearsal's.
func (r *Rehearsal) repository() (string, error) {
	cfg, err := r.Config()
	if err != nil {
		return "", err
	}
	if owner, name := cfg.Git.Repository(); cfg.Git.URL != "" {
		return owner + "/" + name, nil
	}
	return "rehearsal/" + r.project, nil
}

func (f *forgeRecord) gitURL(repository string) string {
	return "ssh://git@" + f.SSH + "/" + repository + ".git"
}

// overrides point a stack file at the forge: its repository keeps its owner and name.
func (f *forgeRecord) overrides(file *stackFile, project string) map[string]any {
	repository := "rehearsal/" + project
	if url := file.get("git.url"); url != nil {
		if owner, name := (config.Git{URL: url.Value}).Repository(); name != "" {
			repository = owner + "/" + name
		}
	}
	return map[string]any{
		"git.url": f.gitURL(repository), "git.knownHosts": f.KnownHosts, "git.githubURL": "http://" + f.HTTP + "/",
		"flux.imageRegistry": f.HTTP,
	}
}

// opening are those of its secrets that let somebody in, by their paths in the config.
func (f *forgeRecord) opening() map[string]string {
	return map[string]string{
		"secrets.deployKey": f.DeployKey, "secrets.sshKey": f.SSHKey, "secrets.notifications.githubToken": f.Token,
	}
}

func (f *forgeRecord) slackWebhook() string {
	return "http://" + f.HTTP + "/slack/" + placeholder("secrets.notifications.slackWebhook")
}

// ensureForge leaves a forge behind that answers: the one that runs, or one with the same
// addresses, keys and repositories.
func (r *Rehearsal) ensureForge(ctx context.Context) error {
	record, err := r.newForgeRecord(ctx)
	if err != nil {
		return err
	}
	repository, err := r.repository()
	if err != nil {
		return err
	}
	// One that serves another repository was started before the stack file named this one.
	if _, err := r.stopMatching(ctx, func(p Process) bool { return p.Name() == forgeProgram && !serves(p, repository) }); err != nil {
		return fmt.Errorf("stopping the forge of another repository: %w", err)
	}
	running, err := processesOf(ctx, string(r.folder))
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(running, func(p Process) bool { return p.Name() == forgeProgram }) {
		if err := r.startForge(ctx, record, repository); err != nil {
			return err
		}
	}
	waiting, cancel := context.WithTimeout(ctx, controllerBound)
	defer cancel()
	health, err := forge.NewClient("http://" + record.HTTP).Wait(waiting)
	if err != nil {
		return fmt.Errorf("starting the forge: %w\n%s", err, tailFile(r.folder.log(forgeProgram), 10))
	}
	record.KnownHosts = health.KnownHosts
	return r.writeForge(record)
}

// newForgeRecord is the record that there is, or a new one.
func (r *Rehearsal) newForgeRecord(ctx context.Context) (*forgeRecord, error) {
	if _, err := os.Stat(r.folder.forgeRecord()); err == nil {
		return r.forge()
	}
	ports, err := freePorts(ctx, 2)
	if err != nil {
		return nil, err
	}
	local := func(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }
	record := &forgeRecord{HTTP: local(ports[0]), SSH: local(ports[1]), Token: rand.Text()}
	owner, authorized, err := seal.NewDeployKey("owner")
	if err != nil {
		return nil, fmt.Errorf("making the key of the repository's owner: %w", err)
	}
	if record.DeployKey, _, err = seal.NewDeployKey("flux"); err != nil {
		return nil, fmt.Errorf("making the rehearsal's deploy key: %w", err)
	}
	if record.SSHKey, _, err = seal.NewDeployKey("machines"); err != nil {
		return nil, fmt.Errorf("making the rehearsal's SSH key: %w", err)
	}
	record.OwnerKey = owner
	if err := os.MkdirAll(r.folder.forge(), 0o700); err != nil {
		return nil, fmt.Errorf("making the forge's folder: %w", err)
	}
	if err := writePrivate(r.folder.join("forge", "authorized_keys"), []byte(authorized)); err != nil {
		return nil, fmt.Errorf("writing the key of the repository's owner: %w", err)
	}
	return record, r.writeForge(record)
}

func (r *Rehearsal) writeForge(record *forgeRecord) error {
	data, err := json.MarshalIndent(record, "", "  ")
	for path, content := range map[string]string{
		r.folder.forgeRecord(): string(data), r.folder.ownerKey(): record.OwnerKey,
		r.folder.knownHosts(): strings.TrimSpace(record.KnownHosts) + "\n",
	} {
		if err == nil {
			err = writePrivate(path, []byte(content))
		}
	}
	if err != nil {
		return fmt.Errorf("writing the record of the forge: %w", err)
	}
	return nil
}

// serves says whether a forge was started with that repository; startForge names it last.
func serves(process Process, repository string) bool {
	return strings.HasSuffix(process.Command, " --repository "+repository)
}

func (r *Rehearsal) startForge(ctx context.Context, record *forgeRecord, repository string) error {
	program := r.folder.bin(forgeProgram)
	if err := r.build(ctx, "./cmd/forge", program); err != nil {
		return err
	}
	env := append(r.environment("FORGE_"), "FORGE_GITHUB_TOKEN="+record.Token)
	process, err := startDetached(ctx, program, []string{
		"--folder", r.folder.forge(), "--http-address", record.HTTP, "--ssh-address", record.SSH, "--repository", repository,
	}, env, r.folder.log(forgeProgram))
	if err != nil {
		return err
	}
	r.log.Info("started", "stand-in", forgeProgram, "for", "Git host, GitHub, Slack, image registry", "process", process.PID)
	return nil
}

// gitEnvironment has git push and fetch as the repository's owner.
func (r *Rehearsal) gitEnvironment() []string { return []string{"GIT_SSH_COMMAND=" + r.sshCommand()} }

func (r *Rehearsal) sshCommand() string {
	return "ssh -F none -o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes" +
		" -o UserKnownHostsFile=" + shellQuote(r.folder.knownHosts()) + " -i " + shellQuote(r.folder.ownerKey())
}
