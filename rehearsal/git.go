package rehearsal

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	imagev1 "github.com/fluxcd/image-reflector-controller/api/v1"

	gogit "github.com/go-git/go-git/v5"
	gitconfig "github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/transport"
	gitssh "github.com/go-git/go-git/v5/plumbing/transport/ssh"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/rehearsal/forge"
	"github.com/nullify005/manager-cluster-state/render"
	"github.com/nullify005/manager-cluster-state/stack"
	"github.com/nullify005/manager-cluster-state/workloads"
)

const (
	remoteName = "origin"
	gitSeconds = 60
)

// Checkout is the folder of a clone of the rehearsal's repository for people: what they commit
// and push there, Flux pulls. It is made once, and then left to them.
func (r *Rehearsal) Checkout() string { return r.folder.join("checkout") }

// WorkTree is the folder of the rehearsal's own clone, from which it pushes what it rendered. It
// is brought to the newest commit each time.
func (r *Rehearsal) WorkTree() string { return r.folder.join("forge", "worktree") }

// pushedImages records which list of images of the project was pushed last: the one in Git may
// have been edited by image automation since.
func (f folder) pushedImages() string { return f.join("forge", "pushed-images") }

// pushIfPulled is pushManifests where Flux pulls.
func (r *Rehearsal) pushIfPulled(ctx context.Context) error {
	cfg, err := r.Rehearsed()
	if err != nil || cfg.Delivery != config.FluxCD {
		return err
	}
	return r.pushManifests(ctx)
}

// pushManifests has the Git host hold what the stack's configuration would have Flux pull:
// rendered, and sealed with the rehearsal's own keys. It pushes nothing when that is there.
func (r *Rehearsal) pushManifests(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, gitSeconds*time.Second)
	defer cancel()
	cfg, err := r.secretConfig(ctx)
	if err != nil {
		return err
	}
	return r.pushRendered(ctx, cfg)
}

func (r *Rehearsal) pushRendered(ctx context.Context, cfg *config.Config) error {
	checkout, err := r.openWorkTree(ctx, cfg)
	if err != nil {
		return fmt.Errorf("cloning the rehearsal's repository: %w", err)
	}
	if err := r.writeManifests(ctx, cfg); err != nil {
		return err
	}
	images, err := r.writeImages(cfg)
	if err != nil {
		return err
	}
	pushed, err := r.push(ctx, checkout, cfg, "Render stack "+r.stack)
	if err != nil {
		return fmt.Errorf("pushing the rendered manifests: %w", err)
	}
	if err := writePrivate(r.folder.pushedImages(), []byte(images)); err != nil {
		return fmt.Errorf("recording the list of images: %w", err)
	}
	if err := r.ensureCheckout(ctx, cfg); err != nil {
		return fmt.Errorf("making the clone for people: %w", err)
	}
	if pushed {
		r.log.Info("pushed the rendered manifests", "branch", cfg.Git.Branch, "clone", r.Checkout())
	}
	return nil
}

// ensureCheckout clones the repository once, with what git needs to push.
func (r *Rehearsal) ensureCheckout(ctx context.Context, cfg *config.Config) error {
	if _, err := os.Stat(r.Checkout()); err == nil {
		r.tellOfAnother(cfg)
		return nil
	}
	auth, err := r.gitAuth(cfg)
	if err != nil {
		return err
	}
	// Elsewhere, until it is whole: this run may be cut short.
	half := filepath.Join(r.folder.temp(), "checkout")
	if err := os.RemoveAll(half); err != nil {
		return err
	}
	repository, err := gogit.PlainCloneContext(ctx, half, false, &gogit.CloneOptions{
		URL: cfg.Git.URL, Auth: auth, ReferenceName: plumbing.NewBranchReferenceName(cfg.Git.Branch),
	})
	if err != nil {
		return err
	}
	settings, err := repository.Config()
	if err != nil {
		return err
	}
	settings.Raw.Section("core").SetOption("sshCommand", r.sshCommand())
	settings.User.Name, settings.User.Email = "rehearsal", "rehearsal@localhost"
	if err := repository.SetConfig(settings); err != nil {
		return err
	}
	return os.Rename(half, r.Checkout())
}

// tellOfAnother says so where the clone for people, which is theirs, is of the repository before.
func (r *Rehearsal) tellOfAnother(cfg *config.Config) {
	repository, err := gogit.PlainOpen(r.Checkout())
	if err != nil {
		return
	}
	if remote, err := repository.Remote(remoteName); err == nil && remote.Config().URLs[0] != cfg.Git.URL {
		r.log.Warn("the clone is of another repository than the stack file's: move it away, and the next run makes a new one", "clone", r.Checkout())
	}
}

