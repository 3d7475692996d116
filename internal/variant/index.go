// Package variant knows the cluster: which Services, workloads, endpoints and
// rules stand behind the target of a mirror, and which mirrors an object
// concerns.
//
// Index is the model, fed by Cluster from an API server or by FromObjects from
// manifests. Resolver answers the admission path from it, and confirms by live
// reads what the model says is not there.
package variant

import (
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// DefaultGrace is how long a variant that was ready counts as ready after its
// last endpoint became unready, so that a restart does not flap routes.
const DefaultGrace = 10 * time.Second

// Options steer an Index. The zero value is valid.
type Options struct {
	// ClusterDomain is the cluster's DNS domain, "cluster.local" when empty.
	ClusterDomain string
	// RootNamespace is Istio's root namespace, "istio-system" when empty.
	RootNamespace string
	// Grace is the unready grace: DefaultGrace when 0, none when negative.
	Grace time.Duration
	// Without are API groups that are left alone in a cluster, so that it takes no right
	// to read them.
	Without []string
	// Clock is the real clock when nil.
	Clock clock.PassiveClock
	// AssumeReady is for manifests, which have no status: a Service that has a
	// workload with replicas and no EndpointSlice at all counts as ready.
	AssumeReady bool
	// Namespace is that of manifests that name none, "default" when empty.
	Namespace string
}

func (o Options) withDefaults() Options {
	if o.ClusterDomain == "" {
		o.ClusterDomain = route.DefaultClusterDomain
	}
	if o.RootNamespace == "" {
		o.RootNamespace = "istio-system"
	}
	if o.Namespace == "" {
		o.Namespace = metav1.NamespaceDefault
	}
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	return o
}

// Subscriber is told of the routes whose mirrors an event may concern.
type Subscriber func(keys []route.Key)

type (
	namespacedLabel struct {
		namespace string
		label     label
	}
	namespacedHost struct{ namespace, host string }
	routeSet       map[*stored]struct{}
)

// Index is a compact model of the cluster. It is safe for concurrent use.
type Index struct {
	opts Options

	mu      sync.RWMutex
	objects [kindCount]map[types.NamespacedName]record
	// namespaces makes all records of a namespace share one string.
	namespaces map[string]string

	postings  map[namespacedLabel][]*workload // workloads by each label of their pods
	selecting map[namespacedLabel][]*service  // services by one label of their selector
	followers map[id][]*workload              // Rollouts by the workload they refer to
	endpoints map[types.NamespacedName]*endpoints
	listing   map[types.NamespacedName][]*slice // EndpointSlices by the pods that are ready in them
	losses    []lossOf                          // in the order in which they were seen
	rules     map[namespacedHost][]*rule
	entries   map[string][]*entry
	grants    map[string][]*grant
	managed   map[route.Key]int // routes that Rollouts name

	targeting map[types.NamespacedName]routeSet // by mirror target
	naming    map[string]routeSet               // by host and the wildcards that cover it
	crossing  map[crossing]routeSet             // by need of a ReferenceGrant
	serving   map[types.NamespacedName]routeSet // by the Service in front of which they stand

	subscribers []Subscriber
	listeners   []func([]types.NamespacedName)
}

// NewIndex returns an empty Index.
func NewIndex(opts Options) *Index {
	i := &Index{
		opts:       opts.withDefaults(),
		namespaces: map[string]string{},
		postings:   map[namespacedLabel][]*workload{},
		selecting:  map[namespacedLabel][]*service{},
		followers:  map[id][]*workload{},
		endpoints:  map[types.NamespacedName]*endpoints{},
		listing:    map[types.NamespacedName][]*slice{},
		rules:      map[namespacedHost][]*rule{},
		entries:    map[string][]*entry{},
		grants:     map[string][]*grant{},
		managed:    map[route.Key]int{},
		targeting:  map[types.NamespacedName]routeSet{},
		naming:     map[string]routeSet{},
		crossing:   map[crossing]routeSet{},
		serving:    map[types.NamespacedName]routeSet{},
	}
	for k := range i.objects {
		i.objects[k] = map[types.NamespacedName]record{}
	}
	return i
}

// Subscribe registers a function for change notifications. It is called
// without a lock held, from the goroutine that feeds the Index, and must not
// block.
func (i *Index) Subscribe(s Subscriber) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.subscribers = append(i.subscribers, s)
}

