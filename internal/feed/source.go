package feed

// Sources of records. They convert the objects that the API server sends page by page and event by event, so
// that reflectors never hold whole objects.

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	kjson "sigs.k8s.io/json"
)

// Item carries a record through a reflector, with the object's namespace, name and version.
type Item struct {
	metav1.TypeMeta
	metav1.ObjectMeta
	// Record is made by the source from the object; nil if there is no use for the object.
	Record any
}

// DeepCopyObject implements runtime.Object.
func (i *Item) DeepCopyObject() runtime.Object { c := *i; return &c }

func (i *Item) name() types.NamespacedName {
	return types.NamespacedName{Namespace: i.Namespace, Name: i.Name}
}

// List is a page of a list.
type List struct {
	metav1.TypeMeta
	metav1.ListMeta
	Items []*Item
}

// DeepCopyObject implements runtime.Object.
func (l *List) DeepCopyObject() runtime.Object { c := *l; return &c }

func newItem(o metav1.Object, record any) *Item {
	return &Item{Record: record, ObjectMeta: metav1.ObjectMeta{
		Namespace: o.GetNamespace(), Name: o.GetName(), ResourceVersion: o.GetResourceVersion(),
	}}
}

// newBookmark keeps the annotation that ends a watch's initial events.
func newBookmark(resourceVersion string, annotations map[string]string) *Item {
	return &Item{ObjectMeta: metav1.ObjectMeta{ResourceVersion: resourceVersion, Annotations: annotations}}
}

// Source lists and watches objects of one kind; namespace is "" for all.
type Source interface {
	// List returns a page.
	List(ctx context.Context, namespace string, opts metav1.ListOptions) (*List, error)
	Watch(ctx context.Context, namespace string, opts metav1.ListOptions) (watch.Interface, error)
}

// paramsCodec and paramsVersion encode list options for any resource.
var (
	paramsScheme  = runtime.NewScheme()
	paramsCodec   = runtime.NewParameterCodec(paramsScheme)
	paramsVersion = schema.GroupVersion{Version: "v1"}
)

func init() { metav1.AddToGroupVersion(paramsScheme, paramsVersion) }

// resource is a resource in one version of its group.
type resource struct {
	schema.GroupVersionResource
	client rest.Interface
}

func (r *resource) get(namespace string) *rest.Request {
	return r.client.Get().AbsPath(GroupPath(r.Group, r.Version)).
		NamespaceIfScoped(namespace, namespace != "").Resource(r.Resource)
}

// GroupPath is the path of a version of an API group, "" for the core group.
func GroupPath(group, version string) string {
	if group == "" {
		return "/api/" + version
	}
	return "/apis/" + group + "/" + version
}

// typedSource reads built-in kinds as protobuf.
type typedSource struct {
	resource
	object, list func() runtime.Object
	convert      func(object any) any
}

// one reads one object; its record is nil if there is none.
func (s *typedSource) one(ctx context.Context, namespace, name string) (record any, err error) {
	obj := s.object()
	err = s.get(namespace).Name(name).Do(ctx).Into(obj)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return s.convert(obj), nil
}

// List implements Source.
func (s *typedSource) List(ctx context.Context, namespace string, opts metav1.ListOptions) (*List, error) {
	list := s.list()
	if err := s.get(namespace).SpecificallyVersionedParams(&opts, paramsCodec, paramsVersion).Do(ctx).Into(list); err != nil {
		return nil, err
	}
	return convertList(list, s.convert)
}

// Watch implements Source.
func (s *typedSource) Watch(ctx context.Context, namespace string, opts metav1.ListOptions) (watch.Interface, error) {
	opts.Watch = true
	w, err := s.get(namespace).SpecificallyVersionedParams(&opts, paramsCodec, paramsVersion).Watch(ctx)
	return convertWatch(w, err, s.convert)
}

// metadataSource reads objects of which only the metadata matters.
type metadataSource struct {
	client  metadata.Getter
	convert func(object any) any
}

// List implements Source.
func (s *metadataSource) List(ctx context.Context, namespace string, opts metav1.ListOptions) (*List, error) {
	list, err := s.client.Namespace(namespace).List(ctx, opts)
	if err != nil {
		return nil, err
	}
	return convertList(list, s.convert)
}

// Watch implements Source.
func (s *metadataSource) Watch(ctx context.Context, namespace string, opts metav1.ListOptions) (watch.Interface, error) {
	w, err := s.client.Namespace(namespace).Watch(ctx, opts)
	return convertWatch(w, err, s.convert)
}

func convertList(list runtime.Object, convert func(any) any) (*List, error) {
	from, err := apimeta.ListAccessor(list)
	if err != nil {
		return nil, err
	}
	to := &List{ListMeta: metav1.ListMeta{
		ResourceVersion: from.GetResourceVersion(), Continue: from.GetContinue(), RemainingItemCount: from.GetRemainingItemCount(),
	}}
	err = apimeta.EachListItem(list, func(obj runtime.Object) error {
		o, err := apimeta.Accessor(obj)
		if err == nil {
			to.Items = append(to.Items, newItem(o, convert(obj)))
		}
		return err
	})
	return to, err
}

func convertWatch(w watch.Interface, err error, convert func(any) any) (watch.Interface, error) {
	if err != nil {
		return nil, err
	}
	return newStream(&objectDecoder{w, convert}), nil
}