// secretConfig is the rehearsed configuration with its secrets.
func (r *Rehearsal) secretConfig(ctx context.Context) (*config.Config, error) {
	return r.pulumiStack().Config(ctx)
}

// pulumiStack is the rehearsed stack, whose configuration Pulumi reads and writes.
func (r *Rehearsal) pulumiStack() *stack.Stack {
	return &stack.Stack{
		Project: r.root, Name: r.stack, Pulumi: r.tool("pulumi"), Env: r.engine.environment(), ConfigFile: r.folder.config(r.stack),
	}
}

func (r *Rehearsal) gitAuth(cfg *config.Config) (transport.AuthMethod, error) {
	record, err := r.forge()
	if err != nil {
		return nil, err
	}
	auth, err := gitssh.NewPublicKeys("git", []byte(record.OwnerKey), "")
	if err != nil {
		return nil, fmt.Errorf("reading the key of the repository's owner: %w", err)
	}
	auth.HostKeyCallback, err = gitssh.NewKnownHostsCallback(r.folder.knownHosts())
	if err != nil {
		return nil, fmt.Errorf("reading the host key of %s: %w", cfg.Git.URL, err)
	}
	return auth, nil
}

// openWorkTree leaves the rehearsal's own clone at the newest commit of the branch.
func (r *Rehearsal) openWorkTree(ctx context.Context, cfg *config.Config) (*gogit.Repository, error) {
	auth, err := r.gitAuth(cfg)
	if err != nil {
		return nil, err
	}
	repository, err := gogit.PlainOpen(r.WorkTree())
	if errors.Is(err, gogit.ErrRepositoryNotExists) {
		repository, err = gogit.PlainInit(r.WorkTree(), false)
	}
	if err != nil {
		return nil, err
	}
	if err := r.setRemote(repository, cfg); err != nil {
		return nil, err
	}
	branch := plumbing.NewBranchReferenceName(cfg.Git.Branch)
	if err := repository.Storer.SetReference(plumbing.NewSymbolicReference(plumbing.HEAD, branch)); err != nil {
		return nil, err
	}
	err = repository.FetchContext(ctx, &gogit.FetchOptions{RemoteName: remoteName, Auth: auth})
	switch {
	case errors.Is(err, transport.ErrEmptyRemoteRepository):
		return repository, nil
	case err != nil && !errors.Is(err, gogit.NoErrAlreadyUpToDate):
		return nil, err
	}
	newest, err := repository.Reference(plumbing.NewRemoteReferenceName(remoteName, cfg.Git.Branch), true)
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return repository, nil
	}
	if err != nil {
		return nil, err
	}
	tree, err := repository.Worktree()
	if err != nil {
		return nil, err
	}
	return repository, tree.Reset(&gogit.ResetOptions{Commit: newest.Hash(), Mode: gogit.HardReset})
}

// setRemote gives the rehearsal's own clone its remote: a run may have been cut short before it had one, and the
// stack file may name another repository by now. What was pushed to the one before is not known to be in that.
func (r *Rehearsal) setRemote(repository *gogit.Repository, cfg *config.Config) error {
	settings, err := repository.Config()
	if err != nil {
		return err
	}
	if before := settings.Remotes[remoteName]; before != nil {
		if slices.Equal(before.URLs, []string{cfg.Git.URL}) {
			return nil
		}
		if err := os.Remove(r.folder.pushedImages()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := repository.Storer.RemoveReference(plumbing.NewRemoteReferenceName(remoteName, cfg.Git.Branch)); err != nil {
			return err
		}
	}
	settings.Remotes[remoteName] = &gitconfig.RemoteConfig{Name: remoteName, URLs: []string{cfg.Git.URL}}
	return repository.SetConfig(settings)
}

// writeManifests renders and seals into the clone.
func (r *Rehearsal) writeManifests(ctx context.Context, cfg *config.Config) error {
	images, err := workloads.LoadImages(filepath.Join(r.root, cfg.Images))
	if err != nil {
		return err
	}
	catalog, err := r.catalog(cfg, images)
	if err != nil {
		return err
	}
	folder := filepath.Join(r.WorkTree(), filepath.FromSlash(render.Folder(r.stack)))
	have, err := render.Read(folder)
	if err != nil {
		return err
	}
	sealed, err := render.Seal(catalog, cfg.Sealing.Keys, have)
	if err != nil {
		return err
	}
	want, err := render.Render(&render.Args{Catalog: catalog, Images: images, ImagesFile: cfg.Images, Sealed: sealed})
	if err != nil {
		return err
	}
	for _, useless := range render.Useless(sealed, have) {
		if err := os.Remove(filepath.Join(folder, filepath.FromSlash(useless))); err != nil {
			return fmt.Errorf("removing a sealed secret: %w", err)
		}
	}
	if _, err := render.Write(folder, want, have); err != nil {
		return err
	}
	return r.publishImages(ctx, cfg, catalog, images)
}

// writeImages copies the project's list of images, unless it is the one that was pushed last, and gives its
// digest.
func (r *Rehearsal) writeImages(cfg *config.Config) (digest string, err error) {
	content, err := os.ReadFile(filepath.Join(r.root, cfg.Images))
	if err != nil {
		return "", fmt.Errorf("reading the list of images: %w", err)
	}
	sum := sha256.Sum256(content)
	digest = hex.EncodeToString(sum[:])
	before, err := os.ReadFile(r.folder.pushedImages())
	if err == nil && string(before) == digest {
		return digest, nil
	}
	target := filepath.Join(r.WorkTree(), filepath.FromSlash(cfg.Images))
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		return "", fmt.Errorf("writing the list of images: %w", err)
	}
	if err := os.WriteFile(target, content, 0o600); err != nil {
		return "", fmt.Errorf("writing the list of images: %w", err)
	}
	return digest, nil
}

