package loop

// When a failed attempt is repeated, and which failures are worth it.

import (
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Retries of a failure that may pass by itself start at FirstRetry and double up to LastRetry. A request that
// the API server refuses is repeated after SlowRetry.
const (
	FirstRetry = 50 * time.Millisecond
	LastRetry  = 30 * time.Second
	SlowRetry  = time.Minute
)

// Backoff returns the time to wait after a number of failed attempts, at least one.
func Backoff(attempts int) time.Duration {
	const enough = 10 // doublings until LastRetry is exceeded
	return min(FirstRetry<<min(attempts-1, enough), LastRetry)
}

// Refused reports whether the API server would give the same answer to the same request again.
func Refused(err error) bool {
	return apierrors.IsInvalid(err) || apierrors.IsForbidden(err) || apierrors.IsBadRequest(err)
}
