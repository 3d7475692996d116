package engine

import (
	"bytes"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/conformance"
	"sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// claimed are the features whose tests run, beside the core of the profiles.
var claimed = []features.FeatureName{
	features.SupportHTTPRouteQueryParamMatching, features.SupportHTTPRouteMethodMatching, features.SupportHTTPRouteResponseHeaderModification,
	features.SupportHTTPRoutePortRedirect, features.SupportHTTPRouteSchemeRedirect, features.SupportHTTPRoutePathRedirect,
	features.SupportHTTPRouteHostRewrite, features.SupportHTTPRoutePathRewrite, features.SupportHTTPRoute303RedirectStatusCode,
	features.SupportHTTPRoute307RedirectStatusCode, features.SupportHTTPRoute308RedirectStatusCode, features.SupportHTTPRouteNamedRouteRule,
	features.SupportHTTPRouteBackendRequestHeaderModification, features.SupportHTTPRouteRequestMirror, features.SupportHTTPRouteRequestMultipleMirrors,
	features.SupportHTTPRouteRequestPercentageMirror, features.SupportHTTPRouteRequestTimeout, features.SupportHTTPRouteBackendTimeout,
	features.SupportHTTPRouteParentRefPort, features.SupportGatewayPort8080, features.SupportHTTPRouteBackendProtocolH2C,
	features.SupportHTTPRouteBackendProtocolWebSocket, features.SupportGRPCRouteNamedRouteRule,
}

func TestTraffic(t *testing.T) {
	options := conformance.DefaultOptions(t)
	options.GatewayClassName = className
	options.ConformanceProfiles = []suite.ConformanceProfileName{suite.GatewayHTTPConformanceProfileName, suite.GatewayGRPCConformanceProfileName}
	options.SupportedFeatures = claimed
	options.ManifestFS = []fs.FS{withoutIdle(t), &conformance.Manifests}
	options.BaseManifests = idleFree
	for _, test := range tests.ConformanceTests {
		if statusAlone(test.ShortName) {
			options.SkipTests = append(options.SkipTests, test.ShortName)
		}
	}
	class := &gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: className}, Spec: gatewayv1.GatewayClassSpec{ControllerName: controllerName}}
	require.NoError(t, options.Client.Create(t.Context(), class))
	class.Status.Conditions = []metav1.Condition{{
		Type: "Accepted", Status: metav1.ConditionTrue, Reason: "Accepted", ObservedGeneration: class.Generation, LastTransitionTime: metav1.Now(),
	}}
	require.NoError(t, options.Client.Status().Update(t.Context(), class))
	control(t, options.Client)
	conformance.RunConformanceWithOptions(t, options)
}

// answered are tests of faults that also look at the answers to requests.
var answered = []string{
	"HTTPRouteInvalidBackendRefUnknownKind", "HTTPRouteInvalidCrossNamespaceBackendRef", "HTTPRouteInvalidNonExistentBackendRef", "HTTPRouteInvalidReferenceGrant",
	"HTTPRoutePartiallyInvalidViaInvalidReferenceGrant",
}

// statusAlone reports whether a test is about the status of objects, which is the test's own controller's.
func statusAlone(name string) bool {
	if slices.Contains(answered, name) {
		return false
	}
	return strings.HasPrefix(name, "Gateway") || strings.HasPrefix(name, "ListenerSet") || strings.Contains(name, "Invalid") ||
		strings.HasSuffix(name, "ObservedGenerationBump")
}

// idleFree is the path of the suite's manifests without the workloads that no test here calls.
const idleFree = "base/manifests-of-traffic.yaml"

func withoutIdle(t *testing.T) fs.FS {
	t.Helper()
	text, err := fs.ReadFile(&conformance.Manifests, "base/manifests.yaml")
	require.NoError(t, err)
	documents := slices.DeleteFunc(bytes.Split(text, []byte("\n---\n")), func(d []byte) bool {
		return bytes.Contains(d, []byte("kind: Deployment")) && slices.ContainsFunc([]string{"coredns", "tcp-backend", "tls-backend"}, func(idle string) bool {
			return bytes.Contains(d, []byte("\n  name: "+idle))
		})
	})
	return fstest.MapFS{idleFree: {Data: bytes.Join(documents, []byte("\n---\n"))}}
}
