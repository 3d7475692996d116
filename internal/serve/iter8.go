package serve

import (
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/mirrorgate/mirrorgate/internal/controller/iter8"
)

// newIter8 returns the controller of Iter8's documents, which --iter8 adds.
func (p *Process) newIter8(recorder events.EventRecorder) (*iter8.Controller, error) {
	return iter8.New(p.config, p.index, iter8.Options{
		Policy: p.opts.Policy, ClusterDomain: p.opts.ClusterDomain, Grace: p.opts.UnreadyGrace.Duration, HasSynced: p.cluster.HasSynced,
		Recorder: recorder, Metrics: iter8.NewMetrics(metrics.Registry), Log: p.log.WithName("iter8"),
	})
}
