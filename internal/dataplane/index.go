// Package dataplane turns the objects of a cluster into routing tables for proxies: HTTPRoutes,
// GRPCRoutes, Services, EndpointSlices and ReferenceGrants become, for each Service that has a proxy in front of it, a routing
// table and the conditions of its routes.
//
// Index is the model. It is incremental: a change of endpoints costs as much as their Service has of them, a
// change of a Service or grant as much as there are routes that name it. Feed fills it from an API server,
// Follower keeps a proxy in step with one Service of it, and StatusWriter writes the conditions of routes.
package dataplane

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kjson "sigs.k8s.io/json"

	"github.com/mirrorgate/mirrorgate/api/v1alpha1"
	"github.com/mirrorgate/mirrorgate/internal/feed"
	"github.com/mirrorgate/mirrorgate/internal/grant"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
	routes "github.com/mirrorgate/mirrorgate/internal/route"
)

// Kind is a kind of object that the Index models.
type Kind uint8

// The kinds that the Index models.
const (
	KindService Kind = iota
	KindEndpointSlice
	KindHTTPRoute
	KindGRPCRoute
	KindReferenceGrant
	KindPod // of proxies alone
	KindMirrorPolicy
	KindBackendTLSPolicy
	KindConfigMap // with the certificates of authorities
)

// String returns the kind as the API spells it.
func (k Kind) String() string {
	return [...]string{"Service", "EndpointSlice", "HTTPRoute", "GRPCRoute", "ReferenceGrant", "Pod", "MirrorPolicy", "BackendTLSPolicy", "ConfigMap"}[k]
}

// Options steer an Index. The zero value is valid.
type Options struct {
	// Parent, if set, is the only Service that has a proxy, whatever labels say. The proxy of a Service sets
	// it.
	Parent Name
	// Zone is the proxy's, for the hints of EndpointSlices; without it they have no effect.
	Zone string
	// Forwarded, if set, is how proxies tell backends who the client is.
	Forwarded *spec.Forwarded
	// Certificates are the ports of Parent, by number, whose TLS its proxy terminates. Without Parent annotations of
	// Services tell.
	Certificates map[int]bool
	// ProxyProtocol makes the connections of clients begin with a header of PROXY protocol, and SendProxyProtocol those
	// that are passed through to the origin.
	ProxyProtocol, SendProxyProtocol bool
	// AffinityCookie, if set, is the cookie with which clients stay with an endpoint.
	AffinityCookie string
	// Listen returns the address at which a proxy of the Service listens for one of its ports, as host:port.
	// The default is every IP address and wellknown.TargetPort.
	Listen func(service Name, port *corev1.ServicePort) string
}

// Change lists the results of an update that may be different now.
type Change struct {
	// Tables are the Services whose table is another now, or is gone.
	Tables []Name
	// Endpoints are backends with other endpoints.
	Endpoints []Backend
	// Routes are those whose status is another now, or is stale; policies as well.
	Routes []RouteName
	// Parents are the Services, beside those in Tables, whose Parent or View may be another now.
	Parents []Name
}

// Backend is a Service as the table of another one has it.
type Backend struct {
	// Parent is the Service that the table belongs to.
	Parent Name
	// Service is its name in the table.
	Service string
}

// Subscriber receives changes from the goroutine that feeds the Index, without a lock held. It must not
// block. Changes that happen concurrently may arrive in any order, so a subscriber reads the Index, which is
// always at least as new.
type Subscriber func(*Change)

// Index is a compact model of the objects that proxies depend on. It is safe for concurrent use.
type Index struct {
	opts Options

	mu          sync.RWMutex
	namespaces  map[string]bool // the enabled ones
	services    map[Name]*service
	slices      map[Name]*slice
	routes      map[RouteName]*route
	grants      map[string]map[string]*grant.Grant // by namespace and name
	pods        map[Name]*pod
	policies    map[Name]*copyPolicy
	tlsPolicies map[Name]*policy
	trusted     map[Name]*authority // by the ConfigMap that has it

	byRoute    map[RouteName][]*copyPolicy    // policies by the routes that they are about
	naming     map[Name]map[*route]struct{}   // routes by the Services they name
	crossing   map[string]map[*route]struct{} // routes by foreign namespaces they refer to
	attached   map[Name]map[*route]struct{}   // routes by the Services that take them
	endpoints  map[Name][]*slice              // slices by the Service they belong to
	uses       map[Name]map[Backend]int       // backends by the Service whose endpoints they have, with how many routes lead there
	proxies    map[Name]map[*pod]struct{}     // pods by the Service that they are proxies of
	calls      map[Name]map[int]int           // how many GRPCRoutes a Service has at each of its ports
	protecting map[Name]map[*policy]struct{}  // policies of TLS by the Services that they mean
	trusting   map[Name]map[*policy]struct{}  // policies of TLS by the ConfigMaps that they refer to
	called     map[Name][]int                 // during an update, the ports that had one before it, of Services for which that may change

	subscribers []Subscriber
}

