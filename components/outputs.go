package components

import (
	"fmt"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// OutputsBefore are the stack's own outputs, as the update before this one left them; none of a
// stack that never had an update. It asks the backend, in a preview too, and no cluster.
func OutputsBefore(ctx *pulumi.Context) (map[string]any, error) {
	args := struct {
		Name string `pulumi:"name"`
	}{fmt.Sprintf("%s/%s/%s", ctx.Organization(), ctx.Project(), ctx.Stack())}
	var result struct {
		Outputs map[string]any `pulumi:"outputs"`
	}
	// What a StackReference asks too; that would also be a resource, whose every output is shown
	// at each preview.
	if _, err := ctx.InvokePackageRaw("pulumi:pulumi:readStackOutputs", &args, &result, ""); err != nil {
		return nil, fmt.Errorf("reading the outputs of the stack's last update: %w", err)
	}
	return result.Outputs, nil
}
