package install

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/certs"
	"github.com/mirrorgate/mirrorgate/internal/report"
	"github.com/mirrorgate/mirrorgate/manifests"
	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

const (
	system  = "mirrorgate-system"
	account = "system:serviceaccount:mirrorgate-system:mirrorgate"
	// interceptAccount is that of mirrorgate intercept.
	interceptAccount = account + "-intercept"
)

// render builds a folder of the manifests, as kubectl apply -k does.
func render(t *testing.T, folder string) string {
	t.Helper()
	return env.MustKubectl(t, "", "kustomize", filepath.Join("..", "..", "..", "manifests", folder))
}

func objects(t *testing.T, text string) []*unstructured.Unstructured {
	t.Helper()
	var found []*unstructured.Unstructured
	for part := range strings.SplitSeq(text, "\n---\n") {
		u := &unstructured.Unstructured{}
		require.NoError(t, yaml.Unmarshal([]byte(part), &u.Object))
		found = append(found, u)
	}
	return found
}

// install applies manifests and deletes them after the test. It omits the objects whose clients a test
// replaces.
func install(t *testing.T, text string, without ...string) {
	t.Helper()
	text = withoutKinds(text, without...)
	t.Cleanup(func() {
		_, err := env.Kubectl(context.WithoutCancel(t.Context()), text, "delete", "--ignore-not-found", "-f", "-")
		require.NoError(t, err)
	})
	_, stderr, err := env.Try(t, text, "apply", "--server-side", "--validate=strict", "-f", "-")
	require.NoError(t, err, stderr)
	require.Empty(t, stderr, "no warning either, from Pod Security for example")
}

// withoutKinds returns manifests without the objects of some kinds.
func withoutKinds(text string, without ...string) string {
	var parts []string
	for part := range strings.SplitSeq(text, "\n---\n") {
		if !slices.ContainsFunc(without, func(kind string) bool { return strings.Contains(part, "\nkind: "+kind+"\n") }) {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "\n---\n")
}

func TestOverlaysAreInstalledAsTheyAreAndRunUnderPodSecurityRestricted(t *testing.T) {
	require.NoError(t, env.InstallCRDs(t.Context(), "cert-manager"))
	for _, overlay := range []string{"overlays/default", "overlays/cert-manager", "overlays/no-mesh"} {
		t.Run(overlay, func(t *testing.T) {
			install(t, render(t, overlay))
			harness.Eventually(t, func() bool {
				var have appsv1.Deployment
				raw := env.MustKubectl(t, "", "-n", system, "get", "deployment", "mirrorgate", "-o", "json")
				require.NoError(t, json.Unmarshal([]byte(raw), &have))
				return have.Status.ReadyReplicas == 2
			}, "the pods are not admitted")
			for _, dry := range []string{"--dry-run=server", "--dry-run=client"} {
				text := render(t, overlay)
				if dry == "--dry-run=client" {
					text = withoutKinds(text, "CustomResourceDefinition") // kubectl cannot merge one by itself
				}
				_, stderr, err := env.Try(t, text, "apply", dry, "-f", "-")
				require.NoError(t, err, stderr)
			}
		})
	}
}

func TestNamespaceThatEnforcesPodSecurityRefusesALaxerPod(t *testing.T) {
	install(t, render(t, "overlays/default"), "Deployment")
	text := env.MustKubectl(t, "", "-n", system, "get", "namespace", system, "-o", "name")
	require.Contains(t, text, system)
	_, stderr, err := env.Try(t, "", "-n", system, "run", "lax", "--image=busybox")
	require.Error(t, err)
	require.Contains(t, stderr, "violates PodSecurity \"restricted:latest\"")
}

// request is one entry of the audit log.
type request struct {
	User           struct{ Username string }
	Verb           string
	ObjectRef      struct{ APIGroup, Resource, Name, Subresource string }
	ResponseStatus struct {
		Code    int
		Message string
	}
}

// auditLog opens the API server's log after the given offset.
func auditLog(t *testing.T, before int64) (log *os.File, size int64) {
	t.Helper()
	log, err := os.Open(filepath.Join(env.Dir, "logs", "kube-apiserver.log"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = log.Close() })
	size, err = log.Seek(0, io.SeekEnd)
	require.NoError(t, err)
	_, err = log.Seek(before, io.SeekStart)
	require.NoError(t, err)
	return log, size
}

// requests returns the requests that the program made with its own identities.
func requests(t *testing.T, since int64) []request {
	t.Helper()
	file, _ := auditLog(t, since)
	var found []request
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var r request
		if json.Unmarshal(lines.Bytes(), &r) == nil && strings.HasPrefix(r.User.Username, account) {
			found = append(found, r)
		}
	}
	require.NoError(t, lines.Err())
	return found
}

