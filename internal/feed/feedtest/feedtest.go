// Package feedtest is an API server that a test controls: the objects that it has, the requests that it
// refuses, and its outages. The real one refuses objects that a test may need, such as endpoints at loopback.
package feedtest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
)

// API is an API server. Resources that were not served are not found. It lists in pages of two.
type API struct {
	*httptest.Server

	mu       sync.Mutex
	version  int
	served   map[string]*resource // by path, as in /api/v1/services
	refused  map[string]int
	patched  []Patch
	watchers map[*watcher]struct{}
	lists    map[string]int // by path
	watches  map[string]int // by path
}

type resource struct {
	kind, apiVersion string
	objects          map[string]*unstructured.Unstructured
}

type watcher struct {
	path, namespace string
	events          chan map[string]any
}

// Patch is a patch that was received and answered with success.
type Patch struct {
	Path, Type, Body string
}

// New returns an API server that serves Services, EndpointSlices and Namespaces.
func New(t testing.TB) *API {
	a := &API{served: map[string]*resource{}, refused: map[string]int{}, watchers: map[*watcher]struct{}{}, lists: map[string]int{}, watches: map[string]int{}}
	a.Server = httptest.NewUnstartedServer(a)
	a.Start()
	t.Cleanup(func() {
		a.Away()
		a.Close()
	})
	a.Serve("/api/v1/services", "Service")
	a.Serve("/api/v1/namespaces", "Namespace")
	a.Serve("/apis/discovery.k8s.io/v1/endpointslices", "EndpointSlice")
	return a
}

// Config is how to reach it.
func (a *API) Config() *rest.Config { return &rest.Config{Host: a.URL} }

// Kubeconfig is how to reach it, as a file's content.
func (a *API) Kubeconfig() string {
	return fmt.Sprintf(`{apiVersion: v1, kind: Config, clusters: [{name: a, cluster: {server: %q}}],
contexts: [{name: a, context: {cluster: a, user: a, namespace: shop}}], current-context: a, users: [{name: a, user: {}}]}`, a.URL)
}

// Serve begins to serve a resource, as a CustomResourceDefinition does.
func (a *API) Serve(path, kind string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	group := strings.TrimPrefix(strings.TrimPrefix(path[:strings.LastIndex(path, "/")], "/apis/"), "/api/")
	a.served[path] = &resource{kind, group, map[string]*unstructured.Unstructured{}}
}

// Drop ends a resource with all its objects.
func (a *API) Drop(path string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.served, path)
	a.disconnect(path)
}

// Refuse answers requests whose path begins so with a status, 0 for none any more, and ends watches.
func (a *API) Refuse(path string, status int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refused[path] = status; status == 0 {
		delete(a.refused, path)
	}
	a.disconnect("")
}

// Away makes everything fail until Refuse("/", 0).
func (a *API) Away() { a.Refuse("/", http.StatusInternalServerError) }

// disconnect ends the watches of a path, "" for all.
func (a *API) disconnect(path string) {
	for w := range a.watchers {
		if path == "" || w.path == path {
			close(w.events)
			delete(a.watchers, w)
		}
	}
}

// Put adds or replaces an object, given as JSON or as anything that becomes it.
func (a *API) Put(t testing.TB, object any) {
	t.Helper()
	raw, isRaw := object.([]byte)
	if !isRaw {
		var err error
		raw, err = json.Marshal(object)
		require.NoError(t, err)
	}
	o := &unstructured.Unstructured{}
	require.NoError(t, json.Unmarshal(raw, &o.Object))
	a.mu.Lock()
	defer a.mu.Unlock()
	path, r := a.of(t, o.GetAPIVersion(), o.GetKind())
	event := "ADDED"
	if r.objects[key(o)] != nil {
		event = "MODIFIED"
	}
	a.store(path, r, o, event)
}

func (a *API) store(path string, r *resource, o *unstructured.Unstructured, event string) {
	a.version++
	o.SetResourceVersion(strconv.Itoa(a.version))
	r.objects[key(o)] = o
	a.tell(path, event, o)
}

// Delete deletes an object.
func (a *API) Delete(t testing.TB, apiVersion, kind, namespace, name string) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	path, r := a.of(t, apiVersion, kind)
	o := r.objects[namespace+"/"+name]
	require.NotNil(t, o, "%s %s/%s", kind, namespace, name)
	delete(r.objects, key(o))
	a.version++
	a.tell(path, "DELETED", o)
}

// Get returns an object, nil if there is none.
func (a *API) Get(t testing.TB, apiVersion, kind, namespace, name string) *unstructured.Unstructured {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	_, r := a.of(t, apiVersion, kind)
	return r.objects[namespace+"/"+name].DeepCopy()
}

// Patches are those that were received so far.
func (a *API) Patches() []Patch {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.patched)
}

// Requests returns how often a resource, as in /api/v1/services, was listed and watched. The pages of a list
// are one.
func (a *API) Requests(path string) (lists, watches int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lists[path], a.watches[path]
}

