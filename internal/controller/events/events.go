package events

// Events at a pace: a thousand routes that flip at once must not wait for a
// thousand Events, each of which costs the API server as much as a flip.

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
)

const (
	// eventRate and eventBurst are in Events a second and Events.
	eventRate, eventBurst = 10, 50
	// maxEvents is how many Events may wait. What comes then is counted and dropped.
	maxEvents = 4096
)

// Events hands Events on no faster than the API server should be asked to store
// them.
type Events struct {
	to      events.EventRecorder
	dropped prometheus.Counter
	limiter *rate.Limiter
	waiting chan func()
}

// New returns a recorder that hands on to another one, and registers the counter of Events it drops; a nil registerer shows it
// nowhere.
func New(to events.EventRecorder, reg prometheus.Registerer) *Events {
	return &Events{
		to: to,
		dropped: promauto.With(reg).NewCounter(prometheus.CounterOpts{
			Name: "mirrorgate_events_dropped_total",
			Help: "Events about routes that were not written because too many waited.",
		}),
		limiter: rate.NewLimiter(eventRate, eventBurst),
		waiting: make(chan func(), maxEvents),
	}
}

// Eventf implements events.EventRecorder. It does not block.
func (e *Events) Eventf(regarding, related runtime.Object, kind, reason, action, note string, args ...any) {
	select {
	case e.waiting <- func() { e.to.Eventf(regarding, related, kind, reason, action, note, args...) }:
	default:
		e.dropped.Inc()
	}
}

// Start hands Events on until ctx ends; what waits then is lost.
func (e *Events) Start(ctx context.Context) error {
	for e.limiter.Wait(ctx) == nil {
		select {
		case <-ctx.Done():
			return nil
		case send := <-e.waiting:
			send()
		}
	}
	return nil
}
