package rehearsal

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestControllerArgs_KeepTheDeploymentsOwn(t *testing.T) {
	plan := &controllerPlan{name: "source-controller", args: []string{
		"--concurrent=1", "--enable-leader-election", "--events-addr=http://notification-controller.$(RUNTIME_NAMESPACE)", "--storage-path=/data",
	}}
	args, health := controllerArgs(plan, []int{1, 2, 3}, 4, "/f/source")
	assert.Equal(t, []string{
		"--concurrent=1", "--events-addr=http://notification-controller.$(RUNTIME_NAMESPACE)", "--storage-path=/data",
		"--enable-leader-election=false", "--health-addr=127.0.0.1:1", "--metrics-addr=127.0.0.1:2",
		"--events-addr=http://127.0.0.1:4/", "--storage-path=/f/source", "--storage-addr=127.0.0.1:3", "--storage-adv-addr=127.0.0.1:3",
	}, args, "the last of two equal flags wins")
	assert.Equal(t, "http://127.0.0.1:1/readyz", health)
}

func TestControllerArgs_OfSealedSecretsMoveItsPorts(t *testing.T) {
	args, health := controllerArgs(&controllerPlan{name: sealedSecrets, args: []string{"--key-renew-period=0"}}, []int{1, 2, 3}, 4, "")
	assert.Equal(t, []string{"--key-renew-period=0", "--listen-addr=127.0.0.1:1", "--listen-metrics-addr=127.0.0.1:2"}, args)
	assert.Equal(t, "http://127.0.0.1:1/healthz", health)
}

func TestFreePorts_AreDistinct(t *testing.T) {
	ports, err := freePorts(t.Context(), 20)
	require.NoError(t, err)
	seen := map[int]bool{}
	for _, port := range ports {
		assert.False(t, seen[port])
		seen[port] = true
	}
	assert.Len(t, seen, 20)
}
