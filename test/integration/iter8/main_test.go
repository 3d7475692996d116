// Package iter8 tests, against a real API server, that Iter8's documents take effect: those of its tutorial,
// its later routemaps, and faulty ones of every kind.
package iter8

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

var env *harness.Env

func TestMain(m *testing.M) { harness.MainShared(m, &env) }

// serve starts mirrorgate with Iter8's documents, once those of other tests are gone.
func serve(t *testing.T, flags ...string) *harness.Server {
	t.Helper()
	env.NamespacesEnded(t)
	return env.Serve(t, append([]string{"--iter8"}, flags...)...)
}

// tutorial returns one of the tutorial's manifests. kubectl accepts no label whose value is not a string: the
// tutorial pipes Deployments through istioctl, which quotes it.
func tutorial(t *testing.T, names ...string) string {
	t.Helper()
	var parts []string
	for _, name := range names {
		raw, err := os.ReadFile(filepath.Join(harness.Root(), "internal", "demo", "documents", "iter8", name+".yaml"))
		require.NoError(t, err)
		parts = append(parts, strings.ReplaceAll(string(raw), "iter8.tools/detect: true", `iter8.tools/detect: "true"`))
	}
	return strings.Join(parts, "\n---\n")
}

func apply(t *testing.T, ns string, manifests ...string) {
	t.Helper()
	env.MustKubectl(t, strings.Join(manifests, "\n---\n"), "-n", ns, "apply", "-f", "-")
}

func kubectl(t *testing.T, ns string, args ...string) string {
	t.Helper()
	return env.MustKubectl(t, "", append([]string{"-n", ns}, args...)...)
}

// configMap is a document.
func configMap(name, labels, key, spec string) string {
	raw, err := yaml.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": name}, "data": map[string]any{key: spec},
	})
	if err != nil {
		panic(err)
	}
	return strings.Replace(string(raw), "metadata:\n", "metadata:\n  labels: {"+labels+"}\n", 1)
}

func subject(name, spec string) string {
	return configMap(name, "app.kubernetes.io/managed-by: iter8", "spec", spec)
}

// policy makes the route web, which mirrors to a Service for variant 2.
func policy(name, target string) string {
	return subject(name, fmt.Sprintf(`
trigger: {owner: web, update: variant/2}
chart: mirror
version: 0.14.x
values:
  parentRefs: [{kind: Service, name: web, port: 80}]
  rules:
  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: %s, port: 80}}}]
    backendRefs: [{name: v1, port: 80}]
`, target))
}

const web = "gvrs: [svc, deploy]\nvariants: [[v1, v1], [v2, v2]]"

// told returns the notes of an object's Events with the given reason, oldest first.
func told(t *testing.T, ns, name, reason string) []string {
	t.Helper()
	var list eventsv1.EventList
	require.NoError(t, env.Client(t).List(t.Context(), &list, client.InNamespace(ns)))
	slices.SortFunc(list.Items, func(a, b eventsv1.Event) int { return a.EventTime.Compare(b.EventTime.Time) })
	var out []string
	for _, e := range list.Items {
		if e.Regarding.Name == name && e.Regarding.Kind == "ConfigMap" && e.Reason == reason {
			out = append(out, e.Note)
		}
	}
	return out
}

// waitTold waits for an Event that contains a text.
func waitTold(t *testing.T, ns, name, reason, text string) {
	t.Helper()
	var have []string
	harness.Eventually(t, func() bool {
		have = told(t, ns, name, reason)
		return slices.ContainsFunc(have, func(note string) bool { return strings.Contains(note, text) })
	}, "ConfigMap %s has no Event %s with %q but %q; all:\n%v", name, reason, text, &have, events{t, ns})
}

// events prints all Events of a namespace.
type events struct {
	t  *testing.T
	ns string
}

func (e events) String() string { return kubectl(e.t, e.ns, "get", "events.v1.events.k8s.io") }

// waitRoute waits until the route web exists and its mirrors are as wanted.
func waitRoute(t *testing.T, ns string, want ...string) *unstructured.Unstructured {
	t.Helper()
	return waitFor(t, ns, "httproute", "web", want...)
}

func waitFor(t *testing.T, ns, kind, name string, want ...string) *unstructured.Unstructured {
	t.Helper()
	var u *unstructured.Unstructured
	harness.Eventually(t, func() bool {
		u = env.Get(t, ns, kind, name)
		return u != nil && slices.Equal(harness.Mirrors(t, u), want) && bare(t, u)
	}, "%s %s: want mirrors %q and no annotation of mirrorgate, last seen %v", kind, name, want, &u)
	return u
}

// bare reports whether a route shows nothing of mirrorgate but its owner and field manager. If admission had
// parked a mirror, annotations are removed by a second write.
func bare(t *testing.T, u *unstructured.Unstructured) bool {
	t.Helper()
	u = u.DeepCopy()
	u.SetManagedFields(nil)
	text, err := yaml.Marshal(u.Object)
	require.NoError(t, err)
	return !strings.Contains(string(text), "mirrorgate.dev/") && !strings.Contains(string(text), "x-mirrorgate-parked") && len(u.GetOwnerReferences()) == 1
}

// still requires that an HTTPRoute does not change for a while.
func still(t *testing.T, ns, name string, d time.Duration) {
	t.Helper()
	stillOf(t, ns, "httproute", name, d)
}

// stillOf requires that a route does not change for a while.
func stillOf(t *testing.T, ns, kind, name string, d time.Duration) {
	t.Helper()
	before := env.Get(t, ns, kind, name)
	require.NotNil(t, before)
	end, tick := time.NewTimer(d), time.NewTicker(200*time.Millisecond)
	defer tick.Stop()
	for {
		now := env.Get(t, ns, kind, name)
		require.NotNil(t, now)
		require.Equal(t, before.GetResourceVersion(), now.GetResourceVersion(), "%s changed: %v", name, now.Object)
		select {
		case <-end.C:
			return
		case <-tick.C:
		}
	}
}
