package variant

// Tests of Cluster with a fake API server that serves lists, watches and discovery. The integration tests use
// a real one.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/mirrorgate/mirrorgate/internal/feed"
	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

const (
	fakeServices = "/api/v1/services"
	fakeCRDs     = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
	fakeHTTP     = "/apis/gateway.networking.k8s.io/v1/httproutes"
)

// fakeAPI holds objects by the path of their resource. A path without a list is not found.
type fakeAPI struct {
	mu       sync.Mutex
	lists    map[string][]any
	watchers map[string][]chan map[string]any
	requests []string
	broken   bool
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	objs, ok := f.lists[r.URL.Path]
	f.requests = append(f.requests, r.URL.Path)
	if f.broken {
		f.mu.Unlock()
		http.Error(w, "broken", http.StatusInternalServerError)
		return
	}
	query := r.URL.Query()
	w.Header().Set("Content-Type", "application/json")
	switch {
	case !ok:
		f.mu.Unlock()
		f.fail(w, apierrors.NewGenericServerResponse(http.StatusNotFound, "get", routeResource, "x", "", 0, false))
	case query.Get("sendInitialEvents") != "":
		f.mu.Unlock()
		f.fail(w, apierrors.NewBadRequest("no streaming lists"))
	case query.Get("watch") == "true":
		events := make(chan map[string]any, 100)
		f.watchers[r.URL.Path] = append(f.watchers[r.URL.Path], events)
		f.mu.Unlock()
		w.(http.Flusher).Flush()
		for {
			select {
			case <-r.Context().Done():
				return
			case e, open := <-events:
				if !open {
					return
				}
				_ = json.NewEncoder(w).Encode(e)
				w.(http.Flusher).Flush()
			}
		}
	default:
		f.mu.Unlock()
		f.list(w, r, objs)
	}
}

// list answers with pages that have one object each.
func (f *fakeAPI) list(w http.ResponseWriter, r *http.Request, objs []any) {
	kind := "List"
	switch {
	case r.URL.Path == "/apis/gateway.networking.k8s.io":
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "APIGroup", "apiVersion": "v1", "versions": objs})
		return
	case r.URL.Path == "/apis/gateway.networking.k8s.io/v1", r.URL.Path == "/apis/gateway.networking.k8s.io/v1beta1":
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "APIResourceList", "apiVersion": "v1", "resources": objs})
		return
	case strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadataList"):
		kind = "PartialObjectMetadataList"
	case r.URL.Path == fakeServices:
		kind = "ServiceList"
	}
	meta, items := map[string]any{"resourceVersion": "1"}, []any{}
	if r.URL.Query().Get("limit") != "" && len(objs) > 0 {
		page := 0
		_, _ = fmt.Sscan(r.URL.Query().Get("continue"), &page)
		items = objs[page : page+1]
		if page+1 < len(objs) {
			meta["continue"] = fmt.Sprint(page + 1)
		}
	}
	version := "v1"
	switch {
	case kind == "PartialObjectMetadataList":
		version = "meta.k8s.io/v1"
	case strings.HasPrefix(r.URL.Path, "/apis/apps"):
		version = "apps/v1"
		kind = map[string]string{
			"deployments": "DeploymentList", "statefulsets": "StatefulSetList", "daemonsets": "DaemonSetList", "replicasets": "ReplicaSetList",
		}[r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]]
	case strings.HasPrefix(r.URL.Path, "/apis/discovery"):
		version, kind = "discovery.k8s.io/v1", "EndpointSliceList"
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"kind": kind, "apiVersion": version, "metadata": meta, "items": items})
}

func (f *fakeAPI) fail(w http.ResponseWriter, err *apierrors.StatusError) {
	w.WriteHeader(int(err.Status().Code))
	status := err.Status()
	status.Kind, status.APIVersion = "Status", "v1"
	_ = json.NewEncoder(w).Encode(status)
}