// NewIndex returns an empty Index.
func NewIndex(opts Options) *Index {
	if opts.Listen == nil {
		opts.Listen = listenAddress
	}
	return &Index{
		opts: opts, namespaces: map[string]bool{},
		services: map[Name]*service{}, slices: map[Name]*slice{}, routes: map[RouteName]*route{}, grants: map[string]map[string]*grant.Grant{},
		naming: map[Name]map[*route]struct{}{}, crossing: map[string]map[*route]struct{}{}, attached: map[Name]map[*route]struct{}{},
		endpoints: map[Name][]*slice{}, uses: map[Name]map[Backend]int{}, pods: map[Name]*pod{}, proxies: map[Name]map[*pod]struct{}{},
		policies: map[Name]*copyPolicy{}, byRoute: map[RouteName][]*copyPolicy{},
		tlsPolicies: map[Name]*policy{}, trusted: map[Name]*authority{}, protecting: map[Name]map[*policy]struct{}{}, trusting: map[Name]map[*policy]struct{}{},
		calls: map[Name]map[int]int{}, called: map[Name][]int{},
	}
}

// Subscribe registers a function for change notifications.
func (x *Index) Subscribe(s Subscriber) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.subscribers = append(x.subscribers, s)
}

// Upsert adds or replaces objects: *corev1.Service, *discoveryv1.EndpointSlice, the *corev1.Pod of a proxy, a
// *corev1.ConfigMap, and routes, policies and ReferenceGrants as JSON (json.RawMessage, []byte or *unstructured.Unstructured). Other
// kinds are ignored. A malformed object is an error that names it: its record stays as it was, the objects
// before it are upserted, and those after it are not.
func (x *Index) Upsert(objs ...any) error {
	for _, obj := range objs {
		e, err := read(obj)
		if err != nil {
			return err
		}
		if e.put != nil {
			x.update(func(c *changes) { e.put(x, c) })
		}
	}
	return nil
}

// Delete removes an object; one that is not there is no error.
func (x *Index) Delete(kind Kind, namespace, name string) {
	x.update(func(c *changes) { x.remove(kind, Name{Namespace: namespace, Name: name}, c) })
}

// Replace makes objs all the objects of a kind, as a list does.
func (x *Index) Replace(kind Kind, objs ...any) error {
	var items []*feed.Item
	for _, obj := range objs {
		e, err := read(obj)
		if err != nil {
			return err
		}
		if e.put != nil && e.kind == kind {
			items = append(items, &feed.Item{ObjectMeta: metav1.ObjectMeta{Namespace: e.name.Namespace, Name: e.name.Name}, Record: e})
		}
	}
	x.sink(kind, "").Replace(items)
	return nil
}

// EnableNamespace sets whether Services of a namespace without a label of their own are enabled, as the
// namespace's label says. Initially none is.
func (x *Index) EnableNamespace(namespace string, enabled bool) {
	x.update(func(c *changes) {
		if x.namespaces[namespace] == enabled {
			return
		}
		if delete(x.namespaces, namespace); enabled {
			x.namespaces[namespace] = true
		}
		for _, r := range x.routes {
			if slices.ContainsFunc(r.parents, func(p parentRef) bool { return p.service.Namespace == namespace }) {
				x.reresolve(r, c)
			}
		}
	})
}

// Status returns the entries that mirrorgate should have in a route's status.parents, and the generation
// that they are about. There are none if no parent of the route is enabled; entries in the object must then
// be removed. They are shared, and must not be changed.
func (x *Index) Status(name RouteName) (parents []ParentStatus, generation int64) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if r := x.routes[name]; r != nil {
		return r.status, r.generation
	}
	if p := x.policy(name); p != nil {
		return x.policyStatus(p), p.generation
	}
	return nil, 0
}

// policy returns the policy of that name, nil if the name is a route's or there is none.
func (x *Index) policy(name RouteName) *policy {
	if name.Kind != KindBackendTLSPolicy {
		return nil
	}
	return x.tlsPolicies[name.Name]
}

// version returns the version of the API in which an object was read.
func (x *Index) version(name RouteName) string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if p := x.policy(name); p != nil {
		return p.version
	}
	return "v1"
}

