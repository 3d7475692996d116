package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/patch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeResolver stands for the cluster: it answers with one state for every variant, or fails.
type fakeResolver struct {
	state policy.State
	err   error
	panic string
}

func (f fakeResolver) Resolve(_ context.Context, rt *route.Route) (policy.Snapshot, error) {
	if f.panic != "" {
		panic(f.panic)
	}
	snap := policy.Snapshot{Variants: map[route.Target]policy.Variant{}}
	for _, m := range rt.Every {
		v := policy.Variant{State: f.state, Exists: true, Ports: []policy.Port{{Number: 80}}}
		if f.state != policy.Ready {
			v.Reason, v.Detail = policy.ScaledToZero, `Deployment "v2" is scaled to 0`
		}
		snap.Variants[m.Target] = v
	}
	return snap, f.err
}

const mirrored = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop, labels: {tier: %s}}
spec:
  rules:
  - filters:
    - {type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}, percent: %d}}
    backendRefs: [{name: v1, port: 80}]
`

func toJSON(t *testing.T, text string) []byte {
	t.Helper()
	if text == "" {
		return nil
	}
	raw, err := yaml.YAMLToJSON([]byte(text))
	require.NoError(t, err)
	return raw
}

func request(t *testing.T, op admissionv1.Operation, object, old string) admission.Request {
	t.Helper()
	req := admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		Kind: metav1.GroupVersionKind{Group: route.GatewayGroup, Version: "v1", Kind: "HTTPRoute"},
		Name: "web", Namespace: "shop", Operation: op,
	}}
	req.Object.Raw, req.OldObject.Raw = toJSON(t, object), toJSON(t, old)
	return req
}

func TestInternalErrorsLetTheWriteThrough(t *testing.T) {
	for name, tc := range map[string]struct {
		resolver fakeResolver
		cause    string
	}{
		"the API server does not answer": {fakeResolver{err: errors.New("connection refused")}, "internal error"},
		"out of time":                    {fakeResolver{err: fmt.Errorf("read: %w", context.DeadlineExceeded)}, "timeout"},
		"a panic":                        {fakeResolver{panic: "nil map"}, "panic"},
	} {
		t.Run(name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			gate := New(tc.resolver, Options{Metrics: NewMetrics(reg)})
			for stage, h := range map[string]admission.Handler{"mutate": gate.Mutator(), "validate": gate.Validator()} {
				// 150 % is wrong, but a write that could not be judged is not denied.
				resp := h.Handle(t.Context(), request(t, admissionv1.Create, fmt.Sprintf(mirrored, "a", 150), ""))
				assert.True(t, resp.Allowed, stage)
				assert.Empty(t, resp.Patches, stage)
				require.Len(t, resp.Warnings, 1, stage)
				assert.Contains(t, resp.Warnings[0], tc.cause)
				assert.LessOrEqual(t, len(resp.Warnings[0]), 120)
				assert.Equal(t, "error", resp.AuditAnnotations["decision"])
				assert.InDelta(t, 1, testutil.ToFloat64(gate.opts.Metrics.errors.WithLabelValues(stage, tc.cause)), 0, stage)
			}
		})
	}
}

// forgetful answers as fakeResolver does, but blanks the object first, so that the operations no longer apply
// to it.
type forgetful struct {
	fakeResolver
	raw []byte
}

func (f forgetful) Resolve(ctx context.Context, rt *route.Route) (policy.Snapshot, error) {
	copy(f.raw, "{}"+strings.Repeat(" ", len(f.raw)))
	return f.fakeResolver.Resolve(ctx, rt)
}

// The API server would deny the write for such a patch, whatever the failure policy says.
func TestPatchThatDoesNotApplyIsNotSent(t *testing.T) {
	req := request(t, admissionv1.Create, fmt.Sprintf(mirrored, "a", 10), "")
	gate := New(forgetful{fakeResolver{state: policy.Absent}, req.Object.Raw}, Options{Metrics: NewMetrics(prometheus.NewRegistry())})
	resp := gate.Mutator().Handle(t.Context(), req)
	assert.True(t, resp.Allowed)
	assert.Empty(t, resp.Patches)
	assert.Empty(t, resp.Patch)
	assert.Equal(t, []string{"mirrorgate could not decide (internal error); mirrors of this route are stored as written"}, resp.Warnings)
	assert.Equal(t, map[string]string{"decision": "error", "reason": "internal error"}, resp.AuditAnnotations)
	assert.InDelta(t, 1, testutil.ToFloat64(gate.opts.Metrics.errors.WithLabelValues("mutate", "internal error")), 0)
	assert.Zero(t, testutil.CollectAndCount(gate.opts.Metrics.decisions), "nothing was decided")
}

// A route is applied again while the state of the variant is unknown: parked mirrors stay parked, and active
// ones active.
func TestUnknownVariantLeavesItsMirrorWhereItWasStored(t *testing.T) {
	route, edited := fmt.Sprintf(mirrored, "a", 10), fmt.Sprintf(mirrored, "a", 20)
	create := request(t, admissionv1.Create, route, "")
	absent := New(fakeResolver{state: policy.Absent}, Options{}).Mutator().Handle(t.Context(), create)
	parked, err := patch.Apply(create.Object.Raw, absent.Patches)
	require.NoError(t, err)
	gate := New(fakeResolver{state: policy.Unknown}, Options{})

	again := request(t, admissionv1.Update, edited, route)
	resp := gate.Mutator().Handle(t.Context(), again)
	assert.True(t, resp.Allowed)
	assert.Empty(t, resp.Patches, "it was active")

	again.OldObject.Raw = parked
	resp = gate.Mutator().Handle(t.Context(), again)
	assert.True(t, resp.Allowed)
	stored, err := patch.Apply(again.Object.Raw, resp.Patches)
	require.NoError(t, err)
	assert.Contains(t, string(stored), "x-mirrorgate-parked-")

	again = request(t, admissionv1.Create, edited, "")
	assert.Empty(t, gate.Mutator().Handle(t.Context(), again).Patches, "new, and as written")
}

func TestOnlyWritesThatConcernMirrorsAreDecided(t *testing.T) {
	boom := fakeResolver{panic: "must not be called"}
	plain := strings.Replace(fmt.Sprintf(mirrored, "a", 10), "RequestMirror", "ExtensionRef", 1)
	plain = strings.Replace(plain, "requestMirror", "extensionRef", 1)
	stored := fmt.Sprintf(mirrored, "a", 10)
	for name, req := range map[string]admission.Request{
		"a route without mirrors": request(t, admissionv1.Create, plain, ""),
		"a label":                 request(t, admissionv1.Update, fmt.Sprintf(mirrored, "b", 10), stored),
		"a delete":                request(t, admissionv1.Delete, "", stored),
		"a route that is deleted": request(t, admissionv1.Update, strings.Replace(fmt.Sprintf(mirrored, "a", 20), "name: web", `name: web, deletionTimestamp: "2026-01-01T00:00:00Z"`, 1), stored),
	} {
		t.Run(name, func(t *testing.T) {
			resp := New(boom, Options{}).Mutator().Handle(t.Context(), req)
			assert.True(t, resp.Allowed)
			assert.Empty(t, resp.Patches)
			assert.Empty(t, resp.Warnings)
		})
	}
}

// The schema refuses an object that is no route, with a better message than the webhook could.
func TestUnreadableRouteIsAllowedWithAWarning(t *testing.T) {
	for _, h := range []admission.Handler{New(fakeResolver{panic: "must not be called"}, Options{}).Mutator(), New(fakeResolver{}, Options{}).Validator()} {
		resp := h.Handle(t.Context(), request(t, admissionv1.Create, `{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: web}, spec: {rules: RequestMirror}}`, ""))
		assert.True(t, resp.Allowed)
		assert.Empty(t, resp.Patches)
		assert.Equal(t, []string{"mirrorgate cannot read this route, its mirrors are not checked: decode route: spec.rules must not be of type string"}, resp.Warnings)
	}
}

// A value out of range in a rule that has no mirror must not hide the others.
func TestBackendThatCannotBeReadHidesNoMirror(t *testing.T) {
	gate := New(fakeResolver{state: policy.Absent}, Options{Policy: Policy{Limits: Limits{MaxMirrors: new(0)}}})
	req := request(t, admissionv1.Create, `{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: web, namespace: shop}, spec: {hosts: [a], http: [
		{route: [{destination: {host: v1}}], mirror: {host: v2}},
		{match: [{uri: {exact: /never}}], route: [{destination: {host: v1, port: {number: 3000000000}}}]}]}}`, "")
	assert.NotEmpty(t, gate.Mutator().Handle(t.Context(), req).Patches, "parked")
	assert.False(t, gate.Validator().Handle(t.Context(), req).Allowed, "no mirror is allowed here")
}

// A mirror under a backendRef comes back to it although the backendRef's port was edited in the meantime.
func TestBackendIsFoundAgainUnderAnotherPort(t *testing.T) {
	create := request(t, admissionv1.Create, `{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: web, namespace: shop}, spec: {rules: [{backendRefs: [
		{name: v0, port: 80}, {name: v1, port: 80, filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}}}]}]}]}}`, "")
	absent := New(fakeResolver{state: policy.Absent}, Options{}).Mutator().Handle(t.Context(), create)
	parked, err := patch.Apply(create.Object.Raw, absent.Patches)
	require.NoError(t, err)
	edited := strings.Replace(string(parked), `"name":"v1","port":80`, `"name":"v1","port":8080`, 1)
	require.NotEqual(t, string(parked), edited)

	update := request(t, admissionv1.Update, edited, string(parked))
	resp := New(fakeResolver{state: policy.Ready}, Options{}).Mutator().Handle(t.Context(), update)
	stored, err := patch.Apply(update.Object.Raw, resp.Patches)
	require.NoError(t, err)
	want := strings.Replace(string(create.Object.Raw), `"name":"v1","port":80`, `"name":"v1","port":8080`, 1)
	assert.JSONEq(t, want, string(stored))
}

// Callers of a webhook's port are not authenticated, so a request must not be able to create a time series.
func TestLabelsOfMetricsAreBounded(t *testing.T) {
	gate := New(fakeResolver{state: policy.Ready}, Options{Metrics: NewMetrics(prometheus.NewRegistry())})
	for n := range 100 {
		req := request(t, admissionv1.Create, `{kind: X}`, "")
		req.Kind.Kind, req.Operation = fmt.Sprint("Kind", n), admissionv1.Operation(fmt.Sprint("OP", n))
		gate.Mutator().Handle(t.Context(), req)
	}
	assert.Equal(t, 1, testutil.CollectAndCount(gate.opts.Metrics.decisions))
}

// A route of a megabyte may have thousands of faults.
func TestAnswersAreBounded(t *testing.T) {
	rules := make([]string, 2000)
	for n := range rules {
		rules[n] = fmt.Sprintf(`{"route":[{"destination":{"host":"a"}}],"mirror":{"host":"b%d"},"mirrorPercentage":{"value":150}}`, n)
	}
	req := admission.Request{}
	req.Kind.Kind, req.Operation = "VirtualService", admissionv1.Create
	req.Object.Raw = fmt.Appendf(nil, `{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":{"name":"web","namespace":"shop"},"spec":{"hosts":["a"],"http":[%s]}}`, strings.Join(rules, ","))
	gate := New(fakeResolver{state: policy.Absent}, Options{})
	wrong := req.Object.Raw
	req.Object.Raw = bytes.ReplaceAll(wrong, []byte("150"), []byte("50"))
	resp := gate.Mutator().Handle(t.Context(), req)
	assert.Greater(t, len(resp.Patches), 2000, "as many as fit are parked, with two operations each")
	req.Object.Raw = wrong
	resp = gate.Validator().Handle(t.Context(), req)
	require.False(t, resp.Allowed)
	assert.Len(t, resp.Result.Details.Causes, maxCauses)
	assert.True(t, strings.HasSuffix(resp.Result.Message, "; and 1900 more"), resp.Result.Message[len(resp.Result.Message)-100:])

	req.Operation, req.OldObject.Raw = admissionv1.Update, []byte(strings.Replace(string(req.Object.Raw), `["a"]`, `["c"]`, 1))
	resp = gate.Validator().Handle(t.Context(), req)
	assert.True(t, resp.Allowed, "an earlier write made them")
	assert.Len(t, resp.Warnings, 2*32)
	assert.Contains(t, resp.Warnings[63], "more warnings")
}

