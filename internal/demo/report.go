package demo

// The report on a step when it is over, and on all steps at the end.

import (
	"context"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// show writes how the stored route changed, and how fast.
func (r *runner) show(res result, before, after facts, written *unstructured.Unstructured) {
	st, old, title := res.step, specOf(before.route), "stored before"
	if st.since == theWrite && st.want == noMirror && len(st.do) > 1 || before.route == nil {
		old, title = specOf(defaulted(written)), "written"
	}
	if st.prints == "" && st.want != noRoute {
		r.screen.changes(title, "stored", diff(old, specOf(after.route)))
	}
	r.screen.good(res.String())
}

// String describes the outcome.
func (res result) String() string {
	switch {
	case !res.seen:
		return "not seen"
	case res.step.want == noChange:
		return "no change: the stored object is the same, resourceVersion and all"
	case res.step.want == noRoute:
		return fmt.Sprintf("no route: garbage-collected %s after the documents", short(res.flip))
	case res.step.since == theDocuments:
		return fmt.Sprintf("no mirror: the route was made %s after the documents", short(res.flip))
	case res.atOnce && res.step.want == mirror:
		return "mirror, as written: at once, in the answer to the write"
	case res.atOnce:
		return "no mirror: at once, in the answer to the write"
	case res.step.since == theWrite:
		return fmt.Sprintf("%s: %s after the write", res.step.want, short(res.flip))
	case res.step.since == theCall:
		return fmt.Sprintf("no mirror: route flipped %s after the call returned", short(res.flip))
	}
	return fmt.Sprintf("mirror, as written: variant ready after %s, route flipped %s later", short(res.ready), short(res.flip))
}

// explain reports the expected route, the stored one, and where to look further.
func (r *runner) explain(ctx context.Context, p play, st step, written *unstructured.Unstructured, err error) {
	known, _ := r.watcher.know()
	r.screen.bad("not seen: " + err.Error())
	switch st.want {
	case mirror:
		r.screen.block("Expected in the route:", toYAML(mirrorsOf(defaulted(written))))
	case noMirror:
		r.screen.block("Expected:", "the route without the mirror to "+variantTwo)
	case noRoute:
		r.screen.block("Expected:", "no route, since the routing policy that owns it is deleted")
	case noChange:
		r.screen.block("Expected:", "the route as it was, resourceVersion and all")
	}
	stored := "no route"
	if known.route != nil {
		stored = toYAML(map[string]any{"annotations": known.route.GetAnnotations(), "spec": known.route.Object["spec"]})
	}
	r.screen.block("Stored:", stored)
	r.screen.block("The cluster:", r.state(ctx, p, known))
	if len(p.documents) > 0 {
		r.screen.block("Iter8's documents:", "are served where mirrorgate serve has the flag --iter8")
	}
	r.screen.block("To look further:", "the log of mirrorgate serve (--log-level debug), and its metrics\n"+
		"kubectl get mutatingwebhookconfigurations -l "+ourLabel)
}

// state describes everything that may explain a missing flip: the registration, the variant, and the Events
// of the route.
func (r *runner) state(ctx context.Context, p play, known facts) string {
	var b strings.Builder
	if mutating, validating, err := r.configurations(ctx); err == nil {
		fmt.Fprintf(&b, "webhook configurations: %d mutating, %d validating (there should be one of each)\n", len(mutating), len(validating))
	}
	is := "has no ready endpoint"
	if known.ready {
		is = "is ready"
	}
	fmt.Fprintf(&b, "variant 2, %s behind Service %s, %s\n", variantTwo, p.service, is)
	events, err := r.client.CoreV1().Events(r.namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=httpbin"})
	if err != nil {
		return b.String()
	}
	var lines []string
	for _, event := range events.Items {
		if event.InvolvedObject.Kind == string(p.kind) {
			lines = append(lines, fmt.Sprintf("Event of the route: %s %s: %s\n", event.Type, event.Reason, event.Message))
		}
	}
	return b.String() + strings.Join(lines[max(0, len(lines)-3):], "")
}

// summary is the table at the end, with the steps that were not reached.
func (s *screen) summary(plays []play, results []result) {
	fmt.Fprintln(s.w)
	s.line(bold, strings.Repeat("━", width))
	seen, all := 0, 0
	s.line(bold, row("Document", "Step", "Stored", "Seen", "Flip"))
	for _, p := range plays {
		for n, st := range p.steps() {
			all++
			res := result{}
			name, mark, flip, how := p.short, "-", "", faint
			if all <= len(results) {
				res = results[all-1]
				mark, how = "✗", red
			}
			if res.seen {
				seen++
				mark, flip, how = "✓", res.took(), ""
			}
			if n > 0 {
				name = ""
			}
			s.line(how, row(name, upper(st.title), st.want.String(), mark, flip))
		}
	}
	fmt.Fprintln(s.w)
	if seen == all {
		s.line(green, fmt.Sprintf("%d documents, %d steps, all seen", len(plays), all))
	} else {
		s.line(strong, fmt.Sprintf("%d documents, %d steps, %d of them seen", len(plays), all, seen))
	}
}

// took is the text in the column of flips.
func (res result) took() string {
	switch {
	case res.step.want == noChange:
		return ""
	case res.atOnce:
		return "at once"
	}
	return short(res.flip)
}

func row(document, step, stored, seen, flip string) string {
	return strings.TrimRight(fmt.Sprintf("%-23s%-49s%-11s%-6s%s", document, step, stored, seen, flip), " ")
}
