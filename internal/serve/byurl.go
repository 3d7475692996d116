package serve

// Serving outside the cluster: the webhooks are registered by URL for as long as the process runs, after the API
// server has been proved to reach it. Before the proof no write of anybody depends on the process.

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"

	"github.com/mirrorgate/mirrorgate/internal/logging"
	"github.com/mirrorgate/mirrorgate/webhook"
)

const (
	// removalTimeout bounds the removal of the webhook configurations at the end.
	removalTimeout = 10 * time.Second
	// newConfiguration is how long the API server may take to know a new webhook configuration.
	newConfiguration = 10 * time.Second
	// retryProof is the time between two proofs while the URL is not reached.
	retryProof = 3 * time.Second
	// remindUnreached is how often the log repeats that the URL is not reached.
	remindUnreached = time.Minute
)

// reached is a readiness check that fails while the API server has not reached the process. The zero value
// passes.
type reached struct {
	mu  sync.Mutex
	why error
}

// Store sets why the process has not been reached, nil once it has.
func (r *reached) Store(why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.why = why
}

func (r *reached) ready(*http.Request) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.why
}

// serveByURL registers the webhooks once they can be served and are reached, and removes them when ctx ends.
func (p *Process) serveByURL(ctx context.Context) error {
	if !poll(ctx, cachePoll, p.canAnswer) {
		p.log.Info("Ending before the webhooks were registered", "name", p.registration.Name())
		return nil
	}
	client, err := kubernetes.NewForConfig(p.withoutWarnings())
	if err != nil {
		return err
	}
	err = p.register(ctx, client)
	if ctx.Err() != nil {
		err = nil // it was interrupted, and may be there in part
	}
	return errors.Join(err, p.unregister(ctx))
}

// register proves that the process is reached, registers the webhooks, and moves them to the failure policy of
// --failure-policy. It returns when ctx ends.
func (p *Process) register(ctx context.Context, client kubernetes.Interface) error {
	namespace, err := webhook.ProbeNamespace(ctx, client, p.opts.ProbeNamespace)
	if err != nil {
		return err
	}
	if err := p.prove(ctx, client, namespace); err != nil {
		return err
	}
	if err := p.registration.Apply(ctx, client); err != nil {
		return err
	}
	var parts errgroup.Group
	if p.opts.FailurePolicy == "Fail" {
		failClosed, err := p.failClosed(p.registration.Name(), namespace)
		if err != nil {
			return err
		}
		soon, cancel := context.WithTimeout(ctx, newConfiguration)
		failClosed.Try(soon)
		cancel()
		parts.Go(func() error { return failClosed.Start(ctx) })
	}
	p.log.Info("Webhooks registered", "name", p.registration.Name(), "url", p.registration.URL.String())
	<-ctx.Done()
	return parts.Wait()
}

// prove returns once the API server has reached the process, and logs why it does not until then.
func (p *Process) prove(ctx context.Context, client kubernetes.Interface, namespace string) error {
	if err := p.registration.PrepareProof(ctx, client, namespace); err != nil {
		return err
	}
	failures, began := logging.OnChange{Remind: remindUnreached}, time.Now()
	for {
		done, err := p.registration.Prove(ctx, client, namespace)
		if done {
			p.reached.Store(nil)
			return nil
		}
		pause := retryProof
		switch {
		case err == nil && time.Since(began) < newConfiguration:
			pause = cachePoll // the API server does not know the webhook yet
		case err == nil:
			err = fmt.Errorf("the API server calls no webhook for a dry run in namespace %q", namespace)
		}
		if err != nil {
			p.reached.Store(err)
		}
		if failures.Log(err) && ctx.Err() == nil {
			p.log.Info(err.Error(), "registered", "nothing until it does, so no write depends on this process", "retry", retryProof.String())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
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
		return fmt.Errorf("the webhook configurations %s are left behind; `mirrorgate uninstall` removes them: %w", p.registration.Name(), err)
	}
	parked := 0
	for _, n := range p.index.Counts().Parked {
		parked += n
	}
	p.log.Info("Webhooks removed; parked mirrors stay parked", "name", p.registration.Name(), "parked", parked)
	return nil
}
