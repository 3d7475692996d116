package dataplane

// The copy settings of MirrorPolicies: they become those of the mirrors in the rules of routes, as a file has them.

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"time"

	kjson "sigs.k8s.io/json"

	"github.com/mirrorgate/mirrorgate/api/v1alpha1"
	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// copyPolicy is the part of a MirrorPolicy that proxies need.
type copyPolicy struct {
	name    Name
	created time.Time
	targets []copyTarget
	// settings are those of each mirror, and fault says why they cannot be used: then there are no copies, since those that
	// the settings forbid must not leave.
	settings spec.Mirror
	fault    string
}

// copyTarget is a route, or the rule of one.
type copyTarget struct {
	route   RouteName
	section string
}

func parseCopyPolicy(raw []byte) (*copyPolicy, error) {
	var o v1alpha1.MirrorPolicy
	if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &o); err != nil {
		return nil, err
	}
	p := &copyPolicy{name: Name{Namespace: o.Namespace, Name: o.Name}, created: o.CreationTimestamp.Time}
	for _, ref := range o.Spec.TargetRefs {
		for _, kind := range []Kind{KindHTTPRoute, KindGRPCRoute} {
			if ref.Kind == kind.String() {
				p.targets = append(p.targets, copyTarget{RouteName{kind, Name{Namespace: o.Namespace, Name: ref.Name}}, ref.SectionName})
			}
		}
	}
	p.settings = settingsOf(o.Spec.Copy)
	if err := CheckCopy(o.Spec.Copy); err != nil {
		p.fault = err.Error()
	}
	return p, nil
}

// settingsOf returns the settings of a mirror.
func settingsOf(c *v1alpha1.Copy) (out spec.Mirror) {
	if c == nil {
		return out
	}
	for _, method := range c.Methods {
		out.Methods = append(out.Methods, string(method))
	}
	if h := c.Headers; h != nil {
		out.Headers = &spec.HeaderModifier{Set: fields(h.Set), Add: fields(h.Add)}
		for _, name := range h.Remove {
			out.Headers.Remove = append(out.Headers.Remove, string(name))
		}
	}
	if k := c.Keyed; k != nil {
		out.Keyed = &spec.Keyed{Header: string(k.Header), Cookie: string(k.Cookie)}
	}
	if n := c.MaxPerSecond; n != nil {
		out.MaxPerSecond = new(int(*n))
	}
	if c.Timeout != nil {
		out.Timeout = c.Timeout.Duration.String()
	}
	out.MaxBody, out.ShadowHost = spec.Size(c.MaxBody), c.HostSuffix
	return out
}

func fields(from []v1alpha1.CopyHeader) (out []spec.Header) {
	for _, h := range from {
		out = append(out, spec.Header{Name: string(h.Name), Value: h.Value})
	}
	return out
}

// CheckCopy returns why a proxy cannot use copy settings, nil if it can: the schema does not know every name that a proxy
// keeps to itself.
func CheckCopy(c *v1alpha1.Copy) error {
	const at = "listeners[0].rules[0].filters[0].requestMirror.mirrorgate."
	_, problems := routing.Compile(&spec.Table{
		Listeners: []spec.Listener{{Address: "127.0.0.1:1", Rules: []spec.Rule{{
			Filters: []spec.Filter{{Type: "RequestMirror", RequestMirror: &spec.RequestMirror{
				BackendRef: spec.BackendRef{Name: "variant", Port: 1}, Mirrorgate: settingsOf(c),
			}}},
			BackendRefs: []spec.BackendRef{{Name: "primary", Port: 1}},
		}}}},
		Services: map[string]spec.Service{"primary": {1: {}}, "variant": {1: {}}},
	})
	var faults []error
	for _, p := range problems {
		if !p.Warning {
			faults = append(faults, errors.New("copy."+strings.Replace(p.String(), at, "", 1)))
		}
	}
	return errors.Join(faults...)
}

// putPolicy enters a policy, or takes it out where p is nil.
func (x *Index) putPolicy(name Name, p *copyPolicy, c *changes) {
	old := x.policies[name]
	if delete(x.policies, name); p != nil {
		x.policies[name] = p
	}
	concerned := map[RouteName]bool{}
	for _, policy := range []*copyPolicy{old, p} {
		if policy == nil {
			continue
		}
		for _, t := range policy.targets {
			concerned[t.route] = true
			x.byRoute[t.route] = slices.DeleteFunc(x.byRoute[t.route], func(o *copyPolicy) bool { return o == old || o == p })
			if policy == p {
				x.byRoute[t.route] = append(x.byRoute[t.route], p)
			}
			if len(x.byRoute[t.route]) == 0 {
				delete(x.byRoute, t.route)
			}
		}
	}
	for route := range concerned {
		if r := x.routes[route]; r != nil {
			x.reresolve(r, c)
		}
	}
}

// copyPolicyOf returns the policy for a rule, nil for none: the oldest one that names the rule, or else the oldest one for
// the whole route.
func (x *Index) copyPolicyOf(r RouteName, section string) (best *copyPolicy) {
	named := false
	for _, p := range x.byRoute[r] {
		for _, t := range p.targets {
			names := t.section != "" && t.section == section
			if t.route != r || t.section != "" && !names || named && !names {
				continue
			}
			if best == nil || names && !named || p.precedes(best) {
				best, named = p, named || names
			}
		}
	}
	return best
}

func (p *copyPolicy) precedes(other *copyPolicy) bool {
	return cmp.Or(p.created.Compare(other.created), compareNames(p.name, other.name)) < 0
}

// applyCopy gives the mirrors among filters the settings of a policy, or takes them out where these cannot be used.
func (p *copyPolicy) applyCopy(filters []spec.Filter) []spec.Filter {
	if p == nil {
		return filters
	}
	out := slices.Clone(filters)
	if p.fault != "" {
		return slices.DeleteFunc(out, func(f spec.Filter) bool { return f.RequestMirror != nil })
	}
	for i := range out {
		if m := out[i].RequestMirror; m != nil {
			set := *m
			set.Mirrorgate = p.settings
			out[i].RequestMirror = &set
		}
	}
	return out
}

// Serves reports whether proxies of mirrorgate serve a route, and whether something else may serve it too.
func (x *Index) Serves(name RouteName) (ours, others bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	r := x.routes[name]
	if r == nil {
		return false, true
	}
	return len(r.ports) > 0, len(r.parents) != len(r.ports)
}
