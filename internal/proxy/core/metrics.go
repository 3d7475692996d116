package core

// Prometheus metrics of requests and copies.

import (
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/proxy/shadow"
)

// Metrics are the metrics of one proxy. Series are looked up once, not once per request.
type Metrics struct {
	// perRule makes series for each rule and mirror, instead of for each listener, service and target.
	perRule     bool
	requests    *prometheus.CounterVec
	durations   *prometheus.HistogramVec
	bytes       *prometheus.CounterVec
	retries     prometheus.Counter
	tunnels     prometheus.Gauge
	passthrough *passthroughVectors

	shadows    *prometheus.CounterVec
	dropped    *prometheus.CounterVec
	shadowSize *prometheus.CounterVec
	shadowTime *prometheus.HistogramVec
	agreement  *prometheus.CounterVec
	ratio      *prometheus.HistogramVec

	inFlight atomic.Int64
	meters   sync.Map // of *meter, by place
	mirrors  map[string]*mirrorMetrics
	queues   sync.Map // of *shadow.Queue, by the name of the target
	gauges   [2]*prometheus.Desc
}

const namespace = "mirrorgate_proxy_"

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: namespace + name, Help: help}, labels)
}

// NewMetrics registers the metrics. It panics if they are registered already. With perRule there are series for each
// rule and mirror; tens of thousands of them make tens of megabytes.
func NewMetrics(registry prometheus.Registerer, perRule bool) *Metrics {
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: namespace + name, Help: help, Buckets: buckets}, labels)
	}
	seconds := []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	m := &Metrics{
		perRule: perRule, mirrors: map[string]*mirrorMetrics{},
		requests: counter("requests_total", "Requests answered, by status, and by the reason where the answer is the proxy's own; 499 is a client that left first.",
			"listener", "service", "rule", "code", "reason"),
		durations: histogram("request_duration_seconds", "From the request's head to the response's end.", seconds, "listener", "service", "rule"),
		bytes:     counter("body_bytes_total", "Bytes of bodies, received from clients and sent to them.", "listener", "service", "rule", "direction"),
		retries:   prometheus.NewCounter(prometheus.CounterOpts{Name: namespace + "retries_total", Help: "Requests sent again, to another endpoint or over a new connection."}),
		tunnels:   prometheus.NewGauge(prometheus.GaugeOpts{Name: namespace + "tunnels", Help: "Connections that changed their protocol and are open."}),
		shadows:   counter("shadows_sent_total", "Shadow requests that got an answer, by its status.", "mirror", "code"),
		dropped:   counter("shadows_dropped_total", "Shadow requests that were dropped.", "mirror", "reason"),

		shadowSize: counter("shadow_bytes_total", "Bytes of shadow requests that got an answer, heads included.", "mirror"),
		shadowTime: histogram("shadow_duration_seconds", "From sending a shadow request to the end of its answer.", seconds, "mirror"),
		agreement:  counter("comparisons_total", "Requests answered by both, by whether the classes of the statuses agree.", "mirror", "agree"),
		ratio: histogram("comparison_latency_ratio", "Latency of the variant divided by that of the primary, both from the request sent to the head of the final answer.",
			[]float64{.25, .5, .75, .9, 1, 1.1, 1.25, 1.5, 2, 4, 10}, "mirror"),
		passthrough: newPassthroughVectors(registry),
		gauges: [2]*prometheus.Desc{
			prometheus.NewDesc(namespace+"shadows_in_flight", "Shadow requests being sent.", []string{"target"}, nil),
			prometheus.NewDesc(namespace+"shadows_held_bytes", "Memory of shadow requests waiting and being sent.", []string{"target"}, nil),
		},
	}
	registry.MustRegister(m.requests, m.durations, m.bytes, m.retries, m.tunnels, m.shadows, m.dropped,
		m.shadowSize, m.shadowTime, m.agreement, m.ratio, (*queueGauges)(m),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: namespace + "requests_in_flight", Help: "Requests being answered."},
			func() float64 { return float64(m.inFlight.Load()) }))
	return m
}

