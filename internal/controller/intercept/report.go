package intercept

// What people get to know: Events, metrics.

import (
	"fmt"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	corev1 "k8s.io/api/core/v1"

	interception "github.com/mirrorgate/mirrorgate/internal/intercept"
)

// Metrics tell how Services are steered.
type Metrics struct {
	touches *prometheus.CounterVec
	modes   *prometheus.GaugeVec

	mu sync.Mutex
	of map[Name]interception.Mode
}

// NewMetrics registers the controller's metrics; with a nil registerer they are counted and shown
// nowhere.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	m := &Metrics{
		touches: f.NewCounterVec(prometheus.CounterOpts{
			Name: "mirrorgate_service_touches_total",
			Help: "Attempts to give Services another selector by result: carried (by admission), written (without it), not_carried, conflict, gone, refused, error.",
		}, []string{"result"}),
		modes: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "mirrorgate_services",
			Help: "Services that ask for proxies, by where they lead (bypass, proxied); told by the leader.",
		}, []string{"mode"}),
		of: map[Name]interception.Mode{},
	}
	for _, result := range []string{"carried", "written", "not_carried", "conflict", "gone", "refused", "error"} {
		m.touches.WithLabelValues(result)
	}
	m.forget()
	return m
}

// is notes where a Service leads.
func (m *Metrics) is(name Name, mode interception.Mode) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if before := m.of[name]; before != "" {
		m.modes.WithLabelValues(string(before)).Dec()
		delete(m.of, name)
	}
	if mode == interception.Bypass || mode == interception.Proxied {
		m.of[name] = mode
		m.modes.WithLabelValues(string(mode)).Inc()
	}
}

func (m *Metrics) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.of)
	for _, mode := range []interception.Mode{interception.Bypass, interception.Proxied} {
		m.modes.WithLabelValues(string(mode)).Set(0)
	}
}

const (
	normal  = corev1.EventTypeNormal
	warning = corev1.EventTypeWarning
)

// announce tells where a Service leads now.
func (c *Controller) announce(o *corev1.Service, d *interception.Decision) {
	name := nameOf(o)
	c.mu.Lock()
	delete(c.said, name)
	c.mu.Unlock()
	c.opts.Log.Info("a Service leads elsewhere", "service", name.String(), "mode", string(d.Mode), "why", d.Why, "selector", d.Selector)
	switch d.Mode {
	case interception.Proxied:
		c.event(o, normal, "Proxied", "clients are led to the proxies")
	case interception.Bypass:
		c.event(o, normal, "Bypassed", "clients are led past the proxies: %s", d.Why)
	case interception.Own:
		c.event(o, normal, "Released", "it has its own selector again")
	}
}

// warn tells what every look at a Service would find, when it is news.
func (c *Controller) warn(o *corev1.Service, reason, format string, args ...any) {
	text := reason + ": " + fmt.Sprintf(format, args...)
	c.mu.Lock()
	known := c.said[nameOf(o)] == text
	c.said[nameOf(o)] = text
	c.mu.Unlock()
	if !known {
		c.event(o, warning, reason, format, args...)
	}
}

// maxNote is the length of the longest note that the API server takes.
const maxNote = 1024

func (c *Controller) event(o *corev1.Service, kind, reason, format string, args ...any) {
	note := fmt.Sprintf(format, args...)
	if len(note) > maxNote {
		note = strings.ToValidUTF8(note[:maxNote-len("...")], "") + "..."
	}
	c.recorder.Eventf(&corev1.ObjectReference{
		APIVersion: "v1", Kind: "Service", Namespace: o.Namespace, Name: o.Name, UID: o.UID, ResourceVersion: o.ResourceVersion,
	}, nil, kind, reason, "Proxy", "%s", note)
}
