package dataplane

// A Feed against an API server that the test controls. The real one is used in test/integration/dataplane.

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/feed/feedtest"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

const (
	gatewayV1     = "gateway.networking.k8s.io/v1"
	routesPath    = "/apis/gateway.networking.k8s.io/v1/httproutes"
	grantsPath    = "/apis/gateway.networking.k8s.io/v1/referencegrants"
	oldGrantsPath = "/apis/gateway.networking.k8s.io/v1beta1/referencegrants"
)

// fed is an Index that is fed by an API server.
type fed struct {
	*Index
	*Feed
	api *feedtest.API
	log *lines
}

// lines are the lines of a log.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) logger() logr.Logger {
	return funcr.New(func(_, args string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.all = append(l.all, args)
	}, funcr.Options{})
}

func (l *lines) with(words ...string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
line:
	for _, line := range l.all {
		for _, word := range words {
			if !strings.Contains(line, word) {
				continue line
			}
		}
		found = append(found, line)
	}
	return found
}

func gatewayAPI(t *testing.T) *feedtest.API {
	api := feedtest.New(t)
	api.Serve(routesPath, "HTTPRoute")
	api.Serve(grantsPath, "ReferenceGrant")
	return api
}

func feeding(t *testing.T, api *feedtest.API, options Options, opts FeedOptions, manifests ...string) *fed {
	f := unfed(t, api, options, opts, manifests...)
	f.goneAfter = f.missingAfter
	f.run(t)
	return f
}

// unfed is a feed that does not run yet.
func unfed(t *testing.T, api *feedtest.API, options Options, opts FeedOptions, manifests ...string) *fed {
	f := &fed{Index: NewIndex(options), api: api, log: &lines{}}
	var err error
	f.Feed, err = NewFeed(api.Config(), f.Index, f.log.logger(), opts)
	require.NoError(t, err)
	f.put(t, manifests...)
	return f
}

func (f *fed) run(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- f.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-done)
	})
}

// proxied is the feed of a proxy of shop/httpbin, which finds these objects.
func proxied(t *testing.T, api *feedtest.API, manifests ...string) *fed {
	return feeding(t, api, Options{Parent: name("httpbin")}, FeedOptions{Namespace: "shop"}, manifests...)
}

// known waits until everything is known.
func (f *fed) known(t *testing.T) {
	t.Helper()
	eventually(t, "synced", f.HasSynced)
}

func (f *fed) put(t *testing.T, manifests ...string) {
	t.Helper()
	for _, text := range manifests {
		for doc := range strings.SplitSeq(text, "\n---\n") {
			o := object(t, doc)
			if raw, ok := o.([]byte); ok {
				o = raw
			}
			f.api.Put(t, o)
		}
	}
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, 20*time.Second, 2*time.Millisecond, what)
}

// backends are the endpoints of a Service's port 80 in the parent's table.
func (f *fed) backends(service string) string {
	table := f.Table(name("httpbin"))
	if table == nil {
		return "no table"
	}
	p, ok := table.Services[service][80]
	if !ok {
		return "none"
	}
	return at(p)
}

// A Feed makes the same table as Upsert of the same objects, and follows changes.
func TestFeedFollows(t *testing.T) {
	f := proxied(t, gatewayAPI(t), tutorial, serviceOf("httpbin-mirrorgate-origin", "", "http:8000->80"))
	f.known(t)
	want := newWorld(t)
	want.opts.Parent = name("httpbin")
	want.apply(tutorial, serviceOf("httpbin-mirrorgate-origin", "", "http:8000->80"))
	assert.Equal(t, want.Table(name("httpbin")), f.Table(name("httpbin")))
	f.put(t, sliceOf("httpbin-v1-a", "httpbin-v1", "http:80", "10.1.0.2", "!10.1.0.1"))
	eventually(t, "endpoints change", func() bool { return f.backends("shop/httpbin-v1") == "10.1.0.2:80|10.1.0.1:80" })
	f.api.Delete(t, gatewayV1, "HTTPRoute", "shop", "httpbin")
	eventually(t, "the route goes, and the port passes through", func() bool {
		table := f.Table(name("httpbin"))
		return len(table.Listeners) == 1 && table.Listeners[0].TCP != nil
	})
	assert.True(t, f.HasOrigin(name("httpbin")))
	f.api.Delete(t, "v1", "Service", "shop", "httpbin")
	eventually(t, "the Service goes", func() bool { return f.Table(name("httpbin")) == nil })
	for resource, failures := range f.Failures() {
		assert.Zero(t, failures, resource)
	}
	for resource, state := range f.Resources() {
		assert.True(t, state, resource)
	}
}

