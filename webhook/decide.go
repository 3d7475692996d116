package webhook

// From a request to a decision, for both handlers of a Gate.

import (
	"context"
	"encoding/json"
	"errors"
	"sync"

	admissionv1 "k8s.io/api/admission/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// read decodes a request's object. previous returns the stored version in which lost entries are looked up; it
// is nil for a final object, whose lost entries stay lost. The second result is the outcome where there is
// nothing to decide.
func (g *Gate) read(req *admission.Request, previous func() *route.Route) (*route.Route, *outcome) {
	done := func(reason policy.Reason) (*route.Route, *outcome) {
		out := allow(policy.None, reason)
		return nil, &out
	}
	if req.Operation != admissionv1.Create && req.Operation != admissionv1.Update || !route.MayMirror(req.Object.Raw) {
		return done(policy.NoMirror)
	}
	rt, err := route.Decode(req.Object.Raw, route.Options{
		ClusterDomain: g.opts.ClusterDomain, Namespace: req.Namespace,
		Previous: previous,
	})
	switch {
	case err != nil:
		// The schema refuses an object that is no route, after the webhooks and with a better message.
		out := allow(policy.None, policy.Unreadable, policy.Warning("mirrorgate cannot read this route, its mirrors are not checked: %v", err))
		out.tooLong, _ = errors.AsType[*route.TooLongError](err)
		return nil, &out
	case rt.Deleting:
		return done(policy.Deleting)
	case !rt.Concerns():
		return done(policy.NoMirror)
	default:
		return rt, nil
	}
}

// oldRoute decodes the stored version of a route at its first call. It returns nil for one that cannot be read or that
// never had a mirror.
type oldRoute func() *route.Route

func (g *Gate) old(req *admission.Request) oldRoute {
	return sync.OnceValue(func() *route.Route { return g.readOld(req) })
}

func (g *Gate) readOld(req *admission.Request) *route.Route {
	if req.Operation != admissionv1.Update || !route.MayMirror(req.OldObject.Raw) {
		return nil
	}
	old, err := route.Decode(req.OldObject.Raw, route.Options{ClusterDomain: g.opts.ClusterDomain, Namespace: req.Namespace})
	if err != nil {
		return nil
	}
	return old
}

// decide resolves a route's variants and applies policy.
func (g *Gate) decide(ctx context.Context, stage string, old oldRoute, rt *route.Route) (policy.Decision, error) {
	snap, err := g.resolver.Resolve(ctx, rt)
	if err != nil {
		return policy.Decision{}, err
	}
	for _, v := range snap.Variants {
		if v.State == policy.Unknown {
			g.opts.Metrics.errors.WithLabelValues(stage, "variant unknown").Inc()
		}
	}
	if snap.Unsure() {
		snap.KeepParked(old())
	}
	return policy.Decide(rt, snap, g.opts.Policy)
}

// byController reports whether the controller made the write, to have the route decided on again.
func byController(req *admission.Request) bool {
	var options struct {
		FieldManager string `json:"fieldManager"`
	}
	return json.Unmarshal(req.Options.Raw, &options) == nil && options.FieldManager == FieldManager
}
