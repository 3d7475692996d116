package dataplane

// A stream: one resource of one namespace on its way into the Index.

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/klog/v2"

	"github.com/mirrorgate/mirrorgate/internal/feed"
	routes "github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// streamKind is what streams of one resource have in common.
type streamKind struct {
	kind            Kind
	group, resource string
	// versions are those that we understand, best first.
	versions           []string
	newObject, newList func() runtime.Object // of a built-in kind
	// labels, if set, is the label selector of the objects that are read.
	labels string
}

var (
	services = &streamKind{
		kind: KindService, resource: "services", versions: []string{"v1"},
		newObject: func() runtime.Object { return &corev1.Service{} }, newList: func() runtime.Object { return &corev1.ServiceList{} },
	}
	endpointSlices = &streamKind{
		kind: KindEndpointSlice, group: discoveryv1.GroupName, resource: "endpointslices", versions: []string{"v1"},
		newObject: func() runtime.Object { return &discoveryv1.EndpointSlice{} }, newList: func() runtime.Object { return &discoveryv1.EndpointSliceList{} },
	}
	httpRoutes      = &streamKind{kind: KindHTTPRoute, group: routes.GatewayGroup, resource: "httproutes", versions: []string{"v1"}}
	referenceGrants = &streamKind{kind: KindReferenceGrant, group: routes.GatewayGroup, resource: "referencegrants", versions: []string{"v1", "v1beta1"}}
	proxyPods       = &streamKind{
		kind: KindPod, resource: "pods", versions: []string{"v1"}, labels: wellknown.ParentLabel,
		newObject: func() runtime.Object { return &corev1.Pod{} }, newList: func() runtime.Object { return &corev1.PodList{} },
	}
	// namespaces are no kind of the Index: of them it knows which are enabled.
	namespaces = &streamKind{resource: "namespaces", versions: []string{"v1"}}
)

// at is the resource at a version.
func (k *streamKind) at(version string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: k.group, Version: version, Resource: k.resource}
}

type stream struct {
	*streamKind
	feed      *Feed
	namespace string
	sink      feed.Sink
	synced    atomic.Bool
	failures  atomic.Uint64

	reflector *feed.Feed

	// What follows belongs to the reflector's goroutine.

	// missing is since when the API server says that there is nothing to be read; zero if it does not.
	missing time.Time
	// said is the failure that was logged last, and when.
	said   string
	saidAt time.Time
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
	quiet := logr.Discard() // failures are logged here, once each
	s.reflector = feed.Start(klog.NewContext(ctx, quiet), quiet, s.resource, &observed{s, s.sources(), 0}, s.namespace, feed.Sink{
		Set: s.sink.Set, Remove: s.sink.Remove,
		Replace: func(items []*feed.Item) {
			s.sink.Replace(items)
			s.know()
		},
	})
}

func (s *stream) end() { s.reflector.End() }

// know notes that the Index has what there is.
func (s *stream) know() {
	s.synced.Store(true)
	poke(s.feed.changed)
}

// sources are one for each version.
func (s *stream) sources() (out []feed.Source) {
	for _, version := range s.versions {
		resource := s.at(version)
		at := feed.Resource{GroupVersionResource: resource, Client: s.feed.client}
		switch {
		case s.streamKind == namespaces:
			out = append(out, &feed.Metadata{Client: s.feed.client.Metadata.Resource(resource), Convert: func(object any) any {
				return object.(*metav1.PartialObjectMetadata).Labels[wellknown.Label] == wellknown.Enabled
			}})
		case s.newObject != nil:
			out = append(out, &feed.Typed{Resource: at, NewObject: s.newObject, NewList: s.newList, Convert: s.convert})
		default:
			out = append(out, &feed.Raw{Resource: at, Convert: func(raw []byte) any { return s.convert(json.RawMessage(raw)) }})
		}
	}
	return out
}

// convert reads an object; one that cannot be read must not keep the others out, and what the Index had
// of it stays.
func (s *stream) convert(object any) any {
	e, err := read(object)
	if err != nil {
		s.failures.Add(1)
		s.feed.log.Error(err, "An object cannot be read; what was known of it before stays")
		return nil
	}
	if e.put == nil {
		return nil
	}
	return e
}

