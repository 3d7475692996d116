package serve

// Running and ending. In an installation the webhook configurations outlive the process; outside a
// cluster they exist only while it serves them.

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// removalTimeout bounds the removal of the webhook configurations at the end.
const removalTimeout = 10 * time.Second

// Run serves until ctx ends, or until a part fails.
func (p *Process) Run(ctx context.Context) error {
	// The manager ends only after the API server has stopped calling.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	m := start(serving, p.manager)
	var err error
	if p.registration == nil {
		p.serveInstalled(ctx, m)
	} else {
		err = p.serveByURL(ctx, m)
	}
	stop()
	return errors.Join(err, m.wait())
}

// serveInstalled returns when the manager has ended, or ctx has and the API server has stopped calling.
func (p *Process) serveInstalled(ctx context.Context, m *running) {
	select {
	case <-m.ended:
	case <-ctx.Done():
		p.drain.wait(context.WithoutCancel(ctx))
	}
}

// serveByURL registers the webhooks once they can be served, and removes them when ctx or the manager
// ends.
func (p *Process) serveByURL(ctx context.Context, m *running) error {
	serving, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { <-m.ended; cancel() }()
	if !poll(serving, cachePoll, p.canAnswer) {
		p.log.Info("Ending before the webhooks were registered", "name", p.registration.Name())
		return nil
	}
	err := p.registration.Apply(serving, p.client)
	switch {
	case err == nil:
		p.log.Info("Webhooks registered", "name", p.registration.Name(), "url", p.registration.URL.String())
		<-serving.Done()
	case serving.Err() != nil:
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

// running is a manager that was started.
type running struct {
	ended chan struct{}
	err   error // once ended is closed
}

func start(ctx context.Context, m manager.Manager) *running {
	r := &running{ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		r.err = m.Start(ctx)
	}()
	return r
}

// wait returns the manager's error once it has ended.
func (r *running) wait() error {
	<-r.ended
	return r.err
}
