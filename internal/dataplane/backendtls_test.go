package dataplane

import (
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// authorityPEM is a certificate that may be trusted.
func authorityPEM(t testing.TB) string {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
}

// configMapOf is the ConfigMap ca with one key.
func configMapOf(t testing.TB, key, value string) string {
	t.Helper()
	n := name("ca")
	o := corev1.ConfigMap{Data: map[string]string{key: value}}
	o.APIVersion, o.Kind, o.Namespace, o.Name = "v1", "ConfigMap", n.Namespace, n.Name
	raw, err := yaml.Marshal(o)
	require.NoError(t, err)
	return string(raw)
}

// policyOf is a BackendTLSPolicy with targets (as NAME or NAME:PORT) and a validation in YAML's flow form.
func policyOf(full, age, validation string, targets ...string) string {
	var refs []string
	for _, to := range targets {
		service, port, section := strings.Cut(to, ":")
		ref := fmt.Sprintf(`{group: "", kind: Service, name: %s`, service)
		if section {
			ref += ", sectionName: " + port
		}
		refs = append(refs, ref+"}")
	}
	return "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\n" +
		meta(full, "generation: 2, creationTimestamp: \"2026-01-0"+age+"T00:00:00Z\"") +
		fmt.Sprintf("spec: {targetRefs: [%s], validation: %s}", strings.Join(refs, ", "), validation)
}

const trustsCA = `{caCertificateRefs: [{group: "", kind: ConfigMap, name: ca}], hostname: v1.shop}`

const trustsSystem = `{wellKnownCACertificates: System, hostname: v1.shop, subjectAltNames: [{type: URI, uri: "spiffe://a/b"}]}`

// policyConditions are those of a policy, one line for each target.
func (w *world) policyConditions(full string) string {
	w.t.Helper()
	ancestors, generation := w.Status(RouteName{KindBackendTLSPolicy, name(full)})
	var lines []string
	for _, p := range ancestors {
		var words []string
		for _, c := range p.Conditions {
			assert.Equal(w.t, generation, c.ObservedGeneration)
			words = append(words, fmt.Sprintf("%s=%s:%s", c.Type, c.Status, c.Reason))
		}
		lines = append(lines, strings.Join(words, " "))
	}
	return strings.Join(lines, "\n")
}

// secures returns the TLS to a backend's port 80.
func (w *world) secures(service string) *spec.BackendTLS {
	w.t.Helper()
	table := w.Table(name("httpbin"))
	require.NotNil(w.t, table)
	require.NotNil(w.t, w.compiled("httpbin"), "the table is valid with every policy")
	return table.Services["shop/"+service][80].TLS
}

// A policy secures the connections to primaries and variants, and its ConfigMap may change while they are served.
func TestPolicySecuresABackend(t *testing.T) {
	w := newWorld(t, tutorial)
	assert.Nil(t, w.secures("httpbin-v1"))
	w.apply(policyOf("p", "1", trustsCA, "httpbin-v1", "httpbin-v2"))
	assert.Equal(t, []Name{name("httpbin")}, w.changes[0].Tables)
	for _, service := range []string{"httpbin-v1", "httpbin-v2"} {
		assert.Equal(t, "BackendTLSPolicy shop/p: there is no ConfigMap ca", w.secures(service).Fault, "nothing goes there in plain text")
	}
	const missing = "Accepted=False:NoValidCACertificate ResolvedRefs=False:InvalidCACertificateRef"
	assert.Equal(t, missing+"\n"+missing, w.policyConditions("p"))
	assert.Equal(t, []string{"shop"}, w.trustedNamespaces())

	w.apply(configMapOf(t, "other", "x"))
	assert.Contains(t, w.secures("httpbin-v1").Fault, "has no key ca.crt")
	w.apply(configMapOf(t, "ca.crt", "x"))
	assert.Contains(t, w.secures("httpbin-v1").Fault, "has no certificate in PEM")
	assert.Equal(t, missing+"\n"+missing, w.policyConditions("p"))
	for range 2 { // a rotation
		ca := authorityPEM(t) + strings.Repeat("\n", len(w.secures("httpbin-v1").CA)%2)
		w.apply(configMapOf(t, "ca.crt", ca))
		require.NotEmpty(t, w.changes)
		assert.Equal(t, []Name{name("httpbin")}, w.changes[0].Tables)
		assert.Equal(t, &spec.BackendTLS{CA: ca + "\n", Hostname: "v1.shop"}, w.secures("httpbin-v1"))
		assert.Equal(t, fine+"\n"+fine, w.policyConditions("p"))
	}
	w.Delete(KindConfigMap, "shop", "ca")
	assert.NotEmpty(t, w.secures("httpbin-v1").Fault, "authorities that are gone are trusted no more")
	w.Delete(KindBackendTLSPolicy, "shop", "p")
	assert.Nil(t, w.secures("httpbin-v1"))
	assert.Empty(t, w.trustedNamespaces())
}

// One port's policy counts before that of all ports, and of several the oldest; the others are told so.
func TestPoliciesThatConflict(t *testing.T) {
	w := newWorld(t, tutorial, configMapOf(t, "ca.crt", authorityPEM(t)),
		policyOf("young", "3", trustsCA, "httpbin-v1"), policyOf("old", "2", trustsSystem, "httpbin-v1"))
	assert.Equal(t, "System", w.secures("httpbin-v1").WellKnownCACertificates)
	const conflicted = "Accepted=False:Conflicted ResolvedRefs=True:ResolvedRefs"
	assert.Equal(t, conflicted, w.policyConditions("young"))
	assert.Equal(t, fine, w.policyConditions("old"))
	w.apply(policyOf("a", "2", trustsCA, "httpbin-v1"))
	assert.Equal(t, conflicted, w.policyConditions("old"), "of the same age the first by name")
	w.apply(policyOf("port", "4", trustsSystem, "httpbin-v1:http"))
	assert.Equal(t, "System", w.secures("httpbin-v1").WellKnownCACertificates)
	assert.Equal(t, fine, w.policyConditions("port"))
	assert.Equal(t, fine, w.policyConditions("a"))
	w.Delete(KindBackendTLSPolicy, "shop", "a")
	assert.Equal(t, fine, w.policyConditions("old"))
	assert.Contains(t, w.changes[len(w.changes)-1].Routes, RouteName{KindBackendTLSPolicy, name("old")}, "its new status is announced")
}

// A policy that cannot be carried out lets no request through.
func TestPoliciesWithFaults(t *testing.T) {
	for validation, want := range map[string]string{
		`{caCertificateRefs: [{group: "", kind: Secret, name: ca}], hostname: v1.shop}`:                                        "Accepted=False:NoValidCACertificate ResolvedRefs=False:InvalidKind",
		`{wellKnownCACertificates: example.com/ours, hostname: v1.shop}`:                                                       "Accepted=False:Invalid ResolvedRefs=True:ResolvedRefs",
		`{caCertificateRefs: [{group: "", kind: ConfigMap, name: ca}, {group: "", kind: ConfigMap, name: b}], hostname: v1.a}`: "Accepted=True:Accepted ResolvedRefs=False:InvalidCACertificateRef",
		`{hostname: v1.shop}`: "Accepted=False:Invalid ResolvedRefs=True:ResolvedRefs",
		`{wellKnownCACertificates: System, hostname: v1.shop, subjectAltNames: [{type: Email}]}`: "Accepted=False:Invalid ResolvedRefs=True:ResolvedRefs",
	} {
		w := newWorld(t, tutorial, configMapOf(t, "ca.crt", authorityPEM(t)), policyOf("p", "1", validation, "httpbin-v1"))
		assert.Equal(t, want, w.policyConditions("p"), validation)
		assert.Contains(t, w.secures("httpbin-v1").Fault, "BackendTLSPolicy shop/p: ", validation)
	}
}

// Only policies for Services that proxies send to get a status; those of other namespaces mean other Services.
func TestPoliciesOfOthers(t *testing.T) {
	w := newWorld(t, tutorial, serviceOf("alone", "", "http:80"), policyOf("p", "1", trustsSystem, "alone"), policyOf("far/p", "1", trustsSystem, "httpbin-v1"))
	assert.Empty(t, w.policyConditions("p"))
	assert.Empty(t, w.policyConditions("far/p"))
	assert.Nil(t, w.secures("httpbin-v1"))
	assert.Empty(t, w.Stale()[1:], "only the route has no status yet")
}

// The protocol of a port that speaks TLS is known only with a policy: HTTP behind it.
func TestProtocolBehindTLS(t *testing.T) {
	w := newWorld(t, serviceOf("httpbin", wellknown.Enabled, "http:8000->80"), serviceOf("httpbin-v1", "", "web:80/https"), serviceOf("httpbin-v2", "", "h2:80/kubernetes.io/h2c"),
		sliceOf("httpbin-v1-a", "httpbin-v1", "web:80", "10.1.0.1"), routeOf("httpbin", parent, mirroring))
	assert.Equal(t, fmt.Sprintf(dangles, "UnsupportedProtocol"), w.conditions("httpbin"))
	w.apply(policyOf("p", "1", trustsSystem, "httpbin-v1", "httpbin-v2"))
	assert.Equal(t, fine, w.conditions("httpbin"))
	services := w.Table(name("httpbin")).Services
	assert.Equal(t, "auto", services["shop/httpbin-v1"][80].Protocol)
	assert.Equal(t, "h2c", services["shop/httpbin-v2"][80].Protocol)
	port, ok := w.Port(Backend{name("httpbin"), "shop/httpbin-v1"}, 80)
	assert.True(t, ok)
	assert.NotNil(t, port.TLS, "endpoints that change stay secured")
}

// A proxy reads policies, and ConfigMaps only where a policy refers to one, and waits for both before it sends anything.
func TestFeedOfPolicies(t *testing.T) {
	const policiesPath, configMapsPath = "/apis/gateway.networking.k8s.io/v1alpha3/backendtlspolicies", "/api/v1/configmaps"
	api := gatewayAPI(t)
	api.Serve(policiesPath, "BackendTLSPolicy")
	api.Serve(configMapsPath, "ConfigMap")
	ca := authorityPEM(t)
	f := feeding(t, api, Options{Parent: name("httpbin")}, FeedOptions{Namespace: "shop", WithTLSPolicies: true}, tutorial, configMapOf(t, "ca.crt", ca))
	f.known(t)
	lists, _ := api.Requests(configMapsPath)
	assert.Zero(t, lists, "no policy refers to a ConfigMap")
	f.put(t, strings.Replace(policyOf("p", "1", trustsCA, "httpbin-v1"), "k8s.io/v1", "k8s.io/v1alpha3", 1))
	secured := func() *spec.BackendTLS { return f.Table(name("httpbin")).Services["shop/httpbin-v1"][80].TLS }
	eventually(t, "the policy is carried out", func() bool { s := secured(); return s != nil && s.CA == ca+"\n" })
	f.known(t)
	rotated := ca + authorityPEM(t)
	f.put(t, configMapOf(t, "ca.crt", rotated))
	eventually(t, "the rotation is", func() bool { return secured().CA == rotated+"\n" })
	assert.Equal(t, "v1alpha3", f.version(RouteName{KindBackendTLSPolicy, name("p")}))
}
