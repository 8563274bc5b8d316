package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// talkingClock makes this test binary a program that answers each line with both of its clocks.
const talkingClock = "CHAOS_TEST_TALKING_CLOCK"

func TestMain(m *testing.M) {
	if os.Getenv(talkingClock) == "" {
		os.Exit(m.Run())
	}
	start := time.Now()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fmt.Println(time.Now().Unix(), int(time.Since(start).Seconds())) //nolint:forbidigo // it is what it is for
	}
}

func TestJumpClock_MovesTheWallClockOfARunningGoProgramAlone(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), talkingClock+"=1")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	ask := func() (ahead time.Duration, ran int) {
		_, err := fmt.Fprintln(in)
		require.NoError(t, err)
		var unix int64
		_, err = fmt.Fscanln(out, &unix, &ran)
		require.NoError(t, err)
		return time.Until(time.Unix(unix, 0)), ran
	}
	const day, near = 24 * time.Hour, float64(time.Hour)
	ahead, _ := ask()
	require.InDelta(t, 0, float64(ahead), near)
	for _, by := range []time.Duration{day, -day, 0} {
		require.NoError(t, jumpClock(cmd.Process.Pid, by))
		ahead, ran := ask()
		assert.InDelta(t, float64(by), float64(ahead), near)
		assert.Less(t, ran, 3600, "how long it has run is told by another clock")
	}
}
