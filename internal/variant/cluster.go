package variant

// Cluster keeps an Index in step with an API server.

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
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
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/connrotation"
	"k8s.io/klog/v2"
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
	index    *Index
	log      logr.Logger
	dialer   *connrotation.Dialer
	client   rest.Interface
	metadata metadata.Interface
	// wake tells the manager that CustomResourceDefinitions changed.
	wake chan struct{}

	mu    sync.Mutex
	feeds map[Kind]*feed
	crds  *feed
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
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, discoveryv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("register types: %w", err)
		}
	}
	config = rest.CopyConfig(config)
	// Live reads are on the request path: they must not queue behind each other.
	// The API server has priority and fairness for that.
	config.QPS, config.RateLimiter = -1, nil
	config.Timeout = 0 // it would end watches
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	dial := config.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
	dialer := connrotation.NewDialer(dial)
	config.Dial = dialer.DialContext
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("connect to the API server: %w", err)
	}
	client, err := rest.UnversionedRESTClientForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, fmt.Errorf("connect to the API server: %w", err)
	}
	meta, err := metadata.NewForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, fmt.Errorf("connect to the API server: %w", err)
	}
	return &Cluster{
		index: index, log: log, dialer: dialer, client: client, metadata: meta,
		wake:  make(chan struct{}, 1),
		feeds: map[Kind]*feed{}, optional: map[Kind]presence{},
	}, nil
}

// Start feeds the Index until ctx ends. It blocks, and leaves nothing running.
func (c *Cluster) Start(ctx context.Context) error {
	ctx, cancel := context.WithCancel(klog.NewContext(ctx, c.log))
	defer c.dialer.CloseAll()
	defer func() {
		cancel()
		c.mu.Lock()
		feeds := append(slices.Collect(maps.Values(c.feeds)), c.crds)
		c.mu.Unlock()
		for _, f := range feeds {
			f.end()
		}
	}()
	c.mu.Lock()
	for kind := range KindRollout {
		c.feeds[kind] = startFeed(ctx, c.log, kind.Resource(), c.builtin(kind), kinds[kind].versions[0], c.index.sinkOf(kind))
	}
	crds := &metadataSource{c.metadata.Resource(schema.GroupVersionResource{
		Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions",
	})}
	c.crds = startFeed(ctx, c.log, "customresourcedefinitions", crds, "v1", c.crdSink())
	c.mu.Unlock()
	c.manage(ctx)
	return nil
}

func (c *Cluster) builtin(kind Kind) source {
	version := kinds[kind].versions[0]
	if kind == KindPod {
		return &metadataSource{c.metadata.Resource(schema.GroupVersionResource{
			Group: kind.Group(), Version: version, Resource: kind.Resource(),
		})}
	}
	return &typedSource{
		resource:  resource{kind: kind, version: version, client: c.client},
		newObject: builtins[kind].object, newList: builtins[kind].list,
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
	if c.crds == nil || !c.crds.synced.Load() {
		return false
	}
	for kind := range kindCount {
		p := c.optional[kind]
		if kind.Optional() && (!p.installed || p.unserved) {
			continue
		}
		if f := c.feeds[kind]; f == nil || !f.synced.Load() {
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
	synced := map[string]bool{"customresourcedefinitions": c.crds != nil && c.crds.synced.Load()}
	for kind := range kindCount {
		if !kind.Optional() || c.optional[kind].installed {
			f := c.feeds[kind]
			synced[kind.Resource()] = f != nil && f.synced.Load()
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
	if typed, ok := f.source.(*typedSource); ok && q.Name != "" {
		rec, err := typed.one(ctx, q.Namespace, q.Name)
		if rec == nil || err != nil {
			return nil, err
		}
		return []any{rec}, nil
	}
	return readPages(ctx, f.source, q, maxPages)
}

// readPages lists the records that answer a query, in so many pages at most.
func readPages(ctx context.Context, from source, q Query, most int) ([]any, error) {
	var found []any
	opts := metav1.ListOptions{Limit: pageSize, LabelSelector: q.Selector}
	if q.Name != "" {
		opts.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, q.Name).String()
	}
	for range most {
		page, err := from.list(ctx, q.Namespace, opts)
		if err != nil {
			return nil, err
		}
		for _, it := range page.Items {
			if it.record != nil {
				found = append(found, it.record)
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