// Watched reports whether a resource is watched, as in /api/v1/namespaces/shop/services.
func (a *API) Watched(path string) bool {
	path, namespace := split(path)
	a.mu.Lock()
	defer a.mu.Unlock()
	for w := range a.watchers {
		if w.path == path && w.namespace == namespace {
			return true
		}
	}
	return false
}

func key(o *unstructured.Unstructured) string { return o.GetNamespace() + "/" + o.GetName() }

func (a *API) of(t testing.TB, apiVersion, kind string) (string, *resource) {
	t.Helper()
	for path, r := range a.served {
		if r.kind == kind && r.apiVersion == apiVersion {
			return path, r
		}
	}
	require.Fail(t, "not served", "%s %s", apiVersion, kind)
	return "", nil
}

func (a *API) tell(path, event string, o *unstructured.Unstructured) {
	for w := range a.watchers {
		if w.path == path && (w.namespace == "" || w.namespace == o.GetNamespace()) {
			w.events <- map[string]any{"type": event, "object": o.DeepCopy().Object}
		}
	}
}

// split takes the namespace out of a path.
func split(path string) (resource, namespace string) {
	before, after, ok := strings.Cut(path, "/namespaces/")
	if !ok {
		return path, ""
	}
	namespace, rest, _ := strings.Cut(after, "/")
	return before + "/" + rest, namespace
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	for path, status := range a.refused {
		if strings.HasPrefix(r.URL.Path, path) {
			a.mu.Unlock()
			fail(w, status)
			return
		}
	}
	path, namespace := split(r.URL.Path)
	of := a.served[path]
	query := r.URL.Query()
	switch {
	case of == nil:
		defer a.mu.Unlock()
		if !a.discover(w, path) {
			a.one(w, r, path, namespace)
		}
	case query.Get("watch") != "":
		if version, _ := strconv.Atoi(query.Get("resourceVersion")); version < a.version && query.Get("resourceVersion") != "" {
			a.mu.Unlock()
			fail(w, http.StatusGone) // it has forgotten: list again
			return
		}
		watcher := &watcher{path, namespace, make(chan map[string]any, 10_000)}
		a.watchers[watcher] = struct{}{}
		a.watches[r.URL.Path]++
		a.mu.Unlock()
		watcher.serve(r.Context(), w)
		a.mu.Lock()
		delete(a.watchers, watcher)
		a.mu.Unlock()
	default:
		defer a.mu.Unlock()
		if query.Get("continue") == "" {
			a.lists[r.URL.Path]++
		}
		of.list(w, r, namespace, a.version)
	}
}

// discover answers with the resources of a group's version, false for another path. a.mu is held.
func (a *API) discover(w http.ResponseWriter, path string) bool {
	var resources []metav1.APIResource
	for at, r := range a.served {
		if i := strings.LastIndex(at, "/"); at[:i] == path {
			resources = append(resources, metav1.APIResource{Name: at[i+1:], Kind: r.kind})
		}
	}
	if len(resources) == 0 {
		return false
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, APIResources: resources})
	return true
}

func (w *watcher) serve(ctx context.Context, to http.ResponseWriter) {
	to.Header().Set("Content-Type", "application/json")
	flush := to.(http.Flusher)
	flush.Flush()
	for {
		select {
		case <-ctx.Done():
			return
		case e, open := <-w.events:
			if !open {
				return
			}
			_ = json.NewEncoder(to).Encode(e)
			flush.Flush()
		}
	}
}

// list answers with a page.
func (r *resource) list(w http.ResponseWriter, req *http.Request, namespace string, version int) {
	var items []any
	for _, name := range slices.Sorted(maps.Keys(r.objects)) {
		if o := r.objects[name]; namespace == "" || o.GetNamespace() == namespace {
			items = append(items, o.Object)
		}
	}
	meta := map[string]any{"resourceVersion": strconv.Itoa(version)}
	if req.URL.Query().Get("limit") != "" {
		from, _ := strconv.Atoi(req.URL.Query().Get("continue"))
		items = items[min(from, len(items)):]
		if len(items) > 2 {
			items = items[:2]
			meta["continue"] = strconv.Itoa(from + 2)
		}
	}
	list := map[string]any{"kind": r.kind + "List", "apiVersion": r.apiVersion, "metadata": meta, "items": append([]any{}, items...)}
	if strings.Contains(req.Header.Get("Accept"), "as=PartialObjectMetadataList") {
		list["kind"], list["apiVersion"] = "PartialObjectMetadataList", "meta.k8s.io/v1"
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(list)
}

func fail(w http.ResponseWriter, status int) {
	reason := metav1.StatusReason(strings.ReplaceAll(http.StatusText(status), " ", ""))
	if status == http.StatusGone {
		reason = metav1.StatusReasonExpired
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Code: int32(status), Reason: reason, Message: fmt.Sprintf("the test says %d", status), //nolint:gosec // a status
	})
}
