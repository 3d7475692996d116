// Package variant models the part of a cluster that decides whether the variant of a mirror is there:
// Services, workloads, endpoints and Istio's DestinationRules and ServiceEntries. It also finds the routes
// that a change of one of these objects affects.
//
// Index is the model. Cluster feeds it from an API server, FromYAML and FromObjects from manifests. Resolver
// answers admission from it, and confirms an absence by a live read before a mirror is parked or denied over
// it.
package variant

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"
	"unique"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/variant/hosts"
)

// defaultGrace is how long a variant counts as ready after its last endpoint became unready, so that a
// restart does not flap routes.
const defaultGrace = 10 * time.Second

// Options configure an Index. The zero value is valid.
type Options struct {
	// ClusterDomain is the cluster's DNS domain, "cluster.local" when empty.
	ClusterDomain string
	// RootNamespace is Istio's root namespace, "istio-system" when empty.
	RootNamespace string
	// Grace is how long a variant counts as ready after its last endpoint became unready: 10 s when 0, not at
	// all when negative.
	Grace time.Duration
	// Without are API groups whose kinds are not read from a cluster, so that no permission for them is
	// needed.
	Without []string
	// Clock is the real clock when nil.
	Clock clock.PassiveClock
	// AssumeReady is for manifests, which have no status: a Service that selects a workload with replicas and
	// has no EndpointSlice counts as ready.
	AssumeReady bool
	// Namespace is the namespace of manifests that name none, "default" when empty.
	Namespace string
}

func (o Options) withDefaults() Options {
	o.ClusterDomain = cmp.Or(o.ClusterDomain, route.DefaultClusterDomain)
	o.RootNamespace = cmp.Or(o.RootNamespace, "istio-system")
	o.Namespace = cmp.Or(o.Namespace, metav1.NamespaceDefault)
	o.Grace = cmp.Or(o.Grace, defaultGrace)
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	return o
}

// Subscriber is called with the routes whose decision an event may change.
type Subscriber func(keys []route.Key)

type (
	namespacedLabel struct {
		namespace string
		label     label
	}
	namespacedHost struct {
		namespace string
		hosts.Pattern
	}
)

// Index is a compact model of the cluster. It is safe for concurrent use.
type Index struct {
	opts Options

	mu      sync.RWMutex
	objects [kindCount]map[types.NamespacedName]record
	// namespacesOf holds the namespaces that have workloads with a label.
	namespacesOf map[label]map[string]bool

	workloadsByLabel map[namespacedLabel][]*workload // by each label of their pods
	servicesByLabel  map[namespacedLabel][]*service  // by one label of their selector
	rolloutsByRef    map[id][]*workload              // by the workload that a Rollout refers to
	endpoints        map[types.NamespacedName]*endpoints
	slicesByPod      map[types.NamespacedName][]*slice     // by the pods that are ready in them
	losses           []serviceLoss                         // in the order in which they were seen
	destinationRules map[namespacedHost][]*destinationRule // in the order of hosts.Compare
	rulesByPattern   map[hosts.Pattern][]*destinationRule  // those with subsets, of all namespaces
	selectingRules   map[string][]*destinationRule         // those with a workloadSelector, by their namespace
	serviceEntries   map[string][]*serviceEntry
	aliases          map[string][]*service // ExternalName Services by the host that they stand for
	gateways         []*istioGateway
	prunes           string                       // the CustomResourceDefinition of HTTPRoutes, if it has no share of a mirror
	referenceGrants  map[string][]*referenceGrant // by their namespace
	managedRoutes    map[route.Key]int            // the number of Rollouts that name a route

	routesByName routesByName

	scopes scopes

	subscribers        []Subscriber
	serviceSubscribers []func([]types.NamespacedName)
}

