package dataplane

import "github.com/prometheus/client_golang/prometheus"

var (
	syncedDesc   = prometheus.NewDesc("mirrorgate_feed_synced", "1 if all objects of the resource are known that are to be read, else 0.", []string{"resource"}, nil)
	failuresDesc = prometheus.NewDesc("mirrorgate_feed_failures_total", "Lists and watches of the resource that could not begin, and objects that could not be read.", []string{"resource"}, nil)
)

// Describe implements prometheus.Collector.
func (f *Feed) Describe(out chan<- *prometheus.Desc) {
	out <- syncedDesc
	out <- failuresDesc
}

// Collect implements prometheus.Collector with the state of each resource that the Feed reads.
func (f *Feed) Collect(out chan<- prometheus.Metric) {
	for resource, listed := range f.Resources() {
		value := 0.0
		if listed {
			value = 1
		}
		out <- prometheus.MustNewConstMetric(syncedDesc, prometheus.GaugeValue, value, resource)
	}
	for resource, failures := range f.Failures() {
		out <- prometheus.MustNewConstMetric(failuresDesc, prometheus.CounterValue, float64(failures), resource)
	}
}
