package webhooktest

// Results of writes of routes.

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/runtime"
	kjson "sigs.k8s.io/json"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/webhook/internal/play"
)

// Result is the result of one write of a route.
type Result struct {
	Kind, Namespace, Name string
	// Action and Reason sum the decision up. Where the webhooks are not called, because of the namespace's
	// labels or of Options.Routes, they are None and "", and there are no Mirrors.
	Action Action
	Reason Reason
	// Stored is the route in JSON as it is stored after the write: the earlier one when the write was denied,
	// nil when there was none.
	Stored []byte
	// Mirrors are the mirrors of the route that was written, in the order of its author.
	Mirrors []Mirror
	// Warnings are for the author of the write, whole. The API server passes on 256 characters of each at most.
	Warnings []string
	// Denied is why the write is refused, nil when it is not. It is a *errors.StatusError of
	// k8s.io/apimachinery/pkg/api/errors, with one cause for each contradiction.
	Denied error
}

// State is the place of a mirror.
type State string

// The states of a mirror.
const (
	// Active mirrors are in the stored spec as they were written.
	Active State = "active"
	// Limited mirrors are in the stored spec with a smaller percentage than was written, because a MirrorLimit or a
	// MirrorPolicy allows no more; Detail names it.
	Limited State = "limited"
	// Parked mirrors are kept in an annotation, and copy nothing.
	Parked State = "parked"
)

// Mirror is one mirror of a route.
type Mirror struct {
	// Path is the field path of the mirror where its author wrote it: spec.rules[0].filters[1].requestMirror.
	Path string
	// Target is the Service or host with subset and port: shop-v2:80.
	Target string
	State  State
	// Reason is why the mirror has this state, and Detail a clause for people, which may be empty.
	Reason Reason
	Detail string
}

// write sends a route through the webhooks and stores it.
func (c *Cluster) write(ctx context.Context, o object, fieldManager string) (Result, error) {
	old := c.objects[o.key]
	r := Result{Kind: o.kind, Namespace: o.namespace, Name: o.name, Action: None, Stored: old.raw}
	if !c.admits(o.key) {
		r.Stored = o.raw
		return r, c.store(o)
	}
	req, err := play.Request(o.raw, old.raw)
	if err != nil {
		return Result{}, fmt.Errorf("%s: %w", o.key, err)
	}
	req.Options = runtime.RawExtension{Raw: fmt.Appendf(nil, `{"fieldManager":%q}`, fieldManager)}
	var decisions []play.Decision
	ctx = play.Observe(ctx, func(d play.Decision) { decisions = append(decisions, d) })
	out, err := play.Write(ctx, req, c.gate.Mutator(), c.gate.Validator())
	if err != nil {
		return Result{}, fmt.Errorf("%s: %w", o.key, err)
	}
	for _, d := range decisions {
		if d.Err != nil {
			return Result{}, fmt.Errorf("%s: %w", o.key, d.Err)
		}
		for _, w := range d.Warnings {
			if !slices.Contains(r.Warnings, w) {
				r.Warnings = append(r.Warnings, w)
			}
		}
	}
	first, last := decisions[0], decisions[len(decisions)-1]
	r.Action, r.Reason, r.Mirrors = first.Action, first.Reason, mirrors(last)
	if out.Stored == nil {
		r.Denied, r.Action, r.Reason = out.Denied, last.Action, last.Reason
		return r, nil
	}
	if fieldManager == "" && unchanged(o, old) {
		r.Warnings = nil // the API server does not call the webhooks for such a write
	}
	if o, err = decode(out.Stored); err != nil {
		return Result{}, err
	}
	r.Stored = o.raw
	return r, c.store(o)
}

// mirrors returns the mirrors that a handler decided on.
func mirrors(d play.Decision) []Mirror {
	var out []Mirror
	for _, v := range d.Verdicts {
		m := Mirror{Path: v.Mirror.Path, Target: policy.TargetName(v.Mirror), State: Active, Reason: v.Reason, Detail: v.Detail}
		switch {
		case v.Mirror.Parked:
			m.State = Parked
		case v.Mirror.Limit() > 0:
			m.State = Limited
		}
		if why := d.Misfits[v.Mirror.ID]; why != "" {
			m.Reason, m.Detail = WouldNotFit, why
		}
		out = append(out, m)
	}
	return out
}

// unchanged reports whether a write changes neither the spec of a route nor mirrorgate's annotations, as the
// match conditions of the webhooks do.
func unchanged(o, old object) bool {
	for _, name := range []string{route.ParkedAnnotation, route.GateAnnotation, route.VariantsAnnotation} {
		if o.annotations[name] != old.annotations[name] {
			return false
		}
	}
	var a, b struct {
		Spec any `json:"spec"`
	}
	return kjson.UnmarshalCaseSensitivePreserveInts(o.raw, &a) == nil &&
		kjson.UnmarshalCaseSensitivePreserveInts(old.raw, &b) == nil && reflect.DeepEqual(a, b)
}
