package intercept

// Whether the webhook of Services is registered: without it, no Service may lead to proxies.

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/util/wait"
)

// registeredPoll is how often the registration is checked.
const registeredPoll = 2 * time.Second

// registration caches the API server's answer.
type registration struct {
	registered func(context.Context) (bool, error)
	log        logr.Logger

	mu                sync.Mutex
	webhookRegistered bool
	checked           time.Time // zero before the first answer
}

// watch calls changed whenever the webhook is registered or removed, until ctx ends.
func (r *registration) watch(ctx context.Context, changed func()) {
	wait.UntilWithContext(ctx, func(ctx context.Context) {
		r.mu.Lock()
		before := r.webhookRegistered
		r.mu.Unlock()
		if after, err := r.check(ctx, 0); err == nil && after != before {
			changed()
		}
	}, registeredPoll)
}

// check reports whether the webhook is registered. It asks the API server unless the last answer is younger
// than maxAge. Without an answer the last one holds; if there never was one, check fails, since a false
// would lead every Service past its proxies.
func (r *registration) check(ctx context.Context, maxAge time.Duration) (bool, error) {
	r.mu.Lock()
	last, fresh := r.webhookRegistered, time.Since(r.checked) < maxAge
	r.mu.Unlock()
	if fresh {
		return last, nil
	}
	answer, err := r.registered(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		if r.checked.IsZero() {
			return false, fmt.Errorf("read the registration of the webhook of Services: %w", err)
		}
		return r.webhookRegistered, nil
	}
	if r.webhookRegistered != answer || r.checked.IsZero() {
		r.log.Info("Webhook of Services", "registered", answer)
	}
	r.webhookRegistered, r.checked = answer, time.Now()
	return answer, nil
}

// forget makes the next check ask the API server, and fail without an answer.
func (r *registration) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.checked = time.Time{}
}