// grant is one verb on one resource that a role allows an account. Proxies, whose role the program only binds, have
// none here.
type grant struct{ account, group, resource, name, verb string }

// grantees are the accounts of roles; others are serve's.
var grantees = map[string]string{"mirrorgate-intercept": interceptAccount, "mirrorgate-proxy": ""}

func granted(t *testing.T, text string) []grant {
	t.Helper()
	var all []grant
	for _, u := range objects(t, text) {
		if u.GetKind() != "Role" && u.GetKind() != "ClusterRole" {
			continue
		}
		raw, err := u.MarshalJSON()
		require.NoError(t, err)
		var role rbacv1.ClusterRole
		require.NoError(t, json.Unmarshal(raw, &role))
		to, ok := grantees[role.Name]
		if !ok {
			to = account
		}
		for _, rule := range role.Rules {
			names := rule.ResourceNames
			if len(names) == 0 {
				names = []string{""}
			}
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					for _, name := range names {
						for _, verb := range rule.Verbs {
							all = append(all, grant{to, group, resource, name, verb})
						}
					}
				}
			}
		}
	}
	return all
}

// TestRoleGrantsExactlyTheRequestsOfTheProgram runs the program with the identity of the manifests, and makes
// it do everything that it can do.
func TestRoleGrantsExactlyTheRequestsOfTheProgram(t *testing.T) {
	require.NoError(t, env.InstallCRDs(t.Context(), "cert-manager", "argo-rollouts", "flagger"))
	for name, c := range map[string]struct {
		text, source string
		routes       []string
	}{
		"default":      {render(t, "overlays/default"), "self", manifests.Routes()},
		"cert-manager": {render(t, "overlays/cert-manager"), "cert-manager", manifests.Routes()},
		// The cluster has the CRDs of both APIs.
		"gateway-api": {overlay(t, "self-cert", "gateway-api"), "self", []string{manifests.GatewayAPI}},
		"istio":       {overlay(t, "self-cert", "istio"), "self", []string{manifests.Istio}},
		"iter8":       {overlay(t, "self-cert", "gateway-api", "istio", "iter8"), "self", manifests.Routes()},
		"no-mesh":     {render(t, "overlays/no-mesh"), "self", []string{manifests.GatewayAPI}},
	} {
		t.Run(name, func(t *testing.T) {
			components, flags := c.routes, []string(nil)
			if name == "no-mesh" {
				components, flags = append(slices.Clone(c.routes), manifests.NoMesh), []string{"--no-mesh", "--intercept=false"}
			}
			source := c.source
			_, before := auditLog(t, 0)
			install(t, c.text, "Deployment", "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
			f := newFront(t)
			register(t, f, components...)
			if source == "cert-manager" {
				env.MustKubectl(t, "", "annotate", "mutatingwebhookconfiguration/mirrorgate", "validatingwebhookconfiguration/mirrorgate",
					certs.InjectAnnotation+"="+system+"/"+certs.IssuedSecret)
			}
			kubeconfig, err := env.KubeconfigFor(t.Context(), account)
			require.NoError(t, err)
			// Older API servers have no streaming lists: one replica lists instead.
			t.Setenv("KUBE_FEATURE_WatchListClient", "false")
			ownPod(t)
			server := env.LaunchInstalled(t, kubeconfig, append([]string{
				"--namespace", system, "--leader-elect", "--cert-names", "127.0.0.1", "--cert-life", "6h", "--resync", "1s", "--routes", strings.Join(c.routes, ","),
				fmt.Sprintf("--iter8=%t", name == "iter8"),
			}, flags...)...)
			if source == "cert-manager" {
				i := newIssuer(t, system)
				i.issue(t.Context(), t, i.wanted(t).Spec)
				i.inject(t)
				for _, name := range []string{"issuer/mirrorgate-self-signed", "issuer/mirrorgate-ca"} {
					env.MustKubectl(t, "", "-n", system, "patch", name, "--type=merge", "-p", `{"spec":{"selfSigned":null,"ca":{"secretName":"other"}}}`)
				}
				for _, name := range []string{"certificate/mirrorgate-tls", "certificate/mirrorgate-ca"} {
					env.MustKubectl(t, "", "-n", system, "patch", name, "--type=merge", "-p", `{"spec":{"secretName":"other"}}`)
				}
				// It is set last: while the certificate is in order, the program checks it only every few
				// hours.
				i.condition(t, "Ready", "True", "Ready", "issued")
			}
			waitReady(t, server)
			f.use(server)
			waitArmed(t)
			exercise(t, server, c.routes)
			if strings.Contains(c.text, "name: mirrorpolicies.mirrorgate.dev\n") {
				exercisePolicy(t)
			}
			switch name {
			case "iter8":
				exerciseDocuments(t)
			case "no-mesh":
				kubeconfig, err := env.KubeconfigFor(t.Context(), interceptAccount)
				require.NoError(t, err)
				env.LaunchInterception(t, kubeconfig, "--namespace", system, "--leader-elect", "--resync", "1s")
				exerciseProxies(t)
				exerciseReports(t, server)
			}

			unused := granted(t, c.text)
			harness.Eventually(t, func() bool {
				made := requests(t, before)
				unused = slices.DeleteFunc(unused, func(g grant) bool {
					// The bind verb appears in no request, but without it a request for RoleBindings is
					// refused.
					return g.verb == "bind" || slices.ContainsFunc(made, func(r request) bool {
						applied := g.verb == "create" && r.Verb == "patch" && r.ResponseStatus.Code == http.StatusCreated
						return (g.account == "" || r.User.Username == g.account) && (r.Verb == g.verb || applied) && resourceOf(r) == g.resource && r.ObjectRef.APIGroup == g.group && (g.name == "" || r.ObjectRef.Name == g.name)
					})
				})
				return len(unused) == 0
			}, "verbs that are granted but never used: %v", &unused)
			for _, r := range requests(t, before) {
				require.NotEqual(t, 403, r.ResponseStatus.Code, "not granted: %+v", r)
			}
		})
	}
}

// exercise makes mirrors of every kind appear and disappear, and makes their touches fail.
func exercise(t *testing.T, server *harness.Server, routes []string) {
	t.Helper()
	ns := env.Namespace(t)
	env.MustKubectl(t, harness.Workload("httpbin-v2"), "-n", ns, "apply", "-f", "-")
	var kinds []string
	refused := "httproute"
	if slices.Contains(routes, manifests.GatewayAPI) {
		kinds = append(kinds, "httproute", "grpcroute")
		env.MustKubectl(t, gatewayRoutes, "-n", ns, "apply", "-f", "-")
	}
	if slices.Contains(routes, manifests.Istio) {
		kinds = append(kinds, "virtualservice")
		if len(kinds) == 1 {
			refused = "virtualservice"
		}
		env.MustKubectl(t, istioRoute, "-n", ns, "apply", "-f", "-")
	}
	for replicas, state := range []string{"parked", "active"} {
		env.MustKubectl(t, "", "-n", ns, "scale", "deployment", "httpbin-v2", fmt.Sprintf("--replicas=%d", replicas))
		for _, kind := range kinds {
			env.WaitState(t, ns, kind, "r", "httpbin-v2="+state)
		}
	}
	// A repeated Event about the same object is patched: a refused touch is reported at every resync.
	refuse(t, ns, refused)
	env.MustKubectl(t, "", "-n", ns, "scale", "deployment", "httpbin-v2", "--replicas=0")
	if slices.Contains(routes, manifests.GatewayAPI) {
		env.WaitState(t, ns, "grpcroute", "r", "httpbin-v2=parked")
	}
	// A live read of a Service that does not exist.
	absent := strings.NewReplacer("{name: r}", "{name: absent}", "httpbin-v2", "absent")
	if slices.Contains(routes, manifests.GatewayAPI) {
		env.MustKubectl(t, absent.Replace(gatewayRoutes), "-n", ns, "create", "-f", "-")
		env.WaitState(t, ns, "httproute", "absent", "absent=parked")
	} else {
		env.MustKubectl(t, absent.Replace(istioRoute), "-n", ns, "create", "-f", "-")
		env.WaitState(t, ns, "virtualservice", "absent", "absent=parked")
	}
	require.Zero(t, server.Metric(t, "mirrorgate_internal_errors_total"))
}

// exercisePolicy has the leader write the status of a MirrorPolicy.
func exercisePolicy(t *testing.T) {
	t.Helper()
	ns := env.Namespace(t)
	env.MustKubectl(t, `
apiVersion: mirrorgate.dev/v1alpha1
kind: MirrorPolicy
metadata: {name: web}
spec: {targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: web}], ramp: {steps: [{percent: 1}]}}
`, "-n", ns, "apply", "-f", "-")
	harness.Eventually(t, func() bool {
		return env.MustKubectl(t, "", "-n", ns, "get", "mirrorpolicy", "web", "-o", "jsonpath={.status.targets[0].percent}") == "1%"
	}, "the status of the policy")
}

// exerciseReports has the leader take the report of a proxy.
func exerciseReports(t *testing.T, server *harness.Server) {
	t.Helper()
	ns := env.Namespace(t)
	env.MustKubectl(t, "", "-n", ns, "create", "serviceaccount", "mirrorgate-proxy")
	token := strings.TrimSpace(env.MustKubectl(t, "", "-n", ns, "create", "token", "mirrorgate-proxy", "--audience="+report.Audience))
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // who serves is not tested here
	}}
	harness.Eventually(t, func() bool {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.ReportURL+report.Path,
			strings.NewReader(`{"version": 1, "service": "web", "process": "p", "sequence": 1, "sections": {}}`))
		require.NoError(t, err)
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := client.Do(request)
		if err != nil {
			return false
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK
	}, "no report is taken")
	require.InDelta(t, 1, server.Metric(t, "mirrorgate_reporters"), 0)
}

