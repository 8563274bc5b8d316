package delivery

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/nullify005/manager-cluster-state/components"
	"github.com/nullify005/manager-cluster-state/config"
)

// deliveredOutput is the stack's output that says how each workload is delivered now.
const deliveredOutput = "delivered"

// handedOver follows a delivery in that output when its objects stay in the cluster.
const handedOver = ", to be handed over"

// halfway is what a stack is told while what it delivers would stay in the cluster.
const halfway = "handover is set: a switch of deliveries is under way, and pulumi destroy would leave the workloads in the cluster; " +
	"run the same make switch again to finish it"

// deliveries are what the next update is told of this one. That a workload may be handed over is
// said once the engine has recorded it of its every object: an update that fails before has
// promised nothing.
func deliveries(args *Args, done map[string]*delivered) pulumi.Map {
	how := pulumi.Map{}
	for _, workload := range args.Catalog {
		if workload.Direct {
			continue
		}
		if !args.Handover {
			how[workload.Name] = pulumi.String(args.Delivery)
			continue
		}
		objects := done[workload.Name].objects
		recorded := make([]any, len(objects))
		for i, object := range objects {
			recorded[i] = object.URN()
		}
		text := string(args.Delivery) + handedOver
		how[workload.Name] = pulumi.All(recorded...).ApplyT(func([]any) string { return text })
	}
	return how
}

// checkHandover refuses to change the delivery of what isn't made to stay: the engine would
// delete it, pods and all, after it was made by the other.
func checkHandover(ctx *pulumi.Context, args *Args) error {
	before, unsaid, err := deliveredBefore(ctx)
	if err != nil {
		return err
	}
	var lost []string
	for _, workload := range args.Catalog {
		how := cmp.Or(before[workload.Name], unsaid)
		if workload.Direct || how == "" || strings.HasSuffix(how, handedOver) || how == string(args.Delivery) {
			continue
		}
		lost = append(lost, workload.Name)
	}
	if len(lost) == 0 {
		return nil
	}
	slices.Sort(lost)
	return fmt.Errorf("delivery is %s, and these workloads run by the other one: %s; with the key changed alone their pods "+
		"would be deleted; set it back, and run: make switch STACK=%s DELIVERY=%s REAL=1",
		args.Delivery, strings.Join(lost, ", "), ctx.Stack(), args.Delivery)
}

// deliveredBefore reads what the update before this one said of each workload, and how those are
// delivered of which it said nothing.
func deliveredBefore(ctx *pulumi.Context) (how map[string]string, unsaid string, err error) {
	before, err := components.OutputsBefore(ctx)
	if err != nil {
		return nil, "", fmt.Errorf("reading how the stack's workloads are delivered now: %w", err)
	}
	how = map[string]string{}
	outputs, said := before[deliveredOutput].(map[string]any)
	if !said && len(before) > 0 {
		unsaid = string(config.Direct) // a program that had no other delivery has made the stack
	}
	for name, value := range outputs {
		if text, isText := value.(string); isText {
			how[name] = text
		}
	}
	return how, unsaid, nil
}