// Gateway API may be installed later, and removed, without a restart.
func TestFeedFollowsTheCRD(t *testing.T) {
	t.Parallel()
	f := proxied(t, feedtest.New(t), serviceOf("httpbin", wellknown.Enabled, "http:8000->80"), serviceOf("httpbin-v1", "", "http:80"), serviceOf("httpbin-v2", "", "http:80"))
	f.known(t)
	routed := func() bool { return routed(f.Table(name("httpbin"))) }
	assert.False(t, routed())
	f.api.Serve(routesPath, "HTTPRoute")
	f.put(t, routeOf("httpbin", parent, mirroring))
	eventually(t, "a route", routed)
	f.api.Drop(routesPath)
	eventually(t, "no route", func() bool { return !routed() })
	assert.True(t, f.HasSynced())
	assert.Empty(t, f.log.with("httproutes"), "a kind that does not exist is not logged")
}

const foreignRule = `{backendRefs: [{name: v1, namespace: other, port: 80}]}`

// The feed of a proxy has one parent, its own Service, whatever labels say.
func TestFeedOfOneParent(t *testing.T) {
	f := proxied(t, gatewayAPI(t), serviceOf("httpbin", "", "http:8000->80"), serviceOf("second", wellknown.Enabled, "http:8000->80"), serviceOf("httpbin-v1", "", "http:80"),
		routeOf("httpbin", parent, "{backendRefs: [{name: httpbin-v1, port: 80}]}"), routeOf("second", strings.Replace(parent, "httpbin", "second", 1), foreignRule))
	f.known(t)
	assert.Equal(t, []Name{name("httpbin")}, attached(f.Index))
	assert.Nil(t, f.Table(name("second")))
	assert.Empty(t, f.foreignOf(name("httpbin")), "what the other Service's route refers to is not read")
	assert.True(t, routed(f.Table(name("httpbin"))))
}

