package e2e

// A release of variant 2 that really fails: its pods run and are ready, and answer 500. Proxies with the token that the
// kubelet gives them report it to the leader, which stops the mirror.

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// brokenRelease is a server that is up and answers every request with an error.
const brokenRelease = `
import http.server
class Broken(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(500)
http.server.ThreadingHTTPServer(("", 80), Broken).serve_forever()
`

func TestFailuresOfVariant2StopItsMirror(t *testing.T) {
	s := mirrored(t, "stops")
	kubectl(t, "wait", "--for=condition=Established", "crd/mirrorpolicies.mirrorgate.dev")
	require.NoError(t, s.try(t, `
apiVersion: mirrorgate.dev/v1alpha1
kind: MirrorPolicy
metadata: {name: httpbin}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: httpbin}]
  stop: {errorPercent: 20, over: 30s, minRequests: 10}
`, "apply", "-f", "-"))
	l := newLoad(t, s)
	field := func(path string) string {
		return s.kubectl(t, "get", "mirrorpolicy", "httpbin", "-o=jsonpath={.status.targets[0]."+path+"}")
	}
	becomes := func(path, want string) {
		t.Helper()
		eventually(t, func() string {
			if is := field(path); !strings.Contains(is, want) {
				return path + " is " + is + ", not " + want
			}
			return ""
		})
	}
	becomes(`conditions[?(@.type=="Programmed")].status`, "True") // proxies report
	require.Empty(t, field("stopped.time"))

	command, err := json.Marshal([]string{"python3", "-c", brokenRelease})
	require.NoError(t, err)
	s.kubectl(t, "patch", "deployment", "httpbin-v2", "--type=json",
		`-p=[{"op":"replace","path":"/spec/template/spec/containers/0/command","value":`+string(command)+"}]")
	becomes("stopped.reason", "ErrorPercent")
	require.Contains(t, field("stopped.message"), "5xx")
	s.mirrorBecomes(t, "parked")
	l.unharmed(t)

	s.kubectl(t, "rollout", "undo", "deployment/httpbin-v2")
	s.ready(t, "httpbin-v2")
	require.Equal(t, "parked", s.mirror(t), "nothing but a person resumes it")
	s.kubectl(t, "annotate", "mirrorpolicy", "httpbin", "mirrorgate.dev/resume="+field("stopped.time"))
	s.mirrorBecomes(t, "active")
	require.Empty(t, field("stopped.time"))
}
