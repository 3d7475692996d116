package demo

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"
)

// verbatim are the manifests as they stand in the documents, by SHA-256: who edits one here no longer plays
// the document.
var verbatim = map[string]string{
	"istio-gateway-api/default-route.yaml":    "f5466d505c6e4250",
	"istio-gateway-api/httpbin-v1.yaml":       "0688fe6b5c62fbb0",
	"istio-gateway-api/httpbin-v2.yaml":       "07b9fc0f7075dffb",
	"istio-gateway-api/httpbin.yaml":          "043e57edd6f4d366",
	"istio-gateway-api/mirror-route.yaml":     "575dae0348e9fd9f",
	"istio-virtualservice/default-route.yaml": "6df90c9c91283b59",
	"istio-virtualservice/httpbin-v1.yaml":    "0688fe6b5c62fbb0",
	"istio-virtualservice/httpbin-v2.yaml":    "07b9fc0f7075dffb",
	"istio-virtualservice/httpbin.yaml":       "043e57edd6f4d366",
	"istio-virtualservice/mirror-route.yaml":  "c47773bb7527e2c6",
	"iter8/httpbin-v1-service.yaml":           "a86e71a6c396e02d",
	"iter8/httpbin-v1.yaml":                   "6016f172755d4709",
	"iter8/httpbin-v2-service.yaml":           "c4b1235135d360e1",
	"iter8/httpbin-v2.yaml":                   "ce37d4ec53e2122e",
	"iter8/httpbin.yaml":                      "043e57edd6f4d366",
	"iter8/inspect.yaml":                      "79e93b72a3671b8f",
	"iter8/routingpolicy.yaml":                "2299e76c1d24b500",
	"iter8/subject.yaml":                      "80c726036f586d36",
	"iter8/route.yaml":                        "801d99fce65d5c9a",
}

func TestDocumentsAreVerbatim(t *testing.T) {
	have := map[string]string{}
	documents, err := fs.Sub(files, "documents")
	require.NoError(t, err)
	require.NoError(t, fs.WalkDir(documents, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		raw, err := fs.ReadFile(documents, path)
		sum := sha256.Sum256(raw)
		have[path] = hex.EncodeToString(sum[:8])
		return err
	}))
	require.Equal(t, verbatim, have)
}

func TestDocumentsContain(t *testing.T) {
	documents, err := readDocuments()
	require.NoError(t, err)
	have := map[string][]string{}
	for path, objects := range documents {
		for _, object := range objects {
			have[path] = append(have[path], object.GetAPIVersion()+" "+named(object))
		}
	}
	v1, v2 := []string{"apps/v1 deployment/httpbin-v1"}, []string{"apps/v1 deployment/httpbin-v2"}
	service := []string{"v1 service/httpbin"}
	require.Equal(t, map[string][]string{
		"istio-virtualservice/httpbin-v1.yaml": v1, "istio-virtualservice/httpbin-v2.yaml": v2, "istio-virtualservice/httpbin.yaml": service,
		"istio-virtualservice/default-route.yaml": {"networking.istio.io/v1 virtualservice/httpbin", "networking.istio.io/v1 destinationrule/httpbin"},
		"istio-virtualservice/mirror-route.yaml":  {"networking.istio.io/v1 virtualservice/httpbin"},
		"istio-gateway-api/httpbin-v1.yaml":       v1, "istio-gateway-api/httpbin-v2.yaml": v2, "istio-gateway-api/httpbin.yaml": service,
		"istio-gateway-api/default-route.yaml": {"v1 service/httpbin-v1", "v1 service/httpbin-v2", "gateway.networking.k8s.io/v1 httproute/httpbin"},
		"istio-gateway-api/mirror-route.yaml":  {"gateway.networking.k8s.io/v1 httproute/httpbin"},
		"iter8/httpbin-v1.yaml":                v1, "iter8/httpbin-v2.yaml": v2, "iter8/httpbin.yaml": service,
		"iter8/httpbin-v1-service.yaml": {"v1 service/httpbin-v1"}, "iter8/httpbin-v2-service.yaml": {"v1 service/httpbin-v2"},
		"iter8/subject.yaml": {"v1 configmap/httpbin"}, "iter8/routingpolicy.yaml": {"v1 configmap/httpbin-route"},
		"iter8/inspect.yaml": {"gateway.networking.k8s.io/v1beta1 httproute/httpbin"},
		"iter8/route.yaml":   {"gateway.networking.k8s.io/v1beta1 httproute/httpbin"},
	}, have)
	require.Equal(t, map[string]string{"iter8.tools/detect": "true"}, documents["iter8/httpbin-v1.yaml"][0].GetLabels(),
		"a label's value is a string, whatever YAML takes it for")
}

// Every file that a play names is there, and every file that is there is played.
func TestPlaysUseTheDocuments(t *testing.T) {
	documents, err := readDocuments()
	require.NoError(t, err)
	used := map[string]bool{}
	for _, p := range plays() {
		names := append([]string{p.mirror}, append(append(p.first, p.second...), p.documents...)...)
		if p.plain != "" {
			names = append(names, p.plain)
		}
		for _, name := range names {
			require.Contains(t, documents, p.folder+"/"+name)
			used[p.folder+"/"+name] = true
		}
		require.Equal(t, string(p.kind), p.written(documents).GetKind())
	}
	require.Len(t, used, len(documents))
}
