package mirrors

// Events and metrics about flips.

import (
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// Metrics count touches and measure flips.
type Metrics struct {
	touches *prometheus.CounterVec
	latency *prometheus.HistogramVec
}

// NewMetrics registers the controller's metrics; a nil registerer exposes them nowhere.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	m := &Metrics{
		touches: f.NewCounterVec(prometheus.CounterOpts{
			Name: "mirrorgate_touches_total",
			Help: "Touches of routes by result: flipped, not_carried (admission did not move the mirrors), conflict, gone, refused, error.",
		}, []string{"result"}),
		latency: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "mirrorgate_flip_duration_seconds",
			Help:    "Time from the event that moves a mirror until the route is stored, by kind of route and action.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"kind", "action"}),
	}
	// Every series exists from the start: an alert on an increase misses the first value of a new one.
	for _, result := range []string{"flipped", "not_carried", "conflict", "gone", "refused", "error"} {
		m.touches.WithLabelValues(result)
	}
	return m
}

// announceStored writes an Event for mirrors that were parked in the author's own write, which leaves no other
// trace of the reason. Each set of parked mirrors is reported once.
func (c *Controller) announceStored(rt *route.Route, d policy.Decision) {
	var ids []string
	for _, v := range d.Verdicts {
		if v.Mirror.Parked && v.Park {
			ids = append(ids, v.Mirror.ID)
		}
	}
	switch {
	case len(ids) == 0:
		c.parked.Forget(rt.Key)
	case c.opts.Managed != nil && c.opts.Managed(rt):
	case c.parked.Is(rt.Key, strings.Join(ids, " ")):
		c.report(rt, corev1.EventTypeNormal, "MirrorParked", "parked: %s", strings.Join(named(d, ids), ", "))
	}
}

// named returns the paths of mirrors with the reasons for their places.
func named(d policy.Decision, ids []string) (names []string) {
	for _, v := range d.Verdicts {
		if !slices.Contains(ids, v.Mirror.ID) {
			continue
		}
		name := v.Mirror.Path + " (" + string(v.Reason)
		if v.Detail != "" {
			name += ": " + v.Detail
		}
		names = append(names, name+")")
	}
	return names
}

// noteParked notes the mirrors that are parked after a flip, whose Event has been written.
func (c *Controller) noteParked(rt *route.Route, d policy.Decision) {
	var ids []string
	for _, v := range d.Verdicts {
		if _, misfit := d.Plan.Misfits[v.Mirror.ID]; v.Park && !misfit {
			ids = append(ids, v.Mirror.ID)
		}
	}
	if len(ids) == 0 {
		c.parked.Forget(rt.Key)
		return
	}
	c.parked.Is(rt.Key, strings.Join(ids, " "))
}

// announce writes an Event for the mirrors that were parked, and one for those that were restored.
func (c *Controller) announce(rt *route.Route, d policy.Decision) {
	for _, move := range []struct {
		reason, format string
		ids            []string
	}{
		{"MirrorParked", "parked: %s", d.Plan.Parked},
		{"MirrorRestored", "restored: %s", d.Plan.Restored},
	} {
		if len(move.ids) == 0 {
			continue
		}
		names := named(d, move.ids)
		c.report(rt, corev1.EventTypeNormal, move.reason, move.format, strings.Join(names, ", "))
		c.opts.Log.Info("Mirrors moved", "route", rt.String(), "event", move.reason, "mirrors", names)
	}
	c.noteParked(rt, d)
}

// report writes an Event about a route.
func (c *Controller) report(rt *route.Route, eventType, reason, format string, args ...any) {
	c.events.Report(&corev1.ObjectReference{
		APIVersion: rt.APIVersion, Kind: string(rt.Kind),
		Namespace: rt.Namespace, Name: rt.Name, UID: types.UID(rt.UID), ResourceVersion: rt.ResourceVersion,
	}, nil, eventType, reason, format, args...)
}
