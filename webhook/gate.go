package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// FieldManager is the field manager of the controller's touches. A write under
// this name is decided on even when it changes nothing.
const FieldManager = wellknown.FieldManager

// Policy is what a cluster's operator decides: strictness and limits.
type Policy = policy.Config

// Limits bound the mirrors of the routes in a namespace.
type Limits = policy.Limits

// The handlers, as metric labels.
const (
	stageMutate   = "mutate"
	stageValidate = "validate"
	stageService  = "service"
)

// resolver finds out what the cluster knows about a route's mirrors.
type resolver interface {
	Resolve(ctx context.Context, doc *route.Route) (policy.Snapshot, error)
}

// Options configure a Gate. The zero value, with a resolver, is valid.
type Options struct {
	// Policy is what the operator decides; the zero value has no limits.
	Policy Policy
	// ClusterDomain is the cluster's DNS domain, "cluster.local" when empty.
	ClusterDomain string
	// Metrics counts decisions; nil counts nothing.
	Metrics *Metrics
}

// Gate decides on the mirrors of every route that is written.
type Gate struct {
	resolver resolver
	opts     Options
}

// New returns a Gate that asks r about the cluster.
func New(r resolver, opts Options) *Gate {
	if opts.Metrics == nil {
		opts.Metrics = NewMetrics(nil)
	}
	return &Gate{resolver: r, opts: opts}
}

// Mutator returns the handler of the mutating webhook.
func (g *Gate) Mutator() admission.Handler { return g.open(stageMutate, g.mutate) }

// Validator returns the handler of the validating webhook.
func (g *Gate) Validator() admission.Handler { return g.open(stageValidate, g.validate) }

// Register mounts both handlers on a webhook server.
func (g *Gate) Register(server interface{ Register(string, http.Handler) }) {
	in := newIntake()
	server.Register(MutatePath, newReviews(g.Mutator(), in))
	server.Register(ValidatePath, newReviews(g.Validator(), in))
}

// outcome is an answer and what it was counted as.
type outcome struct {
	admission.Response
	action policy.Action
	reason policy.Reason
}

func allow(action policy.Action, reason policy.Reason, warnings ...string) outcome {
	return outcome{
		Response: admission.Response{AdmissionResponse: admissionv1.AdmissionResponse{Allowed: true, Warnings: warnings}},
		action:   action, reason: reason,
	}
}

// open makes a handler that fails open: errors and panics end in an allowed
// write with a warning.
func (g *Gate) open(stage string, handle func(context.Context, *admission.Request) (outcome, error)) admission.Handler {
	return admission.HandlerFunc(func(ctx context.Context, req admission.Request) (resp admission.Response) {
		start := time.Now()
		defer func() {
			if p := recover(); p != nil {
				logf.FromContext(ctx).Error(fmt.Errorf("panic: %v", p), "admission failed open", "stage", stage, "stack", string(debug.Stack()))
				resp = g.failedOpen(stage, "panic")
			}
			g.opts.Metrics.duration.WithLabelValues(stage).Observe(time.Since(start).Seconds())
		}()
		out, err := handle(ctx, &req)
		if err != nil {
			logf.FromContext(ctx).Error(err, "admission failed open", "stage", stage, "kind", req.Kind.Kind, "namespace", req.Namespace, "name", req.Name)
			return g.failedOpen(stage, cause(err))
		}
		g.opts.Metrics.decided(&req, out)
		if out.action == policy.None && out.reason == policy.NoMirror {
			return out.Response
		}
		out.AuditAnnotations = map[string]string{"decision": string(out.action), "reason": string(out.reason)}
		return out.Response
	})
}

func (g *Gate) failedOpen(stage, why string) admission.Response {
	g.opts.Metrics.errors.WithLabelValues(stage, why).Inc()
	resp := allow(policy.Skip, "", policy.Warning("mirrorgate could not decide (%s); mirrors of this route are stored as written", why)).Response
	resp.AuditAnnotations = map[string]string{"decision": "error", "reason": why}
	return resp
}

