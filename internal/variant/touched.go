package variant

// Which routes an event concerns.

import (
	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

type keySet map[route.Key]struct{}

func (s keySet) add(key route.Key) { s[key] = struct{}{} }

// touched collects the routes that an event concerns.
type touched struct{ routes keySet }

func (t *touched) set() keySet {
	if t.routes == nil {
		t.routes = keySet{}
	}
	return t.routes
}

func anyMirror(target) bool { return true }

// subsetMirror holds for the mirrors that pods' labels matter to.
func subsetMirror(m target) bool { return m.Subset != "" }

// touchService adds the routes with such a mirror to the Service.
func (i *Index) touchService(name types.NamespacedName, into keySet, such func(target) bool) {
	for s := range i.targeting[name] {
		for _, m := range s.mirrors {
			if m.IsService() && types.NamespacedName(m.Service()) == name && such(m) {
				into.add(s.key())
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
