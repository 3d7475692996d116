package iter8

// Metrics about documents and the routes that are applied for them.

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics count documents and applications of routes.
type Metrics struct {
	applies   *prometheus.CounterVec
	documents *prometheus.GaugeVec

	mu    sync.Mutex
	kinds map[string][]string // of the documents of each namespace
}

// NewMetrics registers the metrics; a nil registerer exposes them nowhere.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	m := &Metrics{
		applies: f.NewCounterVec(prometheus.CounterOpts{
			Name: "mirrorgate_iter8_applies_total",
			Help: "Routes applied for Iter8's documents by result: applied, conflict (somebody else set a field), taken (the route is somebody else's), refused, error.",
		}, []string{"result"}),
		documents: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "mirrorgate_iter8_documents",
			Help: "Iter8's documents by kind: subject, policy, routemap, invalid.",
		}, []string{"kind"}),
		kinds: map[string][]string{},
	}
	for _, result := range []string{"applied", "conflict", "taken", "refused", "error"} {
		m.applies.WithLabelValues(result)
	}
	for _, kind := range []string{"subject", "policy", "routemap", "invalid"} {
		m.documents.WithLabelValues(kind)
	}
	return m
}

// count replaces the documents of a namespace.
func (m *Metrics) count(namespace string, docs []*document) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, kind := range m.kinds[namespace] {
		m.documents.WithLabelValues(kind).Dec()
	}
	delete(m.kinds, namespace)
	for _, d := range docs {
		m.kinds[namespace] = append(m.kinds[namespace], d.kind())
		m.documents.WithLabelValues(d.kind()).Inc()
	}
}
