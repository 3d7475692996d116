package harness

// Writes that go on while a test does something to the installation.

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

// Form is a route that a Writer writes again and again, with and without a mirror.
type Form struct {
	gvk      schema.GroupVersionKind
	resource string
	// spec has a verb for a number that differs from write to write.
	spec string
	// mirror is what a spec in JSON has while a mirror is active in it, "" for a form without one. Such a
	// form passes both webhooks; of the others nobody is asked.
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

// The forms; the variant of the mirrored ones is absent.
var (
	PlainGateway    = Form{gateway, "httproutes", httpRoute(""), ""}
	PlainIstio      = Form{istio, "virtualservices", virtualService(""), ""}
	MirroredGateway = Form{gateway, "httproutes",
		httpRoute(`{"type":"RequestMirror","requestMirror":{"backendRef":{"name":"absent","port":80}}}`), `"type":"RequestMirror"`}
	MirroredIstio = Form{istio, "virtualservices", virtualService(`,"mirror":{"host":"absent"}`), `"mirror":{`}
)

// Failure is a write that went wrong.
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

// perForm is how many routes of each form are written at the same time. On a busy machine each write
// takes long.
const perForm = 4

// Write begins to write routes of the given forms, so many a second in all.
func (e *Env) Write(t *testing.T, perSecond int, forms ...Form) *Writer {
	t.Helper()
	ns := e.Namespace(t)
	// Text in and text out: the rate must not hang on how fast a client reads JSON.
	config := e.Config(t)
	config.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	client, err := rest.UnversionedRESTClientFor(config)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	// What a moment of a busy machine held up is made good afterwards.
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

// write applies the route as its author does, which creates it as well.
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

// stall is how long a write that nobody is asked about takes when the machine has no time for it.
const stall = time.Second

func (w *Writer) stalled(f Failure) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stalls = append(w.stalls, f)
}

// Harmed ends the writing and returns the failures, without those for which the machine is to blame: what
// was stored as written because the mutating webhook was waited for in vain while writes that nobody is
// asked about took long as well, and what came of it.
func (w *Writer) Harmed(t *testing.T) []Failure {
	t.Helper()
	slow := map[string]bool{}
	return slices.DeleteFunc(w.Stop(), func(f Failure) bool {
		if !errors.Is(f.Err, ErrAsWritten) {
			return false
		}
		if w.timedOut(f) {
			t.Logf("the machine stood still: %s", f)
			slow[f.Route] = true
		}
		return slow[f.Route] // until the controller has mended it
	})
}

// timedOut tells whether a write took longer than the API server waits for the mutating webhook while
// others were slow.
func (w *Writer) timedOut(f Failure) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return f.Ended.Sub(f.Began) > 2*time.Second &&
		slices.ContainsFunc(w.stalls, func(s Failure) bool { return s.Began.Before(f.Ended) && f.Began.Before(s.Ended) })
}

// Done is how many writes went right.
func (w *Writer) Done() int64 { return w.done.Load() }

// Routes is how many routes are written, and so the most writes that are under way at a time.
func (w *Writer) Routes() int { return w.routes }

// Rate is how many writes went right in a second, on average.
func (w *Writer) Rate() float64 { return float64(w.Done()) / time.Since(w.began).Seconds() }

// Failures are those of so far.
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

// Flows waits until so many more writes went right.
func (w *Writer) Flows(t *testing.T, more int64) {
	t.Helper()
	enough := w.Done() + more
	Eventually(t, func() bool { return w.Done() >= enough }, "writes do not go on")
}

// Healed waits until each route that was stored as written while the mutating webhook was not reached has
// its mirror parked. Its author's next write of the same rules does not do that: the controller does.
func (w *Writer) Healed(t *testing.T) {
	t.Helper()
	Eventually(t, func() bool {
		before := len(w.Failures())
		w.Flows(t, int64(4*w.routes))
		return len(w.Failures()) == before
	}, "writes go on to fail")
}

// Denied are the failures that a webhook is the reason for, and not the API server
// itself.
func Denied(failures []Failure) (denied []Failure) {
	for _, f := range failures {
		if strings.Contains(f.Err.Error(), "webhook") {
			denied = append(denied, f)
		}
	}
	return denied
}
