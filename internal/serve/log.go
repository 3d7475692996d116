package serve

// The log of serve: our own sentences, each once.

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"time"

	"github.com/go-logr/logr"

	"github.com/mirrorgate/mirrorgate/internal/feed"
	"github.com/mirrorgate/mirrorgate/internal/logging"
)

// remindOutage is how often the log repeats that the API server does not answer.
const remindOutage = time.Minute

// failedWatch is the message of a reflector that cannot list or watch. Each of a dozen logs it at every retry.
const failedWatch = "Failed to watch"

// withoutRepeats returns a logger that has one line for an API server that does not answer.
func withoutRepeats(log logr.Logger) logr.Logger {
	return log.WithSink(outageSink{log.GetSink(), &logging.Pace{Every: remindOutage}})
}

// outageSink drops the reflectors' messages about an outage after the first, whose texts differ: connections are
// refused, reset, or time out.
type outageSink struct {
	logr.LogSink
	outage *logging.Pace
}

// Error implements logr.LogSink.
func (s outageSink) Error(err error, msg string, keysAndValues ...any) {
	unanswered, is := errors.AsType[*url.Error](err)
	if msg != failedWatch || !is {
		s.LogSink.Error(err, msg, keysAndValues...)
		return
	}
	if s.outage.Due() {
		s.Info(0, "The API server does not answer; trying again until it does", "reason", unanswered.Err.Error())
	}
}

// WithName implements logr.LogSink.
func (s outageSink) WithName(name string) logr.LogSink {
	return outageSink{s.LogSink.WithName(name), s.outage}
}

// WithValues implements logr.LogSink.
func (s outageSink) WithValues(keysAndValues ...any) logr.LogSink {
	return outageSink{s.LogSink.WithValues(keysAndValues...), s.outage}
}

// reportMissing logs once which kinds of routes the cluster does not have yet.
func (p *Process) reportMissing(ctx context.Context) error {
	if !poll(ctx, 100*time.Millisecond, p.cluster.HasSynced) {
		return nil
	}
	installed := p.cluster.Unsupported()
	var missing []string
	for _, kind := range []*feed.Kind{feed.HTTPRoutes, feed.GRPCRoutes, feed.VirtualServices} {
		if _, there := installed[kind.Name]; !there && !slices.Contains(p.opts.ignoredGroups(), kind.Group) {
			missing = append(missing, kind.Resource+"."+kind.Group)
		}
	}
	if len(missing) > 0 {
		p.log.Info("Waiting for CustomResourceDefinitions: their routes are gated as soon as they are installed", "names", missing)
	}
	return nil
}
