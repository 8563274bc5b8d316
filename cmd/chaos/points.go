package main

import (
	"math/rand/v2"
	"time"
)

// point is a moment of a bring-up: so long after so many of its steps.
type point struct {
	steps int
	after time.Duration
}

// longestGap bounds how long after a step a point may lie: where a bring-up waits for minutes, it is
// the beginning of the wait that differs.
const longestGap = 5 * time.Second

// spread puts points over a bring-up whose steps came at those times: as many in each part of its
// steps, and each anywhere between its step and the next.
func spread(count int, steps []time.Duration, random *rand.Rand) []point {
	points := make([]point, count)
	for i := range points {
		points[i] = pointAt((float64(i)+random.Float64())/float64(count), steps, random)
	}
	return points
}

// pointAt is the point at a share of a bring-up.
func pointAt(share float64, steps []time.Duration, random *rand.Rand) point {
	seen := min(int(share*float64(len(steps))), len(steps)-1)
	if seen < 0 {
		return point{}
	}
	var before time.Duration
	if seen > 0 {
		before = steps[seen-1]
	}
	gap := min(steps[seen]-before, longestGap)
	return point{steps: seen, after: time.Duration(random.Float64() * float64(gap))}
}
