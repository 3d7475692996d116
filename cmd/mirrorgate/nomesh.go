package main

// What serve does with --no-mesh: proxies in front of Services.

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

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
	"github.com/mirrorgate/mirrorgate/internal/front"
	interception "github.com/mirrorgate/mirrorgate/internal/intercept"
	"github.com/mirrorgate/mirrorgate/webhook"
)

// noMesh is what --no-mesh adds to a gateway.
type noMesh struct {
	index *dataplane.Index
	feed  *dataplane.Feed
	state *front.State
}

// synced says whether everything is known that Services are decided by.
func (n *noMesh) synced() bool { return n == nil || n.state.Synced() }

// fronts assembles what every replica needs: the model, and the webhook of Services.
func (g *gateway) fronts(counted *webhook.Metrics) error {
	n := &noMesh{index: dataplane.NewIndex(dataplane.Options{})}
	var err error
	log := g.log.WithName("proxies")
	if n.feed, err = dataplane.NewFeed(g.config, n.index, log, dataplane.FeedOptions{WithoutEndpoints: true}); err != nil {
		return err
	}
	n.state = front.New(n.index, n.feed.Synced)
	webhook.NewServices(n.state, counted).Register(g.drain.on(g.manager.GetWebhookServer()))
	metrics.Registry.MustRegister(feedMetrics{n.feed})
	g.noMesh = n
	return errors.Join(
		g.manager.Add(everywhere(n.feed.Start)),
		g.manager.Add(everywhere(func(ctx context.Context) error { return n.state.Start(ctx, g.config, log) })),
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
	status, err := dataplane.NewStatusWriter(g.config, g.noMesh.index, g.noMesh.feed.Synced, g.log.WithName("status"))
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
	c := intercept.New(g.noMesh.state, intercept.NewServices(client.CoreV1()), intercept.NewObjects(objects), recorder, intercept.Options{
		Config: g.proxyConfig, Registered: g.registered, HasSynced: g.noMesh.synced, Workers: g.opts.Workers,
		Resync: g.opts.Resync.Duration, Metrics: intercept.NewMetrics(metrics.Registry), Log: g.log.WithName("proxies"),
	})
	g.noMesh.state.Subscribe(func(parent front.Name) { c.Add(parent) })
	g.noMesh.index.Subscribe(func(change *dataplane.Change) {
		c.Add(change.Tables...)
		c.Add(change.Fronts...)
		for _, route := range change.Routes {
			c.Add(g.noMesh.index.ParentsOf(route)...)
		}
	})
	return []func(context.Context) error{c.Start, status.Start}, nil
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

// proxyConfig returns the settings of proxies. Without --proxy-image they run the image of the program's own pod.
func (g *gateway) proxyConfig(ctx context.Context) (interception.Config, error) {
	config := g.opts.Proxy
	if config.Image != "" {
		return config, nil
	}
	namespace, err := g.opts.namespace()
	if err != nil {
		return config, err
	}
	pod, err := os.Hostname()
	if err != nil {
		return config, err
	}
	have, err := g.client.CoreV1().Pods(namespace).Get(ctx, pod, metav1.GetOptions{})
	if err != nil {
		return config, fmt.Errorf("--proxy-image is not given, and the program's own pod cannot be read: %w", err)
	}
	container := containerOf(have)
	config.Image = container.Image
	if config.PullPolicy == "" {
		config.PullPolicy = container.ImagePullPolicy
	}
	g.log.Info("Proxies run the image of this pod", "image", config.Image)
	return config, nil
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
