package events

// Events at a limited rate: a thousand routes that flip at once must not wait for a thousand Events, each of
// which costs the API server as much as a flip.

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
)

const (
	// eventsPerSecond and burst limit the rate of writes.
	eventsPerSecond, burst = 10, 50
	// maxWaiting is the number of Events that may wait. Any more are counted and dropped.
	maxWaiting = 4096
)

// Recorder is an EventRecorder that does not block: it passes Events on to another one at a limited rate.
type Recorder struct {
	next    events.EventRecorder
	dropped prometheus.Counter
	limiter *rate.Limiter
	waiting chan func()
}

// NewRecorder returns a Recorder that passes Events on to another one. It registers the counter of dropped
// Events; a nil registerer exposes it nowhere.
func NewRecorder(next events.EventRecorder, reg prometheus.Registerer) *Recorder {
	return &Recorder{
		next: next,
		dropped: promauto.With(reg).NewCounter(prometheus.CounterOpts{
			Name: "mirrorgate_events_dropped_total",
			Help: "Events about routes that were not written because too many waited.",
		}),
		limiter: rate.NewLimiter(eventsPerSecond, burst),
		waiting: make(chan func(), maxWaiting),
	}
}

// Eventf implements events.EventRecorder. It does not block.
func (r *Recorder) Eventf(regarding, related runtime.Object, eventType, reason, action, note string, args ...any) {
	select {
	case r.waiting <- func() { r.next.Eventf(regarding, related, eventType, reason, action, note, args...) }:
	default:
		r.dropped.Inc()
	}
}

// Start passes Events on until ctx ends; Events that still wait then are lost.
func (r *Recorder) Start(ctx context.Context) error {
	for r.limiter.Wait(ctx) == nil {
		select {
		case <-ctx.Done():
			return nil
		case send := <-r.waiting:
			send()
		}
	}
	return nil
}
