package rehearsal

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestStartTime_SurvivesANameWithSpacesAndParentheses(t *testing.T) {
	stat := "4711 (a b) c) S 1 4711 4711 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 1000 10 18446744073709551615"
	started, ok := startTime(stat)
	assert.True(t, ok)
	assert.Equal(t, "123456", started)

	_, ok = startTime("4711 (short) S 1")
	assert.False(t, ok)
}

func TestPeakIn_ReadsTheHighWaterMark(t *testing.T) {
	peak, ok := peakIn("Name:\tpulumi\nVmPeak:\t  900 kB\nVmHWM:\t  123456 kB\nVmRSS:\t  5 kB\n")
	assert.True(t, ok)
	assert.Equal(t, int64(123456<<10), peak)
	_, ok = peakIn("Name:\tkthreadd\n")
	assert.False(t, ok, "a thread of the kernel has no memory")
}
