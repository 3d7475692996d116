package harness

// Writes that continue while a test changes the installation.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// Form is a route that a Writer writes repeatedly, with or without a mirror.
type Form struct {
	gvk      schema.GroupVersionKind
	resource string
	// spec has a verb for a number that differs from write to write.
	spec string
	// mirror is the text that a spec in JSON contains while its mirror is active, or "" for a form without a
	// mirror. A form with a mirror goes through both webhooks; for the others no webhook is called.
	mirror string
}

func httpRoute(filters string) string {
	return `{"hostnames":["h%d.example"],"rules":[{"filters":[` + filters + `],"backendRefs":[{"name":"primary","port":80}]}]}`
}

func virtualService(mirror string) string {
	return `{"hosts":["h%d.example"],"http":[{"route":[{"destination":{"host":"primary"}}]` + mirror + `}]}`
}

var (
	gateway = schema.GroupVersionKind{Group: "gateway.networking.k8s.io", Version: "v1", Kind: "HTTPRoute"}
	istio   = schema.GroupVersionKind{Group: "networking.istio.io", Version: "v1", Kind: "VirtualService"}
)

// The forms; the variant that the mirrored ones name is absent.
var (
	PlainGateway    = Form{gateway, "httproutes", httpRoute(""), ""}
	PlainIstio      = Form{istio, "virtualservices", virtualService(""), ""}
	MirroredGateway = Form{gateway, "httproutes",
		httpRoute(`{"type":"RequestMirror","requestMirror":{"backendRef":{"name":"absent","port":80}}}`), `"type":"RequestMirror"`}
	MirroredIstio = Form{istio, "virtualservices", virtualService(`,"mirror":{"host":"absent"}`), `"mirror":{`}
)

// Failure is a write that failed.
type Failure struct {
	Began, Ended time.Time
	Route        string
	Err          error
}

func (f Failure) String() string {
	return fmt.Sprintf("%s to %s %s: %v", f.Began.Format("05.000"), f.Ended.Format("05.000"), f.Route, f.Err)
}

// ErrAsWritten is the failure of a write that was stored without the mutating webhook: its mirror is not
// parked.
var ErrAsWritten = errors.New("stored as written")

// Writer writes routes of its own at a steady rate until it is stopped.
type Writer struct {
	done     atomic.Int64
	mu       sync.Mutex
	failures []Failure
	stalls   []Failure
	routes   int
	end      func()
	began    time.Time
}

// perForm is how many routes of each form are written at the same time. On a busy machine each write takes
// long.
const perForm = 4

// Write begins to write routes of the given forms, perSecond writes in total.
func (e *Env) Write(t *testing.T, perSecond int, forms ...Form) *Writer {
	t.Helper()
	ns := e.Namespace(t)
	// Bodies are sent and received as text: the rate must not depend on how fast a client decodes JSON.
	config := e.Config(t)
	config.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	client, err := rest.UnversionedRESTClientFor(config)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	// Writes that a busy machine delayed are caught up afterwards.
	limit := rate.NewLimiter(rate.Limit(perSecond), max(perSecond, perForm*len(forms)))
	w := &Writer{began: time.Now(), routes: perForm * len(forms)}
	var running sync.WaitGroup
	for i := range w.routes {
		r := busyRoute{client, forms[i%len(forms)], ns, fmt.Sprintf("busy-%d", i)}
		running.Go(func() {
			for n := 0; limit.Wait(ctx) == nil; n++ {
				began := time.Now()
				err := r.write(context.WithoutCancel(ctx), n)
				if ended := time.Now(); r.mirror == "" && ended.Sub(began) > stall {
					w.stalled(Failure{Began: began, Ended: ended})
				}
				if err != nil {
					w.failed(Failure{began, time.Now(), r.gvk.Kind + " " + r.name, err})
					continue
				}
				w.done.Add(1)
			}
		})
	}
	w.end = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	t.Cleanup(func() {
		if failures := w.Stop(); t.Failed() {
			t.Logf("%d writes, %d failed: %v", w.Done(), len(failures), failures[:min(5, len(failures))])
		}
	})
	return w
}