// Another namespace is read while a route refers to it and as far as it may be: a right that is missing means
// no grant, and is looked for again.
func TestFeedReadsForeignNamespaces(t *testing.T) {
	t.Parallel()
	for version, path := range map[string]string{"v1": grantsPath, "v1beta1": oldGrantsPath} {
		t.Run(version, func(t *testing.T) {
			api := feedtest.New(t)
			api.Serve(routesPath, "HTTPRoute")
			api.Serve(path, "ReferenceGrant")
			api.Refuse("/api/v1/namespaces/other/", http.StatusForbidden)
			api.Refuse("/apis/discovery.k8s.io/v1/namespaces/other/", http.StatusForbidden)
			api.Refuse(strings.Replace(path, "/referencegrants", "/namespaces/other/", 1), http.StatusForbidden)
			grant := strings.Replace(grantOf("other/shop", "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}", `{group: "", kind: Service}`), gatewayV1, "gateway.networking.k8s.io/"+version, 1)
			f := proxied(t, api, serviceOf("httpbin", wellknown.Enabled, "http:8000->80"), routeOf("httpbin", parent, foreignRule), grant,
				serviceOf("other/v1", "", "http:80"), sliceOf("other/v1-a", "v1", "http:80", "10.9.0.1"))
			f.known(t)
			assert.Equal(t, "none", f.backends("other/v1"))

			for _, prefix := range []string{"/api/v1/namespaces/other/", "/apis/discovery.k8s.io/v1/namespaces/other/", strings.Replace(path, "/referencegrants", "/namespaces/other/", 1)} {
				api.Refuse(prefix, 0)
			}
			eventually(t, "resolved", func() bool { return f.backends("other/v1") == "10.9.0.1:80|" })
			eventually(t, "watched", func() bool { return api.Watched("/api/v1/namespaces/other/services") })
			assert.False(t, api.Watched("/apis/gateway.networking.k8s.io/v1/namespaces/other/httproutes"), "routes of others are none of its business")

			f.put(t, routeOf("httpbin", parent, mirroring))
			eventually(t, "nothing leads there any more", func() bool { return !api.Watched("/api/v1/namespaces/other/services") })
			eventually(t, "nothing of it is kept", func() bool {
				f.Index.mu.RLock()
				defer f.Index.mu.RUnlock()
				for of := range f.services {
					if of.Namespace != "shop" {
						return false
					}
				}
				return len(f.grants) == 0
			})
			f.Feed.mu.Lock()
			defer f.Feed.mu.Unlock()
			assert.Len(t, f.streams, 5)
			assert.Empty(t, f.log.with("other"), "quietly")
		})
	}
}

// When a right is taken away, the objects it allowed to read are dropped, although no watch reports that.
func TestFeedForgetsWhatItMayNotReadAnyMore(t *testing.T) {
	t.Parallel()
	api := gatewayAPI(t)
	f := proxied(t, api, serviceOf("httpbin", wellknown.Enabled, "http:8000->80"), routeOf("httpbin", parent, foreignRule),
		grantOf("other/shop", "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}", `{group: "", kind: Service}`),
		serviceOf("other/v1", "", "http:80"), sliceOf("other/v1-a", "v1", "http:80", "10.9.0.1"))
	f.known(t)
	require.Equal(t, "10.9.0.1:80|", f.backends("other/v1"))
	api.Refuse("/apis/gateway.networking.k8s.io/v1/namespaces/other/referencegrants", http.StatusForbidden)
	eventually(t, "no grant", func() bool { return f.backends("other/v1") == "none" })
}

// An API server that starts answers 403 or 404 for any kind. The Index keeps its objects through that.
func TestFeedDoubtsAnAPIServerThatStarts(t *testing.T) {
	t.Parallel()
	api := gatewayAPI(t)
	f := unfed(t, api, Options{Parent: name("httpbin")}, FeedOptions{Namespace: "shop"},
		serviceOf("httpbin", wellknown.Enabled, "http:8000->80"), routeOf("httpbin", parent, foreignRule),
		grantOf("other/shop", "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}", `{group: "", kind: Service}`),
		serviceOf("other/v1", "", "http:80"), sliceOf("other/v1-a", "v1", "http:80", "10.9.0.1"))
	require.Greater(t, f.goneAfter, 5*time.Second)
	f.run(t)
	f.known(t)
	before := f.Table(name("httpbin"))
	require.Equal(t, "10.9.0.1:80|", at(before.Services["other/v1"][80]))
	const routesHere = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes"
	api.Refuse("/", http.StatusForbidden)
	api.Refuse(routesHere, http.StatusNotFound)
	assert.Never(t, func() bool { return !assert.ObjectsAreEqual(before, f.Table(name("httpbin"))) }, 4*time.Second, 20*time.Millisecond)
	api.Refuse("/", 0)
	api.Refuse(routesHere, 0)
	f.put(t, sliceOf("other/v1-a", "v1", "http:80", "10.9.0.2"))
	eventually(t, "read again", func() bool { return f.backends("other/v1") == "10.9.0.2:80|" })
}

