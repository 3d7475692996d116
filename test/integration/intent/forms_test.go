package intent

import (
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// kinds are the kinds of route by resource.
var kinds = map[string]schema.GroupVersionKind{
	"httproute":      {Group: "gateway.networking.k8s.io", Version: "v1", Kind: "HTTPRoute"},
	"grpcroute":      {Group: "gateway.networking.k8s.io", Version: "v1", Kind: "GRPCRoute"},
	"virtualservice": {Group: "networking.istio.io", Version: "v1", Kind: "VirtualService"},
}

// form is one way to write a route with a mirror to httpbin-v2.
type form struct {
	name     string
	resource string
	// manifest has the mirror in the lines that end in "# mirror", and $SHARE in place of its percentage.
	manifest string
}

// with returns the manifest with its mirror at the given percentage.
func (f form) with(percent int) string {
	return strings.ReplaceAll(f.manifest, "$SHARE", strconv.Itoa(percent))
}

// without returns the manifest after its author has deleted the mirror.
func (f form) without() string {
	var lines []string
	for line := range strings.Lines(f.manifest) {
		if !strings.HasSuffix(line, "# mirror\n") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

const (
	active   = "httpbin-v2=active"
	isParked = "httpbin-v2=parked"
)

// forms are the kinds of route, with defaults omitted and written out. The API server adds defaults after
// admission where a server-side apply omitted them, so every such apply looks like a change.
var forms = []form{
	{"HTTPRoute, defaults omitted", "httproute", `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: httpbin, labels: {app: httpbin}}
spec:
  parentRefs: [{name: gateway}]
  rules:
  - backendRefs: [{name: httpbin-v1, port: 80}]
    filters: # mirror
    - {type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v2, port: 80}, fraction: {numerator: $SHARE}}} # mirror
  - matches: [{path: {value: /plain}}]
    backendRefs: [{name: httpbin-v1, port: 80}]
`},
	{"HTTPRoute, defaults spelled out", "httproute", `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: httpbin, labels: {app: httpbin}}
spec:
  parentRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: gateway}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /plain}}]
    backendRefs: [{group: "", kind: Service, name: httpbin-v1, port: 80, weight: 1}]
  - matches: [{path: {type: PathPrefix, value: /}}]
    backendRefs: [{group: "", kind: Service, name: httpbin-v1, port: 80, weight: 1}]
    filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-env, value: prod}]}}
    - {type: RequestMirror, requestMirror: {backendRef: {group: "", kind: Service, name: httpbin-v2, port: 80}, percent: $SHARE}} # mirror
    - {type: ResponseHeaderModifier, responseHeaderModifier: {remove: [server]}}
`},
	{"GRPCRoute, under a backendRef", "grpcroute", `
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: httpbin, labels: {app: httpbin}}
spec:
  parentRefs: [{name: gateway}]
  rules:
  - matches: [{method: {service: echo}}]
    backendRefs:
    - {name: httpbin-v0, port: 80}
    - name: httpbin-v1
      port: 80
      filters: # mirror
      - {type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v2, port: 80}, percent: $SHARE}} # mirror
`},
	{"VirtualService, mirror", "virtualservice", `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: httpbin, labels: {app: httpbin}}
spec:
  hosts: [httpbin]
  http:
  - match: [{uri: {prefix: /plain}}]
    route: [{destination: {host: httpbin-v1}}]
  - route: [{destination: {host: httpbin-v1}}]
    mirror: {host: httpbin-v2, port: {number: 80}} # mirror
    mirrorPercentage: {value: $SHARE.5} # mirror
    headers: {request: {remove: [x-debug]}}
`},
	{"VirtualService, mirrors", "virtualservice", `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: httpbin, labels: {app: httpbin}}
spec:
  hosts: [httpbin]
  http:
  - route: [{destination: {host: httpbin-v1}}]
    timeout: 3s
    mirrors: # mirror
    - {destination: {host: httpbin-v2}, percentage: {value: $SHARE}} # mirror
`},
}
