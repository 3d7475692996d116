package heap

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestRelaxLeavesGOGCOfTheEnvironment(t *testing.T) {
	before := debug.SetGCPercent(77)
	defer debug.SetGCPercent(before)
	t.Setenv("GOGC", "77")
	Relax()
	assert.Equal(t, 77, debug.SetGCPercent(77))
	t.Setenv("GOGC", "")
	Relax()
	assert.Equal(t, percent, debug.SetGCPercent(77))
}