// While the API server is away the Index stays as it is. A Feed that starts meanwhile waits, and logs why.
// Both catch up afterwards.
func TestFeedOutage(t *testing.T) {
	api := gatewayAPI(t)
	f := proxied(t, api, tutorial)
	f.known(t)
	before := f.Table(name("httpbin"))
	api.Away()
	eventually(t, "it is logged", func() bool { return len(f.log.with("going on with what is known", "services")) > 0 })
	second := proxied(t, api)
	eventually(t, "the one that waits logs it", func() bool {
		return len(second.log.with("waiting until it can be read", "httproutes", "the test says 500")) > 0
	})
	assert.False(t, second.HasSynced())
	assert.Equal(t, before, f.Table(name("httpbin")))
	assert.True(t, f.HasSynced())

	f.put(t, sliceOf("httpbin-v1-a", "httpbin-v1", "http:80", "10.1.0.7"))
	f.api.Delete(t, "v1", "Service", "shop", "httpbin-v2")
	api.Refuse("/", 0)
	for _, x := range []*fed{f, second} {
		eventually(t, "it has caught up", func() bool {
			return x.HasSynced() && x.backends("shop/httpbin-v1") == "10.1.0.7:80|" && x.backends("shop/httpbin-v2") == "none"
		})
	}
	assert.NotEmpty(t, f.log.with("Reading again"))
	assert.NotZero(t, f.Failures()["services"])
}

// In its own namespace a Feed does not believe a missing right: it waits, or keeps the objects that it knows.
func TestFeedWaitsForItsRights(t *testing.T) {
	t.Parallel()
	api := gatewayAPI(t)
	api.Refuse("/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes", http.StatusForbidden)
	f := proxied(t, api, tutorial)
	eventually(t, "it is logged", func() bool { return len(f.log.with("waiting until it can be read", "httproutes", "shop")) > 0 })
	require.Never(t, f.HasSynced, 2*time.Second, 50*time.Millisecond)
	api.Refuse("/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes", 0)
	f.known(t)
	api.Refuse("/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes", http.StatusForbidden)
	eventually(t, "it is logged", func() bool { return len(f.log.with("going on with what is known", "httproutes")) > 0 })
	assert.Never(t, func() bool { return !routed(f.Table(name("httpbin"))) }, 2*time.Second, 50*time.Millisecond)
}

// An object that cannot be read does not keep others out, and its last readable version stays in use.
func TestFeedUnreadable(t *testing.T) {
	f := proxied(t, gatewayAPI(t), tutorial)
	f.known(t)
	before := f.Table(name("httpbin"))
	broken := map[string]any{
		"apiVersion": gatewayV1, "kind": "HTTPRoute", "metadata": map[string]any{"namespace": "shop", "name": "httpbin"}, "spec": "irror",
	}
	f.api.Put(t, broken)
	f.put(t, routeOf("more", parent, "{matches: [{path: {value: /more}}], backendRefs: [{name: httpbin-v1, port: 80}]}"))
	eventually(t, "the other route", func() bool { return len(f.Table(name("httpbin")).Listeners[0].Routes) == 2 })
	assert.NotEmpty(t, f.log.with("cannot be read", "HTTPRoute shop/httpbin"))
	f.api.Refuse("/apis/", http.StatusInternalServerError) // and a list has it, too
	f.api.Delete(t, gatewayV1, "HTTPRoute", "shop", "more")
	f.api.Refuse("/apis/", 0)
	eventually(t, "listed anew", func() bool { return len(f.Table(name("httpbin")).Listeners[0].Routes) == 1 })
	assert.Equal(t, before, f.Table(name("httpbin")))
}

