package webhook

// The Gate: its options, its two handlers, and the answers of both.

import (
	"context"
	"net/http"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
	"github.com/mirrorgate/mirrorgate/webhook/internal/play"
)

// FieldManager is the field manager of the controller's touches. A write under this name is decided on even
// when it changes nothing.
const FieldManager = wellknown.FieldManager

// Policy holds the rules that a cluster's operator sets: strictness and limits.
type Policy = policy.Config

// Limits bound the mirrors of the routes in a namespace.
type Limits = policy.Limits

// The handlers, as metric labels.
const (
	stageMutate   = "mutate"
	stageValidate = "validate"
	stageService  = "service"
)

// resolver finds out the state of the variants behind a route's mirrors.
type resolver interface {
	Resolve(ctx context.Context, rt *route.Route) (policy.Snapshot, error)
}

// Options configure a Gate. The zero value is valid.
type Options struct {
	// Policy holds the operator's rules; the zero value has no limits.
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

// New returns a Gate that resolves variants with r.
func New(r resolver, opts Options) *Gate {
	if opts.Metrics == nil {
		opts.Metrics = NewMetrics(nil)
	}
	return &Gate{resolver: r, opts: opts}
}

// Mutator returns the handler of the mutating webhook.
func (g *Gate) Mutator() admission.Handler { return g.handler(stageMutate, g.mutate) }

// Validator returns the handler of the validating webhook.
func (g *Gate) Validator() admission.Handler { return g.handler(stageValidate, g.validate) }

// Register mounts both handlers on a webhook server.
func (g *Gate) Register(server interface{ Register(string, http.Handler) }) {
	server.Register(MutatePath, newReviews(g.Mutator(), processLimit))
	server.Register(ValidatePath, newReviews(g.Validator(), processLimit))
}

// handler makes a handler of a stage that fails open, counts its outcomes, and notes them for the audit log.
func (g *Gate) handler(stage string, decide func(context.Context, *admission.Request) (outcome, error)) admission.Handler {
	return failOpen{
		stage: stage, metrics: g.opts.Metrics, stored: "mirrors of this route are",
		handle: func(ctx context.Context, req *admission.Request) (admission.Response, error) {
			out, err := decide(ctx, req)
			if err != nil {
				return admission.Response{}, err
			}
			g.opts.Metrics.decided(req, out)
			if observe := play.Observer(ctx); observe != nil {
				observe(out.whole())
			}
			if out.action != policy.None || out.reason != policy.NoMirror {
				out.AuditAnnotations = map[string]string{"decision": string(out.action), "reason": string(out.reason)}
			}
			return out.Response, nil
		},
	}
}

// outcome is an answer, and the decision behind it.
type outcome struct {
	admission.Response
	action policy.Action
	reason policy.Reason
	// decision is the zero value where policy was not asked.
	decision policy.Decision
	// notices are the warnings of the answer, whole.
	notices []policy.Notice
	// tooLong is set where a list of the route is too long to be read.
	tooLong *route.TooLongError
}

func allow(action policy.Action, reason policy.Reason, warnings ...string) outcome {
	return outcome{
		Response: admission.Response{AdmissionResponse: admissionv1.AdmissionResponse{Allowed: true, Warnings: warnings}},
		action:   action, reason: reason,
	}
}

// whole returns the outcome for an observer of the handler.
func (o *outcome) whole() play.Decision {
	d := play.Decision{Action: o.action, Reason: o.reason, Verdicts: o.decision.Verdicts, Misfits: o.decision.Plan.Misfits}
	for _, n := range o.notices {
		d.Warnings = append(d.Warnings, n.Text())
	}
	return d
}

func join(texts []string) string { return strings.Join(slices.Compact(texts), "; ") }
