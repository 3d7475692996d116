package webhook

// AdmissionReviews over HTTP. controller-runtime's own handler reads each review twice through a scheme,
// which costs several times as much as a decision; this one reads it once and leaves the rest to the library.

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"sync"
	"unicode/utf8"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/go-logr/logr"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// maxReview is the size of the largest review that is read, in bytes: two objects of 3 MB, more than the API
// server stores, and 1 MB for the rest.
const maxReview = 7 << 20

var reviewType = metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"}

// reviews answers the API server's calls of one webhook.
type reviews struct {
	hook  *admission.Webhook
	limit *bodyLimit
}

func newReviews(h admission.Handler, limit *bodyLimit) reviews {
	// Requests get no logger of their own: making one costs more than a decision, and only faults are logged.
	logger := func(base logr.Logger, _ *admission.Request) logr.Logger { return base }
	return reviews{&admission.Webhook{Handler: h, LogConstructor: logger}, limit}
}

// ServeHTTP answers one review. A body that is no review gets a plain HTTP error: the API server takes that
// as a failed call, to which the failure policy applies.
func (s reviews) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	in := incoming.Get().(*review)
	status, release, err := in.read(w, r, s.limit)
	defer func() {
		in.empty()
		incoming.Put(in)
		release()
	}()
	if err != nil {
		logf.FromContext(r.Context()).Error(err, "Not an admission review", "path", r.URL.Path)
		http.Error(w, err.Error(), status)
		return
	}
	answer := s.hook.Handle(r.Context(), admission.Request{AdmissionRequest: *in.Request})
	w.Header().Set("Content-Type", "application/json")
	err = json.NewEncoder(w).Encode(admissionv1.AdmissionReview{TypeMeta: reviewType, Response: &answer.AdmissionResponse})
	if err != nil {
		logf.FromContext(r.Context()).Error(err, "Admission answer not sent", "path", r.URL.Path)
	}
}

// review is read into the memory of earlier ones: most of its cost is two objects of some kilobytes, and
// nothing refers to them after the answer.
type review struct {
	admissionv1.AdmissionReview
	request     admissionv1.AdmissionRequest
	body        []byte
	object, old []byte
}

var incoming = sync.Pool{New: func() any { return &review{} }}

// maxKept bounds the memory that an idle review keeps for its body and for each of its objects, in bytes.
const maxKept = 64 << 10

// empty drops the review that was read, and keeps memory to read the next one into.
func (in *review) empty() {
	in.AdmissionReview, in.request = admissionv1.AdmissionReview{}, admissionv1.AdmissionRequest{}
	if cap(in.body) > maxKept {
		in.body = nil
	}
	if cap(in.object) > maxKept {
		in.object = nil
	}
	if cap(in.old) > maxKept {
		in.old = nil
	}
}

// read reads a review from a request. The caller must call release when it is answered. After an error the
// status is the one to answer with.
func (in *review) read(w http.ResponseWriter, r *http.Request, limit *bodyLimit) (status int, release func(), err error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return http.StatusUnsupportedMediaType, func() {}, fmt.Errorf("content type %q: must be application/json", r.Header.Get("Content-Type"))
	}
	in.body, release, err = limit.read(w, r, in.body[:0])
	switch {
	case errors.Is(err, errCrowded):
		status = http.StatusServiceUnavailable
	case errors.Is(err, errTooLarge):
		status, err = http.StatusRequestEntityTooLarge, fmt.Errorf("a review must not be larger than %d bytes", maxReview)
	case err != nil:
		status, err = http.StatusBadRequest, fmt.Errorf("read review: %w", err)
	default:
		status, err = in.decode()
	}
	return status, release, err
}

// maxInvalid is the largest number of bytes of a review that are not UTF-8. To replace each of them takes a hundred times
// as long as to read one, and the API server sends none.
const maxInvalid = 4 << 10

// tooInvalid reports whether more bytes of a text than maxInvalid are not UTF-8.
func tooInvalid(text []byte) bool {
	if utf8.Valid(text) {
		return false
	}
	for n := 0; len(text) > 0; {
		r, size := utf8.DecodeRune(text)
		if text = text[size:]; r == utf8.RuneError && size == 1 {
			if n++; n > maxInvalid {
				return true
			}
		}
	}
	return false
}

// requestRead is a request without its user: nothing reads it, and its groups may be a million.
type requestRead struct {
	*admissionv1.AdmissionRequest `json:",inline"`
	UserInfo                      struct{} `json:"userInfo"`
}

// decode decodes the review from its body.
func (in *review) decode() (status int, err error) {
	if tooInvalid(in.body) {
		return http.StatusBadRequest, errors.New("the review is not UTF-8")
	}
	in.request = admissionv1.AdmissionRequest{Object: runtime.RawExtension{Raw: in.object[:0]}, OldObject: runtime.RawExtension{Raw: in.old[:0]}}
	in.AdmissionReview = admissionv1.AdmissionReview{Request: &in.request}
	// Whoever reads the object looks for members that are there twice; to look for them here costs as much again.
	into := struct {
		*metav1.TypeMeta `json:",inline"`
		Request          *requestRead `json:"request"`
	}{&in.TypeMeta, &requestRead{AdmissionRequest: &in.request}}
	err = jsonv2.Unmarshal(in.body, &into, jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))
	in.object, in.old = in.request.Object.Raw, in.request.OldObject.Raw
	switch {
	case err != nil:
		return http.StatusBadRequest, fmt.Errorf("decode review: %w", err)
	case in.TypeMeta != reviewType:
		return http.StatusBadRequest, fmt.Errorf("%s %s: must be %s %s", in.APIVersion, in.Kind, reviewType.APIVersion, reviewType.Kind)
	case into.Request == nil || in.Request.Operation == "":
		return http.StatusBadRequest, errors.New("the review has no request")
	}
	return 0, nil
}