func TestTouchIsDecidedEvenWhenNothingChanged(t *testing.T) {
	stored := fmt.Sprintf(mirrored, "a", 10)
	req := request(t, admissionv1.Update, stored, stored)
	gate := New(fakeResolver{state: policy.Absent}, Options{})
	require.Empty(t, gate.Mutator().Handle(t.Context(), req).Patches)
	req.Options.Raw = []byte(`{"kind":"PatchOptions","fieldManager":"mirrorgate"}`)
	require.NotEmpty(t, gate.Mutator().Handle(t.Context(), req).Patches)
}

func TestParkThenRestoreThroughTheHandlers(t *testing.T) {
	req := request(t, admissionv1.Create, fmt.Sprintf(mirrored, "a", 10), "")
	req.DryRun = new(true)
	gate := New(fakeResolver{state: policy.Absent}, Options{})
	resp := gate.Mutator().Handle(t.Context(), req)
	require.True(t, resp.Allowed)
	assert.Equal(t, map[string]string{"decision": "park", "reason": "ScaledToZero"}, resp.AuditAnnotations)
	assert.Equal(t, []string{`ScaledToZero: mirror to v2:80 is parked: Deployment "v2" is scaled to 0 (spec.rules[0].filters[0].requestMirror)`}, resp.Warnings)
	assert.InDelta(t, 1, testutil.ToFloat64(gate.opts.Metrics.decisions.WithLabelValues("HTTPRoute", "create", "park", "ScaledToZero", "true")), 0)
	parked, err := patch.Apply(req.Object.Raw, resp.Patches)
	require.NoError(t, err)

	back := request(t, admissionv1.Update, "", "")
	back.Object.Raw, back.OldObject.Raw = parked, parked
	back.Options.Raw = []byte(`{"fieldManager":"mirrorgate"}`)
	resp = New(fakeResolver{state: policy.Ready}, Options{}).Mutator().Handle(t.Context(), back)
	assert.Equal(t, map[string]string{"decision": "restore", "reason": "VariantReady"}, resp.AuditAnnotations)
	restored, err := patch.Apply(parked, resp.Patches)
	require.NoError(t, err)
	assert.JSONEq(t, string(req.Object.Raw), string(restored))
}

