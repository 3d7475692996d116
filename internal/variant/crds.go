package variant

// Optional kinds: their feeds begin when a CustomResourceDefinition appears and end when it goes, without a
// restart.

import (
	"context"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/version"

	"github.com/mirrorgate/mirrorgate/internal/feed"
)

// crdState is the state of an optional kind.
type crdState struct {
	// installed is set while its CustomResourceDefinition exists.
	installed bool
	// unserved is set while the API server serves no version that mirrorgate reads, unsupported if it serves
	// others.
	unserved, unsupported bool
	// stale is set when the served versions have to be looked up. tries counts the look-ups since the
	// CustomResourceDefinition changed.
	stale bool
	tries int
}

// crdSink returns the sink of CustomResourceDefinitions. Any change of one may be a change of its served
// versions.
func (c *Cluster) crdSink() feed.Sink {
	note := func(name string, installed bool) {
		for kind := KindRollout; kind < kindCount; kind++ {
			if kind.crd() == name {
				installed = installed && !slices.Contains(c.index.opts.Without, kind.Group())
				c.note(kind, func(p *crdState) {
					*p = crdState{installed: installed, stale: installed, unsupported: installed && p.unsupported}
				})
			}
		}
	}
	known := func() (names []types.NamespacedName) {
		for kind := KindRollout; kind < kindCount; kind++ {
			names = append(names, types.NamespacedName{Name: kind.crd()})
		}
		return names
	}
	return feed.NewSink(known, func(set []*feed.Item, gone []types.NamespacedName) {
		for _, it := range set {
			note(it.Name, true)
			if it.Name == KindHTTPRoute.crd() {
				without, _ := it.Record.(string)
				c.index.notePruned(without)
			}
		}
		for _, name := range gone {
			note(name.Name, false)
		}
	})
}

// Annotations by which the CustomResourceDefinitions of the Gateway API name their release.
const (
	bundleVersion = "gateway.networking.k8s.io/bundle-version"
	bundleChannel = "gateway.networking.k8s.io/channel"
)

// withoutShares returns the name of a CustomResourceDefinition of HTTPRoutes in which mirrors have no percent
// and no fraction, so that the API server would prune these; nil for any other. The fields came with v1.2 in the
// experimental channel, and with v1.3 in the standard one.
func withoutShares(object any) any {
	crd, ok := object.(*metav1.PartialObjectMetadata)
	if !ok || crd.Name != KindHTTPRoute.crd() {
		return nil
	}
	channel := crd.Annotations[bundleChannel]
	since := version.MustParseGeneric("1.3.0")
	if channel == "experimental" {
		since = version.MustParseGeneric("1.2.0")
	}
	release, err := version.ParseGeneric(crd.Annotations[bundleVersion])
	if err != nil || release.AtLeast(since) {
		return nil
	}
	return fmt.Sprintf("the CRD of HTTPRoutes (Gateway API %s, %s)", crd.Annotations[bundleVersion], channel)
}

// notePruned notes the name of a CustomResourceDefinition of HTTPRoutes without shares, "" for one with them.
func (i *Index) notePruned(crd string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.prunes = crd
}

func (c *Cluster) note(kind Kind, change func(*crdState)) {
	c.mu.Lock()
	p := c.optional[kind]
	change(&p)
	c.optional[kind] = p
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Backoff of looking up the served versions of a kind. Discovery learns the versions of a new
// CustomResourceDefinition one by one: a version that is not the best is read at once, and kept after
// maxTries.
const (
	firstRetry = 200 * time.Millisecond
	lastRetry  = 30 * time.Second
	maxTries   = 5
)

// followCRDs starts and ends the feeds of optional kinds until ctx ends.
func (c *Cluster) followCRDs(ctx context.Context) {
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
		again := false
		for kind := KindRollout; kind < kindCount; kind++ {
			again = c.reconcile(ctx, kind) || again
		}
		if again {
			retry.Reset(delay)
		}
	}
}

// reconcile brings the feed of a kind in line with its CustomResourceDefinition. It reports whether that has
// to be done again.
func (c *Cluster) reconcile(ctx context.Context, kind Kind) (again bool) {
	p, f := c.begin(kind)
	switch {
	case !p.installed && f != nil:
		c.log.Info("CustomResourceDefinition is gone", "name", kind.crd())
		f.End()
		c.setFeed(kind, nil)
		c.consumer(kind).Replace(nil)
		return false
	case !p.installed || !p.stale:
		return false
	}
	version, err := c.client.Served(ctx, kinds[kind])
	if err != nil {
		c.log.Error(err, "Cannot look up the served versions", "name", kind.crd())
	}
	unsupported := version == "" && err == nil && c.unsupported(ctx, kind, p.unsupported)
	again = c.noteServed(kind, version, unsupported, err)
	if version == "" || (f != nil && f.version == version) {
		return again
	}
	if f != nil {
		f.End()
	}
	c.log.Info("Reading custom resources", "name", kind.crd(), "version", version)
	c.setFeed(kind, c.startFeed(ctx, kind, version))
	return again
}

// unsupported reports whether the API server serves a kind in other versions than those that mirrorgate
// reads, and logs them when that is new. before is the last result, which stands when the versions cannot be
// read.
func (c *Cluster) unsupported(ctx context.Context, kind Kind, before bool) bool {
	others, err := c.client.ServedVersions(ctx, kinds[kind])
	if err != nil {
		c.log.Error(err, "Cannot look up the served versions", "name", kind.crd())
		return before
	}
	if len(others) > 0 && !before {
		c.log.Info("Leaving custom resources alone: the API server serves no version that mirrorgate reads",
			"kind", kind.String(), "served", others, "reads", kinds[kind].Versions)
	}
	return len(others) > 0
}

// begin returns the state of a kind and its feed. An event that arrives from now on makes the state stale
// again.
func (c *Cluster) begin(kind Kind) (crdState, *kindFeed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.optional[kind]
	after := before
	after.stale = false
	c.optional[kind] = after
	return before, c.feeds[kind]
}

// noteServed notes the outcome of looking up the served versions of a kind. It reports whether that has to be
// done again.
func (c *Cluster) noteServed(kind Kind, version string, unsupported bool, err error) (again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.optional[kind]
	p.tries++
	p.unserved = version == "" && err == nil
	if err == nil {
		p.unsupported = unsupported && p.installed
	}
	best := version == kinds[kind].Versions[0] || (version != "" && p.tries >= maxTries)
	p.stale = p.stale || (p.installed && !best)
	c.optional[kind] = p
	return p.stale
}

func (c *Cluster) setFeed(kind Kind, f *kindFeed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f == nil {
		delete(c.feeds, kind)
		return
	}
	c.feeds[kind] = f
}

// Unsupported returns the optional kinds that the cluster has, and whether the API server serves each in none
// but versions that mirrorgate does not read. Its objects are then left alone.
func (c *Cluster) Unsupported() map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]bool{}
	for kind, p := range c.optional {
		if p.installed {
			out[kind.Unique()] = p.unsupported
		}
	}
	return out
}

// noticeMissing returns a source that looks up the served versions of an optional kind again when its
// resource is not found.
func (c *Cluster) noticeMissing(kind Kind, from feed.Source) feed.Source {
	if !kind.Optional() {
		return from
	}
	return &feed.Observed{Source: from, Began: func(_ context.Context, err error) {
		if apierrors.IsNotFound(err) {
			c.note(kind, func(p *crdState) { p.stale = p.installed })
		}
	}}
}
