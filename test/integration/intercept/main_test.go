// Package intercept tests, against a real API server and with the clients that people use, that a Service
// with proxies in front of it leads to its proper target and keeps its author's meaning. Pods only claim to
// run here; test/e2e shows that traffic follows.
package intercept

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	product "github.com/mirrorgate/mirrorgate/internal/intercept"
	"github.com/mirrorgate/mirrorgate/internal/intercept/objects"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
	"github.com/mirrorgate/mirrorgate/test/integration/harness"
	"github.com/mirrorgate/mirrorgate/webhook"
)

var env *harness.Env

func TestMain(m *testing.M) { harness.MainShared(m, &env) }

// serve starts mirrorgate without a mesh.
func serve(t *testing.T) *harness.Server {
	t.Helper()
	return env.Serve(t, "--no-mesh", "--routes=gateway-api", "--proxy-image=mirrorgate:test")
}

// site is a namespace with a Service, its primary and, if a test asks for it, a route.
type site struct {
	t  *testing.T
	ns string
}

const primary = `
apiVersion: v1
kind: Service
metadata: {name: httpbin-v1}
spec: {ports: [{name: http, port: 80}], selector: {app: httpbin, version: v1}}
---
apiVersion: v1
kind: Service
metadata: {name: httpbin-v2}
spec: {ports: [{name: http, port: 80}], selector: {app: httpbin, version: v2}}
`

const httpRoute = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: httpbin}
spec:
  parentRefs: [{group: "", kind: Service, name: httpbin, port: 8000}]
  rules: [{backendRefs: [{name: httpbin-v1, port: 80}]}]
`

// manifest is the Service with the given selector, and ports after the first.
func manifest(selector string, ports ...string) string {
	more := ""
	for _, p := range ports {
		more += ", " + p
	}
	return fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: httpbin, labels: {app: httpbin}}
spec:
  ports: [{name: http, port: 8000, targetPort: 80, protocol: TCP}%s]
  selector: {%s}
`, more, selector)
}

// newSite makes a namespace that is labelled for proxies.
func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t, env.Namespace(t)}
	env.MustKubectl(t, "", "label", "namespace", s.ns, wellknown.Label+"="+wellknown.Enabled)
	s.kubectl(primary, "apply", "-f=-")
	return s
}

func (s *site) kubectl(stdin string, args ...string) string {
	s.t.Helper()
	return env.MustKubectl(s.t, stdin, append([]string{"-n", s.ns}, args...)...)
}

// service is the stored Service.
func (s *site) service() *corev1.Service {
	s.t.Helper()
	var o corev1.Service
	require.NoError(s.t, env.Client(s.t).Get(s.t.Context(), client.ObjectKey{Namespace: s.ns, Name: "httpbin"}, &o))
	return &o
}

// leads returns where a Service leads.
func leads(o *corev1.Service) product.Mode {
	switch {
	case o.Spec.Selector["app"] == wellknown.Sentinel("httpbin") || o.Spec.Selector["name"] == wellknown.Sentinel("httpbin"):
		return product.Proxied
	case o.Annotations[wellknown.SelectorAnnotation] != "":
		return product.Bypass
	}
	return product.Own
}

// means returns the selector that the Service's author intends.
func means(t *testing.T, o *corev1.Service) map[string]string {
	t.Helper()
	selector, err := product.Original(objects.Read(o), nil, nil)
	require.NoError(t, err)
	return selector
}

// becomes waits until the Service leads to the target of a mode, with the author's intended selector.
func (s *site) becomes(mode product.Mode, selector map[string]string) {
	s.t.Helper()
	var o *corev1.Service
	harness.Eventually(s.t, func() bool {
		o = s.service()
		return leads(o) == mode && maps.Equal(means(s.t, o), selector)
	}, "the Service does not become %s with selector %v", mode, selector)
	require.Equal(s.t, selector, means(s.t, o))
	if mode != product.Own {
		harness.Eventually(s.t, func() bool {
			var origin corev1.Service
			err := env.Client(s.t).Get(s.t.Context(), client.ObjectKey{Namespace: s.ns, Name: wellknown.OriginName("httpbin")}, &origin)
			require.NoError(s.t, client.IgnoreNotFound(err))
			return maps.Equal(origin.Spec.Selector, selector)
		}, "the origin's selector does not follow")
	}
}

