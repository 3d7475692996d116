package serve

// Leader election that does not disturb admission. controller-runtime's own election ends the process when
// the lease is lost, and with it webhooks that could still answer. Here only the controllers end, and the
// replica stands for election again.

import (
	"context"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	ctrlleader "sigs.k8s.io/controller-runtime/pkg/leaderelection"
	"sigs.k8s.io/controller-runtime/pkg/recorder"
)

// The usual times of a Kubernetes component: a leader that dies is replaced after 15 s, one that ends is
// replaced at once.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
)

// leadership runs a loop on one replica at a time.
type leadership struct {
	lock resourcelock.Interface
	run  loop
}

// lease returns the lock that the replicas share.
func lease(config *rest.Config, events recorder.Provider, name, namespace string) (resourcelock.Interface, error) {
	return ctrlleader.NewResourceLock(config, events, ctrlleader.Options{
		LeaderElection: true, LeaderElectionID: name, LeaderElectionNamespace: namespace, RenewDeadline: renewDeadline,
	})
}

// Start leads again and again until ctx ends or the loop fails.
func (l leadership) Start(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := l.lead(ctx); err != nil {
			return err
		}
	}
	return nil
}

// lead waits for the lease and runs the loop while it is held. When the loop ends by itself, the lease is
// released.
func (l leadership) lead(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	began, ended := make(chan struct{}), make(chan error, 1)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: l.lock, Name: l.lock.Describe(), ReleaseOnCancel: true,
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				close(began)
				ended <- l.run(ctx)
				cancel()
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return err
	}
	elector.Run(ctx)
	if ctx.Err() == nil {
		return <-ended // the lease was lost
	}
	select {
	case <-began:
		return <-ended
	default:
		return nil // ctx ended while another replica led
	}
}
