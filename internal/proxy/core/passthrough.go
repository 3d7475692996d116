package core

// Passthrough: TCP connections that are forwarded without looking into them.

import (
	"context"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mirrorgate/mirrorgate/internal/proxy/upstream"
)

// Open connects to a ready endpoint for a client of the named listener, and to another endpoint if that
// fails. client is its address as host:port. Call leave when the connection is closed. Errors are
// upstream.ErrConnect or ErrNoEndpoint.
func (c *Core) Open(ctx context.Context, listener, client string) (conn net.Conn, leave func(), err error) {
	set, affine := c.passthroughPort(listener)
	var to affinity
	if affine {
		to.client = client
	}
	var tried []*upstream.Endpoint
	err = ErrNoEndpoint
	for len(tried) < maxAttempts {
		endpoint := choose(set, &to, tried, time.Now())
		if endpoint == nil {
			break
		}
		endpoint.Enter()
		if conn, err = endpoint.Dial(ctx, false); err == nil {
			return conn, endpoint.Leave, nil
		}
		endpoint.Leave()
		tried = append(tried, endpoint)
	}
	return nil, nil, err
}

// passthroughPort returns the endpoints that a passthrough listener forwards connections to.
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

// Outcome is how a forwarded connection ended.
type Outcome string

// The outcomes.
const (
	Ended      Outcome = "ended"       // both sides closed it
	NoEndpoint Outcome = "no_endpoint" // no endpoint was ready
	Connect    Outcome = "connect"     // connecting failed for every endpoint that was tried
	Idle       Outcome = "idle"        // no bytes arrived for too long
	Broken     Outcome = "broken"      // one side reset it, or the proxy shut down
)

// passthroughVectors are the metrics of all passthrough listeners.
type passthroughVectors struct {
	connections *prometheus.CounterVec
	bytes       *prometheus.CounterVec
	open        *prometheus.GaugeVec
}

func newPassthroughVectors(registry prometheus.Registerer) *passthroughVectors {
	p := &passthroughVectors{
		connections: counter("passthrough_connections_total", "TCP connections forwarded without rules, by outcome.", "listener", "outcome"),
		bytes:       counter("passthrough_bytes_total", "Bytes of TCP connections forwarded without rules, received from clients and sent to them.", "listener", "direction"),
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: namespace + "passthrough_connections", Help: "Open TCP connections that are forwarded without rules.",
		}, []string{"listener"}),
	}
	registry.MustRegister(p.connections, p.bytes, p.open)
	return p
}

// PassthroughMetrics are the metrics of one passthrough listener.
type PassthroughMetrics struct {
	Received, Sent prometheus.Counter
	Open           prometheus.Gauge
	outcomes       *prometheus.CounterVec
}

// PassthroughMetrics returns the metrics of a passthrough listener.
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

// Count counts a connection by its outcome.
func (m *PassthroughMetrics) Count(o Outcome) { m.outcomes.WithLabelValues(string(o)).Inc() }