func TestAStrippedAnnotationIsRecoveredFromTheOldObject(t *testing.T) {
	gate := New(fakeResolver{state: policy.Absent}, Options{})
	req := request(t, admissionv1.Create, fmt.Sprintf(mirrored, "a", 10), "")
	parked, err := patch.Apply(req.Object.Raw, gate.Mutator().Handle(t.Context(), req).Patches)
	require.NoError(t, err)
	var object map[string]any
	require.NoError(t, json.Unmarshal(parked, &object))
	delete(object["metadata"].(map[string]any), "annotations")
	stripped, err := json.Marshal(object)
	require.NoError(t, err)

	replace := request(t, admissionv1.Update, "", "")
	replace.Object.Raw, replace.OldObject.Raw = stripped, parked
	out, err := patch.Apply(stripped, gate.Mutator().Handle(t.Context(), replace).Patches)
	require.NoError(t, err)
	assert.JSONEq(t, string(parked), string(out))
}

func TestOnlyContradictionsThatAWriteMakesAreDenied(t *testing.T) {
	gate := New(fakeResolver{state: policy.Ready}, Options{})
	bad := fmt.Sprintf(mirrored, "a", 150)
	resp := gate.Validator().Handle(t.Context(), request(t, admissionv1.Create, bad, ""))
	require.False(t, resp.Allowed)
	assert.Equal(t, metav1.StatusReasonInvalid, resp.Result.Reason)
	assert.EqualValues(t, 422, resp.Result.Code)
	assert.Equal(t, []metav1.StatusCause{{
		Type: metav1.CauseTypeFieldValueInvalid, Field: "spec.rules[0].filters[0].requestMirror.percent",
		Message: "Invalid value: 150: PercentOutOfRange: must be a whole number from 0 to 100",
	}}, resp.Result.Details.Causes)
	assert.Equal(t, "spec.rules[0].filters[0].requestMirror.percent: Invalid value: 150: PercentOutOfRange: must be a whole number from 0 to 100", resp.Result.Message)
	assert.Equal(t, "deny", resp.AuditAnnotations["decision"])

	resp = gate.Validator().Handle(t.Context(), request(t, admissionv1.Update, strings.Replace(bad, "v1, port", "v3, port", 1), bad))
	assert.True(t, resp.Allowed, "the mirror was as wrong before this write")
	require.Len(t, resp.Warnings, 1)
	assert.Contains(t, resp.Warnings[0], "PercentOutOfRange")

	resp = gate.Validator().Handle(t.Context(), request(t, admissionv1.Update, fmt.Sprintf(mirrored, "a", 160), bad))
	assert.False(t, resp.Allowed, "wrong in another way")
}

