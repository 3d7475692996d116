package webhook

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/patch"
)

// BenchmarkHandlers measures a decision without HTTP around it.
func BenchmarkHandlers(b *testing.B) {
	ready, absent := New(fakeResolver{state: policy.Ready}, Options{}), New(fakeResolver{state: policy.Absent}, Options{})
	t := &testing.T{}
	route := fmt.Sprintf(mirrored, "a", 10)
	create := request(t, admissionv1.Create, route, "")
	parked, err := patch.Apply(create.Object.Raw, absent.Mutator().Handle(b.Context(), create).Patches)
	require.NoError(b, err)
	touch := request(t, admissionv1.Update, "", "")
	touch.Object.Raw, touch.OldObject.Raw = parked, parked
	touch.Options.Raw = []byte(`{"fieldManager":"mirrorgate"}`)
	edit := request(t, admissionv1.Update, fmt.Sprintf(mirrored, "a", 20), route)
	for _, bc := range []struct {
		name    string
		handler admission.Handler
		req     admission.Request
	}{
		{"create a ready mirror", ready.Mutator(), create},
		{"validate it", ready.Validator(), create},
		{"edit it", ready.Mutator(), edit},
		{"park", absent.Mutator(), create},
		{"restore", ready.Mutator(), touch},
	} {
		b.Run(bc.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !bc.handler.Handle(b.Context(), bc.req).Allowed {
					b.Fatal("denied")
				}
			}
		})
	}
}
