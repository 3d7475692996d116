package intent

import (
	"cmp"
	"context"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// editor is the change that a second webhook makes to a route's rules. It is idempotent, as webhooks must be.
type editor func(u *unstructured.Unstructured, rules []any) []any

var editors = map[string]editor{
	"inserts a rule in front": func(u *unstructured.Unstructured, rules []any) []any {
		if strings.Contains(asText(rules[0]), "inserted") {
			return rules
		}
		return append([]any{plainRule(u, "inserted")}, rules...)
	},
	"copies a rule": func(u *unstructured.Unstructured, rules []any) []any {
		if strings.Contains(asText(rules), "copied") {
			return rules
		}
		i := slices.IndexFunc(rules, func(rule any) bool { return strings.Contains(asText(rule), "irror") }) // active or parked
		copied := deepCopy(rules[i]).(map[string]any)
		for key, value := range plainRule(u, "copied") {
			if strings.HasPrefix(key, "match") {
				copied[key] = value
			}
		}
		return append(rules, copied)
	},
	"reorders rules": func(_ *unstructured.Unstructured, rules []any) []any {
		slices.SortStableFunc(rules, func(a, b any) int { return strings.Compare(nameOf(a), nameOf(b)) })
		return rules
	},
	"adds a filter": func(u *unstructured.Unstructured, rules []any) []any {
		return modify(u, rules, "ResponseHeaderModifier", "response")
	},
	"adds a filter in front": func(u *unstructured.Unstructured, rules []any) []any {
		rules = modify(u, rules, "ResponseHeaderModifier", "response")
		for _, rule := range rules {
			filters, _ := rule.(map[string]any)["filters"].([]any)
			slices.SortStableFunc(filters, func(a, b any) int { return cmp.Compare(isResponse(b), isResponse(a)) })
		}
		return rules
	},
	"adds to the header modifier": func(u *unstructured.Unstructured, rules []any) []any {
		return modify(u, rules, "RequestHeaderModifier", "request")
	},
	"restores what the author wrote": func(u *unstructured.Unstructured, rules []any) []any {
		must(utiljson.Unmarshal([]byte(u.GetAnnotations()["rules"]), &rules))
		return rules
	},
}

func isResponse(filter any) int {
	if strings.Contains(asText(filter), "ResponseHeaderModifier") {
		return 1
	}
	return 0
}

// nameOf is the key by which rules are ordered.
func nameOf(rule any) string {
	if strings.Contains(asText(rule), "/plain") {
		return "plain"
	}
	return "other"
}

func plainRule(u *unstructured.Unstructured, path string) map[string]any {
	const backend = `"backendRefs":[{"group":"","kind":"Service","name":"httpbin-v1","port":80,"weight":1}]`
	switch u.GetKind() {
	case "VirtualService":
		return fromText(`{"match":[{"uri":{"exact":"/` + path + `"}}],"route":[{"destination":{"host":"httpbin-v1"}}]}`)
	case "GRPCRoute":
		return fromText(`{"matches":[{"method":{"type":"Exact","service":"` + path + `"}}],` + backend + `}`)
	default:
		return fromText(`{"matches":[{"path":{"type":"Exact","value":"/` + path + `"}}],` + backend + `}`)
	}
}

// modify sets a header in every rule. It reuses an existing modifier, since the API allows only one of each
// type.
func modify(u *unstructured.Unstructured, rules []any, filterType, direction string) []any {
	field := strings.ToLower(filterType[:1]) + filterType[1:]
	for _, rule := range rules {
		rule := rule.(map[string]any)
		if u.GetKind() == "VirtualService" {
			must(unstructured.SetNestedField(rule, "second", "headers", direction, "set", "x-second"))
			continue
		}
		filters, _ := rule["filters"].([]any)
		i := slices.IndexFunc(filters, func(f any) bool { return f.(map[string]any)["type"] == filterType })
		if i < 0 {
			filters, i = append(filters, map[string]any{"type": filterType, field: map[string]any{}}), len(filters)
		}
		must(unstructured.SetNestedSlice(filters[i].(map[string]any), []any{map[string]any{"name": "x-second", "value": "second"}}, field, "set"))
		rule["filters"] = filters
	}
	return rules
}

// TestSecondWebhook has another mutating webhook edit the rules before mirrorgate and after it, reinvoked or
// not. Once its variant exists, the route must be exactly as the other webhook alone makes it, in whatever
// order it was written and flipped.
func TestSecondWebhook(t *testing.T) {
	env.Serve(t)
	for _, order := range []string{"a-before", "z-after"} {
		for _, again := range []admissionregistrationv1.ReinvocationPolicyType{"Never", "IfNeeded"} {
			t.Run(order+"/"+string(again), func(t *testing.T) {
				t.Parallel()
				s := newSite(t)
				s.second(order, again)
				routes := s.edited()
				for _, r := range routes {
					r.write()
				}
				seen := map[string]*unstructured.Unstructured{}
				away := func() {
					for _, r := range routes {
						state := r.away(order, again)
						u := r.becomes(state)
						r.write() // as if from Git: no annotation, no placeholder
						after := r.becomes(state)
						if state == "active" {
							continue // mirrorgate keeps touching the route, so its state depends on the moment of the read
						}
						r.same(u, after, "written again while parked")
						if before := seen[r.GetName()]; before != nil {
							r.same(before, u, "parked in another way")
						}
						seen[r.GetName()] = u
					}
				}
				away()
				s.come()
				for _, r := range routes {
					assert.Equal(t, r.alone, spec(r.becomes("active")), r.editor)
					r.write()
					assert.Equal(t, r.alone, spec(r.becomes("active")), "%s: written again", r.editor)
				}
				s.leave()
				away()
			})
		}
	}
}

// editedRoute is a route that a second webhook edits.
type editedRoute struct {
	*site
	*unstructured.Unstructured
	editor   string
	resource string
	alone    any // the spec without mirrorgate
}

// edited returns one route for every editor, in the forms that make a difference to it.
func (s *site) edited() []*editedRoute {
	s.t.Helper()
	var routes []*editedRoute
	for i, f := range []form{forms[0], forms[1], forms[3]} {
		for name := range editors {
			u := object(s.t, f.with(25))
			u.SetName(strings.ToLower(strings.ReplaceAll(name, " ", "-")) + "-" + string(rune('a'+i)))
			u.SetLabels(map[string]string{"editor": strings.ReplaceAll(name, " ", "_")})
			rules, _, err := unstructured.NestedSlice(declared(s.t, f.with(25)).(map[string]any), listOf(u))
			require.NoError(s.t, err)
			u.SetAnnotations(map[string]string{"rules": marshal(s.t, rules)})
			r := &editedRoute{site: s, Unstructured: u, editor: f.name + ": " + name, resource: f.resource}
			alone := u.DeepCopy()
			alone.SetNamespace(s.beside())
			require.NoError(s.t, env.Client(s.t).Create(s.t.Context(), alone, client.DryRunAll), r.editor)
			r.alone = spec(alone)
			routes = append(routes, r)
		}
	}
	return routes
}

// away returns the state of a route's mirrors while their variant is absent. A webhook that restores the
// rules after every change by mirrorgate wins: the mirror is not parked, but it is not lost either.
func (r *editedRoute) away(order string, again admissionregistrationv1.ReinvocationPolicyType) string {
	if order == "z-after" && again == "IfNeeded" && strings.Contains(r.editor, "restores") {
		return "active"
	}
	return "parked"
}

func (r *editedRoute) same(want, got *unstructured.Unstructured, what string) {
	r.t.Helper()
	assert.Equal(r.t, spec(want), spec(got), "%s: %s", r.editor, what)
	assert.Equal(r.t, parked(want), parked(got), "%s: %s", r.editor, what)
}

// write writes the route as its author does, replacing all that is stored.
func (r *editedRoute) write() {
	r.t.Helper()
	u := r.DeepCopy()
	u.SetNamespace(r.ns)
	live, err := r.find(r.resource, r.GetName())
	require.NoError(r.t, err)
	if live == nil {
		require.NoError(r.t, env.Client(r.t).Create(r.t.Context(), u), r.editor)
		return
	}
	require.NoError(r.t, retry.RetryOnConflict(retry.DefaultBackoff, func() error { // a touch may happen in between
		live, err := r.find(r.resource, r.GetName())
		if err != nil {
			return err
		}
		u.SetResourceVersion(live.GetResourceVersion())
		return env.Client(r.t).Update(r.t.Context(), u)
	}), r.editor)
}

// becomes waits until all mirrors are in a state.
func (r *editedRoute) becomes(state string) (got *unstructured.Unstructured) {
	r.t.Helper()
	until(r.t, func(c *assert.CollectT) {
		u, err := r.find(r.resource, r.GetName())
		require.NoError(c, err)
		require.NotNil(c, u)
		mirrors := harness.Mirrors(r.t, u)
		assert.NotEmpty(c, mirrors, r.editor)
		for _, m := range mirrors {
			assert.Equal(c, "httpbin-v2="+state, m, r.editor)
		}
		got = u
	})
	return got
}

// beside is a namespace in which the site's second webhook is called and mirrorgate is not.
func (s *site) beside() string { return s.ns + "-beside" }

// second serves a second mutating webhook for the site from this process. Webhooks are called in the order of
// their names, so its name determines when it is called.
func (s *site) second(name string, again admissionregistrationv1.ReinvocationPolicyType) {
	s.t.Helper()
	namespace(s.t, s.beside(), "mirrorgate.dev/admission: disabled")
	server := httptest.NewTLSServer(http.HandlerFunc(serveEditors))
	s.t.Cleanup(server.Close)
	hook := admissionregistrationv1.MutatingWebhook{
		Name: "second.test.example.com", AdmissionReviewVersions: []string{"v1"},
		SideEffects: ptr.To(admissionregistrationv1.SideEffectClassNone), ReinvocationPolicy: &again,
		ClientConfig: admissionregistrationv1.WebhookClientConfig{
			URL:      &server.URL,
			CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
		},
		NamespaceSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: "kubernetes.io/metadata.name", Operator: "In", Values: []string{s.ns, s.beside()}},
		}},
		ObjectSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "editor", Operator: "Exists"}}},
		Rules: []admissionregistrationv1.RuleWithOperations{{
			Operations: []admissionregistrationv1.OperationType{"CREATE", "UPDATE"},
			Rule: admissionregistrationv1.Rule{
				APIGroups:   []string{"gateway.networking.k8s.io", "networking.istio.io"},
				APIVersions: []string{"v1"},
				Resources:   []string{"httproutes", "grpcroutes", "virtualservices"},
			},
		}},
	}
	config := &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: name + "-" + s.ns}, Webhooks: []admissionregistrationv1.MutatingWebhook{hook},
	}
	require.NoError(s.t, env.Client(s.t).Create(s.t.Context(), config))
	ctx := context.WithoutCancel(s.t.Context())
	s.t.Cleanup(func() { assert.NoError(s.t, env.Client(s.t).Delete(ctx, config)) })
	until(s.t, func(c *assert.CollectT) {
		probe := object(s.t, fence)
		probe.SetNamespace(s.beside())
		probe.SetLabels(map[string]string{"editor": "inserts_a_rule_in_front"})
		if assert.NoError(c, env.Client(s.t).Create(s.t.Context(), probe, client.DryRunAll)) {
			assert.Contains(c, asText(spec(probe)), "inserted")
		}
	})
}

