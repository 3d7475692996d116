package webhook

// How much a caller can make us hold. Whoever reaches the port can call, and a body that
// is announced and never ends would be held for as long: some dozens, and the process is
// out of memory, and with it the answers to everybody's writes.

import (
	"context"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// patience is how long a caller has to send a review, and how long a large one
	// waits for its turn. The API server gives up after 3 s.
	patience = 3 * time.Second
	// small is what is read at any time, in bytes: a route of this size is a large one.
	small = 64 << 10
	// maxLarge bounds what is announced of larger reviews at a time, in bytes. Read and
	// decoded they are several times that.
	maxLarge = 4 * maxReview
)

// intake is shared by the handlers of a server.
type intake struct {
	patience time.Duration
	large    *semaphore.Weighted
}

func newIntake() *intake { return &intake{patience, semaphore.NewWeighted(maxLarge)} }

// begin makes sure that a review can be read, and returns what ends that. It is an
// error when too many large ones are under way.
func (in *intake) begin(w http.ResponseWriter, r *http.Request) (end func(), err error) {
	size := r.ContentLength
	if size < 0 || size > maxReview {
		size = maxReview
	}
	end = func() {}
	if size > small {
		ctx, cancel := context.WithTimeout(r.Context(), in.patience)
		defer cancel()
		if err := in.large.Acquire(ctx, size); err != nil {
			return nil, err
		}
		end = func() { in.large.Release(size) }
	}
	// Only after it had its turn. The server lifts it when it has the body. Without a
	// connection there is nobody to be slow.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(in.patience))
	return end, nil
}
