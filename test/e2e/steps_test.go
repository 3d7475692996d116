package e2e

// The steps of which the tests are made.

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	// documents is the folder with the manifests of Istio's task, which the demo uses too.
	documents = "../../internal/demo/documents/istio-gateway-api/"
	// wait bounds everything that the cluster does by itself, the start of pods included.
	wait = 2 * time.Minute
)

// kubectl runs kubectl, which must succeed.
func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := node.Kubectl(t.Context(), "", args...)
	require.NoError(t, err)
	return out
}

// eventually polls until is returns ""; the failure shows what it last returned.
func eventually(t *testing.T, is func() string) {
	t.Helper()
	begin := time.Now()
	for tick := time.NewTicker(100 * time.Millisecond); ; <-tick.C {
		last := is()
		if last == "" {
			t.Logf("reached after %s", time.Since(begin).Round(time.Second/10))
			return
		}
		require.Less(t, time.Since(begin), wait, last)
	}
}

// stage is a namespace of the test's own, in which kubectl works.
type stage struct{ namespace string }

// newStage makes the namespace; it is deleted after the test, and a failed test first prints its state.
func newStage(t *testing.T, namespace string) stage {
	t.Helper()
	s := stage{namespace}
	kubectl(t, "create", "namespace", namespace)
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if t.Failed() {
			for _, args := range [][]string{
				{"get", "pods,services,endpointslices,httproutes", "-A", "-o=wide"}, {"-n=" + namespace, "get", "events"},
				{"-n=mirrorgate-system", "logs", "-l=app.kubernetes.io/name=mirrorgate", "--tail=30"},
			} {
				out, err := node.Kubectl(ctx, "", args...)
				t.Logf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
			}
		}
		_, err := node.Kubectl(ctx, "", "delete", "namespace", namespace, "--wait=false")
		require.NoError(t, err)
	})
	return s
}

func (s stage) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	return kubectl(t, append([]string{"-n=" + s.namespace}, args...)...)
}

// try runs kubectl with an input, and returns its error.
func (s stage) try(t *testing.T, input string, args ...string) error {
	t.Helper()
	_, err := node.Kubectl(t.Context(), input, append([]string{"-n=" + s.namespace}, args...)...)
	return err
}

// apply applies files.
func (s stage) apply(t *testing.T, files ...string) {
	t.Helper()
	for _, file := range files {
		s.kubectl(t, "apply", "-f="+file)
	}
}

// ready waits until the pods of Deployments run.
func (s stage) ready(t *testing.T, deployments ...string) {
	t.Helper()
	for _, name := range deployments {
		s.kubectl(t, "rollout", "status", "deployment/"+name, "--timeout="+wait.String())
	}
}

// scale scales variant 2.
func (s stage) scale(t *testing.T, replicas string) {
	t.Helper()
	s.kubectl(t, "scale", "deployment/httpbin-v2", "--replicas="+replicas)
}

// mirror returns the state of the route's mirror: active, parked or neither.
func (s stage) mirror(t *testing.T) string {
	t.Helper()
	filters := s.kubectl(t, "get", "httproute", "httpbin", "-o=jsonpath={.spec.rules[*].filters}")
	parked := s.kubectl(t, "get", "httproute", "httpbin", `-o=jsonpath={.metadata.annotations.mirrorgate\.dev/parked}`)
	switch inSpec := strings.Contains(filters, "requestMirror"); {
	case inSpec && parked == "":
		return "active"
	case !inSpec && strings.Contains(parked, "httpbin-v2") && strings.Contains(filters, "x-mirrorgate-parked-"):
		return "parked"
	}
	return "neither: filters " + filters + ", parked " + parked
}

// mirrorBecomes waits until the mirror has the given state.
func (s stage) mirrorBecomes(t *testing.T, want string) {
	t.Helper()
	eventually(t, func() string {
		if is := s.mirror(t); is != want {
			return "the mirror is " + is + ", not " + want
		}
		return ""
	})
}