// observed is the source of a stream: the best version that is served, with an eye on what fails.
type observed struct {
	stream   *stream
	versions []feed.Source
	current  int
}

// List implements feed.Source.
func (o *observed) List(ctx context.Context, namespace string, opts metav1.ListOptions) (list *feed.List, err error) {
	opts.LabelSelector = o.stream.labels
	for range o.versions {
		if list, err = o.versions[o.current].List(ctx, namespace, opts); !apierrors.IsNotFound(err) {
			break
		}
		o.current = (o.current + 1) % len(o.versions)
	}
	o.stream.observe(ctx, err)
	return list, err
}

// Watch implements feed.Source.
func (o *observed) Watch(ctx context.Context, namespace string, opts metav1.ListOptions) (watch.Interface, error) {
	opts.LabelSelector = o.stream.labels
	w, err := o.versions[o.current].Watch(ctx, namespace, opts)
	o.stream.observe(ctx, err)
	return w, err
}

// observe takes notice of how a list or a watch began.
func (s *stream) observe(ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil:
		return
	case err == nil:
		if s.missing.IsZero() && s.said != "" {
			s.feed.log.Info("Reading again", s.about()...)
		}
		s.missing, s.said = time.Time{}, ""
		return
	case apierrors.IsResourceExpired(err), apierrors.IsGone(err):
		return // it is listed anew
	case s.nothing(err):
		if s.missing.IsZero() {
			s.missing = time.Now()
		}
		doubt := s.feed.doubt
		if s.synced.Load() {
			doubt = s.feed.doubtAgain
		}
		if time.Since(s.missing) >= doubt {
			s.sink.Replace(nil)
			s.know()
		}
		return
	}
	s.missing = time.Time{}
	s.failures.Add(1)
	if text := err.Error(); text != s.said || time.Since(s.saidAt) > remind {
		s.said, s.saidAt = text, time.Now()
		message := "Cannot read from the API server; trying again, and going on with what is known"
		if !s.synced.Load() {
			message = "Cannot read from the API server; waiting until it can be read"
		}
		s.feed.log.Error(err, message, s.about()...)
	}
}

// nothing says of an error that there is nothing to be read: no such kind, or, in a foreign namespace,
// no right, which is given together with a ReferenceGrant.
func (s *stream) nothing(err error) bool {
	return apierrors.IsNotFound(err) && s.newObject == nil ||
		apierrors.IsForbidden(err) && s.namespace != s.feed.opts.Namespace
}

func (s *stream) about() []any {
	if s.namespace == "" {
		return []any{"resource", s.resource}
	}
	return []any{"resource", s.resource, "namespace", s.namespace}
}

// sink writes the objects of a kind in a namespace, "" for all, into the Index. An item without a record
// is one that could not be read.
func (x *Index) sink(kind Kind, namespace string) feed.Sink {
	return feed.Sink{
		Remove: func(it *feed.Item) { x.Delete(kind, it.Namespace, it.Name) },
		Set: func(it *feed.Item) {
			if e, ok := it.Record.(event); ok {
				x.update(func(c *changes) { e.put(x, c) })
			}
		},
		Replace: func(items []*feed.Item) {
			events, keep := make([]event, 0, len(items)), map[Name]bool{}
			for _, it := range items {
				keep[nameOf(it)] = true
				if e, ok := it.Record.(event); ok {
					events = append(events, e)
				}
			}
			x.replace(kind, namespace, events, keep)
		},
	}
}

// namespaceSink tells the Index which namespaces are enabled.
func (x *Index) namespaceSink() feed.Sink {
	return feed.Sink{
		Remove: func(it *feed.Item) { x.EnableNamespace(it.Name, false) },
		Set:    func(it *feed.Item) { x.EnableNamespace(it.Name, it.Record == true) },
		Replace: func(items []*feed.Item) {
			enabled := map[string]bool{}
			for _, it := range items {
				enabled[it.Name] = it.Record == true
			}
			x.mu.RLock()
			for name := range x.namespaces {
				if !enabled[name] {
					enabled[name] = false
				}
			}
			x.mu.RUnlock()
			for name, is := range enabled {
				x.EnableNamespace(name, is)
			}
		},
	}
}
