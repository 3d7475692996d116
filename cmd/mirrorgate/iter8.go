package main

// Iter8's documents beside the flips: both are for one replica at a time.

import (
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/mirrorgate/mirrorgate/internal/controller/iter8"
	"github.com/mirrorgate/mirrorgate/internal/controller/mirrors"
)

// documents returns what serves Iter8's documents, nil where nobody asked for it. The
// options are told that it decides on routes of its own.
func (g *gateway) documents(recorder events.EventRecorder, opts *mirrors.Options) (*iter8.Controller, error) {
	if !g.opts.Iter8 {
		return nil, nil
	}
	c, err := iter8.New(g.config, g.index, iter8.Options{
		Policy: g.opts.Policy, ClusterDomain: g.opts.ClusterDomain, Grace: g.opts.UnreadyGrace.Duration, HasSynced: g.cluster.HasSynced,
		Recorder: recorder, Metrics: iter8.NewMetrics(metrics.Registry), Log: g.log.WithName("iter8"),
	})
	if err != nil {
		return nil, err
	}
	opts.Managed = c.Manages
	return c, nil
}
