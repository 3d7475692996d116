package dataplane

// The StatusWriter against the CRD's own schema, and together with other writers.

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	"github.com/mirrorgate/mirrorgate/internal/dataplane"
	"github.com/mirrorgate/mirrorgate/internal/removal"
	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// conditions returns the conditions of a route, by controller, with their observed generation.
func conditions(t *testing.T, u *unstructured.Unstructured) (out []string) {
	t.Helper()
	var status struct {
		Status struct {
			Parents []dataplane.ParentStatus `json:"parents"`
		} `json:"status"`
	}
	raw, err := u.MarshalJSON()
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(raw, &status))
	for _, p := range status.Status.Parents {
		line := p.ControllerName
		for _, c := range p.Conditions {
			line += fmt.Sprintf(" %s=%s:%s@%d", c.Type, c.Status, c.Reason, c.ObservedGeneration)
		}
		out = append(out, line)
	}
	return out
}

// Conditions follow routes and Services; entries of other controllers and the owners of the spec do not
// change, and a correct condition is not written again. (envtest would suffice; the CRD's schema matters
// here.)
func TestStatusWriter(t *testing.T) {
	ns := env.Namespace(t)
	index := dataplane.NewIndex(dataplane.Options{})
	feed, err := dataplane.NewFeed(env.Config(t), index, logr.Discard(), dataplane.FeedOptions{WithoutEndpoints: true})
	require.NoError(t, err)
	writer, err := dataplane.NewStatusWriter(env.Config(t), index, feed.HasSynced, logr.Discard())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	go func() { done <- feed.Start(ctx) }()
	go func() { done <- writer.Start(ctx) }()
	defer func() {
		cancel()
		assert.NoError(t, <-done)
		assert.NoError(t, <-done)
	}()
	const mine = "mirrorgate.dev/proxy "
	becomes := func(want ...string) *unstructured.Unstructured {
		t.Helper()
		var u *unstructured.Unstructured
		harness.Eventually(t, func() bool {
			u = env.Get(t, ns, "httproute", "httpbin")
			return assert.ObjectsAreEqual(want, conditions(t, u))
		}, "the conditions do not become %v", want)
		return u
	}

	env.MustKubectl(t, service("httpbin", "app: httpbin", 8000, "mirrorgate.dev/proxy: enabled")+fmt.Sprintf(httpRoute, ns), "-n", ns, "apply", "--server-side", "-f", "-")
	becomes(mine + "Accepted=True:Accepted@1 ResolvedRefs=False:BackendNotFound@1")
	env.MustKubectl(t, service("httpbin-v2", "app: httpbin", 80, ""), "-n", ns, "apply", "-f", "-")
	before := becomes(mine + "Accepted=True:Accepted@1 ResolvedRefs=True:ResolvedRefs@1")
	managers := map[string]string{}
	for _, m := range before.GetManagedFields() {
		managers[m.Manager+"/"+m.Subresource] = m.FieldsV1.GetRawString()
	}
	assert.Contains(t, managers["mirrorgate/status"], "f:status")
	assert.Len(t, managers, 2, "the client that applied it, and mirrorgate for its status")

	const other = `{"controllerName":"else.where/x","parentRef":{"group":"gateway.networking.k8s.io","kind":"Gateway","name":"g"},"conditions":[{"type":"Accepted","status":"True","reason":"Accepted","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}`
	env.MustKubectl(t, "", "-n", ns, "patch", "httproute", "httpbin", "--subresource=status", "--type=json", "-p", `[{"op":"add","path":"/status/parents/0","value":`+other+`}]`)
	env.MustKubectl(t, "", "-n", ns, "patch", "httproute", "httpbin", "--type=merge", "-p", `{"spec":{"hostnames":["a.example"]}}`)
	after := becomes("else.where/x Accepted=True:Accepted@0", mine+"Accepted=True:Accepted@2 ResolvedRefs=True:ResolvedRefs@2")
	dates := func(u *unstructured.Unstructured, at int) (out []any) {
		parents, _, err := unstructured.NestedSlice(u.Object, "status", "parents")
		require.NoError(t, err)
		for _, c := range parents[at].(map[string]any)["conditions"].([]any) {
			out = append(out, c.(map[string]any)["lastTransitionTime"])
		}
		return out
	}
	assert.Equal(t, dates(before, 0), dates(after, 1), "a new generation is no transition")

	version := after.GetResourceVersion()
	env.MustKubectl(t, "", "-n", ns, "annotate", "service", "httpbin", "some=thing")
	env.MustKubectl(t, "", "-n", ns, "label", "service", "httpbin", "mirrorgate.dev/proxy-")
	last := becomes("else.where/x Accepted=True:Accepted@0")
	env.MustKubectl(t, "", "-n", ns, "label", "namespace", ns, "mirrorgate.dev/proxy=enabled")
	becomes("else.where/x Accepted=True:Accepted@0", mine+"Accepted=True:Accepted@2 ResolvedRefs=True:ResolvedRefs@2")
	assert.NotEqual(t, version, last.GetResourceVersion())

	cancel()
	routes, err := dynamic.NewForConfig(env.Config(t))
	require.NoError(t, err)
	cleared, err := removal.Removal{Routes: routes}.Statuses(t.Context())
	require.NoError(t, err)
	require.Contains(t, cleared, "HTTPRoute "+ns+"/httpbin")
	assert.Equal(t, []string{"else.where/x Accepted=True:Accepted@0"}, conditions(t, env.Get(t, ns, "httproute", "httpbin")))
}
