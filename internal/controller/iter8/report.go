package iter8

// What is told: Events of the ConfigMaps, for who wrote them, and metrics.

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	corev1 "k8s.io/api/core/v1"
)

// tell writes an Event about a problem, once for as long as it stays the same.
func (s *namespaceState) tell(d *document, p *problem) {
	if p.reason == "" || !d.reported.Is(p.reason, p.note) {
		return
	}
	s.report(d, p.route, corev1.EventTypeWarning, p.reason, p.note)
	s.run.opts.Log.Info("Document has a problem", "namespace", s.namespace, "name", d.cm.Name, "reason", p.reason, "note", p.note)
}

// report writes an Event about a document. The route that it concerns, if any, is the related object: client-go
// counts Events with the same objects as one series, and keeps the note of the first.
func (s *namespaceState) report(d *document, related *corev1.ObjectReference, eventType, reason, note string) {
	s.run.events.Report(&corev1.ObjectReference{
		APIVersion: "v1", Kind: "ConfigMap", Namespace: d.cm.Namespace, Name: d.cm.Name, UID: d.cm.UID, ResourceVersion: d.cm.ResourceVersion,
	}, related, eventType, reason, "%s", note)
}

// Metrics tell how documents fare.
type Metrics struct {
	applies   *prometheus.CounterVec
	documents *prometheus.GaugeVec

	mu     sync.Mutex
	counts map[string]map[string]int // by namespace and kind
}

// NewMetrics registers the metrics; with a nil registerer they are counted and shown nowhere.
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
	m.show()
	return m
}

// count notes the documents of a namespace.
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
	m.show()
}

// forget is for the end of a term: another replica counts then.
func (m *Metrics) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.counts)
	m.show()
}

func (m *Metrics) show() {
	for _, kind := range []string{"subject", "policy", "routemap", "invalid"} {
		n := 0
		for _, of := range m.counts {
			n += of[kind]
		}
		m.documents.WithLabelValues(kind).Set(float64(n))
	}
}