// queueGauges reads the gauges of all queues when metrics are collected.
type queueGauges Metrics

// Describe implements prometheus.Collector.
func (g *queueGauges) Describe(out chan<- *prometheus.Desc) {
	for _, desc := range g.gauges {
		out <- desc
	}
}

// Collect implements prometheus.Collector.
func (g *queueGauges) Collect(out chan<- prometheus.Metric) {
	for name, queue := range g.queues.Range {
		name, q := name.(string), queue.(*shadow.Queue)
		out <- prometheus.MustNewConstMetric(g.gauges[0], prometheus.GaugeValue, float64(q.InFlight()), name)
		out <- prometheus.MustNewConstMetric(g.gauges[1], prometheus.GaugeValue, float64(q.Held()), name)
	}
}

// forget deletes the series of services, rules and mirrors that the new state no longer has.
func (m *Metrics) forget(now *state) {
	rules, mirrors := map[string]bool{}, map[string]bool{}
	for _, r := range now.table.Rules {
		rules[r.Name] = true
	}
	for _, x := range now.table.Mirrors {
		mirrors[m.mirrorName(x)] = true
	}
	services := map[string]bool{}
	for _, p := range now.table.Ports {
		services[p.Name()] = true
	}
	m.forgetMeters(func(at *place) bool {
		return at.service != "" && !services[at.service] || at.rule != "" && !rules[at.rule]
	})
	for name := range m.mirrors {
		if !mirrors[name] {
			delete(m.mirrors, name)
			forgetSeries(prometheus.Labels{"mirror": name}, m.shadows.MetricVec, m.dropped.MetricVec, m.shadowSize.MetricVec,
				m.shadowTime.MetricVec, m.agreement.MetricVec, m.ratio.MetricVec)
		}
	}
}

// forgetMeters deletes the series of the places for which gone returns true.
func (m *Metrics) forgetMeters(gone func(at *place) bool) {
	for key := range m.meters.Range {
		if at := key.(place); gone(&at) {
			m.meters.Delete(at)
			forgetSeries(prometheus.Labels{"listener": at.listener, "service": at.service, "rule": at.rule},
				m.requests.MetricVec, m.durations.MetricVec, m.bytes.MetricVec)
		}
	}
}

// forgetSeries deletes the series that have the labels.
func forgetSeries(labels prometheus.Labels, vecs ...*prometheus.MetricVec) {
	for _, vec := range vecs {
		vec.DeletePartialMatch(labels)
	}
}

// codes counts by status, and looks up the series of a status only once.
type codes struct {
	lookup func(code string) prometheus.Counter
	mu     sync.Mutex
	seen   atomic.Pointer[map[int]prometheus.Counter]
}

func (c *codes) count(status int) {
	status = min(max(status, 0), 999) // a backend of HTTP/2 can answer any number
	if seen := c.seen.Load(); seen != nil {
		if counter, ok := (*seen)[status]; ok {
			counter.Inc()
			return
		}
	}
	c.add(status).Inc()
}

// add returns the counter of a status that was not seen before.
func (c *codes) add(status int) prometheus.Counter {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := map[int]prometheus.Counter{}
	if old := c.seen.Load(); old != nil {
		maps.Copy(seen, *old)
	}
	if seen[status] == nil {
		seen[status] = c.lookup(strconv.Itoa(status))
	}
	c.seen.Store(&seen)
	return seen[status]
}

// place is where requests are counted: the listener, and the service and the rule if there are any. The rule is
// empty unless series are made for each.
type place struct{ listener, service, rule string }

// meter counts the requests of a place.
type meter struct {
	place
	vec           *prometheus.CounterVec
	codes         codes
	durations     prometheus.Observer
	received, out prometheus.Counter
}

