// Package intent tests, against a real API server and with the clients that people use, that a route keeps
// the meaning that its author gave it: with any client, with other writers in between, and however often its
// variant appears and disappears.
package intent

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

var env *harness.Env

func TestMain(m *testing.M) { harness.MainShared(m, &env) }

// object reads one YAML document.
func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(text))
	require.NoError(t, err, text)
	u := &unstructured.Unstructured{}
	require.NoError(t, u.UnmarshalJSON(raw), text)
	return u
}

// text writes an object as YAML.
func text(t *testing.T, u *unstructured.Unstructured) string {
	t.Helper()
	out, err := yaml.Marshal(u.Object)
	require.NoError(t, err)
	return string(out)
}

// site is a namespace in which the variant httpbin-v2 appears and disappears with its Service. The route
// "fence" mirrors to it too: once the mirror of fence has moved, mirrorgate has processed the event.
type site struct {
	t  *testing.T
	ns string
}

const fence = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: fence}
spec:
  rules:
  - backendRefs: [{name: fence, port: 80}]
    filters:
    - {type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v2, port: 80}}}
`

// idle are the namespaces of sites that are no longer used. Their Deployments keep running, which saves every
// test the creation and deletion of a namespace.
var idle struct {
	sync.Mutex
	names []string
}

var sites atomic.Int64

// newSite makes a site whose variants are absent: their pods already run, and only a Service is missing.
func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t}
	idle.Lock()
	if n := len(idle.names); n > 0 {
		s.ns, idle.names = idle.names[n-1], idle.names[:n-1]
	}
	idle.Unlock()
	if s.ns == "" {
		s.ns = fmt.Sprintf("site%d", sites.Add(1))
		namespace(t, s.ns)
		s.create(harness.Deployment("httpbin-v2"))
		s.create(harness.Deployment("httpbin-v3"))
	}
	s.create(fence)
	ctx := context.WithoutCancel(t.Context())
	t.Cleanup(func() { s.clear(ctx) })
	return s
}

// namespace makes a namespace that lasts as long as the cluster.
func namespace(t *testing.T, name string, labels ...string) {
	t.Helper()
	u := object(t, "{apiVersion: v1, kind: Namespace, metadata: {name: "+name+", labels: {"+strings.Join(labels, ", ")+"}}}")
	if err := env.Client(t).Create(t.Context(), u); !apierrors.IsAlreadyExists(err) {
		require.NoError(t, err)
	}
}

// clear empties the namespace for the next site.
func (s *site) clear(ctx context.Context) {
	for _, kind := range append(slices.Collect(maps.Values(kinds)),
		corev1.SchemeGroupVersion.WithKind("Service"),
		kinds["virtualservice"].GroupVersion().WithKind("DestinationRule"),
	) {
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(kind)
		require.NoError(s.t, env.Client(s.t).DeleteAllOf(ctx, u, client.InNamespace(s.ns)))
	}
	if s.t.Failed() {
		return // objects that remain may fail other tests
	}
	idle.Lock()
	defer idle.Unlock()
	idle.names = append(idle.names, s.ns)
}

func (s *site) create(text string) *unstructured.Unstructured {
	s.t.Helper()
	u := object(s.t, text)
	u.SetNamespace(s.ns)
	require.NoError(s.t, env.Client(s.t).Create(s.t.Context(), u))
	return u
}

// come makes variants Ready, leave makes them Absent: httpbin-v2, or those named.
func (s *site) come(names ...string) {
	s.t.Helper()
	for _, name := range orDefault(names) {
		s.create(harness.Service(name))
	}
	s.settle("active", names)
}

func (s *site) leave(names ...string) {
	s.t.Helper()
	for _, name := range orDefault(names) {
		u := object(s.t, harness.Service(name))
		u.SetNamespace(s.ns)
		require.NoError(s.t, env.Client(s.t).Delete(s.t.Context(), u))
	}
	s.settle("parked", names)
}

func (s *site) settle(state string, names []string) {
	s.t.Helper()
	if len(names) == 0 {
		s.wait("httproute", "fence", "httpbin-v2="+state)
	}
}

func orDefault(names []string) []string {
	if len(names) == 0 {
		return []string{"httpbin-v2"}
	}
	return names
}

// find returns an object, or nil when it does not exist.
func (s *site) find(resource, name string) (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(kinds[resource])
	err := env.Client(s.t).Get(s.t.Context(), client.ObjectKey{Namespace: s.ns, Name: name}, u)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return u, err
}

func (s *site) get(resource, name string) *unstructured.Unstructured {
	s.t.Helper()
	u, err := s.find(resource, name)
	require.NoError(s.t, err)
	require.NotNil(s.t, u, "%s %s/%s", resource, s.ns, name)
	return u
}

// wait waits until a route's mirrors are as wanted, and returns the route.
func (s *site) wait(resource, name string, want ...string) (got *unstructured.Unstructured) {
	s.t.Helper()
	until(s.t, func(c *assert.CollectT) {
		u, err := s.find(resource, name)
		if assert.NoError(c, err) && assert.NotNil(c, u) {
			assert.Equal(c, want, harness.Mirrors(s.t, u))
			got = u
		}
	})
	return got
}

// until polls until all assertions pass; the failure shows those that failed last.
func until(t *testing.T, condition func(*assert.CollectT)) {
	t.Helper()
	require.EventuallyWithT(t, condition, harness.Wait, 20*time.Millisecond)
}

func (s *site) kubectl(stdin string, args ...string) string {
	s.t.Helper()
	return env.MustKubectl(s.t, stdin, append([]string{"-n", s.ns}, args...)...)
}

// refused runs a kubectl command that must fail, and returns its output.
func (s *site) refused(stdin string, args ...string) string {
	s.t.Helper()
	out, err := env.Kubectl(s.t.Context(), stdin, append([]string{"-n", s.ns}, args...)...)
	require.Error(s.t, err, "kubectl %s\n%s", strings.Join(args, " "), out)
	return err.Error()
}

// patch sends a raw patch under a field manager's name.
func (s *site) patch(u *unstructured.Unstructured, p client.Patch, opts ...client.PatchOption) *unstructured.Unstructured {
	s.t.Helper()
	u = u.DeepCopy()
	require.NoError(s.t, env.Client(s.t).Patch(s.t.Context(), u, p, opts...))
	return u
}

// touch does the same as the controller. The object that admission makes of it is final.
func (s *site) touch(u *unstructured.Unstructured) *unstructured.Unstructured {
	s.t.Helper()
	body := fmt.Sprintf(`{"metadata":{"annotations":{%q:"touched by a test"}}}`, route.VariantsAnnotation)
	return s.patch(u, client.RawPatch("application/merge-patch+json", []byte(body)), client.FieldOwner("mirrorgate"))
}

// spec is a route's spec.
func spec(u *unstructured.Unstructured) any { return u.Object["spec"] }

// parked returns a route's parked annotation, or "".
func parked(u *unstructured.Unstructured) string { return u.GetAnnotations()[route.ParkedAnnotation] }

// owners returns the field managers of spec.rules or spec.http, in stored order.
func owners(t *testing.T, u *unstructured.Unstructured) []string {
	t.Helper()
	var names []string
	for _, entry := range u.GetManagedFields() {
		var fields struct {
			Spec map[string]json.RawMessage `json:"f:spec"`
		}
		require.NoError(t, json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields))
		if fields.Spec["f:rules"] != nil || fields.Spec["f:http"] != nil {
			names = append(names, entry.Manager)
		}
	}
	return names
}

// declared returns the spec that the API server stores for a manifest with its own defaults and no webhook.
func declared(t *testing.T, manifest string) any {
	t.Helper()
	u := object(t, manifest)
	const untouched = "untouched"
	namespace(t, untouched, "mirrorgate.dev/admission: disabled")
	u.SetNamespace(untouched)
	require.NoError(t, env.Client(t).Create(t.Context(), u, client.DryRunAll))
	return spec(u)
}