// exerciseDocuments has Iter8's documents make a route of each kind.
func exerciseDocuments(t *testing.T) {
	t.Helper()
	ns := env.Namespace(t)
	env.MustKubectl(t, harness.Workload("v2")+"---"+documents, "-n", ns, "apply", "-f", "-")
	env.WaitState(t, ns, "httproute", "web", "v2=active")
	env.WaitState(t, ns, "virtualservice", "web", "v2=active")
}

const documents = `
apiVersion: v1
kind: ConfigMap
metadata: {name: web, labels: {app.kubernetes.io/managed-by: iter8}}
data: {spec: "{gvrs: [svc, deploy], variants: [[v1, v1], [v2, v2]]}"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: web-route, labels: {app.kubernetes.io/managed-by: iter8}}
data:
  spec: |
    trigger: {owner: web, update: variant/2}
    chart: mirror
    version: 0.14.x
    values:
      rules:
      - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}}}]
        backendRefs: [{name: v1, port: 80}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: web-routemap, labels: {iter8.tools/kind: routemap}}
data:
  strSpec: |
    versions: [{}, {resources: [{gvrShort: svc, name: v2}, {gvrShort: deploy, name: v2}]}]
    routingTemplates:
      mirror:
        gvrShort: vs
        template: |
          apiVersion: networking.istio.io/v1
          kind: VirtualService
          metadata: {name: web}
          spec:
            hosts: [web]
            http:
            - route: [{destination: {host: v1}}]
              {{- if gt (index .Weights 1) 0 }}
              mirror: {host: v2}
              {{- end }}
`

