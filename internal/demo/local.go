package demo

// The play without a cluster. The manifests go through the same gate as in a cluster; the routes that it
// stores go into the same proxy, which serves real requests on this machine.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/mirrorgate/mirrorgate/internal/dataplane"
	"github.com/mirrorgate/mirrorgate/internal/iter8"
	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/proxy"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/webhook"
)

// localRequests is how many requests are sent after each step.
const localRequests = 2

// localStep is one event in the life of variant 2 and what the gate must store then.
type localStep struct {
	title string
	state policy.State // of variant 2
	// write reports whether the route is written; else the controller touches it.
	write bool
	want  outcome
}

func (p play) localSteps() []localStep {
	if len(p.documents) > 0 { // the controller writes the route
		return []localStep{
			{"the documents are applied while variant 2 is absent", policy.Absent, true, noMirror},
			{"variant 2 is deployed and not ready yet", policy.Present, true, noMirror},
			{"variant 2 is ready", policy.Ready, true, mirror},
			{"variant 2 is deleted", policy.Absent, true, noMirror},
		}
	}
	return []localStep{
		{"the mirror is written while variant 2 is absent", policy.Absent, true, noMirror},
		{"variant 2 is deployed and not ready yet", policy.Present, false, noMirror},
		{"variant 2 is ready", policy.Ready, false, mirror},
		{"variant 2 is deleted", policy.Absent, false, noMirror},
		{"the same manifest is applied again", policy.Absent, true, noChange},
	}
}

// local acts on one document.
type local struct {
	*screen
	*backends
	timeout   time.Duration
	documents manifests
	play      play
	stored    *unstructured.Unstructured // the route, nil before it is written
	// The proxy of Service httpbin, which serves HTTPRoutes.
	index    *dataplane.Index
	server   *proxy.Server
	follower *dataplane.Follower
}

// RunLocal plays all documents without a cluster, and returns nil only if every step was seen.
func RunLocal(ctx context.Context, opts Options) error {
	documents, err := readDocuments()
	if err != nil {
		return err
	}
	s := &screen{opts.Out, opts.Color}
	s.line(bold, "mirrorgate demo without a cluster; for a cluster that mirrorgate serves, add --context NAME")
	s.line(faint, "The gate decides on the manifests as in a cluster; the proxy serves real requests on this machine.")
	steps := 0
	for i, p := range plays() {
		s.document(i+1, len(plays()), p)
		l := &local{screen: s, timeout: opts.Timeout, documents: documents, play: p}
		if err := l.run(ctx); err != nil {
			return s.failed(ctx, err)
		}
		steps += len(p.localSteps())
	}
	fmt.Fprintln(s.w)
	s.line(green, fmt.Sprintf("%d documents, %d steps, all seen; no request failed", len(plays()), steps))
	return nil
}

func (l *local) run(ctx context.Context) (err error) {
	if l.backends, err = newBackends(l.timeout); err != nil {
		return err
	}
	defer l.stop()
	parent := dataplane.Name{Namespace: metav1.NamespaceDefault, Name: "httpbin"}
	l.index = dataplane.NewIndex(dataplane.Options{
		Parent: parent, Listen: func(dataplane.Name, *corev1.ServicePort) string { return "127.0.0.1:0" },
	})
	l.server = proxy.New(&proxy.Options{}) //nolint:contextcheck // the server lives until the play ends
	defer func() {
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.timeout)
		defer cancel()
		err = errors.Join(err, l.server.Shutdown(bound))
	}()
	l.follower = dataplane.Follow(l.index, parent, l.server)
	defer l.client.CloseIdleConnections()
	if l.play.kind != route.HTTPRoute {
		l.line("", "    A mesh serves VirtualServices, so no requests are sent here.")
	}
	for n, st := range l.play.localSteps() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		l.step(n+1, st.title, st.want)
		if err := l.perform(ctx, st); err != nil {
			return err
		}
	}
	return nil
}

// perform does a step: it passes the route through the gate, shows how it is stored, and sends requests.
func (l *local) perform(ctx context.Context, st localStep) error {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	objects, err := l.cluster(st.state)
	if err != nil {
		return err
	}
	gate, err := gateOf(objects)
	if err != nil {
		return err
	}
	object, err := l.next(ctx, st, gate)
	if err != nil {
		return err
	}
	stored, warnings, err := admit(ctx, gate, object, l.stored)
	if err != nil {
		return err
	}
	if st.write && len(l.play.documents) == 0 { // a controller ignores warnings
		for _, text := range warnings {
			l.warning(text)
		}
	}
	before, title := l.stored, "stored before"
	switch {
	case before == nil && len(l.play.documents) > 0:
		title = "no route"
	case before == nil:
		before, title = object, "written"
	}
	l.changes(title, "stored", diff(specOf(before), specOf(stored)))
	if err := l.check(st, stored); err != nil {
		return err
	}
	l.stored = stored
	if l.play.kind != route.HTTPRoute {
		return nil
	}
	if err := feed(l.index, append(objects, stored)); err != nil {
		return err
	}
	if err := l.follower.Sync(); err != nil {
		return err
	}
	return l.traffic(ctx, st)
}

