package checks_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/config"
)

// A device's name becomes the job label of its metrics: config knows every job to keep apart.
func TestJobs_NoDeviceMayHaveTheNameOfOne(t *testing.T) {
	t.Parallel()
	loaded := loadPrometheus(t)
	require.NotEmpty(t, loaded.ScrapeConfigs)
	for _, job := range loaded.ScrapeConfigs {
		values := map[string]string{"manager-cluster-state:snmp": `{"devices": [{"name": "` + job.JobName + `", "address": "192.168.0.1", "module": "vdsl"}]}`}
		_, err := config.Load("manager-cluster-state", values, nil, time.Now())
		require.ErrorContains(t, err, `snmp.devices[0].name is "`+job.JobName+`"`)
	}
}
