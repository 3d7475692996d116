package dataplane

// From an API server to the Index. Each kind in each namespace is a stream of its own, so that one that may
// not be read, or does not exist, holds up no other.

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/rest"

	"github.com/mirrorgate/mirrorgate/internal/feed"
)

// FeedOptions choose the objects that a Feed reads.
type FeedOptions struct {
	// Namespace is the namespace that is read; "" is all. The foreign namespaces that the routes of the
	// Index's Parent refer to are read as well, as far as the API server permits.
	Namespace string
	// WithoutEndpoints leaves EndpointSlices out: conditions of routes do not depend on them.
	WithoutEndpoints bool
	// WithPolicies reads MirrorPolicies as well, for those who make copies.
	WithPolicies bool
	// WithProxies reads the pods of proxies as well, for those who decide where a Service leads.
	WithProxies bool
	// WithTLSPolicies reads BackendTLSPolicies, and ConfigMaps in their namespaces where those for a Service of a route
	// refer to one, for those who send requests and who write the policies' status.
	WithTLSPolicies bool
	// Shared, if set, lists and watches Namespaces, and Services, routes and ReferenceGrants of all of them, in place
	// of the Feed.
	Shared feed.Shared
}

// Feed keeps an Index in step with an API server. Kinds whose CustomResourceDefinition is missing have no
// objects until it comes. While the API server is away the Index stays as it is.
type Feed struct {
	index  *Index
	client *feed.Client
	log    logr.Logger
	opts   FeedOptions
	// missingAfter and goneAfter are how long the API server has to say that a kind does not exist, or may
	// not be read, until a stream believes it: one that has never read the kind, and one that has. An API
	// server that starts says so of any kind, for a second or more.
	missingAfter, goneAfter time.Duration
	// wake makes Start open and close the streams of foreign namespaces.
	wake    chan struct{}
	changed chan struct{}

	mu      sync.Mutex
	streams map[streamKey]*stream
}

type streamKey struct {
	resource, namespace string
}

