package variant

// Cluster keeps an Index in step with an API server.

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/mirrorgate/mirrorgate/internal/feed"
)

// maxPages bounds a live list.
const maxPages = 25

var (
	errNotServed    = errors.New("its CustomResourceDefinition is there, but it is not served yet")
	errTooManyItems = errors.New("more objects than one decision may read")
)

// builtins make empty objects and lists of the kinds that every cluster has.
var builtins = map[Kind]struct{ object, list func() runtime.Object }{
	KindService:       {func() runtime.Object { return &corev1.Service{} }, func() runtime.Object { return &corev1.ServiceList{} }},
	KindDeployment:    {func() runtime.Object { return &appsv1.Deployment{} }, func() runtime.Object { return &appsv1.DeploymentList{} }},
	KindStatefulSet:   {func() runtime.Object { return &appsv1.StatefulSet{} }, func() runtime.Object { return &appsv1.StatefulSetList{} }},
	KindDaemonSet:     {func() runtime.Object { return &appsv1.DaemonSet{} }, func() runtime.Object { return &appsv1.DaemonSetList{} }},
	KindReplicaSet:    {func() runtime.Object { return &appsv1.ReplicaSet{} }, func() runtime.Object { return &appsv1.ReplicaSetList{} }},
	KindEndpointSlice: {func() runtime.Object { return &discoveryv1.EndpointSlice{} }, func() runtime.Object { return &discoveryv1.EndpointSliceList{} }},
}

// Cluster feeds an Index from an API server, and reads from it past the Index.
type Cluster struct {
	index  *Index
	log    logr.Logger
	client *feed.Client
	// wake tells the manager that CustomResourceDefinitions changed.
	wake chan struct{}

	mu    sync.Mutex
	feeds map[Kind]*versioned
	crds  *feed.Feed
	// optional is what is known of the kinds that a CustomResourceDefinition brings.
	optional map[Kind]presence
	ready    bool
}

// presence is what is known of an optional kind.
type presence struct {
	// installed is set when its CustomResourceDefinition is there.
	installed bool
	// unserved is set when the API server serves no version that we understand.
	unserved bool
	// stale is set when the served versions have to be looked up, after tries
	// times since the CustomResourceDefinition changed.
	stale bool
	tries int
}

// NewCluster returns a Cluster that feeds index once started. It lists and
// watches the kinds of the Index and CustomResourceDefinitions, and gets
// Services.
func NewCluster(config *rest.Config, index *Index, log logr.Logger) (*Cluster, error) {
	client, err := feed.NewClient(config, corev1.AddToScheme, appsv1.AddToScheme, discoveryv1.AddToScheme)
	if err != nil {
		return nil, err
	}
	return &Cluster{
		index: index, log: log, client: client,
		wake:  make(chan struct{}, 1),
		feeds: map[Kind]*versioned{}, optional: map[Kind]presence{},
	}, nil
}

// Start feeds the Index until ctx ends. It blocks, and leaves nothing running.
func (c *Cluster) Start(ctx context.Context) error {
	ctx, cancel := context.WithCancel(klog.NewContext(ctx, c.log))
	defer c.client.Close()
	defer func() {
		cancel()
		c.mu.Lock()
		feeds := slices.Collect(maps.Values(c.feeds))
		c.mu.Unlock()
		for _, f := range feeds {
			f.End()
		}
		c.crds.End()
	}()
	c.mu.Lock()
	for kind := range KindRollout {
		c.feeds[kind] = c.startFeed(ctx, kind, kinds[kind].versions[0], c.builtin(kind))
	}
	crds := &feed.Metadata{Convert: fromObject, Client: c.client.Metadata.Resource(schema.GroupVersionResource{
		Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions",
	})}
	c.crds = feed.Start(ctx, c.log, "customresourcedefinitions", crds, "", c.crdSink())
	c.mu.Unlock()
	c.manage(ctx)
	return nil
}

// versioned is a feed with the API version that it reads.
type versioned struct {
	*feed.Feed
	version string
}