const gatewayRoutes = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  rules:
  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v2, port: 80}}}]
    backendRefs: [{name: primary, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: r}
spec:
  rules:
  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v2, port: 80}}}]
    backendRefs: [{name: primary, port: 80}]
`

const istioRoute = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: r}
spec:
  hosts: [web]
  http: [{route: [{destination: {host: primary}}], mirror: {host: httpbin-v2, port: {number: 80}}}]
`

// refuse makes the API server refuse touches of routes r, except of GRPCRoutes, in a namespace.
func refuse(t *testing.T, ns, kind string) {
	t.Helper()
	policy := strings.ReplaceAll(`
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: NS}
spec:
  matchConstraints:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: NS}}
    resourceRules:
    - {apiGroups: [gateway.networking.k8s.io], apiVersions: ["*"], resources: [httproutes], operations: [UPDATE]}
    - {apiGroups: [networking.istio.io], apiVersions: ["*"], resources: [virtualservices], operations: [UPDATE]}
  validations: [{expression: "false", message: refused by a test}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: NS}
spec: {policyName: NS, validationActions: [Deny]}
`, "NS", ns)
	env.MustKubectl(t, policy, "create", "-f", "-")
	t.Cleanup(func() {
		_, err := env.Kubectl(context.WithoutCancel(t.Context()), policy, "delete", "-f", "-")
		require.NoError(t, err)
	})
	harness.Eventually(t, func() bool {
		_, stderr, err := env.Try(t, "", "-n", ns, "label", kind, "r", "try=1", "--dry-run=server", "--overwrite")
		return err != nil && strings.Contains(stderr, "refused by a test")
	}, "the policy is not in force")
}

