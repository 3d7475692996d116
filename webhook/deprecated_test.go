package webhook

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mirrorgate/mirrorgate/internal/policy"
)

func TestAdmitRefusesAnOldObjectThatIsAnother(t *testing.T) {
	gate, services := New(fakeResolver{state: policy.Ready}, Options{}), NewServices(&fakeParents{}, nil)
	route := fmt.Sprintf(mirrored, "a", 10)
	for old, want := range map[string]string{
		"kind: [":             "old object: document 1: line 1: ",
		route + "---" + route: "old object: must be exactly one object",
		"{kind: X}":           "old object: decode route: metadata.name is missing",
		httpbin:               "old object: v1 Service: not an HTTPRoute",
		`{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: other, namespace: shop}}`: "old object: is gateway.networking.k8s.io/v1 HTTPRoute shop/other, and the object is gateway.networking.k8s.io/v1 HTTPRoute shop/web",
		`{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: web}}`:                    "old object: is gateway.networking.k8s.io/v1 HTTPRoute default/web",
		`{apiVersion: gateway.networking.k8s.io/v1, kind: GRPCRoute, metadata: {name: web, namespace: shop}}`:   "old object: is gateway.networking.k8s.io/v1 GRPCRoute shop/web",
	} {
		_, err := gate.Admit(t.Context(), []byte(route), []byte(old))
		require.ErrorContains(t, err, want)
	}
	_, err := gate.Admit(t.Context(), []byte(httpbin), nil)
	require.ErrorContains(t, err, "object: v1 Service: not an HTTPRoute")
	for old, want := range map[string]string{
		"{spec: 7}": "old object: json: ",
		"{apiVersion: v1, kind: Service, metadata: {name: other, namespace: shop}}": "old object: is v1 Service shop/other",
	} {
		_, err = services.Admit(t.Context(), []byte(httpbin), []byte(old))
		require.ErrorContains(t, err, want)
	}
}

func TestAdmitKeepsNumbersAndEscapes(t *testing.T) {
	const route = `{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":{"name":"web","annotations":{"a":"\ud83d\ude00 \/"}},
		"spec":{"hosts":["a"],"http":[{"mirror":{"host":"b"},"timeout":9007199254740993}]}}`
	out, err := New(fakeResolver{state: policy.Absent}, Options{}).Admit(t.Context(), []byte(route), nil)
	require.NoError(t, err)
	require.NoError(t, out.Denied)
	assert.Contains(t, string(out.Object), `"a":"\ud83d\ude00 \/"`)
	assert.Contains(t, string(out.Object), `9007199254740993`)
	assert.Contains(t, string(out.Object), "x-mirrorgate-parked-")
	again, err := New(fakeResolver{state: policy.Absent}, Options{}).Admit(t.Context(), out.Object, out.Object)
	require.NoError(t, err)
	assert.Equal(t, out.Object, again.Object)
}

func TestGateFromTypedObjects(t *testing.T) {
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "v2"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 81}}}}
	gate, err := FromObjects(Options{}, service)
	require.NoError(t, err)
	out, err := gate.Admit(t.Context(), fmt.Appendf(nil, mirrored, "a", 10), nil)
	require.NoError(t, err)
	require.ErrorContains(t, out.Denied, "PortNotFound")
}
