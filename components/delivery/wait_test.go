package delivery_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/internal/flux"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// What the API server has of the revision doesn't tell a wait that is over from one that never was.
const (
	old   = "main@sha1:0000000000000000000000000000000000000000"
	newer = "main@sha1:1111111111111111111111111111111111111111"
)

func TestDeliver_AnUpdateAsksFluxOfAllThatItDelivers(t *testing.T) {
	f := newFixture(t, source(), direct(small("chart", "git-source"), release()), small("one", "chart"))
	require.NoError(t, f.deliver())
	assert.Equal(t, []string{
		"GitRepository flux-system/manager-cluster-state", "HelmRelease chart/chart", "Kustomization flux-system/one",
	}, f.api.Asked())
}

func TestDeliver_APreviewAsksNobody(t *testing.T) {
	f := newFixture(t, source(), direct(small("chart", "git-source"), release()), small("one", "chart"))
	f.preview, f.args.Revision = true, newer
	require.NoError(t, f.deliver())
	assert.Empty(t, f.api.Asked())
	assert.Contains(t, f.OfType(kustomizationType), "one/one", "what comes after an unready object is previewed too")
}

func TestDeliver_HasFluxPullTheCommitThatItLacksAndNoOther(t *testing.T) {
	for name, pulled := range map[string]string{"lacks it": old, "has it": newer} {
		f := newFixture(t, source(), small("one", "git-source"))
		f.args.Revision, f.api.Pulled, f.api.OnRequest = newer, pulled, newer
		require.NoError(t, f.deliver(), name)
		if pulled == newer {
			assert.Empty(t, f.api.Requested(), name)
		} else {
			assert.Equal(t, []string{"GitRepository flux-system/manager-cluster-state"}, f.api.Requested(), name)
		}
	}
}

// Somebody pushed while the cluster was made.
func TestDeliver_ANewSourceThatFetchesANewerCommitThanWasLookedAtWillDo(t *testing.T) {
	f := newFixture(t, source())
	f.args.Revision, f.api.Pulled, f.api.OnRequest = old, "", newer
	require.NoError(t, f.deliver())
}

// The last of the graph: nothing waits for it but the update itself.
func TestDeliver_AWorkloadThatStallsFailsTheUpdateInFluxsWords(t *testing.T) {
	for name, catalog := range map[string][]workloads.Workload{
		"Kustomization flux-system/one":                   {source(), small("one", "git-source")},
		"HelmRelease chart/chart":                         {source(), direct(small("chart"), release())},
		"GitRepository flux-system/manager-cluster-state": {source()},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, catalog...)
			f.args.ReadyTimeout = time.Hour
			for _, ref := range []flux.Ref{
				flux.Kustomization(workloads.FluxNamespace, "one"), flux.HelmRelease("chart", "chart"),
				flux.GitRepository(workloads.FluxNamespace, workloads.SourceName),
			} {
				if ref.String() == name {
					f.api.Say(ref, failing("BuildFailed", "no such file or directory", true)...)
				}
			}
			err := f.deliver()
			require.ErrorContains(t, err, name+" is stalled: BuildFailed: no such file or directory")
			assert.NotContains(t, err.Error(), "canary")
		})
	}
}

func TestDeliver_NothingAfterAWorkloadThatFailsIsRegistered(t *testing.T) {
	for name, ref := range map[string]flux.Ref{
		"a source":        flux.GitRepository(workloads.FluxNamespace, workloads.SourceName),
		"a kustomization": flux.Kustomization(workloads.FluxNamespace, "one"),
		"a release":       flux.HelmRelease("chart", "chart"),
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, source(), small("one", "git-source"), direct(small("chart", "one"), release()),
				small("two", "chart"), direct(small("three", "two")), small("beside"))
			f.api.Say(ref, failing("HealthCheckFailed", "timeout waiting for: Deployment one/app", true)...)
			require.ErrorContains(t, f.deliver(), ref.String()+" is stalled: HealthCheckFailed: timeout waiting for: Deployment one/app")

			// Each is there exactly when all that it comes after is ready.
			namespaces, kustomizations := f.OfType("kubernetes:core/v1:Namespace"), f.OfType(kustomizationType)
			assert.Equal(t, name != "a source", contains(kustomizations, "one/one"), "one")
			assert.Equal(t, name == "a release", contains(namespaces, "chart/chart"), "chart")
			assert.NotContains(t, kustomizations, "two/two")
			assert.NotContains(t, namespaces, "three/three")
			assert.Contains(t, kustomizations, "beside/beside", "what doesn't come after it is delivered")
			for _, asked := range f.api.Asked() {
				assert.NotEqual(t, "Kustomization flux-system/two", asked)
			}
		})
	}
}

func contains[V any](registered map[string]V, name string) bool {
	_, there := registered[name]
	return there
}

func TestDeliver_AWorkloadThatIsNotReadyInTimeFailsTheUpdateWithFluxsLastWords(t *testing.T) {
	f := newFixture(t, source(), small("one", "git-source"))
	f.args.ReadyTimeout = 700 * time.Millisecond
	f.api.Say(flux.Kustomization(workloads.FluxNamespace, "one"), failing("DependencyNotReady", "dependency 'flux-system/zero' is not ready", false)...)
	const words = "DependencyNotReady: dependency 'flux-system/zero' is not ready"
	require.ErrorContains(t, f.deliver(), "Kustomization flux-system/one is not ready after 700ms: "+words)
	assert.Contains(t, f.told.String(), words, "and until then nobody knew what was waited for")
}
