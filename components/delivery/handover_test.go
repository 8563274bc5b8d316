package delivery_test

import (
	"errors"
	"strings"
	"testing"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/components"
	"github.com/nullify005/manager-cluster-state/config"
)

var errRefused = errors.New("refused")

// before are a stack's outputs as an update left them.
func before(delivered map[string]string) resource.PropertyMap {
	how := resource.PropertyMap{}
	for name, value := range delivered {
		how[resource.PropertyKey(name)] = resource.NewProperty(value)
	}
	return resource.PropertyMap{"delivered": resource.NewProperty(how)}
}

func TestDirect_ItsObjectsStayExactlyWhenTheyAreHandedOver(t *testing.T) {
	for _, handover := range []bool{false, true} {
		f := newFixture(t, direct(small("flux-system")), small("one", "flux-system"))
		f.args.Delivery, f.args.Handover = config.Direct, handover
		require.NoError(t, f.deliver())
		seen := 0
		for _, r := range f.All() {
			if !strings.HasPrefix(r.Type, "kubernetes:") {
				continue
			}
			seen++
			stays := handover && r.Parent() == "one"
			assert.Equal(t, stays, r.RPC.GetRetainOnDelete(), "%s %s, handover %t", r.Type, r.Name, handover)
			annotations := r.Inputs["metadata"].ObjectValue()["annotations"]
			managed := annotations.IsObject() && annotations.ObjectValue().HasValue("sealedsecrets.bitnami.com/managed")
			assert.Equal(t, stays && strings.HasSuffix(r.Type, ":Secret"), managed, "%s %s, handover %t", r.Type, r.Name, handover)
		}
		assert.Equal(t, 12, seen)
	}
}

func TestPulled_FluxLeavesTheObjectsExactlyWhenTheyAreHandedOver(t *testing.T) {
	for handover, want := range map[bool]string{
		false: kustomizev1.DeletionPolicyWaitForTermination, true: kustomizev1.DeletionPolicyOrphan,
	} {
		f := newFixture(t, source(), small("one", "git-source"))
		f.args.Handover = handover
		require.NoError(t, f.deliver())
		assert.Equal(t, want, f.kustomization(t, "one").Spec.DeletionPolicy)
		assert.False(t, f.OfType(kustomizationType)["one/one"].RPC.GetRetainOnDelete(), "Flux would go on delivering")
	}
}

func TestDeliver_ADeliveryThatIsChangedByHandIsRefusedBeforeAnythingIsRegistered(t *testing.T) {
	for _, preview := range []bool{true, false} {
		for was, is := range map[config.Delivery]config.Delivery{config.Direct: config.FluxCD, config.FluxCD: config.Direct} {
			f := newFixture(t, source(), small("two"), small("one"), small("new"), small("same"))
			f.preview, f.args.Delivery = preview, is
			// With the key of a handover set in the same stroke it is no better.
			f.args.Handover = preview
			f.Before = before(map[string]string{
				"one": string(was), "two": string(was), "same": string(is), "gone": string(was), "git-source": string(was),
			})
			err := f.deliver()
			require.ErrorContains(t, err, "delivery is "+string(is)+", and these workloads run by the other one: one, two; ")
			require.ErrorContains(t, err, "make switch STACK=test DELIVERY="+string(is)+" REAL=1")
			assert.Empty(t, f.OfType(components.TokenDeliveryDirect))
			assert.Empty(t, f.OfType(components.TokenDeliveryPulled))
			assert.Empty(t, f.api.Asked())
		}
	}
}

func TestDeliver_AStackOfAProgramThatKnewOneDeliveryIsDeliveredByThat(t *testing.T) {
	f := newFixture(t, source(), small("one"))
	f.Before = resource.PropertyMap{"urls": resource.NewProperty("http://one")}
	require.ErrorContains(t, f.deliver(), "make switch STACK=test DELIVERY=flux REAL=1")

	f.args.Delivery = config.Direct
	require.NoError(t, f.deliver())
}

func TestDeliver_ADeliveryMayChangeOfWhatIsHandedOver(t *testing.T) {
	for was, is := range map[config.Delivery]config.Delivery{config.Direct: config.FluxCD, config.FluxCD: config.Direct} {
		f := newFixture(t, source(), small("one"), small("two"))
		f.args.Delivery = was
		f.args.Handover = true
		require.NoError(t, f.deliver())
		left := f.left()

		f = newFixture(t, source(), small("one"), small("two"))
		f.args.Delivery, f.Before = is, before(left)
		require.NoError(t, f.deliver(), "%v", left)
	}
}

func TestDeliver_ItsOutputSaysHowEachWorkloadIsDeliveredThatMayChange(t *testing.T) {
	for _, how := range []config.Delivery{config.Direct, config.FluxCD} {
		f := newFixture(t, source(), small("one"), small("two"))
		f.args.Delivery = how
		require.NoError(t, f.deliver())
		assert.Equal(t, map[string]string{"one": string(how), "two": string(how)}, f.left())

		f.args.Handover = true
		require.NoError(t, f.deliver())
		handed := string(how) + ", to be handed over"
		assert.Equal(t, map[string]string{"one": handed, "two": handed}, f.left())
	}
}

// Else the key could be changed by hand after it, and what the engine has not recorded as staying
// would be deleted.
func TestDeliver_AnUpdateThatFailsHandsOverNothing(t *testing.T) {
	for how, failing := range map[config.Delivery]string{config.Direct: deploymentType, config.FluxCD: kustomizationType} {
		f := newFixture(t, source(), small("one"), small("two"))
		f.args.Delivery, f.args.Handover = how, true
		f.FailOn = func(token, name string) error {
			if token == failing && strings.HasPrefix(name, "two/") {
				return errRefused
			}
			return nil
		}
		require.Error(t, f.deliver())
		assert.Empty(t, f.left()["two"], how)
	}
}

// What is not handed over is known to be delivered before the first of it is there.
func TestDeliver_AnUpdateThatFailsSaysHowItDelivers(t *testing.T) {
	f := newFixture(t, source(), small("one"), small("two"))
	f.FailOn = func(token, _ string) error {
		if token == kustomizationType {
			return errRefused
		}
		return nil
	}
	require.Error(t, f.deliver())
	assert.Equal(t, map[string]string{"one": "flux", "two": "flux"}, f.left())
}

func TestDeliver_WarnsOfWhatADestroyWouldLeave(t *testing.T) {
	for _, preview := range []bool{true, false} {
		f := newFixture(t, source(), small("one"), small("two"))
		f.preview = preview
		require.NoError(t, f.deliver())
		assert.NotContains(t, f.told.String(), "destroy")

		f.args.Handover, f.args.Suspend = true, []string{"one", "two"}
		require.NoError(t, f.deliver())
		assert.Contains(t, f.told.String(), "handover is set: ")
		assert.Contains(t, f.told.String(), "run the same make switch again")
		assert.Contains(t, f.told.String(), "suspended: one, two; ")
		assert.Contains(t, f.told.String(), "before pulumi destroy, take them off the list suspend")
	}
}
