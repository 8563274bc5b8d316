package handover_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/handover"
)

var errStopped = errors.New("stopped here")

// stack is one of which everything beyond its configuration is out of reach.
type stack struct {
	config  *config.Config
	changed []string
	// updates has pulumi up do well.
	updates bool
}

func (*stack) StackName() string  { return "home" }
func (*stack) ProjectDir() string { return ".." }
func (*stack) GitEnv() []string   { return nil }

func (s *stack) Config(context.Context) (*config.Config, error) {
	cfg := *s.config
	return &cfg, nil
}

func (s *stack) SetDelivery(_ context.Context, delivery config.Delivery, handover bool) error {
	s.config.Delivery, s.config.Handover = delivery, handover
	s.changed = append(s.changed, string(delivery))
	return nil
}

func (*stack) Pending(context.Context) (int, error)          { return 0, errStopped }
func (*stack) Client(context.Context) (client.Client, error) { return nil, errStopped }

func (s *stack) Update(context.Context) error {
	if s.updates {
		return nil
	}
	return errStopped
}

func newStack(t *testing.T, values map[string]string) *stack {
	t.Helper()
	all := map[string]string{
		"cluster": `{"kind": "existing", "name": "home", "kubeconfig": "kubeconfig.yaml"}`,
		"domain":  "localtest.me",
		"hvac":    `{"device": "1", "location": "r3fup88", "mock": true}`,
		"git":     `{"url": "ssh://git@github.com/OWNER/REPOSITORY.git"}`,
	}
	maps.Copy(all, values)
	prefixed := map[string]string{}
	for key, value := range all {
		prefixed["p:"+key] = value
	}
	cfg, err := config.Load("p", prefixed, nil, time.Now(), config.SkipSecrets())
	require.NoError(t, err)
	return &stack{config: cfg}
}

func TestSwitch_SaysWhatTheOtherDeliveryLacksBeforeAnythingIsChanged(t *testing.T) {
	s := newStack(t, nil)
	err := handover.Switch(t.Context(), s, config.FluxCD, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "secrets.deployKey is missing")
	require.ErrorContains(t, err, "sealing.keys is missing")
	require.ErrorContains(t, err, "run: make keys STACK=")
	assert.Empty(t, s.changed)

	s = newStack(t, map[string]string{"delivery": "flux", "suspend": `["chat-hvac"]`})
	err = handover.Switch(t.Context(), s, config.Direct, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "only Flux can leave a workload alone")
	require.ErrorContains(t, err, "pulumi config rm")
	assert.Empty(t, s.changed)
}

// The second half is run again; the first isn't.
func TestSwitch_ThatWasStoppedGoesOnFromThere(t *testing.T) {
	s := newStack(t, map[string]string{"handover": "true"})
	require.ErrorIs(t, handover.Switch(t.Context(), s, config.Direct, slog.New(slog.DiscardHandler)), errStopped)
	assert.Equal(t, []string{"direct"}, s.changed)
	assert.False(t, s.config.Handover)

	require.ErrorIs(t, handover.Switch(t.Context(), s, config.Direct, slog.New(slog.DiscardHandler)), errStopped)
	assert.Equal(t, []string{"direct"}, s.changed, "there is nothing left to set")
}

func TestSwitch_ThatCouldNotTakeOverSaysSo(t *testing.T) {
	s := newStack(t, nil)
	s.updates = true
	err := handover.Switch(t.Context(), s, config.Direct, slog.New(slog.DiscardHandler))
	require.ErrorIs(t, err, errStopped)
	require.ErrorContains(t, err, "run the same command again")
}
