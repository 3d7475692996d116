package webhook

// The metrics of all handlers.

import (
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	admissionv1 "k8s.io/api/admission/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// Metrics counts the decisions of the handlers. No label holds text of a request, so callers cannot add to
// the number of series.
type Metrics struct {
	decisions *prometheus.CounterVec
	errors    *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	services  *prometheus.CounterVec
}

// NewMetrics registers the handlers' metrics; with a nil registerer they are counted but not exposed.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	m := &Metrics{
		decisions: f.NewCounterVec(prometheus.CounterOpts{
			Name: "mirrorgate_decisions_total",
			Help: "Decisions of the admission handlers, by kind of route, operation, action (park, restore, none, skip, deny), reason and dry run.",
		}, []string{"kind", "operation", "action", "reason", "dry_run"}),
		errors: f.NewCounterVec(prometheus.CounterOpts{
			Name: "mirrorgate_internal_errors_total",
			Help: "Admission requests that were let through undecided because of a fault of mirrorgate's own, by handler and cause.",
		}, []string{"stage", "cause"}),
		duration: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "mirrorgate_admission_duration_seconds",
			Help:    "Time to decide on one admission request, live reads included.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2},
		}, []string{"stage"}),
		services: f.NewCounterVec(prometheus.CounterOpts{
			Name: "mirrorgate_services_admitted_total",
			Help: "Writes of Services that may have a proxy in front of them, by where their selector leads (own, bypass, proxied) and dry run.",
		}, []string{"mode", "dry_run"}),
	}
	// Every series is there from the start: an alert on an increase does not see the first value of a new
	// one.
	for _, stage := range []string{stageMutate, stageValidate} {
		for _, cause := range []string{"internal error", "panic", "timeout", "variant unknown"} {
			m.errors.WithLabelValues(stage, cause)
		}
	}
	for _, cause := range []string{"internal error", "panic", "timeout", "caches"} {
		m.errors.WithLabelValues(stageService, cause)
	}
	return m
}

func (m *Metrics) decided(req *admission.Request, out outcome) {
	dry := req.DryRun != nil && *req.DryRun
	m.decisions.WithLabelValues(
		oneOf(req.Kind.Kind, string(route.HTTPRoute), string(route.GRPCRoute), string(route.VirtualService)),
		strings.ToLower(oneOf(string(req.Operation), string(admissionv1.Create), string(admissionv1.Update))),
		string(out.action), string(out.reason), strconv.FormatBool(dry)).Inc()
}

func oneOf(text string, known ...string) string {
	if slices.Contains(known, text) {
		return text
	}
	return "other"
}
