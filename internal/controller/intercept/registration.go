package intercept

// Whether the webhook of Services is registered: without it, no Service may lead to proxies.

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// registeredPoll is how often the registration is checked.
const registeredPoll = 2 * time.Second

// registration caches the API server's answer.
type registration struct {
	registered func(context.Context) (bool, error)
	// report returns where proxies report to, as the last answer of registered had it.
	report func() wellknown.ReportTarget
	log    logr.Logger

	last atomic.Pointer[answer] // nil before the first one
}

// answer is the API server's at a time.
type answer struct {
	webhookRegistered bool
	at                time.Time
}

// watch calls changed whenever the webhook is registered or removed, or proxies have to report elsewhere, until ctx ends.
func (r *registration) watch(ctx context.Context, changed func()) {
	wait.UntilWithContext(ctx, func(ctx context.Context) {
		before, target := r.last.Load(), r.report()
		after, err := r.check(ctx, 0)
		if err == nil && (after != (before != nil && before.webhookRegistered) || r.report() != target) {
			changed()
		}
	}, registeredPoll)
}

// check reports whether the webhook is registered. It asks the API server unless the last answer is younger
// than maxAge. Without an answer the last one holds; if there never was one, check fails, since a false would
// lead every Service past its proxies.
func (r *registration) check(ctx context.Context, maxAge time.Duration) (bool, error) {
	last := r.last.Load()
	if last != nil && time.Since(last.at) < maxAge {
		return last.webhookRegistered, nil
	}
	webhookRegistered, err := r.registered(ctx)
	switch {
	case err != nil && last == nil:
		return false, fmt.Errorf("read the registration of the webhook of Services: %w", err)
	case err != nil:
		return last.webhookRegistered, nil //nolint:nilerr // the last answer holds
	case last == nil || last.webhookRegistered != webhookRegistered:
		r.log.Info("Webhook of Services", "registered", webhookRegistered)
	}
	r.last.Store(&answer{webhookRegistered, time.Now()})
	return webhookRegistered, nil
}

// forget makes the next check ask the API server, and fail without an answer.
func (r *registration) forget() { r.last.Store(nil) }
