package main

// Leader election that costs no admission: controller-runtime's own ends the
// process when the lease is lost, and with it webhooks that could answer. Here
// only the controller ends, and stands for election again.

import (
	"context"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	ctrlleader "sigs.k8s.io/controller-runtime/pkg/leaderelection"
	"sigs.k8s.io/controller-runtime/pkg/recorder"
)

// The usual times of a Kubernetes component: a leader that dies is replaced
// after 15 s, one that ends at once.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
)

// leadership runs something on one replica at a time.
type leadership struct {
	lock resourcelock.Interface
	run  func(context.Context) error
}

// lease returns the lock that the replicas share.
func lease(config *rest.Config, events recorder.Provider, namespace string) (resourcelock.Interface, error) {
	return ctrlleader.NewResourceLock(config, events, ctrlleader.Options{
		LeaderElection: true, LeaderElectionID: "mirrorgate", LeaderElectionNamespace: namespace, RenewDeadline: renewDeadline,
	})
}

// Start serves one term after the other until ctx ends.
func (l leadership) Start(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := l.term(ctx); err != nil {
			return err
		}
	}
	return nil
}

// term waits for the lease and runs for as long as it is held; what ends by
// itself gives the lease back.
func (l leadership) term(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	began, ended := make(chan struct{}), make(chan error, 1)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: l.lock, Name: "mirrorgate", ReleaseOnCancel: true,
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
		return nil // told to end while another replica led
	}
}
