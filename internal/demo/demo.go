// Package demo shows mirrorgate at work in a minute: it plays the tutorials that people set up traffic
// mirroring by, without a cluster (RunLocal) or in a cluster that mirrorgate serves (Run).
//
// In a cluster it acts as kubectl would, sees the results by watching, and times them; it never talks to
// mirrorgate itself.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
)

// ErrFailed is returned when a step did not have its expected outcome, or an object is left behind. The
// reason has been written to Options.Out.
var ErrFailed = errors.New("the demo failed")

// Options are those of a play; Run, RunLocal and RunProxy say which of them they need.
type Options struct {
	// Config is that of the cluster, for Run.
	Config *rest.Config
	// Namespace is created, and removed at the end, by Run.
	Namespace string
	// Timeout is how long a step may take.
	Timeout time.Duration
	// Out is written to, with colours if Color is set.
	Out   io.Writer
	Color bool
}

// runner plays one document after the other.
type runner struct {
	*stage
	screen  *screen
	timeout time.Duration
	plays   []play
	results []result
}

// result is the outcome of one step.
type result struct {
	play play
	step step
	seen bool
	// flip is how long the route took, after the variant took ready; atOnce means that the answer to the
	// write had it already.
	ready, flip time.Duration
	atOnce      bool
}

// Run plays all documents and returns nil only if every step was seen. It removes its namespace even when ctx
// has ended.
func Run(ctx context.Context, opts Options) error {
	documents, err := readDocuments()
	if err != nil {
		return err
	}
	r := &runner{screen: &screen{opts.Out, opts.Color}, timeout: opts.Timeout, plays: plays()}
	config := rest.CopyConfig(opts.Config)
	config.QPS = -1 // few requests, which the API server limits if it must
	config.WarningHandlerWithContext = warnings{}
	if r.stage, err = newStage(config, opts.Namespace, documents); err != nil {
		return err
	}
	err = r.run(ctx)
	var why *obstacle
	switch {
	case ctx.Err() != nil:
		return ErrFailed // the interruption was shown
	case errors.As(err, &why):
		r.screen.bad(why.problem)
		r.screen.block("What to do:", why.remedy)
		return ErrFailed
	}
	return err
}

func (r *runner) run(ctx context.Context) (err error) {
	if err := r.preflight(ctx); err != nil {
		return err
	}
	if err := r.open(ctx); err != nil {
		return err
	}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx)) // to the end of the namespace
	defer stop()
	defer func() {
		if left := r.leave(ctx); left != nil {
			r.screen.bad(left.Error())
			err = errors.Join(err, ErrFailed)
		}
	}()
	if err := r.answers(ctx); err != nil {
		return err
	}
	if r.watcher, err = watchNamespace(ctx, watching, r.dynamic, r.namespace); err != nil {
		return err
	}
	if err = r.playAll(ctx); ctx.Err() == nil {
		r.screen.summary(r.plays, r.results)
	}
	return err
}

// leave removes the namespace, also after a Ctrl-C.
func (r *runner) leave(ctx context.Context) error {
	if ctx.Err() != nil {
		r.screen.line(yellow, "\nInterrupted; the namespace "+r.namespace+" is being removed.")
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(r.timeout, time.Minute))
	defer cancel()
	// Kubernetes retries the removal of a namespace with pods only after half their grace period; an empty
	// one is gone at once. close reports whatever is still there.
	if r.watcher != nil {
		_ = r.clear(ctx)
	}
	if err := r.close(ctx); err != nil {
		return err
	}
	r.screen.line(faint, "Namespace "+r.namespace+" is removed.")
	return nil
}

func (r *runner) playAll(ctx context.Context) error {
	for i, p := range r.plays {
		r.screen.document(i+1, len(r.plays), p)
		r.watcher.focus(p.service)
		for n, st := range p.steps() {
			r.screen.step(n+1, st.title, st.want)
			res, err := r.perform(ctx, p, st)
			r.results = append(r.results, res)
			if err != nil {
				return err
			}
		}
		clean, cancel := context.WithTimeout(ctx, r.timeout)
		err := r.clear(clean)
		cancel()
		if err != nil {
			return fmt.Errorf("clear the namespace for the next document: %w", err)
		}
	}
	return nil
}

// perform does a step, waits for its outcome, and shows both.
func (r *runner) perform(ctx context.Context, p play, st step) (result, error) {
	limited, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	written := p.written(r.documents)
	before, _ := r.watcher.know()
	res := result{play: p, step: st}
	done, err := r.act(limited, st.do)
	if err == nil && st.want == noChange {
		err = unchanged(before.route, r.last)
	}
	var after facts
	if err == nil {
		after, err = r.reach(limited, p, st, written)
	}
	if err == nil && st.prints != "" {
		err = r.inspect(after.route, st.prints)
	}
	switch {
	case ctx.Err() != nil:
		return res, ctx.Err()
	case err != nil:
		r.explain(context.WithoutCancel(ctx), p, st, written, err)
		return res, ErrFailed
	}
	res.seen = true
	res.time(done, after, r.last)
	r.show(res, before, after, written)
	return res, nil
}

// deeds is when the step's commands were begun, when the first of them was done and when the last.
type deeds struct{ begun, first, last time.Time }

