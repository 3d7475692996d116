package dataplane

// From an API server to the Index. Each resource of each namespace is a stream of its own, so that one
// that may not be read, or is not there, holds up nothing else.

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

// FeedOptions say what a Feed reads.
type FeedOptions struct {
	// Namespace is where; "" is everywhere. The foreign namespaces that the routes of the Index's
	// Parent refer to come on top, as far as they may be read.
	Namespace string
	// WithoutEndpoints leaves EndpointSlices out: conditions of routes do not depend on them.
	WithoutEndpoints bool
	// WithProxies reads the pods of proxies as well, for those who decide where a Service leads.
	WithProxies bool
}

// Feed keeps an Index in step with an API server. Kinds whose CustomResourceDefinition is missing have
// no objects until it comes. While the API server is away the Index stays as it is.
type Feed struct {
	index  *Index
	client *feed.Client
	log    logr.Logger
	opts   FeedOptions
	// doubt is how long an API server has to say of a resource that it is not there, or may not be read,
	// until it is believed, by a stream that has never read it and by one that has. One that starts says
	// so of anything, for a second or more.
	doubt, doubtAgain time.Duration
	// wake tells Start that foreign namespaces may have come or gone.
	wake chan struct{}
	// changed tells who waits for Synced.
	changed chan struct{}

	mu      sync.Mutex
	streams map[streamKey]*stream
}

type streamKey struct {
	resource, namespace string
}

// NewFeed returns a Feed that feeds index once started. It lists and watches Services, HTTPRoutes and
// ReferenceGrants, EndpointSlices unless they are left out, and where it reads all namespaces those too.
func NewFeed(config *rest.Config, index *Index, log logr.Logger, opts FeedOptions) (*Feed, error) {
	client, err := feed.NewClient(config, corev1.AddToScheme, discoveryv1.AddToScheme)
	if err != nil {
		return nil, err
	}
	f := &Feed{
		index: index, client: client, log: log, opts: opts, doubt: time.Second, doubtAgain: 10 * time.Second,
		wake: make(chan struct{}, 1), changed: make(chan struct{}, 1), streams: map[streamKey]*stream{},
	}
	index.Subscribe(func(c *Change) {
		if slices.Contains(c.Tables, index.opts.Parent) {
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
		f.follow(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-f.wake:
		}
	}
}

// kinds are those of the Feed's own namespace.
func (f *Feed) kinds() []*streamKind {
	kinds := []*streamKind{services, httpRoutes, referenceGrants}
	if !f.opts.WithoutEndpoints {
		kinds = append(kinds, endpointSlices)
	}
	if f.opts.WithProxies {
		kinds = append(kinds, proxyPods)
	}
	if f.opts.Namespace == "" {
		kinds = append(kinds, namespaces)
	}
	return kinds
}

// foreignKinds are those of a namespace that routes refer to: whatever routes are there, the Service is
// not theirs.
var foreignKinds = []*streamKind{referenceGrants, services, endpointSlices}

// foreign are the namespaces that have to be read beside the Feed's own.
func (f *Feed) foreign() []string {
	if f.opts.Namespace == "" {
		return nil
	}
	return f.index.Foreign(f.index.opts.Parent)
}

// follow opens the streams of foreign namespaces that routes refer to now, and closes the others.
func (f *Feed) follow(ctx context.Context) {
	wanted := f.foreign()
	var gone []*stream
	f.mu.Lock()
	for key, s := range f.streams {
		if key.namespace != f.opts.Namespace && !slices.Contains(wanted, key.namespace) {
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
		for _, k := range foreignKinds {
			f.open(ctx, k, namespace)
		}
	}
	poke(f.changed)
}

// open starts a stream, unless there is one.
func (f *Feed) open(ctx context.Context, k *streamKind, namespace string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := streamKey{k.resource, namespace}
	if f.streams[key] == nil && ctx.Err() == nil {
		s := newStream(f, k, namespace)
		f.streams[key] = s
		s.start(ctx)
	}
}

// Synced says that the Index has all that is to be known: every resource has been listed that it reads
// now. It becomes false again, for a moment, when a route begins to refer to another namespace.
func (f *Feed) Synced() bool {
	wanted := f.foreign()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, k := range f.kinds() {
		if s := f.streams[streamKey{k.resource, f.opts.Namespace}]; s == nil || !s.synced.Load() {
			return false
		}
	}
	for _, namespace := range wanted {
		for _, k := range foreignKinds {
			if s := f.streams[streamKey{k.resource, namespace}]; s == nil || !s.synced.Load() {
				return false
			}
		}
	}
	return true
}

// Changed receives when Synced may have become true. Events meanwhile are one.
func (f *Feed) Changed() <-chan struct{} { return f.changed }

// Resources tells of each resource that is read whether all of it is known, and how often it could not
// be listed or watched.
func (f *Feed) Resources() map[string]ResourceState {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[string]ResourceState{}
	for key, s := range f.streams {
		state, seen := out[key.resource]
		state.Synced = s.synced.Load() && (state.Synced || !seen)
		state.Failures += s.failures.Load()
		out[key.resource] = state
	}
	return out
}

// ResourceState is what a Feed knows of its streams of one resource.
type ResourceState struct {
	Synced   bool
	Failures uint64
}

// remind is how often a failure that stays is logged.
const remind = time.Minute
