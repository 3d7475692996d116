package compare

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The reference implementation computed these numbers: testdata/golden.py says how.
func TestNumbersOfTheReference(t *testing.T) {
	text, err := os.ReadFile("testdata/golden.json")
	require.NoError(t, err)
	var golden struct {
		Different, Threshold, Same, Upper, More [][]float64
		Units                                   [][]any
	}
	require.NoError(t, json.Unmarshal(text, &golden))
	require.Len(t, golden.Different, 27)
	for _, g := range golden.Different {
		assert.InDelta(t, g[3], logEDifferent(g[0], g[1], g[2]), 1e-9, "%v", g)
	}
	for _, g := range golden.Threshold {
		assert.InDelta(t, g[1], logThreshold(int(g[0])), 1e-9, "%v", g)
	}
	for _, g := range golden.Same {
		assert.InDelta(t, g[4], logESame(g[0], g[1], g[2], g[3]), 1e-9, "%v", g)
	}
	for _, g := range golden.Upper {
		assert.InDelta(t, g[3], upperBound(g[0], g[1], g[2]), 1e-9, "%v", g)
	}
	for _, g := range golden.More {
		more, ok := moreNeeded(g[0], g[1], g[2], g[3])
		if assert.Equal(t, g[4] >= 0, ok, "%v", g); ok {
			assert.InDelta(t, g[4], more, 0, "%v", g)
		}
	}
	for _, g := range golden.Units {
		var b Blocks
		for i, counts := range g[0].([]any) {
			for range int(counts.([]any)[0].(float64)) {
				b.add(int64(i), true)
			}
			for range int(counts.([]any)[1].(float64)) {
				b.add(int64(i), false)
			}
		}
		variant, control := b.units()
		assert.InDelta(t, g[1], variant, 1e-9)
		assert.InDelta(t, g[2], control, 1e-9)
	}
}

// The numbers of units that the documents promise.
func TestUnitsNeeded(t *testing.T) {
	for rank, want := range map[int]float64{1: 15, 20: 21, 100: 25, 1000: 30} {
		n := 1.0
		for logEDifferent(n, 0, nullOdd) < logThreshold(rank) {
			n++
		}
		assert.Equal(t, want, n, "rank %d", rank) //nolint:testifylint // whole numbers
	}
	for tolerance, want := range map[float64]int{.01: 362, .005: 724, .001: 3613} {
		more, ok := moreNeeded(0, 0, 0, tolerance)
		assert.True(t, ok)
		assert.Equal(t, want, more, "tolerance %v, after the first", tolerance)
	}
}

func TestLowerBound(t *testing.T) {
	assert.Zero(t, lowerBound(100, 0))
	low := lowerBound(900, 100)
	assert.Greater(t, low, 0.05)
	assert.Less(t, low, 0.1)
	assert.GreaterOrEqual(t, logEDifferent(100, 900, low-1e-6), math.Log(1/alpha))
	assert.Greater(t, lowerBound(0, 100), 0.9)
}
