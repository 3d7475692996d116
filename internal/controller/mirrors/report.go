package mirrors

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

// Metrics tell how flips go.
type Metrics struct {
	touches *prometheus.CounterVec
	latency *prometheus.HistogramVec
}

// NewMetrics registers the controller's metrics; with a nil registerer they are
// counted and shown nowhere.
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
	// There from the start: an alert on an increase does not see the first of a series.
	for _, result := range []string{"flipped", "not_carried", "conflict", "gone", "refused", "error"} {
		m.touches.WithLabelValues(result)
	}
	return m
}

const (
	normal  = corev1.EventTypeNormal
	warning = corev1.EventTypeWarning
)

// announce writes an event for each way in which mirrors moved.
func (c *Controller) announce(doc *route.Route, d policy.Decision) {
	for _, way := range []struct {
		reason, text string
		ids          []string
	}{
		{"MirrorParked", "parked: %s", d.Plan.Parked},
		{"MirrorRestored", "restored: %s", d.Plan.Restored},
	} {
		if len(way.ids) == 0 {
			continue
		}
		var names []string
		for _, v := range d.Verdicts {
			if !slices.Contains(way.ids, v.Mirror.ID) {
				continue
			}
			name := v.Mirror.Path + " (" + string(v.Reason)
			if v.Detail != "" {
				name += ": " + v.Detail
			}
			names = append(names, name+")")
		}
		c.event(doc, normal, way.reason, way.text, strings.Join(names, ", "))
		c.opts.Log.Info("mirrors moved", "route", doc.String(), "event", way.reason, "mirrors", names)
	}
}

// maxNote is the length of the longest note that the API server takes; it drops
// an event whose note is longer.
const maxNote = 1024

func (c *Controller) event(doc *route.Route, kind, reason, format string, args ...any) {
	note := fmt.Sprintf(format, args...)
	if len(note) > maxNote {
		note = strings.ToValidUTF8(note[:maxNote-len("...")], "") + "..."
	}
	c.recorder.Eventf(&corev1.ObjectReference{
		APIVersion: doc.APIVersion, Kind: string(doc.Kind),
		Namespace: doc.Namespace, Name: doc.Name, UID: types.UID(doc.UID),
		// Without it client-go would take all Events of a reason for the same, and keep
		// the first one's note.
		ResourceVersion: doc.ResourceVersion,
	}, nil, kind, reason, "Mirror", "%s", note)
}
