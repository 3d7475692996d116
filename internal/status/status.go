// Package status shows where the mirrors of a cluster's routes are, where policy wants them, and why.
package status

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/limits"
	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// Cluster provides the routes of a cluster and the state of their variants.
type Cluster interface {
	Routes() iter.Seq[*route.Route]
	Resolve(ctx context.Context, rt *route.Route) (policy.Snapshot, error)
}

// Namespaces reports whether admission decides about the routes of a namespace.
type Namespaces interface {
	Gated(ctx context.Context, namespace string) (bool, error)
}

// The states of a mirror: in the spec, or in the annotation.
const (
	active  = "active"
	limited = "limited"
	parked  = "parked"
)

// Route is a route with mirrors.
type Route struct {
	Kind      route.Kind `json:"kind"`
	Namespace string     `json:"namespace"`
	Name      string     `json:"name"`
	// AsDecided is set when the stored route is as policy wants it.
	AsDecided bool `json:"asDecided"`
	// Undecided is set when no mirrorgate answers for this kind of route, so that its mirrors stay where they are.
	Undecided bool `json:"undecided,omitempty"`
	// OptedOut is set when it is not, and admission is disabled in its namespace.
	OptedOut bool `json:"optedOut,omitempty"`
	// Action and Reason come from the decision.
	Action policy.Action `json:"action"`
	Reason policy.Reason `json:"reason"`
	// Manager is the field manager that wrote the rules, "" where it is not known, and Since the time at which the stored
	// form last changed: by that write, or by mirrorgate's touch.
	Manager string     `json:"manager,omitempty"`
	Since   *time.Time `json:"since,omitempty"`
	Mirrors []Mirror   `json:"mirrors"`
}

// Mirror is one mirror of a route.
type Mirror struct {
	// Field is the field path where its author wrote the mirror.
	Field string `json:"field"`
	// Target is the variant: "httpbin-v2:80", "httpbin.shop/v2".
	Target string `json:"target"`
	// Percent is the percentage of requests that it declares to copy, 0 to 100, and Stored the one with which it stands in
	// the spec: 0 for one that is parked.
	Percent float64 `json:"percent"`
	Stored  float64 `json:"stored"`
	// State is where the mirror is, Wanted where policy wants it: active, limited to a smaller percentage, or parked.
	State  string `json:"state"`
	Wanted string `json:"wanted"`
	// WantedPercent is the percentage with which policy wants it in the spec.
	WantedPercent float64 `json:"wantedPercent"`
	// Variant is the state of the variant: Unknown, Absent, Present or Ready.
	Variant string        `json:"variant"`
	Reason  policy.Reason `json:"reason"`
	Detail  string        `json:"detail,omitempty"`
	// Policy is the state of the MirrorPolicy that holds for the mirror, nil for none.
	Policy *Policy `json:"policy,omitempty"`
	// Misfit is why the mirror cannot move to where policy wants it, "" when it can.
	Misfit string `json:"misfit,omitempty"`
}

// Policy is the state of a MirrorPolicy for one mirror.
type Policy struct {
	Name string `json:"name"`
	// Step is the number of the current step of its ramp, from 1, and Steps that of all; 0 without a ramp. The step began
	// at Since. NextPercent is what the mirror may copy from NextAt on.
	Step        int        `json:"step,omitempty"`
	Steps       int        `json:"steps,omitempty"`
	Since       *time.Time `json:"since,omitempty"`
	NextPercent *float64   `json:"nextPercent,omitempty"`
	NextAt      *time.Time `json:"nextAt,omitempty"`
	// ExpiresAt is the time at which the mirror is parked for good, and Expired is set once it was.
	ExpiresAt *time.Time `json:"expiresAt,omitempty"`
	Expired   bool       `json:"expired,omitempty"`
}

// policyState returns the state of the policy for a mirror of a rule, nil for none.
func policyState(p *limits.Policy, declared float64) *Policy {
	if p == nil {
		return nil
	}
	s := &Policy{Name: p.Name, Step: p.Step, Steps: p.Steps, Since: p.Since, ExpiresAt: cmp.Or(p.ExpiresAt, p.Expires), Expired: p.Expired}
	if p.Next != nil {
		s.NextPercent = new(min(*p.Next, declared))
		if p.Since != nil && p.For > 0 {
			s.NextAt = new(p.Since.Add(p.For))
		}
	}
	return s
}

// Query selects routes. The zero value selects all.
type Query struct {
	// Namespace is "" for all.
	Namespace string
	// Names are those of the routes, none for all.
	Names []Name
	// Authors holds who wrote each route, nil where that is not known.
	Authors map[route.Key]Author
	// Labelled reports whether a route has the labels that are asked for; nil for all routes.
	Labelled func(route.Key) bool
}

// Name names a route. Kind is "" for every kind.
type Name struct {
	Kind route.Kind
	Name string
}

func (n Name) String() string {
	if n.Kind == "" {
		return n.Name
	}
	return strings.ToLower(string(n.Kind)) + "/" + n.Name
}