// send changes a resource and sends an event to its watches.
// send changes an object and tells those who watch. A client that has listed and does not watch yet would miss it, so
// send waits for one.
func (f *fakeAPI) send(t *testing.T, path, event string, obj any) {
	t.Helper()
	eventually(t, "watched: "+path, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.watchers[path]) > 0
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	if event == "DELETED" {
		f.lists[path] = nil
	} else {
		f.lists[path] = append(f.lists[path], obj)
	}
	for _, events := range f.watchers[path] {
		events <- map[string]any{"type": event, "object": obj}
	}
}

func (f *fakeAPI) serve(path string, objs ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lists[path] = objs
}

// drop makes a resource unknown and ends its watches.
func (f *fakeAPI) drop(path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.lists, path)
	for _, events := range f.watchers[path] {
		close(events)
	}
	delete(f.watchers, path)
}

var routeResource = schema.GroupResource{Group: route.GatewayGroup, Resource: "httproutes"}

func object(apiVersion, kind, name string, more map[string]any) map[string]any {
	meta := metaOf(name)
	meta["resourceVersion"] = "1"
	obj := map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": meta}
	maps.Copy(obj, more)
	return obj
}

func fakeRoute(name string) map[string]any {
	return object("gateway.networking.k8s.io/v1", "HTTPRoute", name, map[string]any{"spec": map[string]any{
		"rules": []any{map[string]any{"filters": []any{map[string]any{
			"type":          "RequestMirror",
			"requestMirror": map[string]any{"backendRef": map[string]any{"name": "b", "port": 80}},
		}}}},
	}})
}

func startFake(t *testing.T) (*fakeAPI, *Cluster, *Index) {
	t.Helper()
	return startFakeWith(t, logr.Discard())
}

func startFakeWith(t *testing.T, log logr.Logger) (*fakeAPI, *Cluster, *Index) {
	t.Helper()
	api := &fakeAPI{lists: map[string][]any{fakeCRDs: nil}, watchers: map[string][]chan map[string]any{}}
	for kind := range KindRollout {
		api.lists[feed.GroupPath(kind.Group(), "v1")+"/"+kind.Resource()] = nil
	}
	server := httptest.NewServer(api)
	index := NewIndex(Options{})
	c, err := NewCluster(&rest.Config{Host: server.URL}, index, log)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-done)
		server.Close()
	})
	return api, c, index
}

func eventually(t *testing.T, message string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, 20*time.Second, 5*time.Millisecond, message)
}

func TestFakeClusterFollowsACRD(t *testing.T) {
	api, c, index := startFake(t)
	eventually(t, "synced without any CRD", c.HasSynced)
	assert.NotContains(t, c.Resources(), "httproutes")

	broken := fakeRoute("shop/broken")
	broken["spec"] = map[string]any{"rules": "irror"}
	api.serve(fakeHTTP, broken, fakeRoute("shop/one"), fakeRoute("shop/two"))
	crd := object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "/httproutes.gateway.networking.k8s.io", nil)
	api.send(t, fakeCRDs, "ADDED", crd)
	key := func(name string) route.Key { return route.Key{Kind: route.HTTPRoute, Namespace: "shop", Name: name} }
	eventually(t, "the event has arrived", func() bool {
		_, err := c.Read(t.Context(), Query{Kind: KindHTTPRoute})
		return errors.Is(err, errNotServed)
	})
	assert.True(t, c.HasSynced(), "a CRD that arrives later does not stop admission")

	api.serve("/apis/gateway.networking.k8s.io/v1", map[string]any{"name": "httproutes"})
	eventually(t, "routes are read", func() bool { return c.Resources()["httproutes"] })
	assert.NotNil(t, index.Route(key("one")))
	assert.NotNil(t, index.Route(key("two")), "pages are followed")
	assert.Nil(t, index.Route(key("broken")))

	api.send(t, fakeHTTP, "ADDED", fakeRoute("shop/three"))
	eventually(t, "an event", func() bool { return index.Route(key("three")) != nil })
	three := fakeRoute("shop/three")
	three["spec"] = map[string]any{"rules": "mirror"}
	api.send(t, fakeHTTP, "MODIFIED", three)
	eventually(t, "a route that became unreadable is dropped", func() bool { return index.Route(key("three")) == nil })

	api.drop(fakeHTTP)
	api.drop("/apis/gateway.networking.k8s.io/v1")
	api.send(t, fakeCRDs, "DELETED", crd)
	eventually(t, "the records of the kind are dropped", func() bool { return index.Route(key("one")) == nil })
	assert.NotContains(t, c.Resources(), "httproutes")
	found, err := c.Read(t.Context(), Query{Kind: KindHTTPRoute})
	require.NoError(t, err, "a kind that the cluster lacks has no objects")
	assert.Empty(t, found)
}

