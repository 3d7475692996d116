package mesh

import (
	"bytes"
	"cmp"
	"flag"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/gateway-api/conformance"
	confv1 "sigs.k8s.io/gateway-api/conformance/apis/v1"
	"sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// The suite has flags of its own; -report-output, -run-test and -version are of use here.
var (
	control = flag.Bool("control", false, "run on the cluster of KUBECONFIG, without proxies")
	core    = flag.Bool("core", false, "run only the core tests of the profiles")
)

var profiles = []suite.ConformanceProfileName{suite.MeshHTTPConformanceProfileName, suite.MeshGRPCConformanceProfileName}

// beside are the features of tests that belong to no profile. MeshConsumerRoute is missing everywhere: a proxy that
// stands in front of a Service does not know the namespace of a client.
var beside = []features.FeatureName{
	features.SupportHTTPRouteParentRefPort, features.SupportHTTPRouteResponseHeaderModification,
	features.SupportHTTPRoute303RedirectStatusCode, features.SupportHTTPRoute307RedirectStatusCode, features.SupportHTTPRoute308RedirectStatusCode,
}

// supported are the features that mirrorgate claims beside the core of the profiles.
func supported() sets.Set[features.FeatureName] {
	return features.SetsToNamesSet(features.MeshExtendedFeatures).Insert(beside...).Delete(features.SupportMeshConsumerRoute)
}

func TestConformance(t *testing.T) {
	options := conformance.DefaultOptions(t)
	options.ConformanceProfiles, options.SupportedFeatures = profiles, sets.List(supported())
	options.Implementation = confv1.Implementation{
		Organization: "mirrorgate", Project: "mirrorgate", URL: "https://github.com/mirrorgate/mirrorgate",
		Version: cmp.Or(options.Implementation.Version, "main"), Contact: []string{"https://github.com/mirrorgate/mirrorgate/issues"},
	}
	if *core {
		options.SupportedFeatures = []features.FeatureName{features.SupportMesh, features.SupportHTTPRoute, features.SupportGRPCRoute}
	}
	if *control {
		// Chance must not let a test pass that needs a proxy, and failures should not take long.
		options.TimeoutConfig.RequiredConsecutiveSuccesses = 12
		options.TimeoutConfig.MaxTimeToConsistency = 8 * time.Second
	} else {
		install(t)
		options.NamespaceLabels = map[string]string{"mirrorgate.dev/proxy": "enabled"}
	}
	conformance.RunConformanceWithOptions(t, options)
}

var result = regexp.MustCompile(`(?m)^    --- (PASS|FAIL): TestConformance/(\w+) .*`)

// Without proxies, in the same cluster, a client reaches a server, and that is all. The suite's own verdicts are failures
// there, so another program runs it.
func TestWithoutProxiesEveryRouteFails(t *testing.T) {
	run(t, "delete", "namespace", suite.MeshNamespace, suite.MeshConsumerNamespace, "--ignore-not-found") // and wait until they are gone
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestConformance$", "-test.v", "-control")
	out, err := cmd.Output()
	require.Error(t, err, "the suite did not fail")
	verdicts := map[string][]string{}
	for _, m := range result.FindAllStringSubmatch(string(out), -1) {
		verdicts[m[1]] = append(verdicts[m[1]], m[2])
	}
	t.Logf("%s", strings.Join(result.FindAllString(string(out), -1), "\n"))
	assert.Equal(t, []string{"MeshBasic"}, verdicts["PASS"])
	assert.ElementsMatch(t, needProxies(t), verdicts["FAIL"], "%s", out)
}

// needProxies names the tests that run and have a route.
func needProxies(t *testing.T) (names []string) {
	t.Helper()
	claimed := supported().Insert(features.SupportMesh, features.SupportHTTPRoute, features.SupportGRPCRoute)
	for _, test := range tests.ConformanceTests {
		if claimed.HasAll(test.Features...) && len(test.Manifests) > 0 {
			names = append(names, test.ShortName)
		}
	}
	require.NotEmpty(t, names)
	return names
}

// install installs mirrorgate as docs/nomesh.md says, and waits until it works.
func install(t *testing.T) {
	t.Helper()
	run(t, "apply", "--server-side", "-k=testdata/no-mesh")
	run(t, "-n=mirrorgate-system", "rollout", "status", "deployment/mirrorgate", "--timeout=2m")
	require.Eventually(t, func() bool {
		policy := run(t, "get", "validatingwebhookconfiguration", "mirrorgate",
			`-o=jsonpath={.webhooks[?(@.name=="gateway.validate.mirrorgate.dev")].failurePolicy}`)
		return policy == "Fail"
	}, 2*time.Minute, 100*time.Millisecond, "the webhooks were never reached")
}

// run runs kubectl and returns its output.
func run(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), kubectl, args...)
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	require.NoError(t, err, "kubectl %s: %s", strings.Join(args, " "), errOut.String())
	return string(out)
}
