//go:build !race

package webhook

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/mirrorgate/mirrorgate/internal/variant"
)

// raceEnabled is true under the race detector, which allocates.
const raceEnabled = false

// The budget of a review of 3 MiB: bytes, and allocations, which stand for the work that is done. The race detector
// allocates as well.
const (
	hostileBytes  = 56 << 20
	hostileAllocs = 400_000
)

// TestAllocationsOfHostileReviews holds what one review may allocate, in bytes and in allocations. Both are the same
// on every machine.
func TestAllocationsOfHostileReviews(t *testing.T) {
	gate := resolving(variant.NewIndex(variant.Options{}))
	for _, review := range hostileReviews() {
		t.Run(review.name, func(t *testing.T) {
			body := review.make()
			for _, path := range []string{MutatePath, ValidatePath} {
				if body == nil {
					return // it is read as large as it can be
				}
				c := costOf(t, gate, path, body)
				for range 3 { // a collection empties pools, which adds to some runs
					if c.bytes >= hostileBytes {
						c = costOf(t, gate, path, body)
					}
				}
				if strings.Contains(review.name, "than JSON may be") || strings.Contains(review.name, "no JSON") || strings.Contains(review.name, "UTF-8") {
					assert.Equal(t, http.StatusBadRequest, c.status, path)
				} else {
					assert.Equal(t, http.StatusOK, c.status, path)
				}
				assert.Less(t, c.bytes, uint64(hostileBytes), "%s: bytes", path)
				assert.Less(t, c.allocs, uint64(hostileAllocs), "%s: allocations", path)
			}
		})
	}
}
