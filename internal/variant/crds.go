package variant

// Optional kinds: their feeds begin when a CustomResourceDefinition appears and
// end when it goes, without a restart.

import (
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// crdSink notes which CustomResourceDefinitions are there; any change of one
// may be a change of its served versions.
func (c *Cluster) crdSink() sink {
	note := func(name string, installed bool) {
		for kind := KindRollout; kind < kindCount; kind++ {
			if kind.crd() == name {
				installed = installed && !slices.Contains(c.index.opts.Without, kind.Group())
				c.note(kind, func(p *presence) { *p = presence{installed: installed, stale: installed} })
			}
		}
	}
	return sink{
		set:    func(it *item) { note(it.Name, true) },
		remove: func(it *item) { note(it.Name, false) },
		replace: func(items []*item) {
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
		f.end()
		c.setFeed(kind, nil)
		c.index.replace(kind, nil)
		return true
	case !p.installed || !p.stale:
		return true
	}
	version, err := c.servedVersion(ctx, kind)
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
		f.end()
	}
	c.log.Info("Reading custom resources", "name", kind.crd(), "version", version)
	c.setFeed(kind, startFeed(ctx, c.log, kind.Resource(), c.raw(kind, version), version, c.index.sinkOf(kind)))
	return settled
}

// begin returns what is known of a kind. An event that comes in from now on
// makes it stale again.
func (c *Cluster) begin(kind Kind) (presence, *feed) {
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

func (c *Cluster) setFeed(kind Kind, f *feed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f == nil {
		delete(c.feeds, kind)
		return
	}
	c.feeds[kind] = f
}

// servedVersion is the best version of a kind that the API server serves and
// we understand, "" when there is none.
func (c *Cluster) servedVersion(ctx context.Context, kind Kind) (string, error) {
	for _, version := range kinds[kind].versions {
		var served metav1.APIResourceList
		raw, err := c.client.Get().AbsPath(groupPath(kind.Group(), version)).
			SetHeader("Accept", runtime.ContentTypeJSON).Do(ctx).Raw()
		if apierrors.IsNotFound(err) {
			continue
		}
		if err == nil {
			err = unmarshal(raw, &served)
		}
		if err != nil {
			return "", fmt.Errorf("discover %s/%s: %w", kind.Group(), version, err)
		}
		for _, r := range served.APIResources {
			if r.Name == kind.Resource() {
				return version, nil
			}
		}
	}
	return "", nil
}

// raw is the source of an optional kind.
func (c *Cluster) raw(kind Kind, version string) source {
	return &rawSource{
		resource: resource{kind: kind, version: version, client: c.client},
		parse: func(raw []byte) (*item, error) {
			var h header
			if err := unmarshal(raw, &h); err != nil {
				return nil, fmt.Errorf("read %s: %w", kind, err)
			}
			rec, err := c.index.parseKind(kind, &h, raw)
			if err != nil {
				// One unreadable object must not keep the others out.
				c.log.Error(err, "Ignoring an object that cannot be read",
					"kind", kind.String(), "namespace", h.Metadata.Namespace, "name", h.Metadata.Name)
				rec = nil
			}
			return &item{record: rec, ObjectMeta: metav1.ObjectMeta{
				Namespace: h.Metadata.Namespace, Name: h.Metadata.Name, ResourceVersion: h.Metadata.ResourceVersion,
			}}, nil
		},
		missing: func() { c.note(kind, func(p *presence) { p.stale = p.installed }) },
	}
}
