package dataplane

// A stream: one kind of object in one namespace on its way into the Index.

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/klog/v2"

	"github.com/mirrorgate/mirrorgate/internal/feed"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// streamKind is the common part of the streams of one kind.
type streamKind struct {
	*feed.Kind
	kind Kind
	// labels, if set, is the label selector of the objects that are read.
	labels string
}

var (
	services           = &streamKind{Kind: feed.Services, kind: KindService}
	endpointSlices     = &streamKind{Kind: feed.EndpointSlices, kind: KindEndpointSlice}
	httpRoutes         = &streamKind{Kind: feed.HTTPRoutes, kind: KindHTTPRoute}
	grpcRoutes         = &streamKind{Kind: feed.GRPCRoutes, kind: KindGRPCRoute}
	referenceGrants    = &streamKind{Kind: feed.ReferenceGrants, kind: KindReferenceGrant}
	backendTLSPolicies = &streamKind{Kind: feed.BackendTLSPolicies, kind: KindBackendTLSPolicy}
	configMaps         = &streamKind{Kind: feed.ConfigMaps, kind: KindConfigMap}
	proxyPods          = &streamKind{Kind: feed.ProxyPods, kind: KindPod, labels: wellknown.ParentLabel}
	mirrorPolicies     = &streamKind{Kind: feed.MirrorPolicies, kind: KindMirrorPolicy}
	// namespaces are no kind of the Index, which only knows the names of those that are enabled.
	namespaces = &streamKind{Kind: feed.Namespaces}
)

type stream struct {
	*streamKind
	feed      *Feed
	namespace string
	sink      feed.Sink
	failures  atomic.Uint64
	listed    atomic.Bool
	// reflector is nil where FeedOptions.Shared feeds the stream.
	reflector *feed.Feed

	// The fields below belong to the reflector's goroutine.

	// missingSince is when the API server began to say that there is nothing to be read; zero if it does not.
	missingSince time.Time
	// failure is the one that was logged last, at loggedAt.
	failure  string
	loggedAt time.Time
}

func newStream(f *Feed, k *streamKind, namespace string) *stream {
	s := &stream{streamKind: k, feed: f, namespace: namespace}
	s.sink = f.index.sink(k.kind, namespace)
	if k == namespaces {
		s.sink = f.index.namespaceSink()
	}
	return s
}

func (s *stream) start(ctx context.Context) {
	quiet := logr.Discard() // observe logs failures, once each
	from := &feed.Observed{Source: s.source(), Began: s.observe}
	s.reflector = feed.Start(klog.NewContext(ctx, quiet), quiet, s.Resource, from, s.namespace, feed.Sink{
		Set: s.sink.Set, Remove: s.sink.Remove,
		Replace: func(items []*feed.Item) {
			s.sink.Replace(items)
			s.noteListed()
		},
	})
}

func (s *stream) end() {
	if s.reflector != nil {
		s.reflector.End()
	}
}

// hasSynced reports whether the Index has every object that there was at the start.
func (s *stream) hasSynced() bool {
	return s.listed.Load() || s.reflector == nil && s.feed.opts.Shared != nil && s.feed.opts.Shared.HasSynced()
}

func (s *stream) noteListed() {
	s.listed.Store(true)
	poke(s.feed.changed)
}

func (s *stream) source() feed.Source {
	b := &bestVersion{labels: s.labels}
	for _, version := range s.Versions {
		b.versions = append(b.versions, s.Source(s.feed.client, version, s.convert))
	}
	return b
}

// convert makes an event of an object. An object that cannot be read must not keep the others out, and the
// record that the Index had of it stays.
func (s *stream) convert(object any) any {
	if s.streamKind == namespaces {
		return object.(*metav1.PartialObjectMetadata).Labels[wellknown.Label] == wellknown.Enabled
	}
	e, err := read(object)
	if err != nil {
		s.failures.Add(1)
		s.feed.log.Error(err, "An object cannot be read; its last readable version stays in use")
		return nil
	}
	if e.put == nil {
		return nil
	}
	return e
}

