package core

// Connections that are passed on as they are.

import (
	"context"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mirrorgate/mirrorgate/internal/proxy/upstream"
)

// Open connects a client, given as host:port, that came in at the listener of that name, to an endpoint
// that is ready, and to another one if that fails. leave ends the use of the connection. Errors are
// upstream.ErrConnect or ErrNoEndpoint.
func (c *Core) Open(ctx context.Context, listener, client string) (conn net.Conn, leave func(), err error) {
	set, affine := c.passthroughPort(listener)
	var tried []*upstream.Endpoint
	err = ErrNoEndpoint
	for len(tried) < maxAttempts {
		endpoint := choose(set, affine, client, tried, time.Now())
		if endpoint == nil {
			break
		}
		endpoint.Enter()
		if conn, err = endpoint.Dial(ctx); err == nil {
			return conn, endpoint.Leave, nil
		}
		endpoint.Leave()
		tried = append(tried, endpoint)
	}
	return nil, nil, err
}

// passthroughPort is where connections lead now that come in at a listener.
func (c *Core) passthroughPort(listener string) (set upstream.Set, affine bool) {
	state, index, ok := c.lookup(listener)
	if !ok {
		return nil, false
	}
	l := state.table.Listeners[index]
	if l.TCP == nil {
		return nil, false
	}
	return *state.ports[l.TCP.Index].set.Load(), l.Affinity
}

// Outcome is how a connection ended that was passed on.
type Outcome string

// The outcomes.
const (
	Ended      Outcome = "ended"       // both sides closed it
	NoEndpoint Outcome = "no_endpoint" // none was ready
	Connect    Outcome = "connect"     // none could be connected to
	Idle       Outcome = "idle"        // nothing came for too long
	Broken     Outcome = "broken"      // a side reset it, or the proxy ended
)

// passthroughVectors counts connections that are passed on.
type passthroughVectors struct {
	connections *prometheus.CounterVec
	bytes       *prometheus.CounterVec
	open        *prometheus.GaugeVec
}

func newPassthroughVectors(registry prometheus.Registerer) *passthroughVectors {
	p := &passthroughVectors{
		connections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: namespace + "passthrough_connections_total", Help: "Connections passed on as they are, by how they ended.",
		}, []string{"listener", "outcome"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: namespace + "passthrough_bytes_total", Help: "Bytes passed on as they are, received from clients and sent to them.",
		}, []string{"listener", "direction"}),
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: namespace + "passthrough_connections", Help: "Connections that are passed on now.",
		}, []string{"listener"}),
	}
	registry.MustRegister(p.connections, p.bytes, p.open)
	return p
}

// forget deletes the series of a listener that is gone.
func (p *passthroughVectors) forget(listener string) {
	labels := prometheus.Labels{"listener": listener}
	p.connections.DeletePartialMatch(labels)
	p.bytes.DeletePartialMatch(labels)
	p.open.DeletePartialMatch(labels)
}

// PassthroughMetrics are those of one listener.
type PassthroughMetrics struct {
	Received, Sent prometheus.Counter
	Open           prometheus.Gauge
	outcomes       *prometheus.CounterVec
}

// PassthroughMetrics returns the metrics of a listener that passes connections on.
func (c *Core) PassthroughMetrics(listener string) *PassthroughMetrics {
	p := c.options.Metrics.passthrough
	m := &PassthroughMetrics{
		Received: p.bytes.WithLabelValues(listener, "received"), Sent: p.bytes.WithLabelValues(listener, "sent"),
		Open:     p.open.WithLabelValues(listener),
		outcomes: p.connections.MustCurryWith(prometheus.Labels{"listener": listener}),
	}
	for _, o := range []Outcome{Ended, NoEndpoint, Connect, Idle, Broken} {
		m.outcomes.WithLabelValues(string(o))
	}
	return m
}

// Count notes how a connection ended.
func (m *PassthroughMetrics) Count(o Outcome) { m.outcomes.WithLabelValues(string(o)).Inc() }
