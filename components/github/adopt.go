package github

import (
	"fmt"
	"os"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"golang.org/x/crypto/ssh"

	"github.com/nullify005/manager-cluster-state/components"
	"github.com/nullify005/manager-cluster-state/internal/githubapi"
)

// RegisteredOutput is the stack's output that says which registration of the deploy key its state
// knows, as REPOSITORY:NUMBER.
const RegisteredOutput = "deployKey"

// adopted has an update take a key over that GitHub has and the state does not. One whose title or
// access differs is deleted there, to be registered anew: the engine refuses to replace what it has just
// taken over. What the state has is the engine's to decide on. A question that isn't answered is only
// told of: the creation will say what is wrong.
func (a *DeployKeyArgs) adopted(ctx *pulumi.Context, public ssh.PublicKey) ([]pulumi.ResourceOption, error) {
	if ctx.DryRun() {
		return nil, nil
	}
	repository := &githubapi.Repository{BaseURL: a.BaseURL, Owner: a.Owner, Name: a.Repository, Token: plainToken(ctx)}
	found, err := repository.DeployKeyOf(ctx.Context(), public)
	if err != nil {
		return nil, ctx.Log.Info("whether the deploy key is registered already can't be told: "+err.Error(), nil)
	}
	if found == nil {
		return nil, nil
	}
	known, err := components.OutputsBefore(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading which deploy key the stack has: %w", err)
	}
	id := fmt.Sprintf("%s:%d", a.Repository, found.ID)
	is := fmt.Sprintf("GitHub has the deploy key of %s/%s, as %q, and the state does not: ", a.Owner, a.Repository, found.Title)
	switch {
	case known[RegisteredOutput] == id:
		return nil, nil
	case found.ReadOnly != a.Writable && found.Title == a.Title:
		return []pulumi.ResourceOption{pulumi.Import(pulumi.ID(id))}, ctx.Log.Info(is+"it is taken over", nil)
	}
	if err := repository.Delete(ctx.Context(), found); err != nil {
		return nil, ctx.Log.Info(is+"it can't be replaced: "+err.Error(), nil)
	}
	return nil, ctx.Log.Info(is+"it is replaced, since its title or its access differs", nil)
}

// plainToken is what GitHub is asked with: the token that the provider gets too.
func plainToken(ctx *pulumi.Context) string {
	if token, _ := ctx.GetConfig(tokenKey); token != "" {
		return token
	}
	return os.Getenv(tokenVariable)
}