// The controller's feed: every namespace, labels of namespaces, no endpoints.
func TestFeedOfTheWholeCluster(t *testing.T) {
	t.Parallel()
	api := gatewayAPI(t)
	label := func(value string) {
		api.Put(t, map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{
			"name": "shop", "labels": map[string]any{wellknown.Label: value},
		}})
	}
	f := feeding(t, api, Options{}, FeedOptions{WithoutEndpoints: true}, serviceOf("httpbin", "", "http:8000->80"), serviceOf("other/httpbin", wellknown.Enabled, "http:8000->80"), serviceOf("httpbin-v1", "", "http:80"),
		routeOf("httpbin", parent, "{backendRefs: [{name: httpbin-v1, port: 80}]}"), routeOf("other/httpbin", parent, "{backendRefs: [{name: httpbin-v1, port: 80}]}"))
	parents := func(want ...string) func() bool {
		return func() bool {
			var got []string
			for _, p := range attached(f.Index) {
				got = append(got, p.String())
			}
			return f.HasSynced() && assert.ObjectsAreEqual(want, got)
		}
	}
	eventually(t, "one parent", parents("other/httpbin"))
	label(wellknown.Enabled)
	eventually(t, "two parents", parents("other/httpbin", "shop/httpbin"))
	label("disabled")
	eventually(t, "one parent again", parents("other/httpbin"))
	label(wellknown.Enabled)
	eventually(t, "two parents again", parents("other/httpbin", "shop/httpbin"))
	api.Away()
	api.Delete(t, "v1", "Namespace", "", "shop")
	api.Refuse("/", 0)
	eventually(t, "the namespace is gone", parents("other/httpbin"))
	assert.False(t, api.Watched("/apis/discovery.k8s.io/v1/endpointslices"))
}

// An attack: no object of another namespace reaches the table of a proxy, which does not even read them.
func TestFeedAttackFromAnotherNamespace(t *testing.T) {
	api := gatewayAPI(t)
	f := proxied(t, api, tutorial)
	f.known(t)
	before := f.Table(name("httpbin"))
	f.put(t, routeOf("evil/httpbin", `{group: "", kind: Service, namespace: shop, name: httpbin, port: 8000}`, "{backendRefs: [{name: evil, port: 80}]}"),
		serviceOf("evil/evil", wellknown.Enabled, "http:80"), sliceOf("evil/a", "evil", "http:80", "10.66.0.1"),
		sliceOf("evil/httpbin-v1-a", "httpbin-v1", "http:80", "10.66.0.1"), serviceOf("evil/httpbin-v1", wellknown.Enabled, "http:80"),
		grantOf("evil/all", "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}", `{group: "", kind: Service}`))
	f.put(t, sliceOf("httpbin-v2-a", "httpbin-v2", "http:80", "10.2.0.2")) // everything before it has been seen by now
	eventually(t, "the last event", func() bool { return f.backends("shop/httpbin-v2") == "10.2.0.2:80|" })
	after := f.Table(name("httpbin"))
	after.Services["shop/httpbin-v2"] = before.Services["shop/httpbin-v2"]
	assert.Equal(t, before, after)
	for _, path := range []string{"/api/v1/namespaces/evil/services", "/api/v1/services", routesPath} {
		assert.False(t, api.Watched(path), path)
	}
}

// A route that refers to another namespace to which a mirror goes as well: both are unresolved as long as
// nothing is granted, and a Service is not looked at before it is.
func TestFeedAttackOnAnotherNamespace(t *testing.T) {
	f := proxied(t, gatewayAPI(t), serviceOf("httpbin", wellknown.Enabled, "http:8000->80"), serviceOf("bank/vault", "", "http:80"), sliceOf("bank/vault-a", "vault", "http:80", "10.5.0.1"),
		routeOf("httpbin", parent, `{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: vault, namespace: bank, port: 80}}}], backendRefs: [{name: vault, namespace: bank, port: 80}]}`),
		grantOf("bank/other", "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: third}", `{group: "", kind: Service}`))
	f.known(t)
	table := f.Table(name("httpbin"))
	assert.Equal(t, map[string]spec.Service{}, table.Services)
	assert.Empty(t, table.Listeners[0].Routes[0].Rules[0].Filters)
}
