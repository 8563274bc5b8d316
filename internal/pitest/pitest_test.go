//go:build linux

package pitest_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/internal/pitest"
)

func TestPi_AnswersAsItsUserAndAsRoot(t *testing.T) {
	house := pitest.New(t, pitest.Options{})
	pi := house.Pi(t, "kiwipi", pitest.PiOptions{})
	out, said, err := pi.Run(t.Context(), "id -un; hostname; uname -m; cat /proc/sys/kernel/random/boot_id", "")
	require.NoError(t, err, said)
	assert.Equal(t, "pi\nkiwipi\naarch64\n"+pi.BootID()+"\n", out)
	assert.Equal(t, "root\n", pi.Must(t, "id -un"))
	assert.Empty(t, pi.Left(t))
}

func TestPi_RebootsWithAnotherBootIDAndItsUnits(t *testing.T) {
	house := pitest.New(t, pitest.Options{RebootTakes: 300 * time.Millisecond})
	pi := house.Pi(t, "kiwipi", pitest.PiOptions{})
	before := pi.BootID()
	pi.Must(t, "systemctl reboot")
	pi.WaitUp(t, 2)
	assert.NotEqual(t, before, pi.BootID())
}
