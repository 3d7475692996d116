package proxyserve

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mirrorgate/mirrorgate/internal/proxy/accesslog"
)

// results counts the versions of a configuration by result, and reports whether the latest one is served.
type results struct {
	total *prometheus.CounterVec
	valid prometheus.Gauge
}

func newResults(registry prometheus.Registerer, total prometheus.CounterOpts, valid prometheus.GaugeOpts, names ...string) results {
	r := results{prometheus.NewCounterVec(total, []string{"result"}), prometheus.NewGauge(valid)}
	for _, name := range names {
		r.total.WithLabelValues(name)
	}
	registry.MustRegister(r.total, r.valid)
	return r
}

func (r results) applied() { r.count("applied", 1) }

// unchanged is also the result of a file that was repaired by taking a change back.
func (r results) unchanged() { r.count("unchanged", 1) }

func (r results) refused() { r.count("refused", 0) }

func (r results) count(result string, valid float64) {
	r.total.WithLabelValues(result).Inc()
	r.valid.Set(valid)
}

// newFileMetrics are the results of reading the file, and the time of the last one that was applied.
func newFileMetrics(registry prometheus.Registerer) (read results, appliedAt prometheus.Gauge) {
	appliedAt = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "mirrorgate_proxy_config_applied_timestamp_seconds", Help: "When the file that is served was applied.",
	})
	registry.MustRegister(appliedAt)
	return newResults(registry,
		prometheus.CounterOpts{Name: "mirrorgate_proxy_config_reloads_total", Help: "Times the file was read, by result (applied, unchanged, refused)."},
		prometheus.GaugeOpts{Name: "mirrorgate_proxy_config_valid", Help: "1 if the file as it is now is served, 0 if it was refused."},
		"applied", "unchanged", "refused"), appliedAt
}

// newTableMetrics are the results of following the cluster.
func newTableMetrics(registry prometheus.Registerer) results {
	return newResults(registry,
		prometheus.CounterOpts{
			Name: "mirrorgate_proxy_table_updates_total",
			Help: "Times that the server was brought in step with the cluster, by result (applied, refused).",
		},
		prometheus.GaugeOpts{Name: "mirrorgate_proxy_table_valid", Help: "1 if the routes and endpoints in the cluster are served completely, else 0."},
		"applied", "refused")
}

func registerAccessLog(registry prometheus.Registerer, l *accesslog.Log) {
	counter := func(name, help string, value func() uint64) {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(value()) }))
	}
	counter("mirrorgate_proxy_access_log_dropped_total", "Lines dropped because they could not be written fast enough.", l.Dropped)
	counter("mirrorgate_proxy_access_log_failed_total", "Writes that failed; their lines are lost.", l.Failed)
}