// NewIndex returns an empty Index.
func NewIndex(opts Options) *Index {
	i := &Index{
		opts:             opts.withDefaults(),
		namespacesOf:     map[label]map[string]bool{},
		workloadsByLabel: map[namespacedLabel][]*workload{},
		servicesByLabel:  map[namespacedLabel][]*service{},
		rolloutsByRef:    map[id][]*workload{},
		endpoints:        map[types.NamespacedName]*endpoints{},
		slicesByPod:      map[types.NamespacedName][]*slice{},
		destinationRules: map[namespacedHost][]*destinationRule{},
		rulesByPattern:   map[hosts.Pattern][]*destinationRule{},
		selectingRules:   map[string][]*destinationRule{},
		aliases:          map[string][]*service{},
		serviceEntries:   map[string][]*serviceEntry{},
		referenceGrants:  map[string][]*referenceGrant{},
		managedRoutes:    map[route.Key]int{},
	}
	for k := range i.objects {
		i.objects[k] = map[types.NamespacedName]record{}
	}
	return i
}

// Subscribe registers a function for change notifications. It is called without a lock held, from the
// goroutine that feeds the Index, and must not block.
func (i *Index) Subscribe(s Subscriber) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.subscribers = append(i.subscribers, s)
}

// SubscribeServices registers a function that is called with the Services whose state as a variant may have
// changed, whether or not a stored route mirrors to them. It is called in the same way as a Subscriber.
func (i *Index) SubscribeServices(f func(names []types.NamespacedName)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.serviceSubscribers = append(i.serviceSubscribers, f)
}

// Upsert adds or replaces objects: typed Kubernetes objects, *metav1.PartialObjectMetadata for pods,
// *unstructured.Unstructured and json.RawMessage. Kinds that the Index does not model are ignored. A
// malformed object is an error that names it, and the objects before it are kept.
func (i *Index) Upsert(objs ...any) error {
	for _, obj := range objs {
		rec, err := i.toRecord(obj)
		if err != nil {
			return err
		}
		if rec != nil {
			i.update(func(a *affected) { i.put(rec, a) })
		}
	}
	return nil
}

// Delete removes an object. An object that the Index does not have is no error.
func (i *Index) Delete(kind Kind, namespace, name string) {
	i.update(func(a *affected) { i.remove(kind, types.NamespacedName{Namespace: namespace, Name: name}, a) })
}

// update runs fn under the lock and calls the subscribers afterwards.
func (i *Index) update(fn func(*affected)) {
	a := &affected{}
	i.mu.Lock()
	i.expireLosses()
	fn(a)
	subscribers, serviceSubscribers := i.subscribers, i.serviceSubscribers
	i.mu.Unlock()
	if len(a.routes) > 0 {
		for _, s := range subscribers {
			s(slices.Collect(maps.Keys(a.routes)))
		}
	}
	if len(a.services) > 0 {
		for _, f := range serviceSubscribers {
			f(slices.Collect(maps.Keys(a.services)))
		}
	}
}

func (i *Index) put(rec record, a *affected) {
	key := rec.ident()
	if r, ok := rec.(interface{ kept() bool }); ok && !r.kept() {
		i.remove(key.kind, key.NamespacedName, a)
		return
	}
	key.Namespace = intern(key.Namespace)
	old := i.objects[key.kind][key.NamespacedName]
	if old != nil && old.equal(rec) {
		if s, ok := old.(*storedRoute); ok {
			s.version = rec.(*storedRoute).version
		}
		return
	}
	// Deleted first, so that the key shares its strings with the record that is kept.
	delete(i.objects[key.kind], key.NamespacedName)
	i.objects[key.kind][key.NamespacedName] = rec
	i.change(key.kind, old, rec, a)
}

func (i *Index) remove(kind Kind, name types.NamespacedName, a *affected) {
	old := i.objects[kind][name]
	if old == nil {
		return
	}
	delete(i.objects[kind], name)
	i.change(kind, old, nil, a)
}

