package variant

// The records that the Index keeps instead of objects. A record has just the fields from which the state of a
// variant is computed, so that a change of any other field does not cause a notification.

import (
	"bytes"
	"cmp"
	"reflect"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	grants "github.com/mirrorgate/mirrorgate/internal/grant"
	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/variant/hosts"
)

// id identifies an object.
type id struct {
	kind Kind
	types.NamespacedName
}

func (i *id) ident() *id { return i }

// record is one object of the model. A record in the Index does not change, except for the bookkeeping fields
// whose comments say so.
type record interface {
	ident() *id
	// equal reports whether another record of the same object leads to the same states.
	equal(other record) bool
}

type service struct {
	id
	ports        []policy.Port
	selector     labels
	externalName bool
	// alias is the host that an ExternalName Service stands for.
	alias    string
	deleting bool
}

func (s *service) equal(other record) bool {
	o := other.(*service)
	return s.externalName == o.externalName && s.alias == o.alias && s.deleting == o.deleting &&
		slices.Equal(s.ports, o.ports) && slices.Equal(s.selector, o.selector)
}

// workload is an object that runs pods, or a pod.
type workload struct {
	id
	// labels are the labels of the workload's pods.
	labels labels
	// idle is set when the workload is scaled to 0. Any other number of replicas does not matter.
	idle     bool
	deleting bool
	// controlled is set for a pod or ReplicaSet that another workload runs. Of such a pod only the labels
	// matter.
	controlled bool
	rollout    *rollout
	// uid is that of a Rollout.
	uid string
	// since is when the workload was last deployed, or scaled up from 0: endpoints that were lost before then
	// were not its own. Zero for a workload that was read live. It is set when the record comes into the
	// Index.
	since time.Time

	// places are the positions of the workload in the Index's lists by label, in the order of labels. They
	// change while the record is in the Index.
	places []int32
}

// rollout are the fields that only an Argo Rollout has.
type rollout struct {
	// own are the labels that the Rollout itself names. With a workloadRef these are the labels of its
	// selector, and the template of the workload that it refers to has more.
	own labels
	// ref is the workload of a workloadRef, zero without one.
	ref id
	// routes are the routes that the Rollout rewrites.
	routes []route.Key
}

func (w *workload) equal(other record) bool {
	o := other.(*workload)
	if w.idle != o.idle || w.deleting != o.deleting || w.controlled != o.controlled || w.uid != o.uid {
		return false
	}
	if w.rollout != nil && o.rollout != nil {
		return reflect.DeepEqual(w.rollout, o.rollout)
	}
	return slices.Equal(w.labels, o.labels)
}

// kept reports whether the Index keeps the record. Deployments have many old ReplicaSets, for which the
// record of the Deployment is enough.
func (w *workload) kept() bool { return w.kind != KindReplicaSet || !w.controlled }

// alive reports whether the workload is meant to run pods.
func (w *workload) alive() bool { return !w.deleting && !w.idle }

// slice is an EndpointSlice.
type slice struct {
	id
	service string
	// ports are the names of its ports, sorted.
	ports []string
	// ready are the names of the pods behind ready endpoints, sorted.
	ready []string
	// anonymous is the number of ready endpoints without a pod, total the number of all endpoints.
	anonymous, total int32
	family           family
	// unready are the names of the other pods, and changed is when a pod of the slice last changed. They
	// matter when the slice comes into the Index; unready is dropped then.
	unready []string
	changed time.Time
}

func (s *slice) equal(other record) bool {
	o := other.(*slice)
	return s.service == o.service && slices.Equal(s.ports, o.ports) && s.anonymous == o.anonymous && s.total == o.total &&
		slices.Equal(s.ready, o.ready)
}

// family is the kind of addresses of an EndpointSlice.
type family uint8

const (
	ipv4 family = iota
	ipv6
	fqdn
	families
)

// of returns the Service of the slice.
func (s *slice) of() types.NamespacedName {
	return types.NamespacedName{Namespace: s.Namespace, Name: s.service}
}