// newStream turns a decoder into a watch. (watch.Filter leaks its goroutine when the consumer goes away with
// an event under way.)
func newStream(d watch.Decoder) watch.Interface {
	return watch.NewStreamWatcher(d, apierrors.NewClientErrorReporter(http.StatusInternalServerError, "watch", "ClientWatchDecoding"))
}

// objectDecoder implements watch.Decoder over a watch of whole objects.
type objectDecoder struct {
	inner   watch.Interface
	convert func(any) any
}

// Decode implements watch.Decoder.
func (d *objectDecoder) Decode() (watch.EventType, runtime.Object, error) {
	e, ok := <-d.inner.ResultChan()
	if !ok {
		return "", nil, io.EOF
	}
	if e.Type == watch.Error {
		return e.Type, e.Object, nil
	}
	o, err := apimeta.Accessor(e.Object)
	if err != nil {
		return "", nil, err
	}
	if e.Type == watch.Bookmark {
		return e.Type, newBookmark(o.GetResourceVersion(), o.GetAnnotations()), nil
	}
	return e.Type, newItem(o, d.convert(e.Object)), nil
}

// Close implements watch.Decoder.
func (d *objectDecoder) Close() { d.inner.Stop() }

// rawSource reads custom resources as JSON, straight into records: no Go types of foreign APIs and no maps in
// between.
type rawSource struct {
	resource
	convert func(raw []byte) any
}

// List implements Source.
func (s *rawSource) List(ctx context.Context, namespace string, opts metav1.ListOptions) (*List, error) {
	result := s.get(namespace).SetHeader("Accept", runtime.ContentTypeJSON).
		SpecificallyVersionedParams(&opts, paramsCodec, paramsVersion).Do(ctx)
	if err := result.Error(); err != nil { // with the API server's message, which Raw leaves out
		return nil, err
	}
	raw, err := result.Raw()
	if err != nil {
		return nil, err
	}
	var page struct {
		Metadata metav1.ListMeta   `json:"metadata"`
		Items    []json.RawMessage `json:"items"`
	}
	if err := unmarshal(raw, &page); err != nil {
		return nil, fmt.Errorf("read list of %s: %w", s.Resource, err)
	}
	list := &List{ListMeta: page.Metadata}
	for _, raw := range page.Items {
		it, err := s.item(raw)
		if err != nil {
			return nil, err
		}
		list.Items = append(list.Items, it)
	}
	return list, nil
}

// Watch implements Source.
func (s *rawSource) Watch(ctx context.Context, namespace string, opts metav1.ListOptions) (watch.Interface, error) {
	opts.Watch = true
	body, err := s.get(namespace).SetHeader("Accept", runtime.ContentTypeJSON).
		SpecificallyVersionedParams(&opts, paramsCodec, paramsVersion).Stream(ctx)
	if err != nil {
		return nil, err
	}
	return newStream(&rawDecoder{body: body, json: json.NewDecoder(body), source: s}), nil
}

func (s *rawSource) item(raw []byte) (*Item, error) {
	var o struct {
		Metadata struct {
			Namespace       string `json:"namespace"`
			Name            string `json:"name"`
			ResourceVersion string `json:"resourceVersion"`
		} `json:"metadata"`
	}
	if err := unmarshal(raw, &o); err != nil {
		return nil, fmt.Errorf("read %s: %w", s.Resource, err)
	}
	return &Item{Record: s.convert(raw), ObjectMeta: metav1.ObjectMeta{
		Namespace: o.Metadata.Namespace, Name: o.Metadata.Name, ResourceVersion: o.Metadata.ResourceVersion,
	}}, nil
}

// rawDecoder implements watch.Decoder over a JSON stream.
type rawDecoder struct {
	body   io.ReadCloser
	json   *json.Decoder
	source *rawSource
}

// Decode implements watch.Decoder.
func (d *rawDecoder) Decode() (watch.EventType, runtime.Object, error) {
	var e struct {
		Type   watch.EventType `json:"type"`
		Object json.RawMessage `json:"object"`
	}
	if err := d.json.Decode(&e); err != nil {
		return "", nil, err
	}
	switch e.Type {
	case watch.Error:
		status := &metav1.Status{}
		return e.Type, status, unmarshal(e.Object, status)
	case watch.Bookmark:
		var o struct {
			Metadata metav1.ObjectMeta `json:"metadata"`
		}
		err := unmarshal(e.Object, &o)
		return e.Type, newBookmark(o.Metadata.ResourceVersion, o.Metadata.Annotations), err
	default:
		it, err := d.source.item(e.Object)
		return e.Type, it, err
	}
}

// Close implements watch.Decoder.
func (d *rawDecoder) Close() { _ = d.body.Close() }

func unmarshal(raw []byte, into any) error {
	return kjson.UnmarshalCaseSensitivePreserveInts(raw, into)
}

// Observed is a Source that reports how each list and each watch began: err is nil for one that did.
type Observed struct {
	Source
	Began func(ctx context.Context, err error)
}

// List implements Source.
func (o *Observed) List(ctx context.Context, namespace string, opts metav1.ListOptions) (*List, error) {
	list, err := o.Source.List(ctx, namespace, opts)
	o.Began(ctx, err)
	return list, err
}

// Watch implements Source.
func (o *Observed) Watch(ctx context.Context, namespace string, opts metav1.ListOptions) (watch.Interface, error) {
	w, err := o.Source.Watch(ctx, namespace, opts)
	o.Began(ctx, err)
	return w, err
}