// next is the route as it comes to the gate: written by the controller of Iter8's documents, written by its
// author, or touched.
func (l *local) next(ctx context.Context, st localStep, gate *webhook.Gate) (*unstructured.Unstructured, error) {
	if len(l.play.documents) > 0 {
		l.line(faint, "    the controller writes the route that the routing policy describes")
		return l.documented(ctx, gate)
	}
	written := defaulted(l.play.written(l.documents))
	written.SetNamespace(metav1.NamespaceDefault)
	if st.write {
		l.command("apply --server-side -f " + path.Join(l.play.folder, l.play.mirror))
		if l.stored == nil {
			return written, nil
		}
		object := l.stored.DeepCopy() // annotations of other field managers stay
		object.Object["spec"] = written.Object["spec"]
		return object, nil
	}
	l.line(faint, "    the controller touches the route, and the gate decides again")
	object := l.stored.DeepCopy()
	return object, unstructured.SetNestedField(object.Object, st.state.String(), "metadata", "annotations", route.VariantsAnnotation)
}

// documented is the route that Iter8's documents make: the policy's, without mirrors that the gate would
// park.
func (l *local) documented(ctx context.Context, gate *webhook.Gate) (*unstructured.Unstructured, error) {
	for _, name := range l.play.documents {
		config := l.documents[path.Join(l.play.folder, name)][0]
		data, _, err := unstructured.NestedStringMap(config.Object, "data")
		if err != nil {
			return nil, err
		}
		document, errs := iter8.Read(iter8.Source{
			Namespace: metav1.NamespaceDefault, Name: config.GetName(), Labels: config.GetLabels(), Data: data,
		})
		if err := errs.ToAggregate(); err != nil || document.Policy == nil {
			if err != nil {
				return nil, err
			}
			continue
		}
		whole := defaulted(&unstructured.Unstructured{Object: document.Policy.Route(metav1.NamespaceDefault)})
		gated, _, err := admit(ctx, gate, whole, nil)
		if err == nil && len(mirrorsOf(gated)) == 0 {
			iter8.WithoutMirrors(whole.Object, func(string) bool { return true })
		}
		return whole, err
	}
	return nil, errors.New("there is no routing policy among the documents")
}

// check compares the stored route with what a step must lead to.
func (l *local) check(st localStep, stored *unstructured.Unstructured) error {
	mirrored, parked := len(mirrorsOf(stored)) > 0, stored.GetAnnotations()[route.ParkedAnnotation]
	switch {
	case st.want == mirror && !sameMirrors(l.play.written(l.documents), stored):
		return errors.New("the stored mirrors are not the manifest's:\n" + toYAML(mirrorsOf(stored)))
	case st.want != mirror && mirrored:
		return errors.New("the stored route still has a mirror")
	case st.want == noChange && toYAML(l.stored.Object) != toYAML(stored.Object):
		return errors.New("the stored object changed")
	case st.want == noChange:
		l.good("no change: the stored object is the same")
	case st.want == mirror:
		l.good("mirror, as written")
	case parked != "":
		l.good("no mirror: the annotation " + route.ParkedAnnotation + " keeps it")
	default:
		l.good("no mirror: the routing policy keeps it")
	}
	return nil
}

// traffic sends requests through the proxy and compares the access logs of both variants.
func (l *local) traffic(ctx context.Context, st localStep) error {
	address := l.server.Addr(l.follower.Table().Listeners[0].Name).String()
	if _, err := l.send(ctx, l.screen, address, localRequests); err != nil {
		return err
	}
	copies := 0
	if st.want == mirror {
		copies = localRequests
	}
	err := wait.PollUntilContextCancel(ctx, time.Millisecond, true, func(context.Context) (bool, error) { return len(l.two.logged()) >= copies, nil })
	ones, twos := l.one.logged(), l.two.logged()
	const columns = "    %-46s%s"
	l.line("", fmt.Sprintf(columns, "access log of variant 1", "access log of variant 2"))
	for i := range max(len(ones), len(twos), 1) {
		l.line(faint, fmt.Sprintf(columns, logged(ones, i), logged(twos, i)))
	}
	if err := cmp.Or(l.backends.check(localRequests, copies), err); err != nil {
		return err
	}
	l.good(fmt.Sprintf("%d requests answered by variant 1; variant 2 answered %s", localRequests, count(copies, "copy", "copies")))
	return nil
}

// logged is a line of an access log without the fields that are the same in every line.
func logged(lines []string, i int) string {
	if i >= len(lines) {
		return "-"
	}
	quoted := strings.Split(lines[i], `"`) // client and time, request, status and size, referrer, agent, host
	return fmt.Sprintf("%q %s %q", quoted[1], strings.Fields(quoted[2])[0], quoted[7])
}