// meter returns the meter of a place.
func (m *Metrics) meter(at place) *meter {
	if found, ok := m.meters.Load(at); ok {
		return found.(*meter)
	}
	fresh := &meter{
		place: at, vec: m.requests,
		durations: m.durations.WithLabelValues(at.listener, at.service, at.rule),
		received:  m.bytes.WithLabelValues(at.listener, at.service, at.rule, "received"),
		out:       m.bytes.WithLabelValues(at.listener, at.service, at.rule, "sent"),
	}
	fresh.codes.lookup = func(code string) prometheus.Counter {
		return m.requests.WithLabelValues(at.listener, at.service, at.rule, code, "")
	}
	found, _ := m.meters.LoadOrStore(at, fresh)
	return found.(*meter)
}

// meterOf returns the meter of an exchange.
func (c *Core) meterOf(x *Exchange) *meter {
	m := c.options.Metrics
	if m.perRule && x.rule != nil {
		return m.meter(place{x.Listener, x.service(), x.rule.Name})
	}
	if x.backend == nil || x.backend.Port == nil {
		return m.meter(place{listener: x.Listener, service: x.service()})
	}
	cached := &x.state.meters[x.listener][x.backend.Port.Index]
	found := cached.Load()
	if found == nil {
		found = m.meter(place{listener: x.Listener, service: x.service()})
		cached.Store(found)
	}
	return found
}

func (r *meter) observe(x *Exchange, took time.Duration) {
	if x.reason == "" {
		r.codes.count(x.status)
	} else {
		r.vec.WithLabelValues(r.listener, r.service, r.rule, strconv.Itoa(x.status), string(x.reason)).Inc()
	}
	r.durations.Observe(took.Seconds())
	if x.received > 0 {
		r.received.Add(float64(x.received))
	}
	if x.sent > 0 {
		r.out.Add(float64(x.sent))
	}
}

// mirrorMetrics are the metrics of the mirrors to one target, or of one mirror. They observe its copies.
type mirrorMetrics struct {
	codes     codes
	durations prometheus.Observer
	size      prometheus.Counter
	dropped   map[shadow.Reason]prometheus.Counter
	agree     [2]prometheus.Counter
	ratio     prometheus.Observer
}

// mirrorName returns the label of a mirror: the name of its target, unless series are made for each mirror.
func (m *Metrics) mirrorName(x *routing.Mirror) string {
	if m.perRule {
		return x.Name
	}
	return x.Target.Name
}

// mirror returns the metrics of a mirror. Calls must not overlap.
func (m *Metrics) mirror(x *routing.Mirror) *mirrorMetrics {
	name := m.mirrorName(x)
	out := m.mirrors[name]
	if out == nil {
		out = &mirrorMetrics{
			durations: m.shadowTime.WithLabelValues(name), size: m.shadowSize.WithLabelValues(name),
			dropped: map[shadow.Reason]prometheus.Counter{},
		}
		out.codes.lookup = func(code string) prometheus.Counter { return m.shadows.WithLabelValues(name, code) }
		for _, reason := range shadow.Reasons {
			out.dropped[reason] = m.dropped.WithLabelValues(name, string(reason))
		}
		out.agree = [2]prometheus.Counter{m.agreement.WithLabelValues(name, "false"), m.agreement.WithLabelValues(name, "true")}
		out.ratio = m.ratio.WithLabelValues(name)
		m.mirrors[name] = out
	}
	return out
}

// Dropped implements shadow.Observer.
func (m *mirrorMetrics) Dropped(why shadow.Reason) { m.dropped[why].Inc() }

// Answered implements shadow.Observer.
func (m *mirrorMetrics) Answered(a *shadow.Answered) {
	m.codes.count(a.Status)
	m.durations.Observe(a.Took.Seconds())
	m.size.Add(float64(a.Sent))
}

func (m *mirrorMetrics) compared(primary, variant int, ratio float64) {
	agree := 0
	if primary/100 == variant/100 {
		agree = 1
	}
	m.agree[agree].Inc()
	if ratio > 0 {
		m.ratio.Observe(ratio)
	}
}
