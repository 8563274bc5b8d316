package flux_test

import (
	"os"
	"path/filepath"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/internal/fluxtest"
)

// shared is the one control plane of this package's tests. It has no controller: what Flux says,
// the tests write.
var shared = fluxtest.Cluster{Project: filepath.Join("..", "..")}

func TestMain(m *testing.M) { os.Exit(shared.Main(m)) }

// live is a client of the shared control plane, and a namespace of the test's own.
func live(t *testing.T) (c client.Client, namespace string) {
	t.Helper()
	return shared.Start(t), shared.Namespace(t)
}
