package intercept

// Events and metrics about Services.

import (
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	corev1 "k8s.io/api/core/v1"

	interception "github.com/mirrorgate/mirrorgate/internal/intercept"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// Metrics count the Services with proxies, and the writes of their selectors.
type Metrics struct {
	touches *prometheus.CounterVec
	modes   *prometheus.GaugeVec
	byName  sync.Map // the modes that are counted, by Name
}

// NewMetrics registers the controller's metrics; a nil registerer exposes them nowhere.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	m := &Metrics{
		touches: f.NewCounterVec(prometheus.CounterOpts{
			Name: "mirrorgate_service_touches_total",
			Help: "Attempts to give Services another selector by result: carried (by admission), written (without it), not_carried, conflict, gone, refused, error.",
		}, []string{"result"}),
		modes: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "mirrorgate_services",
			Help: "Services that ask for proxies, by where they lead (bypass, proxied); reported by the leader.",
		}, []string{"mode"}),
	}
	for _, result := range []string{"carried", "written", "not_carried", "conflict", "gone", "refused", "error"} {
		m.touches.WithLabelValues(result)
	}
	m.forget()
	return m
}

// setMode counts a Service under the mode that it is in now. It is called by one worker at a time for each
// Service.
func (m *Metrics) setMode(name Name, mode interception.Mode) {
	if before, ok := m.byName.LoadAndDelete(name); ok {
		m.modes.WithLabelValues(string(before.(interception.Mode))).Dec()
	}
	if mode == interception.Bypass || mode == interception.Proxied {
		m.byName.Store(name, mode)
		m.modes.WithLabelValues(string(mode)).Inc()
	}
}

func (m *Metrics) forget() {
	m.byName.Clear()
	for _, mode := range []interception.Mode{interception.Bypass, interception.Proxied} {
		m.modes.WithLabelValues(string(mode)).Set(0)
	}
}

// announce reports where a Service leads now.
func (c *Controller) announce(o *corev1.Service, d *interception.Decision) {
	name := nameOf(o)
	c.warned.Forget(name)
	c.opts.Log.Info("A Service leads to other pods", "service", name.String(), "mode", string(d.Mode), "why", d.Why, "selector", d.Selector)
	switch d.Mode {
	case interception.Proxied:
		c.report(o, corev1.EventTypeNormal, "Proxied", "clients are led to the proxies")
	case interception.Bypass:
		c.report(o, corev1.EventTypeNormal, "Bypassed", "clients are led past the proxies: %s", d.Why)
	case interception.Own:
		c.report(o, corev1.EventTypeNormal, "Released", "it has its own selector again")
	}
}

// warn reports a problem that every reconciliation of a Service finds, once for as long as it stays the same.
func (c *Controller) warn(o *corev1.Service, reason, format string, args ...any) {
	if c.warned.Is(nameOf(o), reason+": "+fmt.Sprintf(format, args...)) {
		c.report(o, corev1.EventTypeWarning, reason, format, args...)
	}
}

// warnIfRefused reports why a Service that asks for proxies gets none.
func (c *Controller) warnIfRefused(o *corev1.Service) {
	parent := c.state.Parent(nameOf(o))
	if interception.Enabled(o.Labels[wellknown.Label], parent.Namespace) && parent.Named && parent.Refused != "" {
		c.warn(o, "ProxyRefused", "no proxy can stand in front of it: %s", parent.Refused)
	}
}

func (c *Controller) report(o *corev1.Service, eventType, reason, format string, args ...any) {
	c.events.Report(&corev1.ObjectReference{
		APIVersion: "v1", Kind: "Service", Namespace: o.Namespace, Name: o.Name, UID: o.UID, ResourceVersion: o.ResourceVersion,
	}, nil, eventType, reason, format, args...)
}
