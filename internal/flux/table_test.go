package flux_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/nullify005/manager-cluster-state/internal/flux"
)

func TestTable_IsForPeople(t *testing.T) {
	ago := func(d time.Duration) time.Time { return time.Now().Add(-d) }
	long := "HealthCheckFailed: timeout waiting for:\n" + strings.Repeat("x", 100)
	states := []flux.State{
		{Ref: flux.GitRepository("flux-system", "source"), Ready: flux.True, Revision: fresh, Since: ago(3 * 24 * time.Hour), Message: "Succeeded: stored artifact"},
		{Ref: flux.Kustomization("flux-system", "app"), Ready: flux.False, Revision: old, Since: ago(5 * time.Minute), Message: long},
		{Ref: flux.Kustomization("flux-system", "off"), Ready: flux.Suspended, Since: ago(30 * time.Minute)},
		{Ref: flux.HelmRelease("charts", "chart"), Ready: flux.Stalled, Revision: "6.5.4", Since: ago(time.Hour), Message: "RetriesExceeded: gave up"},
	}
	assert.Equal(t, `FLUX            NAME                 READY       REVISION             AGE   MESSAGE
GitRepository   flux-system/source   True        main@sha1:22222222   3d    Succeeded: stored artifact
Kustomization   flux-system/app      False       main@sha1:11111111   5m    HealthCheckFailed: timeout waiting for: `+strings.Repeat("x", 59)+`…
Kustomization   flux-system/off      Suspended   -                    30m   -
HelmRelease     charts/chart         Stalled     6.5.4                60m   RetriesExceeded: gave up
`, flux.Table(states))
	assert.Equal(t, []string{
		"Kustomization flux-system/app (false): HealthCheckFailed: timeout waiting for:\n    " + strings.Repeat("x", 100),
		"HelmRelease charts/chart (stalled): RetriesExceeded: gave up",
	}, flux.Problems(states), "in full, and a suspended one is as someone wanted it")
}
