package serve

// The controllers' loops, which one replica at a time runs.

import (
	"cmp"
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	clientevents "k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/mirrorgate/mirrorgate/certs"
	"github.com/mirrorgate/mirrorgate/internal/controller/events"
	"github.com/mirrorgate/mirrorgate/internal/controller/iter8"
	"github.com/mirrorgate/mirrorgate/internal/controller/mirrors"
	"github.com/mirrorgate/mirrorgate/internal/controller/policies"
	"github.com/mirrorgate/mirrorgate/internal/dataplane"
	"github.com/mirrorgate/mirrorgate/webhook"
)

// loop runs until its context ends.
type loop func(context.Context) error

// controllers returns all loops of serve as one.
func (p *Process) controllers() (loop, error) {
	return p.led(Installation, p.reporting, p.flipping, p.intercepting, p.installing)
}

// led returns loops as one; with --leader-elect it waits for the lease of that name first.
func (p *Process) led(name string, groups ...func(clientevents.EventRecorder) ([]loop, error)) (loop, error) {
	recorder := events.NewRecorder(p.manager.GetEventRecorder(Installation), metrics.Registry)
	if err := p.manager.Add(everyReplica(recorder.Start)); err != nil {
		return nil, err
	}
	var loops []loop
	for _, add := range groups {
		more, err := add(recorder)
		if err != nil {
			return nil, err
		}
		loops = append(loops, more...)
	}
	run := together(loops)
	if !p.opts.LeaderElect {
		return run, nil
	}
	lock, err := lease(p.config, p.manager, name, cmp.Or(p.opts.LeaderElectionNamespace, p.opts.Namespace))
	if err != nil {
		return nil, fmt.Errorf("leader election: %w", err)
	}
	return leadership{lock: lock, run: run}.Start, nil
}

// flipping are the loops that touch routes when variants come and go, that take the steps of MirrorPolicies and, with
// --iter8, that write the routes of Iter8's documents.
func (p *Process) flipping(recorder clientevents.EventRecorder) ([]loop, error) {
	toucher, err := mirrors.NewToucher(p.config)
	if err != nil {
		return nil, err
	}
	selector, err := webhook.Namespaces()
	if err != nil {
		return nil, err
	}
	opts := mirrors.Options{
		Policy: p.opts.Policy, ClusterDomain: p.opts.ClusterDomain, HasSynced: p.cluster.HasSynced, Workers: p.opts.Workers,
		Resync: p.opts.Resync.Duration, Metrics: mirrors.NewMetrics(metrics.Registry), Log: p.log.WithName("controller"),
	}
	var loops []loop
	if p.opts.Iter8 {
		documents, err := iter8.New(p.config, p.index, iter8.Options{
			Policy: p.opts.Policy, ClusterDomain: p.opts.ClusterDomain, Grace: p.opts.UnreadyGrace.Duration, HasSynced: p.cluster.HasSynced,
			Recorder: recorder, Metrics: iter8.NewMetrics(metrics.Registry), Log: p.log.WithName("iter8"),
		})
		if err != nil {
			return nil, err
		}
		opts.Managed = documents.Manages
		loops = append(loops, documents.Start)
	}
	c := mirrors.New(p.index, toucher, mirrors.NewNamespaces(p.client.CoreV1(), selector), recorder, opts)
	p.index.Subscribe(c.Notify)
	loops = append(loops, c.Start)
	client, err := policies.NewClient(p.config)
	if err != nil {
		return nil, err
	}
	options := policies.Options{
		Policy: p.opts.Policy, HasSynced: p.cluster.HasSynced, Registry: metrics.Registry, Recorder: recorder, Log: p.log.WithName("policies"),
	}
	if p.reports != nil {
		options.Counters = p.reports.mirrors
	}
	if p.noMesh != nil {
		options.Serves, options.CheckCopy = p.servesRoute, dataplane.CheckCopy
	}
	if address := p.opts.prometheusURL(); address != nil {
		options.Prometheus = policies.NewPrometheus(address)
	}
	steps := policies.New(p.index, client, options)
	p.index.Subscribe(steps.Notify)
	return append(loops, steps.Start), nil
}

// installing are the loops of an installation: one manages its certificate, one moves the validating webhook
// to failure policy Fail.
func (p *Process) installing(clientevents.EventRecorder) ([]loop, error) {
	if p.registration != nil {
		return nil, nil
	}
	var loops []loop
	if managed, ok := p.source.(certs.Led); ok {
		loops = append(loops, managed.Lead)
	}
	if p.opts.FailurePolicy == "Fail" {
		failClosed, err := p.failClosed(Installation, p.opts.ProbeNamespace)
		if err != nil {
			return nil, err
		}
		loops = append(loops, failClosed.Start)
	}
	return loops, nil
}

// failClosed returns the loop that moves the validating webhooks of a configuration to failure policy Fail.
func (p *Process) failClosed(configuration, namespace string) (*webhook.FailClosed, error) {
	client, err := kubernetes.NewForConfig(p.withoutWarnings())
	if err != nil {
		return nil, err
	}
	return &webhook.FailClosed{
		Client: client, Configuration: configuration, Namespace: namespace,
		Registry: metrics.Registry, Log: p.log.WithName("failclosed"),
	}, nil
}

// withoutWarnings is the configuration of a client that writes objects of mirrorgate's own, about which no
// warning of the API server interests anybody.
func (p *Process) withoutWarnings() *rest.Config {
	config := rest.CopyConfig(p.config)
	config.WarningHandler = rest.NoWarnings{}
	return config
}

// together runs loops until ctx ends, or the first of them does.
func together(loops []loop) loop {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		var group errgroup.Group
		for _, run := range loops {
			group.Go(func() error {
				defer cancel()
				return run(ctx)
			})
		}
		return group.Wait()
	}
}