// change updates the secondary indexes from old to rec, of which either may be nil, and collects the routes
// and Services that this affects.
func (i *Index) change(kind Kind, old, rec record, a *affected) {
	switch kind {
	case KindService:
		i.changeService(as[*service](old), as[*service](rec), a)
	case KindPod:
		i.changePod(as[*workload](old), as[*workload](rec), a)
	case KindDeployment, KindStatefulSet, KindDaemonSet, KindReplicaSet, KindRollout:
		i.changeWorkload(as[*workload](old), as[*workload](rec), a)
	case KindEndpointSlice:
		i.changeSlice(as[*slice](old), as[*slice](rec), a)
	case KindDestinationRule:
		i.changeDestinationRule(as[*destinationRule](old), as[*destinationRule](rec), a)
	case KindServiceEntry:
		i.changeServiceEntry(as[*serviceEntry](old), as[*serviceEntry](rec), a)
	case KindReferenceGrant:
		i.changeReferenceGrant(as[*referenceGrant](old), as[*referenceGrant](rec), a)
	case KindCanary:
		i.changeCanary(as[*canary](old), as[*canary](rec), a)
	case KindIstioGateway:
		i.changeIstioGateway(as[*istioGateway](old), as[*istioGateway](rec), a)
	case KindGateway:
		i.changeGateway(as[*gateway](old), as[*gateway](rec), a)
	case KindNamespace:
		i.changeNamespace(as[*namespace](old), as[*namespace](rec), a)
	case KindMirrorLimit:
		i.changeMirrorLimit(as[*mirrorLimit](old), as[*mirrorLimit](rec), a)
	case KindMirrorPolicy:
		i.changeMirrorPolicy(as[*mirrorPolicy](old), as[*mirrorPolicy](rec), a)
	case KindGatewayClass:
		i.changeGatewayClass(as[*gatewayClass](old), as[*gatewayClass](rec), a)
	default:
		i.changeRoute(as[*storedRoute](old), as[*storedRoute](rec), a)
	}
}

// as returns the record as its own type, nil for nil.
func as[T record](rec record) T {
	typed, _ := rec.(T)
	return typed
}

// intern makes all records of a namespace share one string.
func intern(namespace string) string { return unique.Make(namespace).Value() }

// Snapshot returns the state of everything that a decision about a route depends on, from the Index alone.
func (i *Index) Snapshot(rt *route.Route) policy.Snapshot {
	i.mu.RLock()
	defer i.mu.RUnlock()
	v := view{base: i}
	return v.snapshot(rt)
}

// Counts are the sizes of the model, for metrics.
type Counts struct {
	// Objects is the number of objects of each kind.
	Objects map[Kind]int
	// Active and Parked are the numbers of mirrors in each kind of route.
	Active, Parked map[route.Kind]int
}

// Counts counts the objects and the mirrors.
func (i *Index) Counts() Counts {
	c := Counts{Objects: map[Kind]int{}, Active: map[route.Kind]int{}, Parked: map[route.Kind]int{}}
	i.mu.RLock()
	for kind := range kindCount {
		c.Objects[kind] = len(i.objects[kind])
	}
	i.mu.RUnlock()
	for _, s := range i.storedRoutes() {
		c.Parked[s.key().Kind] += int(s.parked)
		c.Active[s.key().Kind] += int(s.active)
	}
	return c
}

func addTo[K comparable, V any](lists map[K][]V, key K, v V) { lists[key] = append(lists[key], v) }

// removeFrom deletes v from the list of key, and the list with its last item.
func removeFrom[K, V comparable](lists map[K][]V, key K, v V) {
	if lists[key] = removeItem(lists[key], v); len(lists[key]) == 0 {
		delete(lists, key)
	}
}

// removeItem returns a list without v.
func removeItem[V comparable](list []V, v V) []V {
	if at := slices.Index(list, v); at >= 0 {
		return slices.Delete(list, at, at+1)
	}
	return list
}