func (r *runner) act(ctx context.Context, actions []action) (deeds, error) {
	done := deeds{begun: time.Now()}
	ctx = withWarnings(ctx, r.screen.warning)
	for i, a := range actions {
		r.screen.command(a.command)
		if err := a.run(ctx, r.stage); err != nil {
			return done, err
		}
		done.last = time.Now()
		if i == 0 {
			done.first = done.last
		}
	}
	return done, nil
}

// inspect shows the route as the document prints it, and compares it with the stored one.
func (r *runner) inspect(stored *unstructured.Unstructured, file string) error {
	printed := r.documents[file][0]
	whole := printed.DeepCopy()
	for _, parent := range maps(whole.Object, "spec", "parentRefs") {
		parent["group"] = "" // a Service's, which the document does not print
	}
	want, have := specOf(defaulted(whole)), specOf(stored)
	r.screen.command("get " + strings.ToLower(stored.GetKind()) + "/" + stored.GetName() + " -o yaml")
	r.screen.block("As the document prints it, but for defaults:", toYAML(printed.Object["spec"]))
	if want != have {
		return fmt.Errorf("the stored route is not as the document prints it:\n%s", strings.Join(diff(want, have), "\n"))
	}
	if left := stored.GetAnnotations(); len(left) > 0 {
		return fmt.Errorf("the document prints no annotations, and there are %v", left)
	}
	return nil
}

// errEarly is worse than no mirror: the mirror was back before there was a pod to answer it.
var errEarly = errors.New("the mirror is stored, and variant 2 has no ready endpoint")

// reach waits until the step's outcome is stored.
func (r *runner) reach(ctx context.Context, p play, st step, written *unstructured.Unstructured) (facts, error) {
	missing := func(f facts) string { return st.missing(f, written, r.last) }
	f, err := r.watcher.await(ctx, func(f facts) bool { return missing(f) == "" }, func(f facts, elapsed time.Duration) {
		r.screen.waiting(missing(f), elapsed)
	})
	if err != nil {
		return f, fmt.Errorf("%s, after %s", missing(f), short(r.timeout))
	}
	switch {
	case st.since == theCall:
		return r.ended(ctx, f)
	case st.since == theVariant && !f.ready:
		// Two watches may differ by a moment; the API server knows.
		if ready, err := r.ready(ctx, p.service); err != nil || !ready {
			return f, errors.Join(errEarly, err)
		}
		return r.watcher.await(ctx, func(f facts) bool { return f.ready }, nil)
	}
	return f, nil
}

// ended waits until variant 2 has no ready endpoint any more, so that the next step does not meet a pod on
// its way out. It returns the facts of the flip.
func (r *runner) ended(ctx context.Context, flipped facts) (facts, error) {
	_, err := r.watcher.await(ctx, func(f facts) bool { return !f.ready }, func(_ facts, elapsed time.Duration) {
		r.screen.waiting("variant 2 still has a ready endpoint", elapsed)
	})
	if err != nil {
		return flipped, fmt.Errorf("variant 2 still has a ready endpoint, after %s", short(r.timeout))
	}
	return flipped, nil
}

// missing describes what the step still waits for; it is "" once the outcome is complete. The watch must
// first have caught up with the API server's answer to the write.
func (st step) missing(f facts, written, answer *unstructured.Unstructured) string {
	switch {
	case st.want == noRoute && f.route != nil:
		return "the route is still there; a garbage collector learns of a new cluster's kinds within 30 s"
	case st.want == noRoute:
		return ""
	case f.route == nil, answer != nil && f.route.GetGeneration() < answer.GetGeneration():
		return "the route is not stored yet"
	case st.want == noMirror && f.mirrored:
		return "the route still has a mirror"
	case st.want != mirror:
		return ""
	case !f.mirrored && st.since == theVariant && !f.ready:
		return "variant 2 has no ready endpoint yet"
	case !f.mirrored:
		return "variant 2 is ready, the route has no mirror yet"
	case !sameMirrors(written, f.route):
		return "the route has a mirror that differs from the manifest's"
	}
	return ""
}

// unchanged compares a stored object with the answer to applying its manifest once more.
func unchanged(before, after *unstructured.Unstructured) error {
	if before == nil || before.GetResourceVersion() == after.GetResourceVersion() {
		return nil
	}
	return fmt.Errorf("resourceVersion %s became %s", before.GetResourceVersion(), after.GetResourceVersion())
}

// time sets the durations, counted from the step's cause.
func (res *result) time(done deeds, after facts, answer *unstructured.Unstructured) {
	switch res.step.since {
	case theWrite:
		mirrored := len(mirrorsOf(answer)) > 0
		if res.atOnce = mirrored == after.mirrored; !res.atOnce {
			res.flip = after.mirroredAt.Sub(done.last)
		}
	case theCall:
		res.flip = after.mirroredAt.Sub(done.first)
	case theDocuments:
		res.flip = after.routeAt.Sub(done.last)
	case theVariant:
		res.ready = after.readyAt.Sub(done.begun)
		res.flip = after.mirroredAt.Sub(after.readyAt)
	}
	res.flip = max(res.flip, 0)
}
