package webhook

// Failing open: the API server denies a write when a webhook answers with an error, whatever the failure
// policy is, so every handler turns its errors and panics into an allowed write with a warning.

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/webhook/internal/play"
)

// failOpen wraps one stage of admission.
type failOpen struct {
	stage   string
	metrics *Metrics
	// stored is the clause of the warning that names the part of the object that is left as it is.
	stored string
	handle func(context.Context, *admission.Request) (admission.Response, error)
}

// Handle answers a request, and counts faults and time.
func (f failOpen) Handle(ctx context.Context, req admission.Request) (resp admission.Response) {
	start := time.Now()
	defer func() {
		if p := recover(); p != nil {
			resp = f.open(ctx, &req, "panic", fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
		f.metrics.duration.WithLabelValues(f.stage).Observe(time.Since(start).Seconds())
	}()
	resp, err := f.handle(ctx, &req)
	if err != nil {
		return f.open(ctx, &req, cause(err), err)
	}
	return resp
}

func (f failOpen) open(ctx context.Context, req *admission.Request, cause string, err error) admission.Response {
	logf.FromContext(ctx).Error(err, "Admission failed open", "stage", f.stage, "kind", req.Kind.Kind, "namespace", req.Namespace, "name", req.Name)
	if observe := play.Observer(ctx); observe != nil {
		observe(play.Decision{Err: err})
	}
	f.metrics.errors.WithLabelValues(f.stage, cause).Inc()
	resp := allow(policy.Skip, "", policy.Warning("mirrorgate could not decide (%s); %s stored as written", cause, f.stored)).Response
	resp.AuditAnnotations = map[string]string{"decision": "error", "reason": cause}
	return resp
}

// cause returns the short, constant name of an internal error.
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
