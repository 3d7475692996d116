package serve

// The parts that --no-mesh adds: the webhook of Services, and the proxies in front of them. The proxies can be
// another process's, `mirrorgate intercept`, so that the one that answers the API server needs no right to create
// Deployments.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/mirrorgate/mirrorgate/internal/controller/intercept"
	"github.com/mirrorgate/mirrorgate/internal/dataplane"
	"github.com/mirrorgate/mirrorgate/internal/feed"
	"github.com/mirrorgate/mirrorgate/internal/intercept/objects"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
	"github.com/mirrorgate/mirrorgate/webhook"
)

// noMesh is the model of Services and their proxies.
type noMesh struct {
	index *dataplane.Index
	feed  *dataplane.Feed
	// reportTo is where proxies report to, as the registration says.
	reportTo atomic.Pointer[wellknown.ReportTarget]
}

// hasSynced reports whether everything that Services are decided by is known.
func (n *noMesh) hasSynced() bool { return n == nil || n.feed.HasSynced() }

// parents answers about Services with proxies once everything is known.
func (n *noMesh) parents() dataplane.Synced {
	return dataplane.Synced{Index: n.index, HasSynced: n.feed.HasSynced}
}

// assembleNoMesh adds the parts that every replica of serve needs: the model, and the webhook of Services.
func (p *Process) assembleNoMesh(counted *webhook.Metrics) error {
	if err := p.modelServices(p.cluster); err != nil {
		return err
	}
	webhook.NewServices(p.noMesh.parents(), counted).Register(p.drain.watch(p.manager.GetWebhookServer()))
	return p.takeReports()
}

// modelServices adds the model of Services and their proxies. shared reads kinds that the process reads anyway; nil
// leaves all of them to the model.
func (p *Process) modelServices(shared feed.Shared) error {
	n := &noMesh{index: dataplane.NewIndex(dataplane.Options{})}
	var err error
	opts := dataplane.FeedOptions{WithoutEndpoints: true, WithProxies: true, WithTLSPolicies: p.opts.Intercept, Shared: shared}
	if n.feed, err = dataplane.NewFeed(p.config, n.index, p.log.WithName("proxies"), opts); err != nil {
		return err
	}
	metrics.Registry.MustRegister(n.feed)
	p.noMesh = n
	return errors.Join(
		p.manager.Add(everyReplica(n.feed.Start)),
		p.manager.AddReadyzCheck("proxies", filled(n.hasSynced)),
	)
}

// intercepting are the loops that run proxies in front of Services and write the status of their routes.
func (p *Process) intercepting(recorder events.EventRecorder) ([]loop, error) {
	if p.noMesh == nil || !p.opts.Intercept {
		return nil, nil
	}
	n := p.noMesh
	status, err := dataplane.NewStatusWriter(p.config, n.index, n.feed.HasSynced, p.log.WithName("status"))
	if err != nil {
		return nil, err
	}
	config := p.withoutWarnings()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	proxyObjects, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	c := intercept.New(n.parents(), intercept.NewServices(client.CoreV1()), intercept.NewObjects(proxyObjects), recorder, intercept.Options{
		Config: p.proxyConfig, Registered: p.webhookRegistered, Report: p.reportTarget, HasSynced: n.hasSynced, Workers: p.opts.Workers,
		Resync: p.opts.Resync.Duration, Metrics: intercept.NewMetrics(metrics.Registry), Log: p.log.WithName("proxies"),
	})
	n.index.Subscribe(func(change *dataplane.Change) {
		c.Add(change.Tables...)
		c.Add(change.Parents...)
		for _, route := range change.Routes {
			c.Add(n.index.ParentsOf(route)...)
		}
	})
	return []loop{c.Start, status.Start}, nil
}

// webhookRegistered reports whether the API server knows the webhook of Services.
func (p *Process) webhookRegistered(ctx context.Context) (bool, error) {
	name := Installation
	if p.registration != nil {
		name = p.registration.Name()
	}
	have, err := p.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for i := range have.Webhooks {
		c := &have.Webhooks[i].ClientConfig
		if c.Service != nil && c.Service.Path != nil && *c.Service.Path == webhook.ServicesPath ||
			c.URL != nil && strings.HasSuffix(*c.URL, webhook.ServicesPath) {
			// Who calls the webhook and who reports trust the same certificate.
			p.noMesh.reportTo.Store(p.reportTargetFor(c.CABundle))
			return true, nil
		}
	}
	return false, nil
}

// proxyConfig returns the settings of proxies. Without --proxy-image they run the image of the process's own
// pod.
func (p *Process) proxyConfig(ctx context.Context) (objects.Config, error) {
	config := p.opts.Proxy
	if config.Image != "" {
		return config, nil
	}
	namespace, err := p.opts.installationNamespace()
	if err != nil {
		return config, err
	}
	name, err := os.Hostname()
	if err != nil {
		return config, err
	}
	pod, err := p.client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return config, fmt.Errorf("--proxy-image is not given, and the process's own pod cannot be read: %w", err)
	}
	own := ownContainer(pod)
	config.Image = own.Image
	if config.PullPolicy == "" {
		config.PullPolicy = own.ImagePullPolicy
	}
	p.log.Info("Proxies run the image of this pod", "image", config.Image)
	return config, nil
}

// ownContainer is the container of the pod that runs mirrorgate: the one of that name, or the first.
func ownContainer(pod *corev1.Pod) *corev1.Container {
	for i := range pod.Spec.Containers {
		if pod.Spec.Containers[i].Name == Installation {
			return &pod.Spec.Containers[i]
		}
	}
	return &pod.Spec.Containers[0]
}