// destinationRule is a DestinationRule.
type destinationRule struct {
	id
	hosts.Rule[labels]
}

func (r *destinationRule) equal(other record) bool {
	a, b := r.Rule, other.(*destinationRule).Rule
	return a.Pattern == b.Pattern && a.Created == b.Created && a.Selects == b.Selects && a.SelectorText == b.SelectorText &&
		slices.Equal(a.ExportTo, b.ExportTo) &&
		slices.EqualFunc(a.Subsets, b.Subsets, func(x, y hosts.Subset[labels]) bool {
			return x.Name == y.Name && slices.Equal(x.Labels, y.Labels)
		})
}

// serviceEntry is a ServiceEntry.
type serviceEntry struct {
	id
	hosts    []string
	exportTo []string
	ports    []policy.Port
}

func (e *serviceEntry) equal(other record) bool {
	o := other.(*serviceEntry)
	return slices.Equal(e.hosts, o.hosts) && slices.Equal(e.exportTo, o.exportTo) && slices.Equal(e.ports, o.ports)
}

// referenceGrant is a ReferenceGrant.
type referenceGrant struct {
	id
	*grants.Grant
}

func (g *referenceGrant) equal(other record) bool { return g.Equal(other.(*referenceGrant).Grant) }

// storedRoute is a route.
type storedRoute struct {
	id
	// packed is the route itself, zero when it has nothing to do with mirrors.
	packed route.Packed
	// version is the resourceVersion. It changes while the record is in the Index.
	version string
	// active and parked are the numbers of its mirrors.
	active, parked int32
	// names are the keys of the objects that it names, and number is its own among all routes.
	names  []uint64
	number uint32
	// hosts are those to which a VirtualService mirrors, a line each: name/ or name/namespace for a Service.
	hosts string
	// root is set for a VirtualService that delegates.
	root *root
}

// root is the part of a VirtualService that says which clients use its delegates.
type root struct {
	attachment route.Attachment
	// delegates are their names, a line each: namespace/name.
	delegates string
}

// shortService returns the Service that a host like name.namespace or name.namespace.svc seems to name.
func shortService(host string) types.NamespacedName {
	name, namespace, _ := strings.Cut(strings.TrimSuffix(host, ".svc"), ".")
	return types.NamespacedName{Namespace: namespace, Name: name}
}

func (s *storedRoute) key() route.Key {
	return route.Key{Kind: route.Kind(s.kind.String()), Namespace: s.Namespace, Name: s.Name}
}

// mirrored reports whether the route has to do with mirrors, and not only with those of its delegates.
func (s *storedRoute) mirrored() bool { return s.packed != route.Packed{} }

func (s *storedRoute) kept() bool { return s.mirrored() || s.root != nil }

func (s *storedRoute) equal(other record) bool {
	o := other.(*storedRoute)
	return s.packed == o.packed && reflect.DeepEqual(s.root, o.root)
}

// mirrorsTo reports whether a VirtualService mirrors to a host that a pattern covers.
func (s *storedRoute) mirrorsTo(p hosts.Pattern, domain string) bool {
	var host []byte
	for line := range strings.Lines(s.hosts) {
		text := strings.TrimSuffix(line, "\n")
		name, namespace, service := strings.Cut(text, "/")
		host = append(host[:0], name...)
		if service {
			host = append(append(host, '.'), cmp.Or(namespace, s.Namespace)...)
			host = append(append(host, ".svc."...), domain...)
		}
		if len(host) > 0 && bytes.HasSuffix(host, []byte(p.Text)) && (p.Wild || len(host) == len(p.Text)) {
			return true
		}
	}
	return false
}

// unpack returns the route without its resourceVersion. It was decoded before it was packed, so decoding does not
// fail; if it did, the result would be nil.
func (s *storedRoute) unpack(opts Options) *route.Route {
	if !s.mirrored() {
		return nil
	}
	rt, err := s.packed.Route(route.Options{ClusterDomain: opts.ClusterDomain})
	if err != nil {
		return nil
	}
	return rt
}