// busyRoute is one of a Writer's routes.
type busyRoute struct {
	client rest.Interface
	Form
	namespace, name string
}

// write applies the route as its author does; the first write creates it.
func (r busyRoute) write(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, Wait)
	defer cancel()
	result := r.client.Patch(types.ApplyYAMLPatchType).
		AbsPath("/apis/"+r.gvk.GroupVersion().String()+"/namespaces/"+r.namespace, r.resource, r.name).
		Param("fieldManager", "author").Param("force", "true").
		Body(fmt.Appendf(nil, `{"apiVersion":%q,"kind":%q,"metadata":{"name":%q},"spec":%s}`,
			r.gvk.GroupVersion(), r.gvk.Kind, r.name, fmt.Sprintf(r.spec, n))).Do(ctx)
	if err := result.Error(); err != nil {
		return err
	}
	stored, err := result.Raw()
	if err == nil && r.mirror != "" && bytes.Contains(stored, []byte(r.mirror)) {
		return ErrAsWritten
	}
	return err
}

func (w *Writer) failed(f Failure) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures = append(w.failures, f)
}

// stall is the duration from which a write for which no webhook is called shows that the machine is
// overloaded.
const stall = time.Second

func (w *Writer) stalled(f Failure) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stalls = append(w.stalls, f)
}

// Harmed stops the writing and returns the failures, except those that an overloaded machine explains: writes
// stored as written because the mutating webhook timed out while writes without a webhook were slow too, and
// the failures that followed from them.
func (w *Writer) Harmed(t *testing.T) []Failure {
	t.Helper()
	slow := map[string]bool{}
	return slices.DeleteFunc(w.Stop(), func(f Failure) bool {
		if !errors.Is(f.Err, ErrAsWritten) {
			return false
		}
		if w.timedOut(f) {
			t.Logf("the machine was overloaded: %s", f)
			slow[f.Route] = true
		}
		return slow[f.Route] // until the controller has repaired it
	})
}

// timedOut reports whether a write took longer than the API server waits for the mutating webhook while other
// writes were slow too.
func (w *Writer) timedOut(f Failure) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return f.Ended.Sub(f.Began) > 2*time.Second &&
		slices.ContainsFunc(w.stalls, func(s Failure) bool { return s.Began.Before(f.Ended) && f.Began.Before(s.Ended) })
}

// Done returns how many writes succeeded.
func (w *Writer) Done() int64 { return w.done.Load() }

// Routes returns how many routes are written, which is also the largest number of concurrent writes.
func (w *Writer) Routes() int { return w.routes }

// Rate returns how many writes succeeded per second, on average.
func (w *Writer) Rate() float64 { return float64(w.Done()) / time.Since(w.began).Seconds() }

// Failures returns the failures so far.
func (w *Writer) Failures() []Failure {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Failure(nil), w.failures...)
}

// Stop ends the writing and returns the failures.
func (w *Writer) Stop() []Failure {
	w.end()
	return w.Failures()
}

// Flows waits until so many more writes have succeeded.
func (w *Writer) Flows(t *testing.T, more int64) {
	t.Helper()
	enough := w.Done() + more
	Eventually(t, func() bool { return w.Done() >= enough }, "writes do not continue")
}

// Healed waits until each route that was stored as written while the mutating webhook was unreachable has its
// mirror parked. The author's next write of the same rules does not park it: the controller does.
func (w *Writer) Healed(t *testing.T) {
	t.Helper()
	Eventually(t, func() bool {
		before := len(w.Failures())
		w.Flows(t, int64(4*w.routes))
		return len(w.Failures()) == before
	}, "writes keep failing")
}

// Denied returns the failures that a webhook caused, and not the API server itself.
func Denied(failures []Failure) (denied []Failure) {
	for _, f := range failures {
		if strings.Contains(f.Err.Error(), "webhook") {
			denied = append(denied, f)
		}
	}
	return denied
}