// resourceOf returns a request's resource, with its subresource, as a role names it.
func resourceOf(r request) string {
	if r.ObjectRef.Subresource != "" {
		return r.ObjectRef.Resource + "/" + r.ObjectRef.Subresource
	}
	return r.ObjectRef.Resource
}

// ownPod creates the pod that the program takes for its own, named after this machine's host name.
func ownPod(t *testing.T) {
	t.Helper()
	name, err := os.Hostname()
	require.NoError(t, err)
	env.MustKubectl(t, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s}
spec:
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: mirrorgate
    image: mirrorgate/mirrorgate:own
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
`, name, system), "apply", "-f", "-")
}

const frontedService = `
apiVersion: v1
kind: Service
metadata:
  name: httpbin
  labels: {mirrorgate.dev/proxy: enabled}
  annotations: {mirrorgate.dev/proxy-max-replicas: "5"}
spec: {ports: [{name: http, port: 8000, targetPort: 80}], selector: {app: httpbin}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: fronted}
spec:
  parentRefs: [{group: "", kind: Service, name: httpbin}]
  rules: [{backendRefs: [{name: far, namespace: FAR, port: 80}]}]
---
apiVersion: v1
kind: Service
metadata: {name: calls, labels: {mirrorgate.dev/proxy: enabled}}
spec: {ports: [{name: grpc, port: 9000}], selector: {app: calls}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: fronted}
spec:
  parentRefs: [{group: "", kind: Service, name: calls}]
  rules: [{backendRefs: [{name: calls, port: 9000}]}]
`

const grantFar = `
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: g}
spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: NS}], to: [{group: "", kind: Service}]}
`

// exerciseProxies makes proxies appear, scale, receive a namespace to read, and disappear.
func exerciseProxies(t *testing.T) {
	t.Helper()
	ns, far := env.Namespace(t), env.Namespace(t)
	kubectl := func(stdin string, args ...string) string {
		return env.MustKubectl(t, stdin, append([]string{"-n", ns}, args...)...)
	}
	// A repeated Event about the same object is patched: two of the proxies' names are taken.
	kubectl("", "create", "serviceaccount", "mirrorgate-proxy")
	kubectl("", "create", "deployment", "httpbin-mirrorgate-proxy", "--image=theirs")
	env.MustKubectl(t, strings.Replace(grantFar, "NS", ns, 1), "-n", far, "apply", "-f", "-")
	kubectl(strings.Replace(frontedService, "FAR", far, 1), "apply", "-f", "-")
	selector := func(want string) {
		harness.Eventually(t, func() bool {
			return kubectl("", "get", "service", "httpbin", "-o=jsonpath={.spec.selector}") == want
		}, "the selector does not become %s", want)
	}
	there := func(namespace, resource string, want bool) {
		harness.Eventually(t, func() bool {
			found := env.MustKubectl(t, "", "-n", namespace, "get", resource, "-l=app.kubernetes.io/managed-by=mirrorgate", "-o=name")
			return (found != "") == want
		}, "%s in %s: want existence %t", resource, namespace, want)
	}
	taken := func(want string) {
		harness.Eventually(t, func() bool {
			return strings.Contains(kubectl("", "get", "events.events.k8s.io", "-o=jsonpath={range .items[?(@.reason=='NameTaken')]}{.note} {.series.count};{end}"), want)
		}, "no Event NameTaken that contains %q", want)
	}
	taken("ServiceAccount")
	kubectl("", "delete", "serviceaccount", "mirrorgate-proxy")
	taken(" 2;")
	kubectl("", "delete", "deployment", "httpbin-mirrorgate-proxy")
	selector(`{"app":"mirrorgate-httpbin"}`)
	require.Equal(t, "mirrorgate/mirrorgate:own", kubectl("", "get", "deployment", "httpbin-mirrorgate-proxy", "-o=jsonpath={.spec.template.spec.containers[0].image}"))
	there(ns, "horizontalpodautoscalers", true)
	kubectl("", "annotate", "service", "httpbin", "mirrorgate.dev/proxy-max-replicas-")
	there(ns, "horizontalpodautoscalers", false)
	there(far, "rolebindings", true)
	env.MustKubectl(t, "", "-n", far, "delete", "referencegrant", "g")
	there(far, "rolebindings", false)
	harness.Eventually(t, func() bool {
		return kubectl("", "get", "httproute", "fronted", "-o=jsonpath={.status.parents[*].conditions[?(@.type=='ResolvedRefs')].reason}") == "RefNotPermitted"
	}, "no condition is written to the route")
	kubectl(`
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: secured}
spec:
  targetRefs: [{group: "", kind: Service, name: httpbin}]
  validation: {hostname: httpbin.shop, caCertificateRefs: [{group: "", kind: ConfigMap, name: ca}]}
`, "apply", "-f", "-")
	harness.Eventually(t, func() bool {
		return kubectl("", "get", "backendtlspolicy", "secured", "-o=jsonpath={.status.ancestors[*].conditions[?(@.type=='ResolvedRefs')].reason}") == "InvalidCACertificateRef"
	}, "no condition is written to the policy")
	kubectl("", "delete", "httproute/fronted", "grpcroute/fronted")
	selector(`{"app":"httpbin"}`)
	there(ns, "deployments,services,serviceaccounts,rolebindings,poddisruptionbudgets", false)
}
