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

	mu     sync.Mutex
	counts map[string]map[string]int // by namespace and kind
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
		counts: map[string]map[string]int{},
	}
	for _, result := range []string{"applied", "conflict", "taken", "refused", "error"} {
		m.applies.WithLabelValues(result)
	}
	m.update()
	return m
}

// count replaces the numbers of a namespace.
func (m *Metrics) count(namespace string, docs []*document) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.counts, namespace)
	for _, d := range docs {
		kind := "invalid"
		switch {
		case d.Subject != nil:
			kind = "subject"
		case d.Policy != nil:
			kind = "policy"
		case d.Routemap != nil:
			kind = "routemap"
		}
		if m.counts[namespace] == nil {
			m.counts[namespace] = map[string]int{}
		}
		m.counts[namespace][kind]++
	}
	m.update()
}

// forget ends a run: another replica counts the documents then.
func (m *Metrics) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.counts)
	m.update()
}

func (m *Metrics) update() {
	for _, kind := range []string{"subject", "policy", "routemap", "invalid"} {
		n := 0
		for _, byKind := range m.counts {
			n += byKind[kind]
		}
		m.documents.WithLabelValues(kind).Set(float64(n))
	}
}
