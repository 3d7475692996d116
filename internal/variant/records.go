package variant

// The records that the Index keeps instead of objects: what a variant's state
// is computed from, and nothing else. A field that is not here cannot cause a
// notification.

import (
	"cmp"
	"reflect"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	grants "github.com/mirrorgate/mirrorgate/internal/grant"
	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

type id struct {
	kind Kind
	types.NamespacedName
}

func (i *id) ident() *id { return i }

// record is one object of the model. Records are not changed once they are in
// the Index, except for the bookkeeping fields that say so.
type record interface {
	ident() *id
	// equal tells whether the other record of the same object says the same.
	equal(other record) bool
}

type service struct {
	id
	ports        []policy.Port
	selector     labels
	externalName bool
	deleting     bool
}

func (s *service) equal(other record) bool {
	o := other.(*service)
	return s.externalName == o.externalName && s.deleting == o.deleting &&
		slices.Equal(s.ports, o.ports) && slices.Equal(s.selector, o.selector)
}

// workload is anything that runs pods, or a pod.
type workload struct {
	id
	// labels are the labels of the workload's pods.
	labels labels
	// idle is set when the workload is scaled to 0. How many replicas there are
	// otherwise does not matter.
	idle     bool
	deleting bool
	// controlled marks a pod or ReplicaSet that another workload runs; only
	// the labels of such a pod matter.
	controlled bool
	rollout    *rollout
	// since is when the workload was last deployed, or scaled up from 0: what
	// was lost before then says nothing about it. Zero for one read live.
	since time.Time

	// places tells where in the Index's postings the workload stands, by label.
	places []int32
}

// rollout is what only an Argo Rollout has.
type rollout struct {
	// own are the labels that the Rollout itself names; with a workloadRef, the
	// template of the workload it refers to knows more.
	own    labels
	ref    id
	routes []route.Key
}

func (w *workload) equal(other record) bool {
	o := other.(*workload)
	if w.idle != o.idle || w.deleting != o.deleting || w.controlled != o.controlled {
		return false
	}
	if w.rollout != nil && o.rollout != nil {
		return reflect.DeepEqual(w.rollout, o.rollout)
	}
	return slices.Equal(w.labels, o.labels)
}

// kept tells whether the Index has a use for the record. Old ReplicaSets of
// Deployments are many, and their owners speak for them.
func (w *workload) kept() bool { return w.kind != KindReplicaSet || !w.controlled }

// alive tells whether the workload is meant to run pods.
func (w *workload) alive() bool { return !w.deleting && !w.idle }

// slice is an EndpointSlice.
type slice struct {
	id
	service string
	// ready are the names of the pods behind ready endpoints, sorted.
	ready []string
	// anonymous counts ready endpoints without a pod; total counts all.
	anonymous, total int32
	// unready are the names of the other pods, and changed is when something last
	// happened to one of them: they matter to a slice that is seen for the first
	// time, and are dropped then.
	unready []string
	changed time.Time
}

func (s *slice) equal(other record) bool {
	o := other.(*slice)
	return s.service == o.service && s.anonymous == o.anonymous && s.total == o.total &&
		slices.Equal(s.ready, o.ready)
}

func (s *slice) of() types.NamespacedName {
	return types.NamespacedName{Namespace: s.Namespace, Name: s.service}
}

type subset struct {
	name   string
	labels labels
}

// rule is a DestinationRule.
type rule struct {
	id
	// host is fully qualified, or a wildcard.
	host     string
	subsets  []subset
	exportTo []string
	// created is in RFC 3339: of two rules that say different things about a
	// subset, Istio takes the older.
	created string
}

func (r *rule) compare(other *rule) int {
	return cmp.Or(strings.Compare(r.created, other.created), strings.Compare(r.Name, other.Name))
}

func (r *rule) equal(other record) bool {
	o := other.(*rule)
	return r.host == o.host && r.created == o.created && slices.Equal(r.exportTo, o.exportTo) &&
		slices.EqualFunc(r.subsets, o.subsets, func(a, b subset) bool {
			return a.name == b.name && slices.Equal(a.labels, b.labels)
		})
}

// entry is a ServiceEntry.
type entry struct {
	id
	hosts    []string
	exportTo []string
}

func (e *entry) equal(other record) bool {
	o := other.(*entry)
	return slices.Equal(e.hosts, o.hosts) && slices.Equal(e.exportTo, o.exportTo)
}

func (e *entry) before(other *entry, client string) bool {
	if own := e.Namespace == client; own != (other.Namespace == client) {
		return own
	}
	return e.String() < other.String()
}

// visible tells whether an Istio object with this exportTo, in namespace own,
// counts for a client namespace.
func visible(exportTo []string, own, client string) bool {
	if len(exportTo) == 0 {
		return true
	}
	for _, to := range exportTo {
		if to == "*" || to == client || (to == "." && own == client) {
			return true
		}
	}
	return false
}

// grant is a ReferenceGrant.
type grant struct {
	id
	*grants.Grant
}

type grantee = grants.Source

func (g *grant) equal(other record) bool { return g.Equal(other.(*grant).Grant) }

// stored is a route.
type stored struct {
	id
	// packed is zero when mirrorgate has nothing to say about the route.
	packed route.Packed
	// version is the resourceVersion. It changes while the record is in the Index.
	version string
	// serves and mirrors are those of the Document, by which it is found.
	serves  []route.ServiceName
	mirrors []target
}

// target is a mirror as far as it can be found, or leads on to other routes.
type target struct {
	route.Target
	// host is that of a VirtualService whose meaning is open: see route.Mirror's
	// ShortHost. "" for others.
	host string
	// sends is set when the mirror sends any copies.
	parked, sends bool
}

func newTarget(m *route.Mirror) target {
	t := target{Target: m.Target, parked: m.Parked, sends: m.Percentage.Percent() > 0}
	if m.ShortHost {
		t.host = m.Host
	}
	if t.Kind == route.TargetService {
		t.Kind = route.TargetService // the constant, not a string of the route's own
	}
	return t
}

func (s *stored) key() route.Key {
	return route.Key{Kind: route.Kind(s.kind.String()), Namespace: s.Namespace, Name: s.Name}
}

func (s *stored) kept() bool { return s.packed != route.Packed{} }

func (s *stored) equal(other record) bool { return s.packed == other.(*stored).packed }

// document unpacks the route. What is packed was read before, so that it can be read
// again; if it could not, there would be nothing to say about the route.
func (s *stored) document(opts Options) *route.Route {
	doc, err := s.packed.Route(route.Options{ClusterDomain: opts.ClusterDomain})
	if err != nil {
		return nil
	}
	doc.ResourceVersion = s.version
	return doc
}

// shareNames makes all records of a namespace share one string.
func (s *stored) shareNames(intern func(string) string) {
	for n := range s.serves {
		s.serves[n].Namespace = intern(s.serves[n].Namespace)
	}
	for n := range s.mirrors {
		if s.mirrors[n].Namespace != "" {
			s.mirrors[n].Namespace = intern(s.mirrors[n].Namespace)
		}
	}
}