// SubscribeServices registers a function that hears of the Services whose state as a variant
// may have changed, whether or not a stored route mirrors to them. It is called like a
// Subscriber.
func (i *Index) SubscribeServices(f func(names []types.NamespacedName)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.listeners = append(i.listeners, f)
}

// Upsert adds or replaces objects: typed Kubernetes objects,
// *metav1.PartialObjectMetadata for pods, *unstructured.Unstructured and
// json.RawMessage. Kinds that the Index does not model are ignored; a malformed
// object is an error that names it, and the ones before it are kept.
func (i *Index) Upsert(objs ...any) error {
	for _, obj := range objs {
		rec, err := i.toRecord(obj)
		if err != nil {
			return err
		}
		if rec != nil {
			i.update(func(t *touched) { i.put(rec, t) })
		}
	}
	return nil
}

// Delete removes an object; one that is not there is no error.
func (i *Index) Delete(kind Kind, namespace, name string) {
	i.update(func(t *touched) {
		i.remove(kind, types.NamespacedName{Namespace: namespace, Name: name}, t)
	})
}

// Replace makes objs all the objects of a kind, as a list does.
func (i *Index) Replace(kind Kind, objs ...any) error {
	records := make([]record, 0, len(objs))
	for _, obj := range objs {
		rec, err := i.toRecord(obj)
		if err != nil {
			return err
		}
		if rec != nil && rec.ident().kind == kind {
			records = append(records, rec)
		}
	}
	i.replace(kind, records)
	return nil
}

func (i *Index) replace(kind Kind, records []record) {
	i.update(func(t *touched) {
		keep := make(map[types.NamespacedName]bool, len(records))
		for _, rec := range records {
			keep[rec.ident().NamespacedName] = true
			i.put(rec, t)
		}
		for _, name := range slices.Collect(maps.Keys(i.objects[kind])) {
			if !keep[name] {
				i.remove(kind, name, t)
			}
		}
	})
}

// update runs fn under the lock and tells subscribers afterwards.
func (i *Index) update(fn func(*touched)) {
	t := &touched{}
	i.mu.Lock()
	i.forget()
	fn(t)
	subscribers, listeners := i.subscribers, i.listeners
	i.mu.Unlock()
	if len(t.routes) > 0 {
		for _, s := range subscribers {
			s(slices.Collect(maps.Keys(t.routes)))
		}
	}
	if len(t.services) > 0 {
		for _, f := range listeners {
			f(slices.Collect(maps.Keys(t.services)))
		}
	}
}

func (i *Index) put(rec record, t *touched) {
	key := rec.ident()
	if r, ok := rec.(interface{ kept() bool }); ok && !r.kept() {
		i.remove(key.kind, key.NamespacedName, t)
		return
	}
	key.Namespace = i.intern(key.Namespace)
	old := i.objects[key.kind][key.NamespacedName]
	if old != nil && old.equal(rec) {
		if s, ok := old.(*stored); ok {
			s.version = rec.(*stored).version
		}
		return
	}
	if s, ok := rec.(*stored); ok {
		s.shareNames(i.intern)
	}
	// The key's strings must be those of the record that is kept.
	delete(i.objects[key.kind], key.NamespacedName)
	i.objects[key.kind][key.NamespacedName] = rec
	i.change(key.kind, old, rec, t)
}

func (i *Index) remove(kind Kind, name types.NamespacedName, t *touched) {
	old := i.objects[kind][name]
	if old == nil {
		return
	}
	delete(i.objects[kind], name)
	i.change(kind, old, nil, t)
}

