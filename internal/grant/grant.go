// Package grant reads the parts of ReferenceGrants that permit routes to refer to Services.
package grant

import (
	"slices"

	kjson "sigs.k8s.io/json"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// Source is the origin of a reference: routes of a kind in a namespace. It is comparable.
type Source struct {
	Kind      route.Kind
	Namespace string
}

// Grant is a ReferenceGrant. The zero value allows nothing.
type Grant struct {
	from []Source
	// all is set when every Service is granted, else services names them.
	all      bool
	services []string
}

// Parse reads a ReferenceGrant from its JSON. Entries for other kinds than routes and Services are left out.
func Parse(raw []byte) (*Grant, error) {
	var o struct {
		Spec struct {
			From []struct {
				Group     string `json:"group"`
				Kind      string `json:"kind"`
				Namespace string `json:"namespace"`
			} `json:"from"`
			To []struct {
				Group string `json:"group"`
				Kind  string `json:"kind"`
				Name  string `json:"name"`
			} `json:"to"`
		} `json:"spec"`
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &o); err != nil {
		return nil, err
	}
	g := &Grant{}
	for _, from := range o.Spec.From {
		if from.Group == route.GatewayGroup {
			g.from = append(g.from, Source{route.Kind(from.Kind), from.Namespace})
		}
	}
	for _, to := range o.Spec.To {
		switch {
		case to.Group != "" || to.Kind != route.TargetService:
		case to.Name == "":
			g.all = true
		default:
			g.services = append(g.services, to.Name)
		}
	}
	return g, nil
}

// From returns the sources that may refer to Services in the grant's namespace.
func (g *Grant) From() []Source { return g.from }

// Allows reports whether a source may refer to a Service in the grant's namespace.
func (g *Grant) Allows(from Source, service string) bool {
	return (g.all || slices.Contains(g.services, service)) && slices.Contains(g.from, from)
}

// Equal reports whether both allow the same. Either may be nil.
func (g *Grant) Equal(other *Grant) bool {
	if g == nil || other == nil {
		return g == other
	}
	return g.all == other.all && slices.Equal(g.from, other.from) && slices.Equal(g.services, other.services)
}