// serveEditors answers with the rules as the route's editor changes them.
func serveEditors(w http.ResponseWriter, req *http.Request) {
	var review admissionv1.AdmissionReview
	u := &unstructured.Unstructured{}
	must(json.NewDecoder(req.Body).Decode(&review))
	must(u.UnmarshalJSON(review.Request.Object.Raw))
	edit := editors[strings.ReplaceAll(u.GetLabels()["editor"], "_", " ")]
	rules, _, err := unstructured.NestedSlice(u.Object, "spec", listOf(u))
	must(err)
	review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
	before := asText(rules)
	if after := edit(u, rules); asText(after) != before {
		review.Response.PatchType = ptr.To(admissionv1.PatchTypeJSONPatch)
		review.Response.Patch = []byte(asText([]any{map[string]any{"op": "replace", "path": "/spec/" + listOf(u), "value": after}}))
	}
	review.Request = nil
	w.Header().Set("Content-Type", "application/json")
	must(json.NewEncoder(w).Encode(review))
}

func listOf(u *unstructured.Unstructured) string {
	if u.GetKind() == "VirtualService" {
		return "http"
	}
	return "rules"
}

func asText(v any) string {
	out, err := json.Marshal(v)
	must(err)
	return string(out)
}

func fromText(text string) (m map[string]any) {
	must(utiljson.Unmarshal([]byte(text), &m)) // keeps integers as integers
	return m
}

func deepCopy(v any) any {
	return (&unstructured.Unstructured{Object: map[string]any{"v": v}}).DeepCopy().Object["v"]
}

// must is for errors that only a mistake in this file can cause.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