func (c *Cluster) startFeed(ctx context.Context, kind Kind, version string, from feed.Source) *versioned {
	return &versioned{feed.Start(ctx, c.log, kind.Resource(), from, "", c.index.sinkOf(kind)), version}
}

func (c *Cluster) builtin(kind Kind) feed.Source {
	resource := kind.at(kinds[kind].versions[0])
	if kind == KindPod {
		return &feed.Metadata{Client: c.client.Metadata.Resource(resource), Convert: fromObject}
	}
	return &feed.Typed{
		Resource:  feed.Resource{GroupVersionResource: resource, Client: c.client},
		NewObject: builtins[kind].object, NewList: builtins[kind].list, Convert: fromObject,
	}
}

// HasSynced tells whether the Index has known the whole cluster once: every
// kind that was there at the start is listed. A CustomResourceDefinition that
// comes later does not take that back, or its arrival would stop admission.
func (c *Cluster) HasSynced() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ready {
		return true
	}
	if c.crds == nil || !c.crds.Synced() {
		return false
	}
	for kind := range kindCount {
		p := c.optional[kind]
		if kind.Optional() && (!p.installed || p.unserved) {
			continue
		}
		if f := c.feeds[kind]; f == nil || !f.Synced() {
			return false
		}
	}
	c.ready = true
	return true
}

// Synced tells which resources are listed, of those that the cluster has.
func (c *Cluster) Synced() map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	synced := map[string]bool{"customresourcedefinitions": c.crds != nil && c.crds.Synced()}
	for kind := range kindCount {
		if !kind.Optional() || c.optional[kind].installed {
			f := c.feeds[kind]
			synced[kind.Resource()] = f != nil && f.Synced()
		}
	}
	return synced
}

// Read implements Reader.
func (c *Cluster) Read(ctx context.Context, q Query) ([]any, error) {
	c.mu.Lock()
	f, installed := c.feeds[q.Kind], c.optional[q.Kind].installed
	c.mu.Unlock()
	switch {
	case f == nil && installed:
		return nil, errNotServed
	case f == nil:
		return nil, nil
	}
	if typed, ok := f.Source.(*feed.Typed); ok && q.Name != "" {
		rec, err := typed.One(ctx, q.Namespace, q.Name)
		if rec == nil || err != nil {
			return nil, err
		}
		return []any{rec}, nil
	}
	return readPages(ctx, f.Source, q, maxPages)
}

// readPages lists the records that answer a query, in so many pages at most.
func readPages(ctx context.Context, from feed.Source, q Query, most int) ([]any, error) {
	var found []any
	opts := metav1.ListOptions{Limit: feed.PageSize, LabelSelector: q.Selector}
	if q.Name != "" {
		opts.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, q.Name).String()
	}
	for range most {
		page, err := from.List(ctx, q.Namespace, opts)
		if err != nil {
			return nil, err
		}
		for _, it := range page.Items {
			if it.Record != nil {
				found = append(found, it.Record)
			}
		}
		if page.Continue == "" {
			return found, nil
		}
		opts.Continue = page.Continue
	}
	return nil, errTooManyItems
}

// Backoff of looking up the served versions of a kind. Discovery learns the
// versions of a new CustomResourceDefinition one by one: a version that is not
// the best is taken at once, and settled for after maxTries.
const (
	firstRetry = 200 * time.Millisecond
	lastRetry  = 30 * time.Second
	maxTries   = 5
)

// manage starts and ends the feeds of optional kinds until ctx ends.
func (c *Cluster) manage(ctx context.Context) {
	retry := time.NewTimer(0)
	defer retry.Stop()
	for delay := firstRetry; ; {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
			delay = firstRetry
		case <-retry.C:
			delay = min(2*delay, lastRetry)
		}
		settled := true
		for kind := KindRollout; kind < kindCount; kind++ {
			if !c.reconcile(ctx, kind) {
				settled = false
			}
		}
		if !settled {
			retry.Reset(delay)
		}
	}
}
