package proxyserve

import (
	"flag"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/mirrorgate/mirrorgate/docs/reference"
	"github.com/mirrorgate/mirrorgate/internal/dataplane"
	"github.com/mirrorgate/mirrorgate/internal/proxy/config"
)

var update = flag.Bool("update", false, "rewrite docs/reference/proxy-metrics.md")

// docs/reference/proxy-metrics.md has every metric that a proxy registers, with a file or in front of a Service.
func TestReferenceIsThatOfTheMetrics(t *testing.T) {
	p, err := newProcess(DefaultOptions(), &config.Config{AccessLog: config.AccessLog{Format: "json", Path: filepath.Join(t.TempDir(), "log")}, PerRule: true})
	require.NoError(t, err)
	newFileMetrics(p.registry)
	newTableMetrics(p.registry)
	feed, err := dataplane.NewFeed(&rest.Config{Host: "https://127.0.0.1:1"}, dataplane.NewIndex(dataplane.Options{}), p.log, dataplane.FeedOptions{})
	require.NoError(t, err)
	p.registry.MustRegister(feed)
	table, err := reference.Metrics(p.registry)
	require.NoError(t, err)
	page := "# Metrics of the proxy\n\nGenerated from the metrics that `mirrorgate proxy` registers; it serves them at `/metrics` of its admin " +
		"address. [proxy.md](../proxy.md#running-it) explains the labels, and the reasons for which copies are dropped. " +
		"`mirrorgate_proxy_config_…` is there with a file, `mirrorgate_proxy_table_…` and `mirrorgate_feed_…` in front of a Service, and the " +
		"labels `rule` and `mirror` only with metrics for each rule.\n\n" + table
	require.NoError(t, reference.Hold("../../docs/reference/proxy-metrics.md", page, *update))
}
