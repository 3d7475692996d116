package serve

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/variant"
)

// clusterMetrics count the cached objects and mirrors, and report whether the caches are complete.
type clusterMetrics struct {
	index   *variant.Index
	cluster *variant.Cluster
}

var (
	mirrorsDesc     = prometheus.NewDesc("mirrorgate_mirrors", "Mirrors in the cluster's routes, by kind of route and state (active, parked).", []string{"kind", "state"}, nil)
	syncedDesc      = prometheus.NewDesc("mirrorgate_cache_synced", "1 when all objects of a kind have been listed, by kind.", []string{"kind"}, nil)
	unsupportedDesc = prometheus.NewDesc("mirrorgate_crd_unsupported", "1 if the API server serves a kind in none but versions that mirrorgate does not read, so that its objects are left alone, by kind.", []string{"kind"}, nil)
	policiesDesc    = prometheus.NewDesc("mirrorgate_policy_targets", "Targets of MirrorPolicies, by state (stopped, expired, ramping, full).", []string{"state"}, nil)
	objectsDesc     = prometheus.NewDesc("mirrorgate_cache_objects", "Objects cached, by kind.", []string{"kind"}, nil)
)

// Describe implements prometheus.Collector.
func (c clusterMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{mirrorsDesc, syncedDesc, unsupportedDesc, policiesDesc, objectsDesc} {
		out <- desc
	}
}

// Collect implements prometheus.Collector.
func (c clusterMetrics) Collect(out chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	counts := c.index.Counts()
	for _, kind := range []route.Kind{route.HTTPRoute, route.GRPCRoute, route.VirtualService} {
		gauge(mirrorsDesc, float64(counts.Active[kind]), string(kind), "active")
		gauge(mirrorsDesc, float64(counts.Parked[kind]), string(kind), "parked")
	}
	for state, n := range c.index.PolicyStates() {
		gauge(policiesDesc, float64(n), state)
	}
	for kind, n := range counts.Objects {
		gauge(objectsDesc, float64(n), kind.Unique())
	}
	for kind, synced := range c.cluster.Resources() {
		gauge(syncedDesc, toFloat(synced), kind)
	}
	for kind, unsupported := range c.cluster.Unsupported() {
		gauge(unsupportedDesc, toFloat(unsupported), kind)
	}
}

func toFloat(value bool) float64 {
	if value {
		return 1
	}
	return 0
}