// NewFeed returns a Feed that feeds index once started. It lists and watches Services, HTTPRoutes,
// GRPCRoutes and ReferenceGrants, the kinds that opts choose, and where it reads all namespaces those too.
func NewFeed(config *rest.Config, index *Index, log logr.Logger, opts FeedOptions) (*Feed, error) {
	client, err := feed.NewClient(config, corev1.AddToScheme, discoveryv1.AddToScheme)
	if err != nil {
		return nil, err
	}
	f := &Feed{
		index: index, client: client, log: log, opts: opts, missingAfter: time.Second, goneAfter: 10 * time.Second,
		wake: make(chan struct{}, 1), changed: make(chan struct{}, 1), streams: map[streamKey]*stream{},
	}
	if opts.Shared != nil {
		for _, k := range append(slices.Clone(sharedKinds), namespaces) {
			s := newStream(f, k, "")
			f.streams[streamKey{k.Resource, ""}] = s
			opts.Shared.Attach(k.Kind, feed.Consumer{Convert: s.convert, Sink: s.sink})
		}
	}
	index.Subscribe(func(c *Change) {
		if slices.Contains(c.Tables, index.opts.Parent) || slices.ContainsFunc(c.Routes, func(r RouteName) bool { return r.Kind == KindBackendTLSPolicy }) {
			poke(f.wake)
		}
	})
	return f, nil
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Start feeds the Index until ctx ends. It blocks, and leaves nothing running.
func (f *Feed) Start(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer f.client.Close()
	defer func() {
		cancel()
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, s := range f.streams {
			s.end()
		}
	}()
	for _, k := range f.kinds() {
		f.open(ctx, k, f.opts.Namespace)
	}
	for {
		f.followForeign(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-f.wake:
		}
	}
}

// sharedKinds are those in a namespace that FeedOptions.Shared reads.
var sharedKinds = []*streamKind{services, httpRoutes, grpcRoutes, referenceGrants}

// kinds returns those of the Feed's own namespace.
func (f *Feed) kinds() []*streamKind {
	kinds := slices.Clone(sharedKinds)
	if f.opts.WithTLSPolicies {
		kinds = append(kinds, backendTLSPolicies)
	}
	if !f.opts.WithoutEndpoints {
		kinds = append(kinds, endpointSlices)
	}
	if f.opts.WithPolicies {
		kinds = append(kinds, mirrorPolicies)
	}
	if f.opts.WithProxies {
		kinds = append(kinds, proxyPods)
	}
	if f.opts.Namespace == "" {
		kinds = append(kinds, namespaces)
	}
	return kinds
}

// foreignKinds are those of a namespace that routes refer to. Routes there do not matter, since a Service
// takes routes of its own namespace alone.
func (f *Feed) foreignKinds() []*streamKind {
	kinds := []*streamKind{referenceGrants, services, endpointSlices}
	if f.opts.WithTLSPolicies {
		kinds = append(kinds, backendTLSPolicies)
	}
	return kinds
}

// foreign returns the namespaces that have to be read beside the Feed's own.
func (f *Feed) foreign() []string {
	if f.opts.Namespace == "" {
		return nil
	}
	return f.index.foreignOf(f.index.opts.Parent)
}

// followForeign opens the streams of foreign namespaces that routes refer to now, and those of the ConfigMaps that
// policies refer to, and closes the others.
func (f *Feed) followForeign(ctx context.Context) {
	wanted, trusted := f.foreign(), f.index.trustedNamespaces()
	var gone []*stream
	f.mu.Lock()
	for key, s := range f.streams {
		in, own := wanted, key.namespace == f.opts.Namespace
		if key.resource == configMaps.Resource {
			in, own = trusted, false
		}
		if !own && !slices.Contains(in, key.namespace) {
			gone = append(gone, s)
			delete(f.streams, key)
		}
	}
	f.mu.Unlock()
	for _, s := range gone {
		s.end()
		s.sink.Replace(nil)
	}
	for _, namespace := range wanted {
		for _, k := range f.foreignKinds() {
			f.open(ctx, k, namespace)
		}
	}
	for _, namespace := range trusted {
		f.open(ctx, configMaps, namespace)
	}
	poke(f.changed)
}

// open starts a stream, unless there is one.
func (f *Feed) open(ctx context.Context, k *streamKind, namespace string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := streamKey{k.Resource, namespace}
	if f.streams[key] == nil && ctx.Err() == nil {
		s := newStream(f, k, namespace)
		f.streams[key] = s
		s.start(ctx)
	}
}

// HasSynced reports whether the Index has every object that there is to be read: every stream has been
// listed. It becomes false again, for a moment, when a route begins to refer to another namespace.
func (f *Feed) HasSynced() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	synced := func(kinds []*streamKind, namespace string) bool {
		return !slices.ContainsFunc(kinds, func(k *streamKind) bool {
			s := f.streams[streamKey{k.Resource, namespace}]
			return s == nil || !s.hasSynced()
		})
	}
	// The routes come first: only when they are listed it is known which namespaces they refer to.
	return synced(f.kinds(), f.opts.Namespace) &&
		!slices.ContainsFunc(f.foreign(), func(namespace string) bool { return !synced(f.foreignKinds(), namespace) }) &&
		!slices.ContainsFunc(f.index.trustedNamespaces(), func(namespace string) bool { return !synced([]*streamKind{configMaps}, namespace) })
}

// Changed receives when HasSynced may have become true. Several events may be received as one.
func (f *Feed) Changed() <-chan struct{} { return f.changed }

// Resources returns the resources that are read, and whether each is listed in all its namespaces.
func (f *Feed) Resources() map[string]bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	listed := map[string]bool{}
	for key, s := range f.streams {
		before, seen := listed[key.resource]
		listed[key.resource] = s.hasSynced() && (before || !seen)
	}
	return listed
}

// Failures returns, by resource, how many lists and watches could not begin, and how many objects could not
// be read.
func (f *Feed) Failures() map[string]uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	failures := map[string]uint64{}
	for key, s := range f.streams {
		failures[key.resource] += s.failures.Load()
	}
	return failures
}
