// Package github has the component that registers, at GitHub, the key that Flux pulls with.
package github

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/pulumi/pulumi-github/sdk/v6/go/github"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/config"
	"golang.org/x/crypto/ssh"

	"github.com/nullify005/manager-cluster-state/components"
)

// DefaultBaseURL is github.com's own API.
const DefaultBaseURL = "https://api.github.com/"

// Where a token comes from: the provider's own configuration, or the environment.
const (
	tokenKey      = "github:token"
	tokenVariable = "GITHUB_TOKEN" //nolint:gosec // its name, not what it holds
)

// DeployKeyArgs are a key pair and the repository that it opens.
type DeployKeyArgs struct {
	// PrivateKey is the private half, PEM as OpenSSH writes it, with no passphrase. It goes
	// nowhere: GitHub gets the public half, which is derived from it.
	PrivateKey string
	// Owner is the user or organisation that the repository belongs to.
	Owner string
	// Repository is its name, without the owner.
	Repository string
	// BaseURL is where the GitHub API is; github.com's own if empty. Another URL is taken for
	// the same GitHub at another address: keys are not registered anew.
	BaseURL string
	// Writable lets the key push too.
	Writable bool
	// Title is shown in the repository's settings; project and stack if empty.
	Title string
}

// DeployKey is a key that is registered at GitHub.
//
// The key's resource is named after owner, repository and fingerprint. So another key is
// another resource: it is registered first, what waits for Resources then changes to it, and
// the old one is deleted at the end of the update. At no moment does GitHub refuse the key
// that Flux holds.
//
// Writable can't be changed so: GitHub can't edit a deploy key, and answers 422 to one that is
// registered already. The key is deleted and, with the next call, registered again. A pull that
// falls between the two is refused; Flux keeps what it has and tries again within seconds.
// Should the second call fail, pulls are refused until the next `pulumi up`. To have not even
// that, rotate the key in the same update.
//
// A key that GitHub has and the state does not, because the state was lost, is adopted: registering
// it again would be refused.
type DeployKey struct {
	pulumi.ResourceState

	// Resources are what to wait for before pulling with the key.
	Resources []pulumi.Resource
	// PublicKey is the public half, as a line of authorized_keys with no comment.
	PublicKey pulumi.StringOutput
	// Fingerprint is its SHA-256 as GitHub shows it: SHA256:….
	Fingerprint pulumi.StringOutput
	// Registered is which registration the state knows, to be exported as RegisteredOutput.
	Registered pulumi.StringOutput

	provider *github.Provider
	key      *github.RepositoryDeployKey
}

// NewDeployKey registers the public half of a key at GitHub.
func NewDeployKey(ctx *pulumi.Context, name string, args *DeployKeyArgs, opts ...pulumi.ResourceOption) (*DeployKey, error) {
	settled := args.withDefaults(ctx)
	public, err := settled.validate()
	token, tokenErr := providerToken(ctx, settled.Owner+"/"+settled.Repository)
	if errors.Is(tokenErr, errNoToken) && ctx.DryRun() { // a preview asks GitHub nothing
		tokenErr = ctx.Log.Warn(tokenErr.Error(), nil)
	}
	if err := errors.Join(err, tokenErr); err != nil {
		return nil, err
	}
	line := strings.TrimSuffix(string(ssh.MarshalAuthorizedKey(public)), "\n")
	deployKey := &DeployKey{
		PublicKey:   pulumi.String(line).ToStringOutput(),
		Fingerprint: pulumi.String(ssh.FingerprintSHA256(public)).ToStringOutput(),
	}
	inputs := pulumi.Map{
		"owner": pulumi.String(settled.Owner), "repository": pulumi.String(settled.Repository),
		"fingerprint": deployKey.Fingerprint, "writable": pulumi.Bool(settled.Writable),
	}
	if err := ctx.RegisterComponentResourceV2(components.TokenGitHubDeployKey, name, inputs, deployKey, opts...); err != nil {
		return nil, fmt.Errorf("registering the deploy key: %w", err)
	}
	if err := deployKey.newProvider(ctx, name, settled, token); err != nil {
		return nil, err
	}
	adopt, err := settled.adopted(ctx, public)
	if err != nil {
		return nil, err
	}
	if err := deployKey.newKey(ctx, name, settled, line, shortName(public), adopt...); err != nil {
		return nil, err
	}
	return deployKey, ctx.RegisterResourceOutputs(deployKey, pulumi.Map{
		"publicKey": deployKey.PublicKey, "fingerprint": deployKey.Fingerprint,
	})
}

