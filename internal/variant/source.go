package variant

// Where records come from in a real cluster. Every source converts what the
// API server sends page by page and event by event, so that reflectors never
// hold whole objects.

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
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

// item carries a record through a reflector. A nil record is an object that the
// Index has no use for.
type item struct {
	metav1.TypeMeta
	metav1.ObjectMeta
	record record
}

// DeepCopyObject implements runtime.Object.
func (i *item) DeepCopyObject() runtime.Object { c := *i; return &c }

type itemList struct {
	metav1.TypeMeta
	metav1.ListMeta
	Items []*item
}

// DeepCopyObject implements runtime.Object.
func (l *itemList) DeepCopyObject() runtime.Object { c := *l; return &c }

func newItem(o metav1.Object, rec record) *item {
	return &item{record: rec, ObjectMeta: metav1.ObjectMeta{
		Namespace: o.GetNamespace(), Name: o.GetName(), ResourceVersion: o.GetResourceVersion(),
	}}
}

// newBookmark keeps the annotation that ends a watch's initial events.
func newBookmark(resourceVersion string, annotations map[string]string) *item {
	return &item{ObjectMeta: metav1.ObjectMeta{ResourceVersion: resourceVersion, Annotations: annotations}}
}

type source interface {
	// list returns a page; namespace is "" for all.
	list(ctx context.Context, namespace string, opts metav1.ListOptions) (*itemList, error)
	watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
}

// paramsCodec and paramsVersion encode list options for any resource.
var (
	paramsScheme  = runtime.NewScheme()
	paramsCodec   = runtime.NewParameterCodec(paramsScheme)
	paramsVersion = schema.GroupVersion{Version: "v1"}
)

func init() { metav1.AddToGroupVersion(paramsScheme, paramsVersion) }

// resource is a kind at one version of its group.
type resource struct {
	kind    Kind
	version string
	client  rest.Interface
}

func (r resource) get(namespace string) *rest.Request {
	return r.client.Get().AbsPath(groupPath(r.kind.Group(), r.version)).
		NamespaceIfScoped(namespace, namespace != "").Resource(r.kind.Resource())
}

func groupPath(group, version string) string {
	if group == "" {
		return "/api/" + version
	}
	return "/apis/" + group + "/" + version
}

// typedSource reads built-in kinds as protobuf.
type typedSource struct {
	resource
	newObject, newList func() runtime.Object
}

func (s *typedSource) one(ctx context.Context, namespace, name string) (record, error) {
	obj := s.newObject()
	err := s.get(namespace).Name(name).Do(ctx).Into(obj)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return fromTyped(obj), nil
}

func (s *typedSource) list(ctx context.Context, namespace string, opts metav1.ListOptions) (*itemList, error) {
	list := s.newList()
	if err := s.get(namespace).SpecificallyVersionedParams(&opts, paramsCodec, paramsVersion).Do(ctx).Into(list); err != nil {
		return nil, err
	}
	return convertList(list)
}

func (s *typedSource) watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	opts.Watch = true
	w, err := s.get("").SpecificallyVersionedParams(&opts, paramsCodec, paramsVersion).Watch(ctx)
	return convertWatch(w, err)
}

// metadataSource reads objects of which only the metadata matters.
type metadataSource struct{ client metadata.Getter }

func (s *metadataSource) list(ctx context.Context, namespace string, opts metav1.ListOptions) (*itemList, error) {
	list, err := s.client.Namespace(namespace).List(ctx, opts)
	if err != nil {
		return nil, err
	}
	return convertList(list)
}

func (s *metadataSource) watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	w, err := s.client.Watch(ctx, opts)
	return convertWatch(w, err)
}

func convertList(list runtime.Object) (*itemList, error) {
	from, err := apimeta.ListAccessor(list)
	if err != nil {
		return nil, err
	}
	to := &itemList{ListMeta: metav1.ListMeta{
		ResourceVersion: from.GetResourceVersion(), Continue: from.GetContinue(), RemainingItemCount: from.GetRemainingItemCount(),
	}}
	err = apimeta.EachListItem(list, func(obj runtime.Object) error {
		o, err := apimeta.Accessor(obj)
		if err == nil {
			to.Items = append(to.Items, newItem(o, fromTyped(obj)))
		}
		return err
	})
	return to, err
}

func convertWatch(w watch.Interface, err error) (watch.Interface, error) {
	if err != nil {
		return nil, err
	}
	return newStream(&objectDecoder{inner: w}), nil
}

// newStream turns a decoder into a watch. (watch.Filter leaks its goroutine
// when the consumer goes away with an event under way.)
func newStream(d watch.Decoder) watch.Interface {
	return watch.NewStreamWatcher(d, apierrors.NewClientErrorReporter(http.StatusInternalServerError, "watch", "ClientWatchDecoding"))
}

// objectDecoder implements watch.Decoder over a watch of whole objects.
type objectDecoder struct{ inner watch.Interface }

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
	return e.Type, newItem(o, fromTyped(e.Object)), nil
}

// Close implements watch.Decoder.
func (d *objectDecoder) Close() { d.inner.Stop() }

// rawSource reads custom resources as JSON, straight into records: no Go types
// of foreign APIs and no maps in between.
type rawSource struct {
	resource
	// parse converts an object; one that cannot be read is an item without a record.
	parse func(raw []byte) (*item, error)
	// missing is called when the API server does not know the resource.
	missing func()
}

func (s *rawSource) list(ctx context.Context, namespace string, opts metav1.ListOptions) (*itemList, error) {
	result := s.get(namespace).SetHeader("Accept", runtime.ContentTypeJSON).
		SpecificallyVersionedParams(&opts, paramsCodec, paramsVersion).Do(ctx)
	if err := result.Error(); err != nil { // with the API server's own words, which Raw leaves out
		return nil, s.failed(err)
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
		return nil, fmt.Errorf("read list of %s: %w", s.kind.Resource(), err)
	}
	list := &itemList{ListMeta: page.Metadata}
	for _, raw := range page.Items {
		it, err := s.parse(raw)
		if err != nil {
			return nil, err
		}
		list.Items = append(list.Items, it)
	}
	return list, nil
}

func (s *rawSource) watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	opts.Watch = true
	body, err := s.get("").SetHeader("Accept", runtime.ContentTypeJSON).
		SpecificallyVersionedParams(&opts, paramsCodec, paramsVersion).Stream(ctx)
	if err != nil {
		return nil, s.failed(err)
	}
	return newStream(&rawDecoder{body: body, json: json.NewDecoder(body), parse: s.parse}), nil
}

func (s *rawSource) failed(err error) error {
	if apierrors.IsNotFound(err) {
		s.missing()
	}
	return err
}

// rawDecoder implements watch.Decoder over a JSON stream.
type rawDecoder struct {
	body  io.ReadCloser
	json  *json.Decoder
	parse func(raw []byte) (*item, error)
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
		it, err := d.parse(e.Object)
		return e.Type, it, err
	}
}

// Close implements watch.Decoder.
func (d *rawDecoder) Close() { _ = d.body.Close() }
