package variant

// Which routes an event concerns.

import (
	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

type keySet map[route.Key]struct{}

func (s keySet) add(key route.Key) { s[key] = struct{}{} }

// touched collects the routes that an event concerns: at once, or when the
// grace that it starts is over.
type touched struct{ now, later keySet }

func (t *touched) soon() keySet {
	if t.now == nil {
		t.now = keySet{}
	}
	return t.now
}

func (t *touched) afterGrace() keySet {
	if t.later == nil {
		t.later = keySet{}
	}
	return t.later
}

func anyMirror(*route.Mirror) bool { return true }

// subsetMirror holds for the mirrors that pods' labels matter to.
func subsetMirror(m *route.Mirror) bool { return m.Target.Subset != "" }

// touchService adds the routes with such a mirror to the Service.
func (i *Index) touchService(name types.NamespacedName, into keySet, such func(*route.Mirror) bool) {
	for s := range i.targeting[name] {
		for m := range mirrors(s.doc) {
			if m.Target.IsService() && types.NamespacedName(m.Target.Service()) == name && such(m) {
				into.add(s.doc.Key)
				break
			}
		}
	}
}

// touchHost adds the routes with a mirror to the host, which may be a wildcard.
func (i *Index) touchHost(host string, into keySet) {
	for s := range i.naming[host] {
		into.add(s.doc.Key)
	}
}
