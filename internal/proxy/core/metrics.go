package core

// Prometheus metrics of requests and copies.

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/proxy/shadow"
)

// Metrics are the metrics of one proxy. Series are looked up once per table, not once per request.
type Metrics struct {
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
	queues   sync.Map // of *shadow.Queue, by the name of the target
	gauges   [2]*prometheus.Desc
}

const namespace = "mirrorgate_proxy_"

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: namespace + name, Help: help}, labels)
}

// NewMetrics registers the metrics. It panics if they are registered already.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: namespace + name, Help: help, Buckets: buckets}, labels)
	}
	seconds := []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	m := &Metrics{
		requests:  counter("requests_total", "Requests answered, by rule and status; 499 is a client that left first.", "rule", "code"),
		durations: histogram("request_duration_seconds", "From the request's head to the response's end.", seconds, "rule"),
		bytes:     counter("body_bytes_total", "Bytes of bodies, received from clients and sent to them.", "rule", "direction"),
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

// forget deletes the series of rules and mirrors that the new state no longer has.
func (m *Metrics) forget(before, now *state) {
	rules, mirrors := map[string]bool{}, map[string]bool{}
	for _, r := range now.table.Rules {
		rules[r.Name] = true
	}
	for _, x := range now.table.Mirrors {
		mirrors[x.Name] = true
	}
	for _, r := range before.table.Rules {
		if !rules[r.Name] {
			forgetSeries("rule", r.Name, m.requests.MetricVec, m.durations.MetricVec, m.bytes.MetricVec)
		}
	}
	for _, x := range before.table.Mirrors {
		if !mirrors[x.Name] {
			forgetSeries("mirror", x.Name, m.shadows.MetricVec, m.dropped.MetricVec, m.shadowSize.MetricVec,
				m.shadowTime.MetricVec, m.agreement.MetricVec, m.ratio.MetricVec)
		}
	}
}

// forgetSeries deletes the series that have the label with that value.
func forgetSeries(label, value string, vecs ...*prometheus.MetricVec) {
	for _, vec := range vecs {
		vec.DeletePartialMatch(prometheus.Labels{label: value})
	}
}

// codes counts by status, and looks up the series of a status only once.
type codes struct {
	vec   *prometheus.CounterVec
	label string
	seen  [1000]atomic.Pointer[prometheus.Counter]
}

func (c *codes) count(status int) {
	status = min(max(status, 0), len(c.seen)-1)
	counter := c.seen[status].Load()
	if counter == nil {
		fresh := c.vec.WithLabelValues(c.label, strconv.Itoa(status))
		counter = &fresh
		c.seen[status].Store(counter)
	}
	(*counter).Inc()
}

// ruleMetrics are the metrics of one rule, or of all requests that match no rule.
type ruleMetrics struct {
	codes         codes
	durations     prometheus.Observer
	received, out prometheus.Counter
}

func (m *Metrics) rule(r *routing.Rule) *ruleMetrics {
	name := ""
	if r != nil {
		name = r.Name
	}
	return &ruleMetrics{
		codes:     codes{vec: m.requests, label: name},
		durations: m.durations.WithLabelValues(name),
		received:  m.bytes.WithLabelValues(name, "received"),
		out:       m.bytes.WithLabelValues(name, "sent"),
	}
}

func (r *ruleMetrics) observe(x *Exchange, took time.Duration) {
	r.codes.count(x.status)
	r.durations.Observe(took.Seconds())
	if x.received > 0 {
		r.received.Add(float64(x.received))
	}
	if x.sent > 0 {
		r.out.Add(float64(x.sent))
	}
}

// mirrorMetrics are the metrics of one mirror. They observe its copies.
type mirrorMetrics struct {
	name      string
	rule      string
	target    string
	codes     codes
	durations prometheus.Observer
	size      prometheus.Counter
	dropped   map[shadow.Reason]prometheus.Counter
	agree     [2]prometheus.Counter
	ratio     prometheus.Observer
}

func (m *Metrics) mirror(x *routing.Mirror) *mirrorMetrics {
	out := &mirrorMetrics{
		name:      x.Name,
		rule:      x.Rule.Name,
		target:    x.Target.Name,
		codes:     codes{vec: m.shadows, label: x.Name},
		durations: m.shadowTime.WithLabelValues(x.Name),
		size:      m.shadowSize.WithLabelValues(x.Name),
		dropped:   map[shadow.Reason]prometheus.Counter{},
	}
	for _, reason := range shadow.Reasons {
		out.dropped[reason] = m.dropped.WithLabelValues(x.Name, string(reason))
	}
	if x.Compare {
		out.agree = [2]prometheus.Counter{m.agreement.WithLabelValues(x.Name, "false"), m.agreement.WithLabelValues(x.Name, "true")}
		out.ratio = m.ratio.WithLabelValues(x.Name)
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