// bestVersion is a source of the best version that is served.
type bestVersion struct {
	versions []feed.Source
	current  int
	labels   string
}

// List implements feed.Source.
func (b *bestVersion) List(ctx context.Context, namespace string, opts metav1.ListOptions) (list *feed.List, err error) {
	opts.LabelSelector = b.labels
	for range b.versions {
		if list, err = b.versions[b.current].List(ctx, namespace, opts); !apierrors.IsNotFound(err) {
			break
		}
		b.current = (b.current + 1) % len(b.versions)
	}
	return list, err
}

// Watch implements feed.Source.
func (b *bestVersion) Watch(ctx context.Context, namespace string, opts metav1.ListOptions) (watch.Interface, error) {
	opts.LabelSelector = b.labels
	return b.versions[b.current].Watch(ctx, namespace, opts)
}

// observe notes and logs how a list or a watch began.
func (s *stream) observe(ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil:
		return
	case err == nil:
		if s.missingSince.IsZero() && s.failure != "" {
			s.feed.log.Info("Reading again", s.logValues()...)
		}
		s.missingSince, s.failure = time.Time{}, ""
		return
	case apierrors.IsResourceExpired(err), apierrors.IsGone(err):
		return // the reflector lists anew
	case s.meansNothingToRead(err):
		if s.missingSince.IsZero() {
			s.missingSince = time.Now()
		}
		wait := s.feed.missingAfter
		if s.listed.Load() {
			wait = s.feed.goneAfter
		}
		if time.Since(s.missingSince) >= wait {
			s.sink.Replace(nil)
			s.noteListed()
		}
		return
	}
	s.missingSince = time.Time{}
	s.failures.Add(1)
	if text := err.Error(); text != s.failure || time.Since(s.loggedAt) > logAgain {
		s.failure, s.loggedAt = text, time.Now()
		message := "Cannot read from the API server; trying again, and going on with what is known"
		if !s.listed.Load() {
			message = "Cannot read from the API server; waiting until it can be read"
		}
		s.feed.log.Error(err, message, s.logValues()...)
	}
}

// logAgain is how often a failure that stays is logged.
const logAgain = time.Minute

// meansNothingToRead reports whether an error means that there is nothing to be read: no such kind, or, in a
// foreign namespace, no right, which the controller gives together with a ReferenceGrant.
func (s *stream) meansNothingToRead(err error) bool {
	return apierrors.IsNotFound(err) && s.Optional() ||
		apierrors.IsForbidden(err) && s.namespace != s.feed.opts.Namespace
}

func (s *stream) logValues() []any {
	if s.namespace == "" {
		return []any{"resource", s.Resource}
	}
	return []any{"resource", s.Resource, "namespace", s.namespace}
}

// sink returns the sink that writes the objects of a kind in a namespace, "" for all, into the Index. An item
// without a record is one that could not be read.
func (x *Index) sink(kind Kind, namespace string) feed.Sink {
	known := func() []Name {
		x.mu.RLock()
		defer x.mu.RUnlock()
		return slices.DeleteFunc(x.names(kind), func(name Name) bool { return namespace != "" && name.Namespace != namespace })
	}
	return feed.NewSink(known, func(set []*feed.Item, gone []Name) {
		x.update(func(c *changes) {
			for _, name := range gone {
				x.remove(kind, name, c)
			}
			for _, it := range set {
				if e, ok := it.Record.(event); ok {
					e.put(x, c)
				}
			}
		})
	})
}

// namespaceSink returns the sink that tells the Index which namespaces are enabled.
func (x *Index) namespaceSink() feed.Sink {
	known := func() (names []Name) {
		x.mu.RLock()
		defer x.mu.RUnlock()
		for namespace := range x.namespaces {
			names = append(names, Name{Name: namespace})
		}
		return names
	}
	return feed.NewSink(known, func(set []*feed.Item, gone []Name) {
		for _, it := range set {
			x.EnableNamespace(it.Name, it.Record == true)
		}
		for _, name := range gone {
			x.EnableNamespace(name.Name, false)
		}
	})
}