// cause is the short, constant name of an internal error.
func cause(err error) string {
	var named interface{ Cause() string }
	switch {
	case errors.As(err, &named):
		return named.Cause()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return "timeout"
	default:
		return "internal error"
	}
}

// read decodes a request's object. The second result is set when there is
// nothing to decide.
func (g *Gate) read(req *admission.Request) (*route.Route, *outcome) {
	done := func(reason policy.Reason) (*route.Route, *outcome) {
		out := allow(policy.None, reason)
		return nil, &out
	}
	if req.Operation != admissionv1.Create && req.Operation != admissionv1.Update || !route.MayMirror(req.Object.Raw) {
		return done(policy.NoMirror)
	}
	doc, err := route.Decode(req.Object.Raw, route.Options{
		ClusterDomain: g.opts.ClusterDomain, Namespace: req.Namespace,
		Previous: sync.OnceValue(func() *route.Route { return g.readOld(req) }),
	})
	switch {
	case err != nil:
		// The schema decides on what is no route, after us and with a better
		// message.
		out := allow(policy.None, policy.Unreadable, policy.Warning("mirrorgate cannot read this route, its mirrors are not checked: %v", err))
		return nil, &out
	case doc.Deleting:
		return done(policy.Deleting)
	case !doc.Concerns():
		return done(policy.NoMirror)
	default:
		return doc, nil
	}
}

// readOld decodes the stored version of the route. One that cannot be read, or
// that never had a mirror, has nothing to add.
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
func (g *Gate) decide(ctx context.Context, stage string, req *admission.Request, doc *route.Route) (policy.Decision, error) {
	snap, err := g.resolver.Resolve(ctx, doc)
	if err != nil {
		return policy.Decision{}, err
	}
	stay := false
	for _, v := range snap.Variants {
		stay = stay || v.InGrace || v.State == policy.Unknown
		if v.State == policy.Unknown {
			g.opts.Metrics.errors.WithLabelValues(stage, "variant unknown").Inc()
		}
	}
	if stay {
		g.keepParked(req, snap)
	}
	return policy.Decide(doc, snap, g.opts.Policy)
}

// keepParked notes which mirrors the stored route has parked: an author who
// applies a manifest again must not make them active just because nobody can be
// asked about the variant, or because it was ready a moment ago.
func (g *Gate) keepParked(req *admission.Request, snap policy.Snapshot) {
	old := g.readOld(req)
	if old == nil {
		return
	}
	for _, m := range old.Every {
		target := m.Target.WithoutPort()
		if v, ok := snap.Variants[target]; ok && m.Parked {
			v.WasParked = true
			snap.Variants[target] = v
		}
	}
}

// maxCauses bounds how many findings an answer lists: a route of a megabyte may
// have thousands.
const maxCauses = 100

// denied answers with every finding, as the API server's own validation does.
func denied(req *admission.Request, findings []policy.Finding, warnings []string) outcome {
	out := allow(policy.Deny, findings[0].Reason, warnings...)
	status := &metav1.Status{
		Status: metav1.StatusFailure,
		Code:   422,
		Reason: metav1.StatusReasonInvalid,
		Details: &metav1.StatusDetails{
			Name: req.Name, Group: req.Kind.Group, Kind: req.Kind.Kind,
		},
	}
	var texts []string
	for i, f := range findings {
		if i == maxCauses {
			texts = append(texts, fmt.Sprintf("and %d more", len(findings)-i))
			break
		}
		texts = append(texts, f.Error())
		status.Details.Causes = append(status.Details.Causes, metav1.StatusCause{
			Type:    metav1.CauseTypeFieldValueInvalid,
			Field:   f.Field,
			Message: fmt.Sprintf("Invalid value: %s: %s: %s", f.Value, f.Reason, f.Message),
		})
	}
	status.Message = join(texts)
	out.Allowed = false
	out.Result = status
	return out
}
