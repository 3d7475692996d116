package serve

// Running and ending. In an installation the webhook configurations outlive the process; outside a cluster
// they exist only while it serves them.

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"
)

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
