package webhook

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/internal/variant"
	"github.com/mirrorgate/mirrorgate/patch"
)

// What a review may allocate, in bytes: that of an empty one, and that for each byte of it. The smallest mirror of 26
// bytes takes most for its size; what a review of 3 MiB takes is bounded by TestAllocationsOfHostileReviews.
const (
	allocatedAtAll   = 4 << 20
	allocatedForByte = 800
)

// fuzzCluster has the variants v1 and v3, and v2 without a workload.
const fuzzCluster = `
{apiVersion: v1, kind: Service, metadata: {name: v1}, spec: {selector: {app: v1}, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: v2}, spec: {selector: {app: v2}, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: v3}, spec: {selector: {app: v3}, ports: [{port: 80}, {port: 81}]}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: v1}, spec: {template: {metadata: {labels: {app: v1, version: x}}}}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: v3}, spec: {template: {metadata: {labels: {app: v3}}}}}
---
{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: v1}, spec: {host: v1, subsets: [{name: x, labels: {version: x}}]}}
---
{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: public}, spec: {selector: {app: v3}, servers: [{port: {number: 80}}]}}
`

// FuzzReview plays the write of any object over any other one through the handlers, in a cluster with some of
// the variants and in an empty one. No answer is an error, patches apply, a second decision about the result changes nothing, and what
// is allocated is linear in the size of the review.
func FuzzReview(f *testing.F) {
	files, err := filepath.Glob("../internal/policy/testdata/*/route.yaml")
	require.NoError(f, err)
	require.NotEmpty(f, files)
	for i, file := range files {
		raw := seedOf(f, file)
		f.Add(raw, []byte{}, i%2 == 0)
		f.Add(raw, seedOf(f, files[(i+1)%len(files)]), i%2 == 0)
	}
	for _, name := range slices.Sorted(maps.Keys(hostileObjects)) {
		object := hostileObjects[name]
		f.Add([]byte(object(4<<10)), []byte(object(2<<10)), false)
	}
	full, err := variant.FromYAML(variant.Options{AssumeReady: true, Namespace: "shop"}, []byte(fuzzCluster))
	require.NoError(f, err)
	indexes := map[bool]*variant.Index{false: variant.NewIndex(variant.Options{}), true: full}
	f.Fuzz(func(t *testing.T, object, old []byte, inFull bool) {
		body := reviewOf(string(object), string(old))
		answerTo(t, resolving(indexes[inFull]), MutatePath, body)
		gate := handlers(snapshots{indexes[inFull]}) // the Resolver may need several decisions to read what it lacks
		stored, ok := stored(t, gate, MutatePath, body, object)
		if !ok || !json.Valid(object) || !utf8.Valid(object) {
			return
		}
		_, ok = answerTo(t, gate, ValidatePath, reviewOf(string(stored), string(old)))
		require.True(t, ok, "the result is read")
		again, _ := answerTo(t, gate, MutatePath, reviewOf(string(stored), ""))
		require.Empty(t, string(again.Patch), "before: %s\nafter: %s", object, stored)
	})
}

// stored returns the object as it is after a review by the mutating webhook. It is false for a body that is no review.
func stored(t *testing.T, gate http.Handler, path string, body, object []byte) ([]byte, bool) {
	t.Helper()
	resp, ok := answerTo(t, gate, path, body)
	if !ok || len(resp.Patch) == 0 {
		return object, ok
	}
	var ops []patch.Operation
	require.NoError(t, json.Unmarshal(resp.Patch, &ops))
	out, err := patch.Apply(object, ops)
	require.NoError(t, err, "the patch applies")
	return out, true
}

// answerTo sends a review, and checks its answer and its cost.
func answerTo(t *testing.T, gate http.Handler, path string, body []byte) (*admissionv1.AdmissionResponse, bool) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	gate.ServeHTTP(w, r)
	runtime.ReadMemStats(&after)
	if !raceEnabled {
		assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(allocatedAtAll+allocatedForByte*len(body)), "allocated bytes")
	}
	if w.Code != http.StatusOK {
		require.Equal(t, http.StatusBadRequest, w.Code)
		return nil, false
	}
	var answer admissionv1.AdmissionReview
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
	require.NotEqual(t, "error", answer.Response.AuditAnnotations["decision"], "%s: %v", body, answer.Response.Warnings)
	return answer.Response, true
}

func seedOf(f *testing.F, file string) []byte {
	f.Helper()
	text, err := os.ReadFile(file)
	require.NoError(f, err)
	raw, err := yaml.YAMLToJSON(text)
	require.NoError(f, err)
	return raw
}
