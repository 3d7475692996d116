package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/mirrorgate/mirrorgate/internal/policy"
)

// post sends a body to the mutating webhook.
func post(t *testing.T, contentType string, body []byte) *httptest.ResponseRecorder {
	t.Helper()
	mux := muxServer{http.NewServeMux()}
	New(fakeResolver{state: policy.Absent}, Options{}).Register(mux)
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, MutatePath, bytes.NewReader(body))
	req.Header.Set("Content-Type", contentType)
	rec := httptest.NewRecorder()
	mux.ServeHTTP(rec, req)
	return rec
}

type muxServer struct{ *http.ServeMux }

func (m muxServer) Register(path string, h http.Handler) { m.Handle(path, h) }

func reviewJSON(t *testing.T, req admission.Request) []byte {
	t.Helper()
	raw, err := json.Marshal(admissionv1.AdmissionReview{TypeMeta: reviewType, Request: &req.AdmissionRequest})
	require.NoError(t, err)
	return raw
}

// The request equals the one that the library's own decoder reads, but for the user: nothing is decided by who writes.
func TestEveryFieldOfAReviewIsRead(t *testing.T) {
	req := request(t, admissionv1.Update, fmt.Sprintf(mirrored, "a", 10), fmt.Sprintf(mirrored, "b", 10))
	req.UID, req.SubResource, req.RequestSubResource = "7", "status", "status"
	req.RequestKind = &metav1.GroupVersionKind{Group: "g", Version: "v1beta1", Kind: "K"}
	req.RequestResource = &metav1.GroupVersionResource{Group: "g", Version: "v1beta1", Resource: "ks"}
	req.UserInfo.Username, req.UserInfo.Groups = "jane", []string{"dev"}
	dry := true
	req.DryRun = &dry
	req.Options.Raw = []byte(`{"fieldManager":"mirrorgate"}`)
	body := reviewJSON(t, req)

	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	var got review
	_, release, err := got.read(httptest.NewRecorder(), r, newBodyLimit())
	require.NoError(t, err)
	release()
	var want admissionv1.AdmissionReview
	require.NoError(t, json.Unmarshal(body, &want))
	want.Request.UserInfo = authenticationv1.UserInfo{}
	assert.Equal(t, want, got.AdmissionReview)
}

// Reviews reuse the memory of earlier ones, and must not see their content.
func TestReviewHasNothingOfTheOneBefore(t *testing.T) {
	read := func(into *review, body []byte) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		_, release, err := into.read(httptest.NewRecorder(), r, newBodyLimit())
		require.NoError(t, err)
		release()
	}
	first := request(t, admissionv1.Update, fmt.Sprintf(mirrored, "a", 10), fmt.Sprintf(mirrored, "b", 10))
	first.UserInfo.Extra = map[string]authenticationv1.ExtraValue{"scopes": {"all"}}
	first.Options.Raw = []byte(`{"fieldManager":"mirrorgate"}`)
	var reused review
	read(&reused, reviewJSON(t, first))
	kept := &reused.object[0]
	reused.empty()
	second := reviewJSON(t, request(t, admissionv1.Create, fmt.Sprintf(mirrored, "c", 10), ""))
	read(&reused, second)
	var want admissionv1.AdmissionReview
	require.NoError(t, json.Unmarshal(second, &want))
	assert.Empty(t, reused.Request.OldObject.Raw)
	reused.Request.OldObject.Raw = nil
	assert.Equal(t, want, reused.AdmissionReview)
	assert.Same(t, kept, &reused.object[0], "the memory is not reused")

	large := request(t, admissionv1.Create, fmt.Sprintf(mirrored, strings.Repeat("d", maxKept), 10), "")
	read(&reused, reviewJSON(t, large))
	reused.empty()
	assert.Equal(t, review{old: reused.old}, reused, "memory of a large review is kept")
}

func TestReviewIsAnswered(t *testing.T) {
	req := request(t, admissionv1.Create, fmt.Sprintf(mirrored, "a", 10), "")
	req.UID = "7"
	rec := post(t, "application/json", reviewJSON(t, req))
	assert.Equal(t, "application/json", rec.Header().Get("Content-Type"))
	var answer admissionv1.AdmissionReview
	require.NoError(t, json.Unmarshal(rec.Body.Bytes(), &answer))
	assert.Equal(t, reviewType, answer.TypeMeta)
	require.NotNil(t, answer.Response)
	assert.Equal(t, req.UID, answer.Response.UID)
	assert.True(t, answer.Response.Allowed)
	require.NotNil(t, answer.Response.PatchType)
	assert.Equal(t, admissionv1.PatchTypeJSONPatch, *answer.Response.PatchType)
	assert.Contains(t, string(answer.Response.Patch), "x-mirrorgate-parked-")
}

func TestBodyThatIsNoReviewIsAFailedCall(t *testing.T) {
	const head = `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"`
	for name, tc := range map[string]struct {
		contentType, body string
		status            int
		message           string
	}{
		"another type":    {"text/plain", head + `}`, 415, `content type "text/plain": must be application/json`},
		"no type":         {"", head + `}`, 415, `content type "": must be application/json`},
		"empty":           {"application/json", "", 400, "decode review: "},
		"no JSON":         {"application/json", head, 400, "decode review: "},
		"no request":      {"application/json", head + `}`, 400, "the review has no request"},
		"another version": {"application/json", strings.Replace(head, "/v1", "/v1beta1", 1) + `,"request":{}}`, 400, "admission.k8s.io/v1beta1 AdmissionReview: must be admission.k8s.io/v1 AdmissionReview"},
		"too large":       {"application/json", head + `,"request":{"uid":"` + strings.Repeat("x", maxReview) + `"}}`, 413, "a review must not be larger than 7340032 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			rec := post(t, tc.contentType, []byte(tc.body))
			assert.Equal(t, tc.status, rec.Code)
			assert.Contains(t, rec.Body.String(), tc.message)
		})
	}
}
