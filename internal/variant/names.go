package variant

// The routes that name an object, in little memory. A route of a megabyte may name thousands of Services and hosts in
// a few bytes each, for which a map of sets of routes takes hundreds of bytes. So a name is kept as a hash with a seed
// that nobody knows: names that share one would cause a needless decision, and never a wrong one.

import (
	"hash/maphash"
	"iter"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/variant/hosts"
)

// A naming is the way in which a route names an object.
type naming byte

const (
	byService  naming = iota // it has a mirror to this Service
	bySubset                 // it has a mirror to a subset of this Service
	byHost                   // it is a VirtualService with a mirror to this host, which is no Service
	byCrossing               // it needs a ReferenceGrant
	byClients                // it serves the clients of this host: the ports of these matter
	byGateway                // this gateway serves it
	byOwner                  // an owner with this uid manages it
	byDelegate               // it delegates to this VirtualService
)

var nameSeed = maphash.MakeSeed()

// key returns the hash of a name.
func (n naming) key(parts ...string) uint64 {
	var h maphash.Hash
	h.SetSeed(nameSeed)
	_ = h.WriteByte(byte(n))
	for _, part := range parts {
		_, _ = h.WriteString(part)
		_ = h.WriteByte(0)
	}
	return h.Sum64()
}

func (n naming) of(name types.NamespacedName) uint64 { return n.key(name.Namespace, name.Name) }

func crossingKey(into string, from grantee) uint64 {
	return byCrossing.key(into, string(from.Kind), from.Namespace)
}

func clientsKey(p hosts.Pattern) uint64 {
	if p.Wild {
		return byClients.key(p.Text, "*")
	}
	return byClients.key(p.Text)
}

func gatewayNameKey(k gatewayKey) uint64 {
	return byGateway.key(k.kind.String(), k.Namespace, k.Name)
}

// routesByName finds routes by the keys of their names. The zero value is empty.
type routesByName struct {
	// first has the place in entries of the first entry of a key.
	first   map[uint64]uint32
	entries []nameEntry
	// free is the first entry that is not used, 0 for none. Entry 0 is never used.
	free uint32

	routes []*storedRoute // by their numbers
	unused []uint32       // numbers
}

// nameEntry is one route of a key.
type nameEntry struct{ route, next uint32 }

// enter enters a route under all its names.
func (r *routesByName) enter(s *storedRoute) {
	if r.first == nil {
		r.first, r.entries = map[uint64]uint32{}, make([]nameEntry, 1)
	}
	if last := len(r.unused) - 1; last >= 0 {
		s.number, r.unused = r.unused[last], r.unused[:last]
		r.routes[s.number] = s
	} else {
		s.number, r.routes = uint32(len(r.routes)), append(r.routes, s) //nolint:gosec // There is no memory for 2^32 routes.
	}
	for _, key := range s.names {
		at, entry := r.free, nameEntry{s.number, r.first[key]}
		if at != 0 {
			r.free = r.entries[at].next
			r.entries[at] = entry
		} else {
			at, r.entries = uint32(len(r.entries)), append(r.entries, entry) //nolint:gosec // Nor for as many names.
		}
		r.first[key] = at
	}
}

// leave removes a route.
func (r *routesByName) leave(s *storedRoute) {
	for _, key := range s.names {
		before, at := uint32(0), r.first[key]
		for r.entries[at].route != s.number {
			before, at = at, r.entries[at].next
		}
		switch next := r.entries[at].next; {
		case before != 0:
			r.entries[before].next = next
		case next != 0:
			r.first[key] = next
		default:
			delete(r.first, key)
		}
		r.entries[at] = nameEntry{next: r.free}
		r.free = at
	}
	r.routes[s.number] = nil
	r.unused = append(r.unused, s.number)
	if len(r.unused) == len(r.routes) {
		*r = routesByName{}
	}
}

// of yields the routes of a key.
func (r *routesByName) of(key uint64) iter.Seq[*storedRoute] {
	return func(yield func(*storedRoute) bool) {
		for at := r.first[key]; at != 0; at = r.entries[at].next {
			if !yield(r.routes[r.entries[at].route]) {
				return
			}
		}
	}
}
