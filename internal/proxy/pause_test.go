package proxy

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// What is taken for a pause of a connection becomes shorter in steps.
func TestPause(t *testing.T) {
	const total = 20 * time.Second
	for left, want := range map[time.Duration]time.Duration{
		total: 5 * time.Second, 10 * time.Second: 5 * time.Second,
		9 * time.Second: 625 * time.Millisecond, 5 * time.Second: 625 * time.Millisecond,
		4 * time.Second: 78125 * time.Microsecond, 2 * time.Second: shortest, 0: shortest, -time.Second: shortest,
	} {
		assert.Equal(t, want, pause(total, left), "%s left", left)
	}
	assert.Equal(t, shortest, pause(0, 0))
}
