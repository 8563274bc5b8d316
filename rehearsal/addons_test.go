package rehearsal

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/config"
)

func TestEnsureAddons_AsksForACluster_OnlyWhereTheStackHasK3s(t *testing.T) {
	r := &Rehearsal{folder: folder(t.TempDir())} // no cluster is there to ask
	require.NoError(t, r.ensureAddons(t.Context(), config.Existing))
	require.ErrorContains(t, r.ensureAddons(t.Context(), config.K3d), "kubeconfig")
	require.ErrorContains(t, r.ensureAddons(t.Context(), config.Pi), "kubeconfig")
}
