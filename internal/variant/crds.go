package variant

// Optional kinds: their feeds begin when a CustomResourceDefinition appears and
// end when it goes, without a restart.

import (
	"context"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/mirrorgate/mirrorgate/internal/feed"
)

// crdSink notes which CustomResourceDefinitions are there; any change of one
// may be a change of its served versions.
func (c *Cluster) crdSink() feed.Sink {
	note := func(name string, installed bool) {
		for kind := KindRollout; kind < kindCount; kind++ {
			if kind.crd() == name {
				installed = installed && !slices.Contains(c.index.opts.Without, kind.Group())
				c.note(kind, func(p *presence) { *p = presence{installed: installed, stale: installed} })
			}
		}
	}
	return feed.Sink{
		Set:    func(it *feed.Item) { note(it.Name, true) },
		Remove: func(it *feed.Item) { note(it.Name, false) },
		Replace: func(items []*feed.Item) {
			names := map[string]bool{}
			for _, it := range items {
				names[it.Name] = true
			}
			for kind := KindRollout; kind < kindCount; kind++ {
				note(kind.crd(), names[kind.crd()])
			}
		},
	}
}

func (c *Cluster) note(kind Kind, change func(*presence)) {
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

// reconcile brings the feed of a kind in line with its CustomResourceDefinition.
// It returns false when that has to be tried again.
func (c *Cluster) reconcile(ctx context.Context, kind Kind) bool {
	p, f := c.begin(kind)
	switch {
	case !p.installed && f != nil:
		c.log.Info("CustomResourceDefinition is gone", "name", kind.crd())
		f.End()
		c.setFeed(kind, nil)
		c.index.replace(kind, nil)
		return true
	case !p.installed || !p.stale:
		return true
	}
	version, err := c.served(ctx, kind)
	if err != nil {
		c.log.Error(err, "Cannot look up the served versions", "name", kind.crd())
	}
	if version == "" && err == nil && !p.unserved {
		c.log.Info("Leaving custom resources alone: no version is served that mirrorgate works with", "name", kind.crd(), "versions", kinds[kind].versions)
	}
	settled := !c.settle(kind, version, err)
	if version == "" || (f != nil && f.version == version) {
		return settled
	}
	if f != nil {
		f.End()
	}
	c.log.Info("Reading custom resources", "name", kind.crd(), "version", version)
	c.setFeed(kind, c.startFeed(ctx, kind, version, c.raw(kind, version)))
	return settled
}

// begin returns what is known of a kind. An event that comes in from now on
// makes it stale again.
func (c *Cluster) begin(kind Kind) (presence, *versioned) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.optional[kind]
	after := before
	after.stale = false
	c.optional[kind] = after
	return before, c.feeds[kind]
}

// settle notes the outcome of looking up the served versions of a kind.
// It returns whether that has to be done again.
func (c *Cluster) settle(kind Kind, version string, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.optional[kind]
	p.tries++
	p.unserved = version == "" && err == nil
	best := version == kinds[kind].versions[0] || (version != "" && p.tries >= maxTries)
	p.stale = p.stale || (p.installed && !best)
	c.optional[kind] = p
	return p.stale
}

func (c *Cluster) setFeed(kind Kind, f *versioned) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f == nil {
		delete(c.feeds, kind)
		return
	}
	c.feeds[kind] = f
}

// served is the best version of a kind that the API server serves and we understand, "" when there is
// none.
func (c *Cluster) served(ctx context.Context, kind Kind) (string, error) {
	return c.client.Served(ctx, kind.Group(), kind.Resource(), kinds[kind].versions)
}

// raw is the source of an optional kind.
func (c *Cluster) raw(kind Kind, version string) feed.Source {
	return &feed.Raw{
		Resource: feed.Resource{GroupVersionResource: kind.at(version), Client: c.client},
		Convert: func(raw []byte) any {
			var h header
			err := unmarshal(raw, &h)
			if err == nil {
				var rec record
				if rec, err = c.index.parseKind(kind, &h, raw); err == nil && rec != nil {
					return rec
				}
			}
			if err != nil {
				// One unreadable object must not keep the others out.
				c.log.Error(err, "Ignoring an object that cannot be read",
					"kind", kind.String(), "namespace", h.Metadata.Namespace, "name", h.Metadata.Name)
			}
			return nil
		},
		Failed: func(err error) {
			if apierrors.IsNotFound(err) {
				c.note(kind, func(p *presence) { p.stale = p.installed })
			}
		},
	}
}