// A route that the controller makes from Iter8's documents is written with a mirror or without it, and never
// with a parked one.
func TestRouteOfIter8IsRefusedInsteadOfParked(t *testing.T) {
	const (
		owned   = `{name: web, namespace: shop, ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: a, uid: b, controller: true}]}`
		other   = `{name: web, namespace: shop, ownerReferences: [{apiVersion: apps/v1, kind: ConfigMap, name: a, uid: b}]}`
		plain   = `{name: web, namespace: shop}`
		touched = `{name: web, namespace: shop, annotations: {mirrorgate.dev/variants: v2=Ready}, ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: a, uid: b}]}`
	)
	for name, tc := range map[string]struct {
		metadata, manager string
		state             policy.State
		refused           bool
		patched           bool
	}{
		"absent":               {owned, FieldManager, policy.Absent, true, false},
		"ready":                {owned, FieldManager, policy.Ready, false, false},
		"by somebody else":     {owned, "kubectl", policy.Absent, false, true},
		"without an owner":     {plain, FieldManager, policy.Absent, false, true},
		"of another owner":     {other, FieldManager, policy.Absent, false, true},
		"touched":              {touched, FieldManager, policy.Absent, false, true},
		"by somebody, unknown": {owned, "", policy.Unknown, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(fmt.Sprintf(mirrored, "a", 5), "{name: web, namespace: shop, labels: {tier: a}}", tc.metadata, 1)
			req := request(t, admissionv1.Create, text, "")
			req.Options.Raw = []byte(`{"fieldManager":"` + tc.manager + `"}`)
			resp := New(fakeResolver{state: tc.state}, Options{}).Mutator().Handle(t.Context(), req)
			assert.Equal(t, tc.refused, !resp.Allowed)
			assert.Equal(t, tc.patched, len(resp.Patches) > 0)
			if tc.refused {
				assert.EqualValues(t, 409, resp.Result.Code)
				assert.Equal(t, `a mirror has no variant that is ready: spec.rules[0].filters[0].requestMirror: ScaledToZero: Deployment "v2" is scaled to 0`, resp.Result.Message)
			}
		})
	}
}
