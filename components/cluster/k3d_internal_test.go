package cluster

import (
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPort_IsInUseWhileSomebodyListens(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "0.0.0.0:0"} {
		var listen net.ListenConfig
		listener, err := listen.Listen(t.Context(), "tcp", address)
		require.NoError(t, err)
		_, port, err := net.SplitHostPort(listener.Addr().String())
		require.NoError(t, err)
		assert.True(t, inUse(t.Context(), port), address)
		require.NoError(t, listener.Close())
		assert.False(t, inUse(t.Context(), port), address)
	}
}