// Stale returns the routes whose object has other entries of mirrorgate's than Status returns.
func (x *Index) Stale() (names []RouteName) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for name, r := range x.routes {
		if r.stale() {
			names = append(names, name)
		}
	}
	for _, p := range x.tlsPolicies {
		if stale(p.stored, x.policyStatus(p)) {
			names = append(names, p.reported())
		}
	}
	return names
}

// IsStale reports whether a route is one of them.
func (x *Index) IsStale(name RouteName) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if p := x.policy(name); p != nil {
		return stale(p.stored, x.policyStatus(p))
	}
	r := x.routes[name]
	return r != nil && r.stale()
}

// foreignOf returns the namespaces beside its own that the routes of a Service refer to, sorted.
func (x *Index) foreignOf(parent Name) []string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var found []string
	for namespace, routes := range x.crossing {
		for r := range routes {
			if _, attached := x.attached[parent][r]; attached {
				found = append(found, namespace)
				break
			}
		}
	}
	slices.Sort(found)
	return found
}

func compareNames(a, b Name) int { return strings.Compare(a.String(), b.String()) }

// RouteName names a route, or a policy: an HTTPRoute and a GRPCRoute may have one name.
type RouteName struct {
	Kind Kind
	Name
}

func (r RouteName) compare(other RouteName) int {
	return cmp.Or(cmp.Compare(r.Kind, other.Kind), compareNames(r.Name, other.Name))
}

// event is an object that has been read, with the function that puts it into an Index.
type event struct {
	kind Kind
	name Name
	put  func(*Index, *changes)
}

func read(obj any) (event, error) {
	switch o := obj.(type) {
	case *corev1.Service:
		name, s := nameOf(o), fromService(o)
		return event{KindService, name, func(x *Index, c *changes) { x.putService(name, s, c) }}, nil
	case *discoveryv1.EndpointSlice:
		name, s := nameOf(o), fromSlice(o)
		return event{KindEndpointSlice, name, func(x *Index, c *changes) { x.putSlice(name, s, c) }}, nil
	case *corev1.Pod:
		name, p := nameOf(o), fromPod(o)
		return event{KindPod, name, func(x *Index, c *changes) { x.putPod(name, p, c) }}, nil
	case *corev1.ConfigMap:
		name, a := nameOf(o), fromConfigMap(o)
		return event{KindConfigMap, name, func(x *Index, c *changes) { x.putConfigMap(name, a, c) }}, nil
	case *unstructured.Unstructured:
		raw, err := o.MarshalJSON()
		if err != nil {
			return event{}, fmt.Errorf("%s %s: %w", o.GetKind(), nameOf(o), err)
		}
		return readJSON(raw)
	case json.RawMessage:
		return readJSON(o)
	case []byte:
		return readJSON(o)
	}
	return event{}, nil
}

func readJSON(raw []byte) (event, error) {
	var h header
	if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &h); err != nil {
		return event{}, fmt.Errorf("object is no JSON: %w", err)
	}
	name := h.name()
	wrap := func(err error) error { return fmt.Errorf("%s %s: %w", h.Kind, name, err) }
	switch group, _, _ := strings.Cut(h.APIVersion, "/"); {
	case group == v1alpha1.GroupVersion.Group && h.Kind == KindMirrorPolicy.String():
		p, err := parseCopyPolicy(raw)
		if err != nil {
			return event{}, wrap(err)
		}
		return event{KindMirrorPolicy, name, func(x *Index, c *changes) { x.putPolicy(name, p, c) }}, nil
	case group != routes.GatewayGroup:
		return event{}, nil
	}
	switch h.Kind {
	case KindHTTPRoute.String(), KindGRPCRoute.String():
		r, err := parseRoute(&h)
		if err != nil {
			return event{}, wrap(err)
		}
		return event{r.name.Kind, name, func(x *Index, c *changes) { x.putRoute(r.name, r, c) }}, nil
	case KindBackendTLSPolicy.String():
		p, err := parsePolicy(&h)
		if err != nil {
			return event{}, wrap(err)
		}
		return event{KindBackendTLSPolicy, name, func(x *Index, c *changes) { x.putTLSPolicy(name, p, c) }}, nil
	case KindReferenceGrant.String():
		g, err := grant.Parse(raw)
		if err != nil {
			return event{}, wrap(err)
		}
		return event{KindReferenceGrant, name, func(x *Index, c *changes) { x.putGrant(name, g, c) }}, nil
	}
	return event{}, nil
}
