package compare

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The history of an epoch has its beginning and its end, in order, and few points however long it is.
func TestHistory(t *testing.T) {
	c := newComparer(t, Options{Control: true})
	w := c.Worker()
	for n := range 30_000 {
		w.Add(sampleOf(n, `{"a":1}`, `{"a":1}`, `{"a":1}`))
	}
	end := start.Add(50 * time.Minute)
	points := c.Report(end).Endpoints[0].History
	require.LessOrEqual(t, len(points), maxPoints+1)
	require.Greater(t, len(points), maxPoints/4)
	assert.Less(t, points[0].At.Sub(start), 2*time.Minute)
	assert.Equal(t, end, points[len(points)-1].At)
	for i := range points[1:] {
		assert.True(t, points[i].At.Before(points[i+1].At))
		assert.GreaterOrEqual(t, points[i].Upper, points[i+1].Upper, "without a difference the bound falls")
	}
	c.Begin("next", end)
	assert.Empty(t, c.Report(end).Endpoints)
	w.Add(sampleOf(40_000, `{"a":1}`, `{"a":1}`, `{"a":1}`))
	assert.Len(t, c.Report(end).Endpoints[0].History, 2)
}

// A request that is under way waits for no report.
func TestNotesDoNotWait(t *testing.T) {
	c := newComparer(t, Options{})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Wrote()
	c.Skip(SkippedNotDrawn)
	assert.False(t, c.Rare(&Request{Method: "GET", Path: "/"}))
}
