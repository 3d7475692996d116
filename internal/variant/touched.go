package variant

// Which routes an event concerns.

import (
	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

type keySet map[route.Key]struct{}

func (s keySet) add(key route.Key) { s[key] = struct{}{} }

// touched collects the routes that an event concerns, and the Services, as far as somebody
// wants to hear of them.
type touched struct {
	routes   keySet
	services map[types.NamespacedName]struct{}
}

func (t *touched) set() keySet {
	if t.routes == nil {
		t.routes = keySet{}
	}
	return t.routes
}

func anyMirror(target) bool { return true }

// subsetMirror holds for the mirrors that pods' labels matter to.
func subsetMirror(m target) bool { return m.Subset != "" }

// touchService adds the Service, and the routes with such a mirror to it.
func (i *Index) touchService(name types.NamespacedName, t *touched, such func(target) bool) {
	if len(i.listeners) > 0 {
		if t.services == nil {
			t.services = map[types.NamespacedName]struct{}{}
		}
		t.services[name] = struct{}{}
	}
	for s := range i.targeting[name] {
		for _, m := range s.mirrors {
			if m.IsService() && types.NamespacedName(m.Service()) == name && such(m) {
				t.set().add(s.key())
				break
			}
		}
	}
}

// touchHost adds the routes with a mirror to the host, which may be a wildcard.
func (i *Index) touchHost(host string, into keySet) {
	for s := range i.naming[host] {
		into.add(s.key())
	}
}