// publishImages has the registry hold each image that Flux scans for new tags, at the tag that
// the list has.
func (r *Rehearsal) publishImages(ctx context.Context, cfg *config.Config, catalog []workloads.Workload, images workloads.Images) error {
	client, err := r.Forge()
	if err != nil {
		return err
	}
	for _, workload := range catalog {
		for _, object := range workload.Objects {
			scanned, isScan := object.(*imagev1.ImageRepository)
			if !isScan {
				continue
			}
			name := strings.TrimPrefix(scanned.Spec.Image, cfg.Flux.ImageRegistry+"/")
			for image, reference := range images {
				tag, tagged := strings.CutPrefix(reference, image+":")
				if !tagged || !strings.HasSuffix(image, "/"+name) {
					continue
				}
				if err := client.PushImage(ctx, forge.Image{Name: name, Tag: tag}); err != nil {
					return fmt.Errorf("publishing %s: %w", image, err)
				}
			}
		}
	}
	return nil
}

// push commits whatever differs in the clone, and pushes what the Git host hasn't: also what a run has
// committed that was cut short then. It says whether there was anything.
func (r *Rehearsal) push(ctx context.Context, repository *gogit.Repository, cfg *config.Config, message string) (bool, error) {
	auth, err := r.gitAuth(cfg)
	if err != nil {
		return false, err
	}
	tree, err := repository.Worktree()
	if err != nil {
		return false, err
	}
	if err := tree.AddWithOptions(&gogit.AddOptions{All: true}); err != nil {
		return false, err
	}
	status, err := tree.Status()
	if err != nil {
		return false, err
	}
	if !status.IsClean() {
		author := &object.Signature{Name: "rehearsal", Email: "rehearsal@localhost", When: time.Now()}
		if _, err := tree.Commit(message, &gogit.CommitOptions{Author: author}); err != nil {
			return false, err
		}
	}
	branch := plumbing.NewBranchReferenceName(cfg.Git.Branch)
	here, err := repository.Reference(branch, true)
	if err != nil {
		return false, err
	}
	there, err := repository.Reference(plumbing.NewRemoteReferenceName(remoteName, cfg.Git.Branch), true)
	if err == nil && there.Hash() == here.Hash() {
		return false, nil
	}
	if err != nil && !errors.Is(err, plumbing.ErrReferenceNotFound) {
		return false, err
	}
	err = repository.PushContext(ctx, &gogit.PushOptions{
		RemoteName: remoteName, Auth: auth, RefSpecs: []gitconfig.RefSpec{gitconfig.RefSpec(branch + ":" + branch)},
	})
	return err == nil, err
}

// Edit changes files of the repository, by their paths, and pushes: what a person does with an
// editor, git commit and git push.
func (r *Rehearsal) Edit(ctx context.Context, message string, edits map[string]func(before string) string) error {
	cfg, err := r.Rehearsed()
	if err != nil {
		return err
	}
	checkout, err := r.openWorkTree(ctx, cfg)
	if err != nil {
		return fmt.Errorf("reading the rehearsal's repository: %w", err)
	}
	for name, edit := range edits {
		path := filepath.Join(r.WorkTree(), filepath.FromSlash(name))
		before, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("editing %s: %w", name, err)
		}
		if err := os.WriteFile(path, []byte(edit(string(before))), 0o600); err != nil {
			return fmt.Errorf("editing %s: %w", name, err)
		}
	}
	pushed, err := r.push(ctx, checkout, cfg, message)
	if err == nil && !pushed {
		err = errors.New("nothing differs")
	}
	if err != nil {
		return fmt.Errorf("pushing %q: %w", message, err)
	}
	return nil
}
