package harness

// Writes that go on while a test does something to the installation.

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// Form is a route that a Writer writes again and again, with and without a mirror.
type Form struct {
	gvk      schema.GroupVersionKind
	resource string
	// spec has a verb for a number that differs from write to write.
	spec string
	// mirrored routes pass both webhooks; of the others nobody is asked.
	mirrored bool
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
	PlainGateway    = Form{gateway, "httproutes", httpRoute(""), false}
	PlainIstio      = Form{istio, "virtualservices", virtualService(""), false}
	MirroredGateway = Form{gateway, "httproutes",
		httpRoute(`{"type":"RequestMirror","requestMirror":{"backendRef":{"name":"absent","port":80}}}`), true}
	MirroredIstio = Form{istio, "virtualservices", virtualService(`,"mirror":{"host":"absent"}`), true}
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

// ErrUnmirrored is the failure of a write that was stored without the mutating
// webhook: its mirror is not parked.
var ErrUnmirrored = errors.New("stored as written")

// Writer writes routes of its own at a steady rate until it is stopped.
type Writer struct {
	done     atomic.Int64
	mu       sync.Mutex
	failures []Failure
	end      func()
	began    time.Time
}

// perForm is how many routes of each form are written at the same time.
const perForm = 2

// Write begins to write routes of the given forms, so many a second in all.
func (e *Env) Write(t *testing.T, perSecond int, forms ...Form) *Writer {
	t.Helper()
	ns := e.Namespace(t)
	client, err := dynamic.NewForConfig(e.Config(t))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	limit := rate.NewLimiter(rate.Limit(perSecond), perForm*len(forms))
	w := &Writer{began: time.Now()}
	var running sync.WaitGroup
	for i := range perForm * len(forms) {
		form, name := forms[i%len(forms)], fmt.Sprintf("busy-%d", i)
		routes := client.Resource(form.gvk.GroupVersion().WithResource(form.resource)).Namespace(ns)
		running.Go(func() {
			for n := 0; limit.Wait(ctx) == nil; n++ {
				began := time.Now()
				if err := write(context.WithoutCancel(ctx), routes, form, name, n); err != nil {
					w.failed(Failure{began, time.Now(), form.gvk.Kind + " " + name, err})
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

// write applies a route as its author does, which creates it as well.
func write(ctx context.Context, routes dynamic.ResourceInterface, form Form, name string, n int) error {
	ctx, cancel := context.WithTimeout(ctx, Wait)
	defer cancel()
	route := &unstructured.Unstructured{}
	err := route.UnmarshalJSON(fmt.Appendf(nil, `{"apiVersion":%q,"kind":%q,"metadata":{"name":%q},"spec":%s}`,
		form.gvk.GroupVersion(), form.gvk.Kind, name, fmt.Sprintf(form.spec, n)))
	if err != nil {
		return err
	}
	got, err := routes.Apply(ctx, name, route, metav1.ApplyOptions{FieldManager: "author", Force: true})
	if err == nil && form.mirrored && got.GetAnnotations()["mirrorgate.dev/parked"] == "" {
		return ErrUnmirrored
	}
	return err
}

func (w *Writer) failed(f Failure) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures = append(w.failures, f)
}

// Done is how many writes went right.
func (w *Writer) Done() int64 { return w.done.Load() }

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
