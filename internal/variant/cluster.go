package variant

// Cluster keeps an Index in step with an API server.

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/mirrorgate/mirrorgate/internal/feed"
)

// maxPages bounds a live list.
const maxPages = 25

var errNotServed = errors.New("its CustomResourceDefinition is there, but it is not served yet")

// Cluster feeds an Index from an API server, and reads from it past the Index. It lists and watches each kind
// once, also for the consumers that are attached.
type Cluster struct {
	index  *Index
	log    logr.Logger
	client *feed.Client
	// wake makes followCRDs reconcile every optional kind.
	wake chan struct{}
	// attached are the consumers beside the Index.
	attached map[*feed.Kind][]feed.Consumer

	mu    sync.Mutex
	feeds map[Kind]*kindFeed
	crds  *feed.Feed
	// optional is the state of the kinds that come from a CustomResourceDefinition.
	optional map[Kind]crdState
	synced   bool
}

// kindFeed is the feed of a kind, with the API version that it reads and a source for live reads.
type kindFeed struct {
	*feed.Feed
	version string
	live    feed.Source
}

// NewCluster returns a Cluster that feeds index once started. It lists and watches the kinds of the Index and
// CustomResourceDefinitions, and gets Services.
func NewCluster(config *rest.Config, index *Index, log logr.Logger) (*Cluster, error) {
	client, err := feed.NewClient(config, corev1.AddToScheme, appsv1.AddToScheme, discoveryv1.AddToScheme)
	if err != nil {
		return nil, err
	}
	return &Cluster{
		index: index, log: log, client: client, wake: make(chan struct{}, 1), attached: map[*feed.Kind][]feed.Consumer{},
		feeds: map[Kind]*kindFeed{}, optional: map[Kind]crdState{},
	}, nil
}

// Attach adds a consumer of a kind of the Index. It must be called before Start.
func (c *Cluster) Attach(k *feed.Kind, consumer feed.Consumer) {
	c.attached[k] = append(c.attached[k], consumer)
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
		c.feeds[kind] = c.startFeed(ctx, kind, kinds[kind].Versions[0])
	}
	crds := feed.CRDs.Source(c.client, feed.CRDs.Versions[0], withoutShares)
	c.crds = feed.Start(ctx, c.log, feed.CRDs.Resource, crds, "", c.crdSink())
	c.mu.Unlock()
	c.followCRDs(ctx)
	return nil
}

func (c *Cluster) startFeed(ctx context.Context, kind Kind, version string) *kindFeed {
	all := c.consumer(kind)
	from := c.noticeMissing(kind, kinds[kind].Source(c.client, version, all.Convert))
	return &kindFeed{
		Feed:    feed.Start(ctx, c.log, kind.Resource(), from, "", all.Sink),
		version: version, live: c.source(kind, version),
	}
}

// consumer returns the consumer of a kind that stands for the Index and everything that is attached.
func (c *Cluster) consumer(kind Kind) feed.Consumer {
	own := feed.Consumer{Convert: c.convert(kind), Sink: c.index.sinkOf(kind)}
	return feed.Share(append([]feed.Consumer{own}, c.attached[kinds[kind]]...)...)
}

// source returns the source of records for the Index alone.
func (c *Cluster) source(kind Kind, version string) feed.Source {
	return c.noticeMissing(kind, kinds[kind].Source(c.client, version, c.convert(kind)))
}

// convert returns the function that makes records of a kind. An object that cannot be read has none, so that
// it does not keep the others out.
func (c *Cluster) convert(kind Kind) func(any) any {
	return func(object any) any {
		raw, isRaw := object.(json.RawMessage)
		if !isRaw {
			if o, ok := object.(*metav1.PartialObjectMetadata); ok && kind == KindNamespace {
				return fromNamespace(o) // in a list its kind is not set
			}
			return fromTyped(object)
		}
		var h header
		var rec record
		err := unmarshal(raw, &h)
		if err == nil {
			rec, err = c.index.parseKind(kind, &h, raw)
		}
		if err != nil {
			c.log.Error(err, "Ignoring an object that cannot be read",
				"kind", kind.String(), "namespace", h.Metadata.Namespace, "name", h.Metadata.Name)
			return nil
		}
		return rec
	}
}

// HasSynced reports whether the Index has known the whole cluster once: every kind that was there at the
// start is listed. A CustomResourceDefinition that comes later does not take that back, or its arrival would
// stop admission.
func (c *Cluster) HasSynced() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.synced {
		return true
	}
	if c.crds == nil || !c.crds.HasSynced() {
		return false
	}
	for kind := range kindCount {
		p := c.optional[kind]
		if kind.Optional() && (!p.installed || p.unserved) {
			continue
		}
		if f := c.feeds[kind]; f == nil || !f.HasSynced() {
			return false
		}
	}
	c.synced = true
	return true
}

// Resources returns the resources that the cluster has, and whether each is listed.
func (c *Cluster) Resources() map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	listed := map[string]bool{feed.CRDs.Resource: c.crds != nil && c.crds.HasSynced()}
	for kind := range kindCount {
		if !kind.Optional() || c.optional[kind].installed {
			f := c.feeds[kind]
			listed[kind.Resource()] = f != nil && f.HasSynced()
		}
	}
	return listed
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
	return readPages(ctx, f.live, q, maxPages)
}

// readPages returns the records that answer a query, in at most this number of pages.
func readPages(ctx context.Context, from feed.Source, q Query, pages int) ([]any, error) {
	return feed.Read(ctx, from, feed.Selection{Namespace: q.Namespace, Name: q.Name, Labels: q.Selector}, pages)
}