// newProvider makes the provider that belongs to one owner: a key of an owner before is then
// deleted with the provider that made it.
func (d *DeployKey) newProvider(ctx *pulumi.Context, name string, args *DeployKeyArgs, token pulumi.StringPtrInput) (err error) {
	// The URL is always given: else GITHUB_BASE_URL in the environment says where the token goes.
	inputs := &github.ProviderArgs{Owner: pulumi.String(args.Owner), BaseUrl: pulumi.String(args.BaseURL), Token: token}
	// The SDK adds what it finds in GITHUB_TOKEN, and it would lie in the state. The plugin
	// reads the environment by itself.
	asGiven := func(a *pulumi.ResourceTransformationArgs) *pulumi.ResourceTransformationResult {
		return &pulumi.ResourceTransformationResult{Props: inputs, Opts: a.Opts}
	}
	filledIn := *inputs
	d.provider, err = github.NewProvider(ctx, name+"/"+args.Owner, &filledIn,
		pulumi.Parent(d), pulumi.Transformations([]pulumi.ResourceTransformation{asGiven}))
	if err != nil {
		return fmt.Errorf("making the GitHub provider: %w", err)
	}
	return nil
}

func (d *DeployKey) newKey(ctx *pulumi.Context, name string, args *DeployKeyArgs, line, id string, opts ...pulumi.ResourceOption) (err error) {
	repository := args.Owner + "/" + args.Repository
	d.key, err = github.NewRepositoryDeployKey(ctx, name+"/"+repository+"/"+id, &github.RepositoryDeployKeyArgs{
		Repository: pulumi.String(args.Repository),
		Title:      pulumi.String(args.Title),
		Key:        pulumi.String(line),
		ReadOnly:   pulumi.Bool(!args.Writable),
		// A key can't be registered twice, so of its replacement the deletion comes first.
	}, append(opts, pulumi.Parent(d), pulumi.Provider(d.provider), pulumi.DeleteBeforeReplace(true))...)
	if err != nil {
		return fmt.Errorf("registering the deploy key of %s: %w", repository, err)
	}
	d.Resources = []pulumi.Resource{d.key}
	d.Registered = d.key.ID().ToStringOutput()
	return nil
}

func (a *DeployKeyArgs) withDefaults(ctx *pulumi.Context) *DeployKeyArgs {
	settled := *a
	if settled.BaseURL == "" {
		settled.BaseURL = DefaultBaseURL
	}
	if settled.Title == "" {
		settled.Title = ctx.Project() + " " + ctx.Stack()
	}
	return &settled
}

// validate reports every problem, and never what the key is.
func (a *DeployKeyArgs) validate() (ssh.PublicKey, error) {
	var problems []error
	if a.Owner == "" || a.Repository == "" || strings.ContainsAny(a.Owner+a.Repository, "/:") {
		problems = append(problems, fmt.Errorf("the deploy key is for the repository %q of %q: give the owner and the name of one, "+
			"with git.url ending in OWNER/REPOSITORY.git", a.Repository, a.Owner))
	}
	if target, err := url.Parse(a.BaseURL); err != nil || target.Host == "" || target.User != nil {
		problems = append(problems, errors.New("git.githubURL is no URL of a GitHub API: "+
			"it must be of the form https://HOST/, with no user or password in it"))
	}
	private, err := ssh.ParsePrivateKey([]byte(a.PrivateKey))
	if err != nil {
		// The parser's own error is not passed on: it has seen the key.
		problems = append(problems, errors.New("secrets.deployKey is no SSH private key in PEM, or it has a passphrase; run: make keys STACK=…"))
		return nil, errors.Join(problems...)
	}
	return private.PublicKey(), errors.Join(problems...)
}

var errNoToken = errors.New("there is no GitHub token")

// providerToken is what the provider must be given, as an explicit provider doesn't take its
// token from the stack's configuration by itself. It is nil when the token is in the
// environment, where the plugin finds it.
func providerToken(ctx *pulumi.Context, repository string) (pulumi.StringPtrInput, error) {
	token, err := config.TrySecret(ctx, tokenKey)
	switch plain, _ := ctx.GetConfig(tokenKey); {
	case err == nil && plain != "" && !ctx.IsConfigSecret(tokenKey):
		return nil, fmt.Errorf("%s is stored in the clear: run pulumi config set --secret %s, and revoke the token that was there", tokenKey, tokenKey)
	case err == nil && plain != "":
		return token.ToStringPtrOutput(), nil
	case os.Getenv(tokenVariable) != "":
		return nil, nil //nolint:nilnil // no input is what it is about
	}
	return nil, fmt.Errorf("%w to register the deploy key of %s with: run export %s=… or "+
		"pulumi config set --secret %s; a fine-grained token of that one repository will do, with the permission "+
		"Administration: read and write", errNoToken, repository, tokenVariable, tokenKey)
}

// shortName is a key's name among resources: the first 8 bytes of its SHA-256, in hex.
func shortName(public ssh.PublicKey) string {
	sum := sha256.Sum256(public.Marshal())
	return hex.EncodeToString(sum[:8])
}
