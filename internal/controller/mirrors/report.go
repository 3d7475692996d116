package mirrors

// Events and metrics about flips.

import (
	"fmt"
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
		c.report(rt, corev1.EventTypeNormal, "MirrorParked", "%s", parkedText(d, ids))
	}
}

// parkedText explains mirrors that are parked: which, why, and what brings them back.
func parkedText(d policy.Decision, ids []string) string {
	var texts, reasons []string
	for _, v := range d.Verdicts {
		if !slices.Contains(ids, v.Mirror.ID) {
			continue
		}
		text := fmt.Sprintf("mirror to %s is parked: %s", policy.TargetName(v.Mirror), v.Reason)
		if v.Detail != "" {
			text += ": " + v.Detail
		}
		texts = append(texts, text+" ("+v.Mirror.Path+")")
		if reason := "mirrorgate explain " + string(v.Reason); !slices.Contains(reasons, reason) {
			reasons = append(reasons, reason)
		}
	}
	return strings.Join(texts, "; ") + ". It comes back by itself once that has changed; more: " + strings.Join(reasons, ", ")
}

// restoredText names mirrors that came back.
func restoredText(d policy.Decision, ids []string) string {
	var texts []string
	for _, v := range d.Verdicts {
		if slices.Contains(ids, v.Mirror.ID) {
			texts = append(texts, fmt.Sprintf("mirror to %s is back: %s (%s)", policy.TargetName(v.Mirror), v.Reason, v.Mirror.Path))
		}
	}
	return strings.Join(texts, "; ")
}

// limitedText names mirrors that copy less than they declare.
func limitedText(d policy.Decision, ids []string) string {
	var texts []string
	for _, v := range d.Verdicts {
		if slices.Contains(ids, v.Mirror.ID) {
			texts = append(texts, fmt.Sprintf("mirror to %s copies %s %% instead of %v %%: %s: %s (%s)", policy.TargetName(v.Mirror),
				v.Share, v.Mirror.Percentage.Percent(), v.Reason, v.Detail, v.Mirror.Path))
		}
	}
	return strings.Join(texts, "; ")
}

// raisedText names mirrors that copy again as much as they declare.
func raisedText(d policy.Decision, ids []string) string {
	var texts []string
	for _, v := range d.Verdicts {
		if slices.Contains(ids, v.Mirror.ID) {
			texts = append(texts, fmt.Sprintf("mirror to %s copies %v %% again, as declared (%s)", policy.TargetName(v.Mirror),
				v.Mirror.Percentage.Percent(), v.Mirror.Path))
		}
	}
	return strings.Join(texts, "; ")
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

// announce writes an Event for the mirrors that were parked, and one each for those that were restored, limited or given
// their declared percentage back.
func (c *Controller) announce(rt *route.Route, d policy.Decision) {
	for _, move := range []struct {
		reason string
		text   func(policy.Decision, []string) string
		ids    []string
	}{
		{"MirrorParked", parkedText, d.Plan.Parked},
		{"MirrorRestored", restoredText, d.Plan.Restored},
		{"MirrorLimited", limitedText, d.Plan.Limited},
		{"MirrorRaised", raisedText, d.Plan.Raised},
	} {
		if len(move.ids) == 0 {
			continue
		}
		text := move.text(d, move.ids)
		c.report(rt, corev1.EventTypeNormal, move.reason, "%s", text)
		c.opts.Log.Info("Mirrors moved", "route", rt.String(), "event", move.reason, "mirrors", text)
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
