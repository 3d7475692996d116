package main

// Iter8's documents beside the flips: both are for one replica at a time.

import (
	"context"

	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/mirrorgate/mirrorgate/internal/controller"
	"github.com/mirrorgate/mirrorgate/internal/controller/documents"
)

// documents returns what serves Iter8's documents, nil where nobody asked for it. The
// options are told that it decides on routes of its own.
func (g *gateway) documents(recorder events.EventRecorder, opts *controller.Options) (*documents.Controller, error) {
	if !g.opts.Iter8 {
		return nil, nil
	}
	c, err := documents.New(g.config, g.index, documents.Options{
		Policy: g.opts.Policy, ClusterDomain: g.opts.ClusterDomain, Grace: g.opts.UnreadyGrace.Duration,
		Recorder: recorder, Metrics: documents.NewMetrics(metrics.Registry), Log: g.log.WithName("iter8"),
	})
	if err != nil {
		return nil, err
	}
	opts.Elsewhere = c.Manages
	return c, nil
}

// followDocuments is their loop, which waits until the caches are filled.
func (g *gateway) followDocuments(c *documents.Controller) func(context.Context) error {
	return func(ctx context.Context) error {
		if !poll(ctx, flipPoll, g.cluster.HasSynced) {
			return nil
		}
		return c.Start(ctx)
	}
}
