package main

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func seconds(values ...int) []time.Duration {
	var times []time.Duration
	for _, value := range values {
		times = append(times, time.Duration(value)*time.Second)
	}
	return times
}

func TestSpread_EachPartOfTheStepsHasItsPoint(t *testing.T) {
	steps := make([]time.Duration, 200)
	for i := range steps {
		steps[i] = time.Duration(i) * time.Second
	}
	points := spread(50, steps, rand.New(rand.NewPCG(1, 1)))
	require.Len(t, points, 50)
	for i, p := range points {
		assert.GreaterOrEqual(t, p.steps, i*4)
		assert.Less(t, p.steps, (i+1)*4)
		assert.Less(t, p.after, time.Second, "before the next step")
	}
	assert.Equal(t, points, spread(50, steps, rand.New(rand.NewPCG(1, 1))), "the same seed, the same points")
	assert.NotEqual(t, points, spread(50, steps, rand.New(rand.NewPCG(2, 1))))
}

func TestSpread_MorePointsThanStepsStayWithinTheSteps(t *testing.T) {
	points := spread(50, seconds(1, 2, 200), rand.New(rand.NewPCG(1, 1)))
	require.Len(t, points, 50)
	for _, p := range points {
		assert.Less(t, p.steps, 3, "the last step ends the bring-up")
		assert.LessOrEqual(t, p.after, longestGap)
	}
	assert.Equal(t, point{}, pointAt(0.5, nil, rand.New(rand.NewPCG(1, 1))))
}

func TestPointAt_BothEnds(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	assert.Equal(t, 0, pointAt(0, seconds(1, 2, 3), random).steps)
	assert.Equal(t, 2, pointAt(1, seconds(1, 2, 3), random).steps)
}