const unready = "cluster.test/ready"

// mode puts the Service in a mode: by its route, and by proxies that are ready or not.
func (s *site) mode(mode product.Mode, selector map[string]string) {
	s.t.Helper()
	deployment := "deployment/" + wellknown.ProxyName("httpbin")
	if mode == product.Own {
		s.kubectl("", "delete", "httproute", "httpbin", "--ignore-not-found")
		s.becomes(mode, selector)
		return
	}
	s.kubectl(httpRoute, "apply", "-f=-")
	harness.Eventually(s.t, func() bool {
		return env.Get(s.t, s.ns, "deployment", wellknown.ProxyName("httpbin")) != nil
	}, "there is no Deployment of the proxies")
	if mode == product.Proxied {
		s.kubectl("", "patch", deployment, "--type=merge", "-p", `{"spec":{"template":{"metadata":{"annotations":{"`+unready+`":null}}}}}`)
		if leads(s.service()) != mode { // proxies that were made unready stay unready
			s.kubectl("", "delete", "pods", "-l", wellknown.ParentLabel, "--wait=false")
		}
		s.becomes(mode, selector)
		return
	}
	s.kubectl("", "patch", deployment, "--type=merge", "-p", `{"spec":{"template":{"metadata":{"annotations":{"`+unready+`":"false"}}}}}`)
	s.spoil()
	s.becomes(mode, selector)
}

// spoil makes every existing proxy unready.
func (s *site) spoil() {
	s.t.Helper()
	for pod := range strings.FieldsSeq(s.kubectl("", "get", "pods", "-l", wellknown.ParentLabel, "-o=name")) {
		_, err := env.Kubectl(s.t.Context(), "", "-n", s.ns, "patch", pod, "--subresource=status", "--type=strategic",
			"-p", `{"status":{"conditions":[{"type":"Ready","status":"False"}]}}`)
		if err != nil {
			require.ErrorContains(s.t, err, "not found") // a rollout may have deleted the pod
		}
	}
}

// owners returns the field managers of a field of the spec, sorted.
func owners(t *testing.T, o *corev1.Service, field string) (names []string) {
	t.Helper()
	for _, entry := range o.ManagedFields {
		var fields struct {
			Spec map[string]json.RawMessage `json:"f:spec"`
		}
		require.NoError(t, json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields))
		if fields.Spec[field] != nil {
			names = append(names, entry.Manager)
		}
	}
	slices.Sort(names)
	return names
}

// uninstall runs mirrorgate uninstall.
func uninstall(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), env.Binary, "uninstall", "--kubeconfig", env.Kubeconfig).CombinedOutput()
	require.NoError(t, err, string(out))
	return string(out)
}

// events returns the reasons of the Service's Events, with their notes.
func (s *site) events() string {
	s.t.Helper()
	var list eventsv1.EventList
	require.NoError(s.t, env.Client(s.t).List(s.t.Context(), &list, client.InNamespace(s.ns)))
	var out strings.Builder
	for _, e := range list.Items {
		if e.Regarding.Name == "httpbin" {
			fmt.Fprintf(&out, "%s: %s\n", e.Reason, e.Note)
		}
	}
	return out.String()
}

// away makes the webhook of Services unreachable for the API server, as if all replicas were down, while the
// controller runs.
func away(t *testing.T, server *harness.Server) (back func()) {
	t.Helper()
	name := server.Registration(t)
	var indexes []int
	for i, url := range strings.Fields(env.MustKubectl(t, "", "get", "mutatingwebhookconfiguration", name, "-o=jsonpath={.webhooks[*].clientConfig.url}")) {
		if strings.HasSuffix(url, webhook.ServicesPath) {
			indexes = append(indexes, i)
		}
	}
	require.Len(t, indexes, 2)
	point := func(url string) {
		var edits []string
		for _, i := range indexes {
			edits = append(edits, fmt.Sprintf(`{"op":"replace","path":"/webhooks/%d/clientConfig/url","value":%q}`, i, url+webhook.ServicesPath))
		}
		ctx := context.WithoutCancel(t.Context())
		_, err := env.Kubectl(ctx, "", "patch", "mutatingwebhookconfiguration", name, "--type=json", "-p=["+strings.Join(edits, ",")+"]")
		require.NoError(t, err)
	}
	point("https://127.0.0.1:1")
	return func() { point(server.URL) }
}