// A kind that is served in none but versions that mirrorgate does not read is logged once, and stays a
// metric.
func TestFakeClusterReportsUnsupportedVersions(t *testing.T) {
	var mu sync.Mutex
	var lines []string
	log := funcr.New(func(_, args string) {
		mu.Lock()
		defer mu.Unlock()
		if strings.Contains(args, "Leaving custom resources alone") {
			lines = append(lines, args)
		}
	}, funcr.Options{})
	api, c, _ := startFakeWith(t, log)
	eventually(t, "synced without any CRD", c.HasSynced)
	assert.Empty(t, c.Unsupported())

	api.serve("/apis/gateway.networking.k8s.io", map[string]any{"version": "v1beta1"})
	api.serve("/apis/gateway.networking.k8s.io/v1beta1", map[string]any{"name": "httproutes"})
	crd := object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "/httproutes.gateway.networking.k8s.io", nil)
	api.send(t, fakeCRDs, "ADDED", crd)
	eventually(t, "it is unsupported", func() bool { return c.Unsupported()["HTTPRoute"] })
	api.send(t, fakeCRDs, "MODIFIED", crd)
	require.Never(t, func() bool { return !c.Unsupported()["HTTPRoute"] }, time.Second, 10*time.Millisecond)
	mu.Lock()
	require.Len(t, lines, 1)
	assert.Contains(t, lines[0], `"kind"="HTTPRoute" "served"=["v1beta1"] "reads"=["v1"]`)
	mu.Unlock()

	api.serve("/apis/gateway.networking.k8s.io", map[string]any{"version": "v1"}, map[string]any{"version": "v1beta1"})
	api.serve("/apis/gateway.networking.k8s.io/v1", map[string]any{"name": "httproutes"})
	api.serve(fakeHTTP)
	api.send(t, fakeCRDs, "MODIFIED", crd)
	eventually(t, "it is read", func() bool { return c.Resources()["httproutes"] })
	assert.Equal(t, map[string]bool{"HTTPRoute": false}, c.Unsupported())
	api.send(t, fakeCRDs, "DELETED", crd)
	eventually(t, "it is gone", func() bool { return len(c.Unsupported()) == 0 })
}

func TestFakeClusterReadsLive(t *testing.T) {
	api, c, index := startFake(t)
	eventually(t, "synced", c.HasSynced)
	resolver := NewResolver(index, c, c.HasSynced)
	one := func(target string) policy.Variant {
		snap, err := resolver.Resolve(t.Context(), httpRoute("shop/r", "shop/a", target))
		require.NoError(t, err)
		for _, v := range snap.Variants {
			return v
		}
		return policy.Variant{}
	}
	assert.Equal(t, policy.ServiceNotFound, one("shop/c").Reason)
	_, err := c.Read(t.Context(), Query{Kind: KindService, Namespace: "shop", Name: "c"})
	require.NoError(t, err)
	api.mu.Lock()
	api.broken = true
	api.mu.Unlock()
	assert.Equal(t, policy.Unknown, one("shop/b").State)
}
