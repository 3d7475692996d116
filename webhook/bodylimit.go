package webhook

// A bound on the memory that callers can make the process hold. Anybody who reaches the port can call, and a
// body that is announced and never ends would be held for as long. Some dozens of these would exhaust the
// memory, and then no write of anybody would be answered.

import (
	"context"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// bodyTimeout is how long a caller has to send a review, and how long a large review waits for its turn.
	// The API server gives up after 3 s.
	bodyTimeout = 3 * time.Second
	// smallBody is the largest review, in bytes, that is read without waiting; a route of this size is a
	// large one.
	smallBody = 64 << 10
	// maxLarge bounds the announced bytes of all larger reviews that are read at the same time. Read and
	// decoded, a review takes several times its size.
	maxLarge = 4 * maxReview
)

// bodyLimit is shared by the handlers of a server.
type bodyLimit struct {
	timeout time.Duration
	large   *semaphore.Weighted
}

func newBodyLimit() *bodyLimit { return &bodyLimit{bodyTimeout, semaphore.NewWeighted(maxLarge)} }

// acquire waits until a review can be read. The caller must call release after it is answered. It is an error
// when too many large reviews are under way for as long as the timeout.
func (l *bodyLimit) acquire(w http.ResponseWriter, r *http.Request) (release func(), err error) {
	size := r.ContentLength
	if size < 0 || size > maxReview {
		size = maxReview
	}
	release = func() {}
	if size > smallBody {
		ctx, cancel := context.WithTimeout(r.Context(), l.timeout)
		defer cancel()
		if err := l.large.Acquire(ctx, size); err != nil {
			return nil, err
		}
		release = func() { l.large.Release(size) }
	}
	// The time to send begins only after the wait. The server lifts the deadline when it has the body. A
	// writer without a connection cannot have a deadline, and needs none.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(l.timeout))
	return release, nil
}
