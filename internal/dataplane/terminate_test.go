package dataplane

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/intercept/objects"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// web443 is a Service whose port speaks TLS, with a certificate or without, and a route to itself with a mirror.
func web443(certificates string) string {
	service := serviceOf("httpbin", wellknown.Enabled, "https:443->8443/https db:5432->5432/postgresql")
	if certificates != "" {
		service = strings.Replace(service, "metadata: {", fmt.Sprintf("metadata: {annotations: {%s: %q}, ", objects.CertificatesAnnotation, certificates), 1)
	}
	return service + "\n---\n" + serviceOf("httpbin-mirrorgate-origin", "", "https:443->8443/https db:5432->5432/postgresql", "clusterIP: None") + "\n---\n" +
		sliceOf("origin-a", "httpbin-mirrorgate-origin", "https:8443", "10.1.0.1") + "\n---\n" + serviceOf("httpbin-v2", "", "https:443/https") + "\n---\n" +
		routeOf("httpbin", `{group: "", kind: Service, name: httpbin, port: 443}`,
			`{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v2, port: 443}}}], backendRefs: [{name: httpbin, port: 443}]}`)
}

// A port that speaks TLS takes a route where its proxies may terminate TLS, and passes through otherwise.
func TestTLSIsTerminatedWithACertificate(t *testing.T) {
	policies := policyOf("p", "1", trustsSystem, "httpbin", "httpbin-v2")
	w := newWorld(t, web443(""), policies)
	assert.Equal(t, "Accepted=False:NoMatchingParent ResolvedRefs=True:ResolvedRefs", w.conditions("httpbin"))
	w.apply(web443("443=shop-tls"))
	assert.Equal(t, fine, w.conditions("httpbin"))
	w.apply(web443("443=shop/tls"))
	assert.Equal(t, "Accepted=False:NoMatchingParent ResolvedRefs=True:ResolvedRefs", w.conditions("httpbin"), "an annotation with a fault")

	// A proxy terminates with the certificates that it has, whatever the annotation says meanwhile.
	for certified, want := range map[bool]bool{true: true, false: false} {
		w.Index = NewIndex(Options{Parent: name("httpbin"), Certificates: map[int]bool{443: certified}, ProxyProtocol: true, SendProxyProtocol: true})
		w.apply(web443(""), policies)
		table := w.compiled("httpbin")
		require.NotNil(t, table)
		listeners := w.Table(name("httpbin")).Listeners
		https, db := listeners[0], listeners[1]
		assert.Equal(t, want, https.TLS != nil)
		assert.Equal(t, want, len(https.Routes) > 0)
		assert.Equal(t, !want, https.TCP != nil)
		assert.Equal(t, &spec.Passthrough{Name: "shop/httpbin", Port: 5432, ProxyProtocol: true}, db.TCP)
		assert.True(t, https.ProxyProtocol)
		assert.True(t, db.ProxyProtocol)
		if want {
			assert.Equal(t, "shop/httpbin:443[10.1.0.1:8443] > shop/httpbin-v2:443", ask(table, 0, "/"))
			assert.Equal(t, "https", table.Listeners[0].Scheme())
			port := table.Port("shop/httpbin", 443)
			assert.Equal(t, "System", port.TLS.WellKnownCACertificates)
			assert.Equal(t, "auto", port.Protocol.String())
		}
	}
}
