package main

// What serve does with --no-mesh: proxies in front of Services.

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/mirrorgate/mirrorgate/internal/controller/intercept"
	"github.com/mirrorgate/mirrorgate/internal/dataplane"
	"github.com/mirrorgate/mirrorgate/internal/intercept/objects"
	"github.com/mirrorgate/mirrorgate/webhook"
)

// noMesh is what --no-mesh adds to a gateway.
type noMesh struct {
	index *dataplane.Index
	feed  *dataplane.Feed
}

// synced says whether everything is known that Services are decided by.
func (n *noMesh) synced() bool { return n == nil || n.feed.HasSynced() }

// parents answers about Services with proxies once everything is known.
func (n *noMesh) parents() dataplane.Synced {
	return dataplane.Synced{Index: n.index, HasSynced: n.feed.HasSynced}
}

// fronts assembles what every replica needs: the model, and the webhook of Services.
func (g *gateway) fronts(counted *webhook.Metrics) error {
	n := &noMesh{index: dataplane.NewIndex(dataplane.Options{})}
	var err error
	opts := dataplane.FeedOptions{WithoutEndpoints: true, WithProxies: true, Shared: g.cluster}
	if n.feed, err = dataplane.NewFeed(g.config, n.index, g.log.WithName("proxies"), opts); err != nil {
		return err
	}
	webhook.NewServices(n.parents(), counted).Register(g.drain.on(g.manager.GetWebhookServer()))
	metrics.Registry.MustRegister(feedMetrics{n.feed})
	g.noMesh = n
	return errors.Join(
		g.manager.Add(everywhere(n.feed.Start)),
		g.manager.AddReadyzCheck("proxies", func(*http.Request) error {
			if !n.synced() {
				return errNotSynced
			}
			return nil
		}),
	)
}

// proxies returns the loops of the leader: one keeps proxies in front of Services, one tells routes what
// became of them.
func (g *gateway) proxies(recorder events.EventRecorder) ([]func(context.Context) error, error) {
	status, err := dataplane.NewStatusWriter(g.config, g.noMesh.index, g.noMesh.feed.HasSynced, g.log.WithName("status"))
	if err != nil {
		return nil, err
	}
	quiet := rest.CopyConfig(g.config)
	quiet.WarningHandler = rest.NoWarnings{}
	client, err := kubernetes.NewForConfig(quiet)
	if err != nil {
		return nil, err
	}
	objects, err := dynamic.NewForConfig(quiet)
	if err != nil {
		return nil, err
	}
	observed := intercept.NewMetrics(metrics.Registry)
	var queue atomic.Pointer[intercept.Queue] // nil while another replica leads
	add := func(names ...intercept.Name) {
		if q := queue.Load(); q != nil {
			for _, name := range names {
				(*q).Add(name)
			}
		}
	}
	g.noMesh.index.Subscribe(func(c *dataplane.Change) {
		add(c.Tables...)
		add(c.Parents...)
		for _, route := range c.Routes {
			add(g.noMesh.index.ParentsOf(route)...)
		}
	})
	steer := func(ctx context.Context) error {
		config := g.opts.Proxy
		if err := g.ownImage(ctx, &config); err != nil {
			return err
		}
		if !poll(ctx, 20*time.Millisecond, g.noMesh.synced) {
			return nil
		}
		c := intercept.New(g.noMesh.parents(), intercept.NewServices(client.CoreV1()), intercept.NewObjects(objects), recorder, intercept.Options{
			Config: config, Registered: g.registered, Workers: g.opts.Workers, Resync: g.opts.Resync.Duration,
			Metrics: observed, Log: g.log.WithName("proxies"),
		})
		defer queue.Store(nil)
		return c.Start(ctx, func(_ context.Context, q intercept.Queue) error {
			queue.Store(&q)
			return nil
		})
	}
	return []func(context.Context) error{steer, status.Start}, nil
}

// registered says whether the API server knows the webhook of Services.
func (g *gateway) registered(ctx context.Context) (bool, error) {
	name := installation
	if g.registration != nil {
		name = g.registration.Name()
	}
	have, err := g.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, name, metav1.GetOptions{})
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
			return true, nil
		}
	}
	return false, nil
}

// ownImage fills in the image of the pod that the process runs in, unless another is told.
func (g *gateway) ownImage(ctx context.Context, config *objects.Config) error {
	if config.Image != "" {
		return nil
	}
	namespace, err := g.opts.namespace()
	if err != nil {
		return err
	}
	pod, err := os.Hostname()
	if err != nil {
		return err
	}
	have, err := g.client.CoreV1().Pods(namespace).Get(ctx, pod, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("--proxy-image is not given, and the program's own pod cannot be read: %w", err)
	}
	c := containerOf(have)
	config.Image = c.Image
	if config.PullPolicy == "" {
		config.PullPolicy = c.ImagePullPolicy
	}
	g.log.Info("proxies run the image of this pod", "image", config.Image)
	return nil
}

// containerOf is the program's, or the first.
func containerOf(pod *corev1.Pod) *corev1.Container {
	for i := range pod.Spec.Containers {
		if pod.Spec.Containers[i].Name == installation {
			return &pod.Spec.Containers[i]
		}
	}
	return &pod.Spec.Containers[0]
}
