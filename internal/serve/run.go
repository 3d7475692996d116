package serve

// Running and ending. In an installation the webhook configurations outlive the process; outside a cluster
// they exist only while it serves them.

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// removalTimeout bounds the removal of the webhook configurations at the end.
const removalTimeout = 10 * time.Second

// Run serves until ctx ends, or until a part fails.
func (p *Process) Run(ctx context.Context) error {
	// The manager ends only after the API server has stopped calling.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	running, ended := context.WithCancel(ctx) // until ctx or the manager ends
	defer ended()
	var parts errgroup.Group
	parts.Go(func() error {
		defer ended()
		return p.manager.Start(serving)
	})
	var err error
	if p.registration != nil {
		err = p.serveByURL(running)
	} else {
		<-running.Done()
		if ctx.Err() != nil {
			p.drain.wait(serving)
		}
	}
	stop()
	return errors.Join(err, parts.Wait())
}

// serveByURL registers the webhooks once they can be served, and removes them when ctx ends.
func (p *Process) serveByURL(ctx context.Context) error {
	if !poll(ctx, cachePoll, p.canAnswer) {
		p.log.Info("Ending before the webhooks were registered", "name", p.registration.Name())
		return nil
	}
	err := p.registration.Apply(ctx, p.client)
	switch {
	case err == nil:
		p.log.Info("Webhooks registered", "name", p.registration.Name(), "url", p.registration.URL.String())
		<-ctx.Done()
	case ctx.Err() != nil:
		err = nil // it was interrupted, and may be there in part
	}
	return errors.Join(err, p.unregister(ctx))
}

// canAnswer reports whether admission requests can be answered.
func (p *Process) canAnswer() bool {
	return p.cluster.HasSynced() && p.noMesh.hasSynced() && p.source.Ready() == nil &&
		p.manager.GetWebhookServer().StartedChecker()(nil) == nil
}

// unregister removes the webhook configurations, even when ctx has ended.
func (p *Process) unregister(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removalTimeout)
	defer cancel()
	if err := p.registration.Remove(ctx, p.client); err != nil {
		return fmt.Errorf("the webhook configurations %s are left behind: %w", p.registration.Name(), err)
	}
	parked := 0
	for _, n := range p.index.Counts().Parked {
		parked += n
	}
	p.log.Info("Webhooks removed; parked mirrors stay parked", "name", p.registration.Name(), "parked", parked)
	return nil
}
