package webhook

import (
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// Metrics counts what the handlers decide. Labels never hold names, so their
// number is bounded.
type Metrics struct {
	decisions *prometheus.CounterVec
	errors    *prometheus.CounterVec
	duration  *prometheus.HistogramVec
}

// NewMetrics registers the handlers' metrics; with a nil registerer they are
// counted and shown nowhere.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	return &Metrics{
		decisions: f.NewCounterVec(prometheus.CounterOpts{
			Name: "mirrorgate_decisions_total",
			Help: "Decisions of the admission handlers, by kind of route, operation, action (park, restore, none, skip, deny), reason and dry run.",
		}, []string{"kind", "operation", "action", "reason", "dry_run"}),
		errors: f.NewCounterVec(prometheus.CounterOpts{
			Name: "mirrorgate_internal_errors_total",
			Help: "Admission requests that were let through undecided because of a fault of ours, by handler and cause.",
		}, []string{"stage", "cause"}),
		duration: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "mirrorgate_admission_duration_seconds",
			Help:    "Time to decide on one admission request, live reads included.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2},
		}, []string{"stage"}),
	}
}

func (m *Metrics) decided(req *admission.Request, out outcome) {
	dry := req.DryRun != nil && *req.DryRun
	m.decisions.WithLabelValues(req.Kind.Kind, strings.ToLower(string(req.Operation)),
		string(out.action), string(out.reason), strconv.FormatBool(dry)).Inc()
}