// change brings the secondary indexes from old to rec (either may be nil) and
// notes the routes that this concerns.
func (i *Index) change(kind Kind, old, rec record, t *touched) {
	switch kind {
	case KindService:
		i.changeService(as[*service](old), as[*service](rec), t)
	case KindPod:
		i.changePod(as[*workload](old), as[*workload](rec), t)
	case KindDeployment, KindStatefulSet, KindDaemonSet, KindReplicaSet, KindRollout:
		i.changeWorkload(as[*workload](old), as[*workload](rec), t)
	case KindEndpointSlice:
		i.changeSlice(as[*slice](old), as[*slice](rec), t)
	case KindDestinationRule:
		i.changeRule(as[*rule](old), as[*rule](rec), t)
	case KindServiceEntry:
		i.changeEntry(as[*entry](old), as[*entry](rec), t)
	case KindReferenceGrant:
		i.changeGrant(as[*grant](old), as[*grant](rec), t)
	default:
		i.changeRoute(as[*stored](old), as[*stored](rec), t)
	}
}

func as[T record](rec record) T {
	typed, _ := rec.(T)
	return typed
}

func (i *Index) intern(namespace string) string {
	if shared, ok := i.namespaces[namespace]; ok {
		return shared
	}
	namespace = strings.Clone(namespace)
	i.namespaces[namespace] = namespace
	return namespace
}

// Snapshot tells what the cluster looks like to the mirrors of a route.
func (i *Index) Snapshot(doc *route.Route) policy.Snapshot {
	i.mu.RLock()
	defer i.mu.RUnlock()
	v := view{base: i}
	return v.snapshot(doc)
}

// Route returns a stored route, nil when there is none or mirrorgate has
// nothing to say about it.
func (i *Index) Route(key route.Key) *route.Route {
	i.mu.RLock()
	defer i.mu.RUnlock()
	rec := i.objects[kindOfRoute(key.Kind)][types.NamespacedName{Namespace: key.Namespace, Name: key.Name}]
	if rec == nil {
		return nil
	}
	return rec.(*stored).document(i.opts)
}

// Routes yields all stored routes, as they are when the iteration starts.
func (i *Index) Routes() iter.Seq[*route.Route] {
	return func(yield func(*route.Route) bool) {
		for _, s := range i.routes() {
			i.mu.RLock()
			doc := s.document(i.opts)
			i.mu.RUnlock()
			if doc != nil && !yield(doc) {
				return
			}
		}
	}
}

// Keys yields the names of all stored routes.
func (i *Index) Keys() iter.Seq[route.Key] {
	return func(yield func(route.Key) bool) {
		for _, s := range i.routes() {
			if !yield(s.key()) {
				return
			}
		}
	}
}

func (i *Index) routes() (all []*stored) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	for kind := KindHTTPRoute; kind < kindCount; kind++ {
		for _, rec := range i.objects[kind] {
			all = append(all, rec.(*stored))
		}
	}
	return all
}

// Counts are the sizes of the model, for metrics.
type Counts struct {
	Objects        map[Kind]int
	Active, Parked map[route.Kind]int
}

// Counts counts objects by kind, and mirrors by kind of route.
func (i *Index) Counts() Counts {
	c := Counts{Objects: map[Kind]int{}, Active: map[route.Kind]int{}, Parked: map[route.Kind]int{}}
	i.mu.RLock()
	for kind := range kindCount {
		c.Objects[kind] = len(i.objects[kind])
	}
	i.mu.RUnlock()
	for _, s := range i.routes() {
		for _, m := range s.mirrors {
			if m.parked {
				c.Parked[s.key().Kind]++
			} else {
				c.Active[s.key().Kind]++
			}
		}
	}
	return c
}

// mirrors yields the mirrors of a route.
func mirrors(doc *route.Route) iter.Seq[*route.Mirror] {
	return func(yield func(*route.Mirror) bool) {
		for r := range doc.Rules {
			for m := range doc.Rules[r].Mirrors {
				if !yield(&doc.Rules[r].Mirrors[m]) {
					return
				}
			}
		}
	}
}