func (n Name) names(key route.Key) bool {
	return (n.Kind == "" || n.Kind == key.Kind) && n.Name == key.Name
}

// ParseName parses NAME or KIND/NAME, with a kind as kubectl accepts and prints it.
func ParseName(text string) (Name, error) {
	kind, name, found := strings.Cut(text, "/")
	if !found && text != "" {
		return Name{Name: text}, nil
	}
	for _, k := range []route.Kind{route.HTTPRoute, route.GRPCRoute, route.VirtualService} {
		singular := strings.ToLower(string(k))
		names := []string{singular, k.Resource(), singular + "." + k.Group(), k.Resource() + "." + k.Group()}
		if k == route.VirtualService {
			names = append(names, "vs")
		}
		if slices.Contains(names, strings.ToLower(kind)) && name != "" {
			return Name{Kind: k, Name: name}, nil
		}
	}
	return Name{}, fmt.Errorf("route: Invalid value: %q: must be NAME, httproute/NAME, grpcroute/NAME or virtualservice/NAME", text)
}

func (q Query) selects(key route.Key) bool {
	named := len(q.Names) == 0 || slices.ContainsFunc(q.Names, func(n Name) bool { return n.names(key) })
	return named && (q.Namespace == "" || q.Namespace == key.Namespace) && (q.Labelled == nil || q.Labelled(key))
}

// Missing returns the names of a query that none of the routes has.
func (q Query) Missing(routes []Route) []Name {
	return slices.DeleteFunc(slices.Clone(q.Names), func(n Name) bool {
		return slices.ContainsFunc(routes, func(r Route) bool { return n.names(r.key()) })
	})
}

func (r Route) key() route.Key { return route.Key{Kind: r.Kind, Namespace: r.Namespace, Name: r.Name} }

// Synced reports whether every mirror is where policy wants it, and stays there.
func (r Route) Synced() bool { return r.AsDecided && !r.Undecided }

// Of returns the routes with mirrors that a query selects, sorted by namespace, kind and name. The error
// joins the errors of routes that could not be decided about.
func Of(ctx context.Context, c Cluster, namespaces Namespaces, deciding Deciding, q Query) ([]Route, error) {
	var routes []Route
	var failures []error
	for rt := range c.Routes() {
		if !q.selects(rt.Key) {
			continue
		}
		r, err := of(ctx, c, rt)
		if err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", rt.Key, err))
		}
		r.Undecided = !deciding.decides(r.Kind)
		if err == nil && !r.AsDecided {
			// The error is ignored: the user may lack the right to read namespaces.
			gated, err := namespaces.Gated(ctx, r.Namespace)
			r.OptedOut = err == nil && !gated
		}
		if author, known := q.Authors[rt.Key]; known {
			r.Manager, r.Since = author.Manager, author.Since
		}
		if len(r.Mirrors) > 0 {
			routes = append(routes, r)
		}
	}
	slices.SortFunc(routes, func(a, b Route) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(string(a.Kind), string(b.Kind)), strings.Compare(a.Name, b.Name))
	})
	return routes, errors.Join(failures...)
}

// of decides about one route. Strict mode and the limits of the server's file do not matter, because they deny writes but
// move no mirror.
func of(ctx context.Context, c Cluster, rt *route.Route) (Route, error) {
	snap, err := c.Resolve(ctx, rt)
	if err != nil {
		return Route{}, err
	}
	d, err := policy.Decide(rt, snap, policy.Config{})
	if err != nil {
		return Route{}, err
	}
	r := Route{
		Kind: rt.Kind, Namespace: rt.Namespace, Name: rt.Name,
		AsDecided: len(d.Plan.Operations) == 0 && len(d.Plan.Misfits) == 0,
		Action:    d.Action, Reason: d.Reason,
	}
	held := map[*route.Mirror]*limits.Policy{}
	for rule, m := range rt.Every {
		held[m] = limits.PolicyOf(rule, snap.Scope.Policies)
	}
	for _, v := range d.Verdicts {
		m, known := v.Mirror, snap.Variant(v.Mirror.Target)
		wanted := m.Percentage.Percent()
		if v.Park || v.Share > 0 {
			wanted = v.Share.Percent()
		}
		r.Mirrors = append(r.Mirrors, Mirror{
			Field: m.Path, Target: policy.TargetName(m), Percent: m.Percentage.Percent(), Stored: m.Copies(),
			State: state(m.Parked, m.Limit()), Wanted: state(v.Park, v.Share), WantedPercent: wanted,
			Variant: known.State.String(), Reason: v.Reason, Detail: v.Detail, Misfit: d.Plan.Misfits[m.ID],
			Policy: policyState(held[m], m.Percentage.Percent()),
		})
	}
	return r, nil
}

func state(isParked bool, share route.Share) string {
	switch {
	case isParked:
		return parked
	case share > 0:
		return limited
	default:
		return active
	}
}
